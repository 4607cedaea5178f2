"""The language models that were trained here: the finished folders below OUT/store, with the stages behind them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import GlassworksError
from glassworks.core.files import read_json

# Where each kind of training keeps its choices.
_CHOICES = ("stage.json", "training.json")


@dataclass(frozen=True)
class Trained:
    """A finished training: its folder, the stage it is the result of, and the stages before."""

    folder: Path
    stage: str
    architecture: str
    parameters: int
    before: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "path": str(self.folder),
            "digest": self.folder.name,
            "stage": self.stage,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "before": list(self.before),
        }


def trained_in(out: Path) -> list[Trained]:
    """The finished models of a store by the time they were finished; folders that are damaged are left out."""
    store = out / "store"
    found = [(path.stat().st_mtime, path.parent) for path in store.glob("*/done.json")] if store.is_dir() else []
    known = [model_in(folder) for _, folder in sorted(found)]
    return [one for one in known if one is not None]


def model_in(folder: Path) -> Trained | None:
    """The model of a folder in Hugging Face layout, from its files' heads alone; None where it is damaged or none."""
    try:
        config = _object(folder / "config.json")
        parameters = sum(_numbers(path) for path in folder.glob("*.safetensors"))
        choices = next((_object(folder / name) for name in _CHOICES if (folder / name).is_file()), {})
    except (GlassworksError, OSError, ValueError, RecursionError):
        return None
    before = tuple(str(one.get("kind", "-")) for one in _list(choices.get("before")) if isinstance(one, dict))
    names = _list(config.get("architectures")) or [config.get("model_type", "-")]
    return Trained(folder, str(choices.get("kind", "-")), str(names[0]), parameters, before)


def _list(value: object) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _numbers(path: Path) -> int:
    """How many numbers a safetensors file holds, from its head alone; tensors of shared weights stand in it once."""
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8 or (length := struct.unpack("<Q", head)[0]) > path.stat().st_size:
            raise ValueError("no head")
        table = json.loads(file.read(length))
    match table:
        case dict():
            named = cast(dict[str, object], table).items()
            return sum(_size(entry) for name, entry in named if name != "__metadata__")
        case _:
            raise ValueError("no table")


def _size(entry: object) -> int:
    """Numbers of one tensor; ValueError where its entry tells none."""
    match entry:
        case {"shape": [*sizes]} if all(isinstance(size, int) and 0 <= size < 1 << 48 for size in sizes):
            return prod(sizes)
        case _:
            raise ValueError("no shape")
