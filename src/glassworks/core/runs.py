"""RunFolder: the on-disk record of one run.

`runs/<experiment>/<digest>/` holds spec.json, environment.json, events.jsonl, measurements.{json,npz},
verdicts.json, figures/ and report.html. `manifest.json` lists what was written with its SHA-256, so that
damage can be named.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import InvalidInput, NotFound, RunBusy, Unavailable
from glassworks.core.events import EventLog
from glassworks.core.files import read_json, write_bytes, write_json, writing
from glassworks.core.spec import Spec
from glassworks.core.text import Text, say

FORMAT = 1
_UNLISTED = {"manifest.json", "events.jsonl", "lock"}
# What the system answers while another process has a lock.
_HELD = frozenset({errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK})


@dataclass(frozen=True)
class Damage:
    """A file of a run folder that is not as it was written."""

    path: Path
    what: Text


class RunFolder:
    """One run on disk; every write is atomic, so a killed run leaves only whole files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events = EventLog(path / "events.jsonl")

    @classmethod
    def create(cls, root: Path, experiment: str, spec: Spec) -> RunFolder:
        """The folder of this spec under `root/experiment`: new, or the one that an equal run left."""
        folder = cls(root / experiment / spec.digest())
        with writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        if not folder.has("spec.json"):
            folder.write_json("spec.json", {"format": FORMAT, "experiment": experiment, "spec": spec.to_json()})
        return folder

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run folder; NotFound when there is none, BrokenFile when its spec cannot be read."""
        if not (path / "spec.json").is_file():
            raise NotFound(
                say("{path} is no run folder", path=str(path)),
                right=say("a folder with a spec.json, as `glassworks runs` lists them"),
                next_command="glassworks runs",
            )
        folder = cls(path)
        folder.header()
        return folder

    def header(self) -> dict[str, Any]:
        """What spec.json holds: `format`, `experiment` and `spec`."""
        found = read_json(self.path / "spec.json")
        if not isinstance(found, dict) or "experiment" not in found or "spec" not in found:
            raise InvalidInput(say("{path} was not written by Glassworks", path=str(self.path / "spec.json")))
        return cast(dict[str, Any], found)

    @property
    def experiment(self) -> str:
        """The experiment's kind."""
        return str(self.header()["experiment"])

    @property
    def report(self) -> Path:
        """Where the report is or will be."""
        return self.path / "report.html"

    def has(self, name: str) -> bool:
        """Whether a file of this name was written."""
        return (self.path / name).is_file()

    def read_json(self, name: str) -> Any:
        """Reads a JSON file of the folder."""
        return read_json(self.path / name)

    def write_json(self, name: str, value: object) -> None:
        """Writes a JSON file of the folder atomically."""
        write_json(self.path / name, value)

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file of the folder atomically."""
        write_bytes(self.path / name, data)

    def write_environment(self, extra: dict[str, Any] | None = None) -> None:
        """Records versions, platform and command, so that a number can be traced to where it was made."""
        self.write_json("environment.json", describe_environment() | (extra or {}))

    def seal(self) -> None:
        """Writes the manifest: each file's size and SHA-256."""
        entries = {
            str(path.relative_to(self.path)): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in self._files()
        }
        self.write_json("manifest.json", {"format": FORMAT, "files": entries})

    def seal_again(self, name: str) -> None:
        """Brings one file's entry of the manifest up to date; the others stay, so that damage stays visible."""
        if not self.has("manifest.json"):
            return
        manifest = self.read_json("manifest.json")
        path = self.path / name
        if _entries_of(manifest) is None:
            return
        manifest["files"][name] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        self.write_json("manifest.json", manifest)

    def verify(self) -> list[Damage]:
        """Compares every file with the manifest; an empty list means that all is as written."""
        if not self.has("manifest.json"):
            return [Damage(self.path, say("the run did not finish: there is no manifest"))]
        listed = _entries_of(self.read_json("manifest.json"))
        if listed is None:
            return [Damage(self.path / "manifest.json", say("it is no manifest"))]
        damage: list[Damage] = []
        for name, entry in listed.items():
            path = self.path / name
            if not path.is_file():
                damage.append(Damage(path, say("missing")))
            elif path.stat().st_size != entry["bytes"]:
                size = path.stat().st_size
                damage.append(
                    Damage(path, say("{size} bytes instead of {expected}", size=size, expected=entry["bytes"]))
                )
            elif sha256_of(path) != entry["sha256"]:
                damage.append(Damage(path, say("its contents changed")))
        return damage

    @contextmanager
    def lock(self) -> Generator[None, None, None]:
        """Holds the folder for this process; a second one gets RunBusy with the holder's number."""
        with lock_folder(self.path):
            yield

    def delete(self) -> None:
        """Removes the folder with all it holds; RunBusy while another process works on it."""
        with self.lock():
            shutil.rmtree(self.path)

    def _files(self) -> Iterator[Path]:
        for path in sorted(self.path.rglob("*")):
            if path.is_file() and path.name not in _UNLISTED and not path.name.startswith("."):
                yield path


def _entries_of(manifest: Any) -> dict[str, Any] | None:
    """The files that a manifest lists, or None where it is something else."""
    files: Any = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or not files:
        return None
    entries = cast(dict[str, Any], files)
    return entries if all(isinstance(e, dict) and {"bytes", "sha256"} <= set(e) for e in entries.values()) else None


def list_runs(root: Path) -> list[RunFolder]:
    """The run folders below `root`, newest first."""
    found = [RunFolder(path.parent) for path in root.glob("*/*/spec.json")] if root.is_dir() else []
    return sorted(found, key=lambda run: (run.path / "spec.json").stat().st_mtime, reverse=True)


@contextmanager
def lock_folder(path: Path) -> Generator[None, None, None]:
    """An advisory lock on a folder that dies with its process, so that no stale lock is ever left."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        handle = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _is_taken(handle, path):
            holder = os.read(handle, 300).decode(errors="replace").strip()
            raise RunBusy(
                say("process {holder} is working on {path}", holder=holder or "?", path=str(path)),
                right=say("wait for it, stop it, or give another --out"),
            )
        with writing(path):
            os.truncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()} ({platform.node()})".encode(), 0)
        yield
    finally:
        os.close(handle)


def _is_taken(handle: int, path: Path) -> bool:
    """Whether the lock is ours now. Raises Unavailable where the file system has no locks at all."""
    import fcntl

    reason = ""
    # Some network file systems know one kind of lock only.
    for lock in (fcntl.flock, fcntl.lockf):
        try:
            lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            if problem.errno in _HELD:
                return False
            reason = os.strerror(problem.errno or 0)
        else:
            return True
    raise Unavailable(
        say("the file system of {path} has no locks: {reason}", path=str(path), reason=reason),
        right=say("a folder on a file system with locks as --out, or this one mounted with them (Lustre: -o flock)"),
    )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_environment() -> dict[str, Any]:
    """Versions, platform and command line, without names of people or folders outside the command."""
    packages = ("glassworks", "torch", "transformers", "numpy", "safetensors", "matplotlib")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": {name: _version(name) for name in packages},
        "command": " ".join(["glassworks", *sys.argv[1:]]),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
