"""Tensors on disk: safetensors only, atomic to write, checked to read."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from glassworks.core.errors import BrokenFile, NotFound
from glassworks.core.files import write_bytes
from glassworks.core.text import say


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors and string metadata as one safetensors file, atomically."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # As bytes, for the library's own writer reports a full disk as an error of its own kind, without a reason.
    write_bytes(path, save(plain, dict(metadata or {})))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads tensors and metadata; raises NotFound or BrokenFile (truncated, foreign), never runs code."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118 - not a dict


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, its tensors left where they are; raises as `load_tensors` does."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    if not path.is_file():
        raise NotFound(say("{path} is not there", path=str(path)))
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as problem:
        raise BrokenFile(
            say("{path} is truncated or no safetensors file: {reason}", path=str(path), reason=str(problem))
        ) from None
