"""What lies in a folder: whether every file is whole, what it means without its clocks, and what was left behind."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Facts about when and how fast, which differ between two runs of equal results.
_CLOCKS = frozenset(
    {
        "seconds", "at", "created", "started", "born", "pid", "environment", "total_flos", "session", "code", "manifest",
        "tokens_per_second", "wish", "preparation_seconds", "peak_bytes",
    }
)  # fmt: skip
# Files that tell the story of a run, not its result; the manifest holds digests of what holds clocks.
_STORIES = frozenset({"events.jsonl", "environment.json", "manifest.json", "lock", "studies.json", "stdout", "stderr"})
# What a command keeps only until it is done.
UNFINISHED = ("checkpoint.safetensors", "checkpoints", ".infinify")


def files_of(folder: Path) -> Iterator[Path]:
    """Every file below a folder."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def is_temporary(path: Path, folder: Path) -> bool:
    """Whether a name says that the file is not finished: a part of its path below the folder begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def broken(folder: Path) -> list[str]:
    """The files below a folder, temporary ones apart, that cannot be read to their end."""
    found: list[str] = []
    for path in files_of(folder):
        if is_temporary(path, folder) or _is_open_checkpoint(path):
            continue
        read = _READERS.get(path.suffix)
        try:
            if read is not None:
                read(path)
        except Exception as problem:
            found.append(f"{path.relative_to(folder)}: {type(problem).__name__}: {str(problem)[:120]}")
    return found


def left_behind(folder: Path) -> list[str]:
    """Temporary files and folders that are still there, and states of work that is finished."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.name in UNFINISHED or is_temporary(path, folder)
    ]


def meaning(folder: Path) -> dict[str, str]:
    """A digest of what each file says, by its path, without clocks; equal results have equal meanings."""
    return {
        str(path.relative_to(folder)): _said(path)
        for path in files_of(folder)
        if path.name not in _STORIES and not is_temporary(path, folder)
    }


def different(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """The files whose meanings differ, or that only one side has."""
    return [name for name in sorted(one.keys() | other.keys()) if one.get(name) != other.get(name)]


def tensors_of(path: Path) -> dict[str, str]:
    """A digest of each tensor of a safetensors file, read by the format's own rules; raises where one is broken."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    body, found = data[8 + size :], dict[str, str]()
    end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    if len(data) < 8 + size or end != len(body):
        raise ValueError(f"{len(body)} bytes of numbers instead of {end}")
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        found[name] = f"{entry['dtype']} {entry['shape']} {_digest(body[first:last])}"
    return found


def _is_open_checkpoint(path: Path) -> bool:
    """Whether a file lies in a checkpoint that its trainer has not declared whole, and so never reads."""
    return any(
        parent.name.startswith("checkpoint-") and not (parent / "whole.json").is_file() for parent in path.parents
    )


def _said(path: Path) -> str:
    if path.suffix == ".safetensors":
        return _digest(json.dumps(tensors_of(path), sort_keys=True).encode())
    if path.suffix == ".npz":
        return _digest(json.dumps(_arrays(path), sort_keys=True).encode())
    if path.suffix == ".json":
        return _digest(json.dumps(_timeless(json.loads(path.read_bytes())), sort_keys=True).encode())
    if path.suffix == ".html":
        # Reports tell how long it took; that they are whole is looked at elsewhere.
        return "report"
    return _digest(path.read_bytes())


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(inner) for name, inner in value.items() if name not in _CLOCKS}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _arrays(path: Path) -> dict[str, str]:
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as found:
        return {name: f"{found[name].dtype} {found[name].shape} {_digest(found[name].tobytes())}" for name in found}


def _lines(path: Path) -> None:
    *whole, _last = path.read_bytes().split(b"\n")
    for line in filter(None, whole):
        json.loads(line)


def _parquet(path: Path) -> None:
    import pyarrow.parquet

    pyarrow.parquet.read_table(io.BytesIO(path.read_bytes()), use_threads=False)


def _page(path: Path) -> None:
    if not path.read_text(encoding="utf-8").rstrip().endswith(("</html>", "</svg>")):
        raise ValueError("it ends in the middle")


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


_READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".jsonl": _lines,
    ".safetensors": tensors_of,
    ".npz": _arrays,
    ".parquet": _parquet,
    ".html": _page,
    ".svg": _page,
}
