"""The worker's desk: the models that lie on this machine, those that are open, and whether the person still waits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import Language, Text, say
from glassworks.studio.questions.base import Tell

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.models.trained_models import Trained
    from glassworks.studio.pristine import Pristine

# What open models may take together; the one that was not used for longest is closed first.
OPEN_BYTES = 3 << 30
BUNDLED = "duet"
_BYTES_PER_PARAMETER = 4


@dataclass(frozen=True)
class Shelved:
    """A model that can be opened: its identifier in addresses (never a path), where it lies, what it is."""

    identifier: str
    folder: Path
    group: str
    """bundled, gallery, trained or folder."""
    title: Text
    parameters: int
    architecture: str
    before: tuple[str, ...] = ()
    """Of a trained one: the stages behind it."""
    licence: str = ""

    def to_json(self) -> dict[str, object]:
        """Plain data for the pages; folders are shown to read, never asked for."""
        return {
            "id": self.identifier,
            "group": self.group,
            "title": self.title,
            "parameters": self.parameters,
            "architecture": self.architecture,
            "before": list(self.before),
            "licence": self.licence,
            "folder": str(self.folder),
        }


@dataclass(frozen=True)
class Places:
    """Where the studio looks: the folder of runs and trained models, and further folders that hold model folders."""

    out: Path
    folders: tuple[Path, ...] = ()
    most_parameters: int = 2_000_000_000
    """Larger models are listed but not opened here: that is work for the command line."""


@dataclass(frozen=True)
class Written:
    """When the newest file of a model's folder was written: one that was trained anew is opened anew."""

    folder: Path
    newest: float

    @classmethod
    def now(cls, folder: Path) -> Written:
        """As it is."""
        return cls(folder, _newest(folder))

    def is_current(self) -> bool:
        """Whether nothing was written or taken away since."""
        return self.folder.is_dir() and _newest(self.folder) == self.newest


def _newest(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.glob("*.*") if path.is_file()), default=0.0)


def _ignored(label: str, done: float, total: float) -> None:
    """Where nobody listens."""


@dataclass
class Desk:
    """What an answer may use. One question is answered at a time, so nothing here is shared between threads."""

    places: Places
    language: Language = "en"
    tell: Tell = _ignored
    _open: OrderedDict[str, Subject] = field(default_factory=lambda: OrderedDict[str, "Subject"]())
    _written: dict[str, Written] = field(default_factory=lambda: dict[str, "Written"]())
    _as_opened: dict[str, Pristine] = field(default_factory=lambda: dict[str, "Pristine"]())

    def models(self) -> dict[str, Shelved]:
        """Every model that lies here, by identifier; read anew each time, since trainings add to it."""
        found = [*_bundled(), *_gallery(), *_trained(self.places.out), *_in_folders(self.places.folders)]
        return {one.identifier: one for one in found}

    def shelved(self, identifier: str) -> Shelved:
        """A model of the listing; UnknownName with the nearest identifier."""
        here = self.models()
        if identifier not in here:
            raise UnknownName("model", identifier, here)
        return here[identifier]

    def subject(self, identifier: str) -> Subject:
        """The model, opened in float32 or its own precision and kept open; InvalidInput where it is too large."""
        if identifier in self._open and self._written[identifier].is_current():
            self._open.move_to_end(identifier)
            return self._open[identifier]
        found = self.shelved(identifier)
        if found.parameters > self.places.most_parameters:
            raise InvalidInput(
                say("{name} has {count} parameters, too many for the studio", name=identifier, count=found.parameters),
                right=say("at most {count}; the command line takes it", count=self.places.most_parameters),
                next_command=f"glassworks examine {found.folder}",
            )
        from glassworks.models.load import load
        from glassworks.studio.pristine import Pristine
        from glassworks.tasks import TASKS

        # One pass over a few words is faster on the processor than the way to a device and back.
        subject = load(found.folder, device="cpu", dtype="float32", world_reader=TASKS.parse)
        self._open[identifier], self._written[identifier] = subject, Written.now(found.folder)
        self._as_opened[identifier] = Pristine.of(subject.model)
        self._close_others()
        return subject

    def restore(self) -> None:
        """Makes every open model what it was when it was opened: for after a question that was called off midway."""
        for one in self._as_opened.values():
            one.restore()

    def _close_others(self) -> None:
        while len(self._open) > 1 and sum(map(_size, self._open.values())) > OPEN_BYTES:
            identifier, _ = self._open.popitem(last=False)
            self._as_opened.pop(identifier, None)


def _size(subject: Subject) -> int:
    return sum(p.numel() * p.element_size() for p in subject.model.parameters())


def bundled_folder() -> Path:
    """The folder of the model that ships with the package."""
    return Path(str(files("glassworks.studio"))) / "bundled" / BUNDLED


def _bundled() -> list[Shelved]:
    from glassworks.models.trained_models import model_in

    found = model_in(bundled_folder())
    if found is None:
        return []
    title = say("duet, two layers that we trained on English and Chinese books; it comes with the studio")
    return [_shelved(f"bundled/{BUNDLED}", "bundled", title, found, licence="Apache-2.0")]


def _gallery() -> list[Shelved]:
    from glassworks.models.gallery import GALLERY, located
    from glassworks.models.gallery.kinds import Shipped
    from glassworks.models.trained_models import model_in

    found: list[Shelved] = []
    for name, entry in GALLERY.items():
        if isinstance(entry.sources[0], Shipped):
            continue
        folder = located(entry)
        model = None if folder is None else model_in(folder)
        if model is not None:
            found.append(_shelved(f"gallery/{name}", "gallery", entry.about, model, licence=entry.licence))
    return found


def _trained(out: Path) -> list[Shelved]:
    from glassworks.models.trained_models import trained_in

    return [
        _shelved(f"trained/{one.folder.name}", "trained", say("{stage}, trained here", stage=one.stage), one)
        for one in reversed(trained_in(out))
        if one.parameters
    ]


def _in_folders(folders: tuple[Path, ...]) -> list[Shelved]:
    from glassworks.models.trained_models import model_in

    found: dict[str, Shelved] = {}
    for root in folders:
        for config in sorted([root / "config.json", *root.glob("*/config.json")]):
            model = model_in(config.parent)
            identifier = f"folder/{config.parent.name}"
            if model is not None and identifier not in found:
                found[identifier] = _shelved(identifier, "folder", say("{name}", name=config.parent.name), model)
    return list(found.values())


def _shelved(identifier: str, group: str, title: Text, model: Trained, licence: str = "") -> Shelved:
    return Shelved(
        identifier, model.folder, group, title, model.parameters, model.architecture, model.before, licence=licence
    )
