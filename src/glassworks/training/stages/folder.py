"""What a stage leaves and what the next one finds: a Hugging Face folder with stage.json, history.json and done.json.

A folder is known by what it is, not by where it lies: a stage's by the digest of its choices, any other model's by its
weights, data by their bytes. So a chain that was moved or copied is found again and not trained anew.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.files import read_json
from glassworks.core.reading import check_regular
from glassworks.core.runs import sha256_of
from glassworks.core.text import say
from glassworks.models.gallery import GALLERY, located

STAGE, DONE, HISTORY = "stage.json", "done.json", "history.json"
CHECKPOINTS = "checkpoints"
FORMAT = 1
# What fixes a model's answers: its shape, its weights, its tokenizer.
_TELLING = ("config.json", "tokenizer.json", "vocab.txt", "tokenizer.model")


@dataclass(frozen=True)
class Before:
    """A stage that lies behind a folder: its kind and its digest."""

    kind: str
    digest: str


@dataclass(frozen=True)
class StageFile:
    """What stage.json holds: the choices, what the named folders and files were, and the stages before, oldest first."""

    kind: str
    digest: str
    spec: dict[str, Any]
    identities: dict[str, str]
    before: tuple[Before, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data that `read_stage` reads back."""
        return {
            "format": FORMAT,
            "kind": self.kind,
            "digest": self.digest,
            "spec": self.spec,
            "identities": self.identities,
            "before": [{"kind": one.kind, "digest": one.digest} for one in self.before],
        }


def read_stage(folder: Path) -> StageFile | None:
    """What stage.json of a folder says; None where there is none, BrokenFile where it is another file."""
    path = folder / STAGE
    if not path.is_file():
        return None
    match read_json(path):
        case {"kind": str(kind), "digest": str(digest), "spec": dict(spec), "identities": dict(known), **rest}:
            return StageFile(kind, digest, spec, known, _before_in(rest.get("before", []), path))
        case _:
            raise _foreign(path)


def _before_in(listed: Any, path: Path) -> tuple[Before, ...]:
    """The stages that stage.json lists; BrokenFile where it lists something else."""
    try:
        return tuple(Before(str(one["kind"]), str(one["digest"])) for one in listed)
    except (KeyError, TypeError):
        raise _foreign(path) from None


def _foreign(path: Path) -> BrokenFile:
    return BrokenFile(say("{path} was not written by Glassworks", path=str(path)))


def stages_behind(source: str) -> tuple[Before, ...]:
    """The stages that a folder went through, oldest first, its own last; empty for a model from elsewhere."""
    folder = folder_of(source)
    found = read_stage(folder) if folder is not None and folder.is_dir() else None
    return () if found is None else (*found.before, Before(found.kind, found.digest))


def folder_of(source: str) -> Path | None:
    """The folder or file that a name means: a path, or a gallery model that lies on this machine; None for a hub name.

    Raises NotFound for a path that is not there and for a gallery model that was not fetched.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    entry = GALLERY.get(source.lower())
    if entry is not None:
        kept = located(entry)
        if kept is None:
            raise NotFound(
                say("{name} of the gallery is not on this machine", name=entry.name),
                right=say("to fetch it once; it is under the licence {licence}", licence=entry.licence),
                next_command=f"glassworks models get {entry.name}",
            )
        return kept
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or path.parent.is_dir() != (str(path.parent) == "."):
        raise NotFound(
            say("{path} is not there", path=source), right=say("the folder of a model, or a name of the gallery")
        )
    return None


def identity_of(source: str) -> str:
    """What a model or an earlier stage is, wherever it lies; empty for no source.

    Raises InvalidInput for a stage that did not finish, NotFound for what is not there.
    """
    if not source:
        return ""
    found = folder_of(source)
    if found is None:
        return f"hub:{source}"
    if found.is_file():
        return f"sha256:{sha256_of(found)}"
    stage = read_stage(found)
    if stage is not None:
        _check_done(found, stage)
        return f"stage:{stage.digest}"
    if (found / "training.json").is_file() and (found / DONE).is_file():
        from glassworks.training.spec import TrainingSpec

        return f"training:{TrainingSpec.parse(read_json(found / 'training.json')).digest()}"
    return f"sha256:{_digest_of(sorted(_model_files(found), key=lambda path: path.name))}"


def identity_of_files(paths: Sequence[str]) -> str:
    """What some data files are, in the order in which they are read; names do not count."""
    if len(paths) == 1 and not Path(paths[0]).exists():
        # The name of a dataset on the hub, whose bytes nobody has.
        return f"hub:{paths[0]}"
    for path in paths:
        # A pipe would keep its reader waiting, a device never ends.
        check_regular(Path(path))
    return f"sha256:{_digest_of([Path(path) for path in paths])}"


def _check_done(folder: Path, stage: StageFile) -> None:
    if not (folder / DONE).is_file():
        raise InvalidInput(
            say("the stage {kind} in {folder} has not finished", kind=stage.kind, folder=str(folder)),
            right=say("the same command as before, which goes on where it stopped"),
        )


def _model_files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _TELLING or path.suffix in (".safetensors", ".gguf"):
            yield path


def _digest_of(paths: Sequence[Path]) -> str:
    whole = hashlib.sha256()
    for path in paths:
        whole.update(sha256_of(path).encode())
    return whole.hexdigest()
