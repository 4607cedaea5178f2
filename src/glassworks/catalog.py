"""The whole offer on one page: every shelf, by name. A shelf loads when it is asked for, so that this page costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from glassworks.core.errors import UnknownName
from glassworks.core.shelf import Shelf
from glassworks.core.spec import Spec

# Room -> (module, name of its shelf). The line is the registration; `tests/architecture` walks the rooms and compares.
PLACES: Mapping[str, tuple[str, str]] = {
    "mixers": ("glassworks.mixers", "MIXERS"),
    "tasks": ("glassworks.tasks", "TASKS"),
    "evaluation": ("glassworks.evaluation", "BENCHMARKS"),
    "instruments": ("glassworks.instruments", "INSTRUMENTS"),
    "training": ("glassworks.training.stages.shelf", "STAGES"),
    "experiments": ("glassworks.experiments", "EXPERIMENTS"),
}


class _Shelves(Mapping[str, Shelf[Spec]]):
    """Room -> shelf; asking for a shelf imports its room (mixers, tasks and instruments bring torch)."""

    def __getitem__(self, room: str) -> Shelf[Spec]:
        if room not in PLACES:
            raise UnknownName("shelf", room, PLACES)
        module, name = PLACES[room]
        found: Any = import_module(module).__dict__[name]
        assert isinstance(found, Shelf), f"{module}.{name} is no shelf"
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(PLACES)

    def __len__(self) -> int:
        return len(PLACES)

    def __repr__(self) -> str:
        return f"Shelves({', '.join(PLACES)})"


SHELVES: Mapping[str, Shelf[Spec]] = _Shelves()


def offer() -> dict[str, tuple[str, ...]]:
    """Every room with the kinds it offers."""
    return {room: shelf.kinds for room, shelf in SHELVES.items()}
