"""Glassworks: train a transformer, look inside it, judge claims from measurements.

`gw.reproduce("birth")`, `gw.load(path)`, `gw.examine(source, text=...)`, `gw.catalog`. Importing this loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassworks import (
        anatomy,
        catalog,
        evidence,
        experiments,
        figures,
        instruments,
        mixers,
        models,
        tasks,
        training,
    )
    from glassworks.cli.api import examine, load, reproduce, results
    from glassworks.core import errors

__all__ = [
    "anatomy",
    "catalog",
    "errors",
    "evidence",
    "examine",
    "experiments",
    "figures",
    "instruments",
    "load",
    "mixers",
    "models",
    "reproduce",
    "results",
    "tasks",
    "training",
]

_ROOMS = ("anatomy", "evidence", "experiments", "figures", "instruments", "mixers", "models", "tasks", "training")
_MODULES = {"catalog": "glassworks.catalog", "errors": "glassworks.core.errors"} | {
    room: f"glassworks.{room}" for room in _ROOMS
}
_FUNCTIONS = ("examine", "load", "reproduce", "results")


def __getattr__(name: str) -> Any:
    """Loads a name on first use (PEP 562)."""
    if name in _FUNCTIONS:
        return import_module("glassworks.cli.api").__dict__[name]
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name == "__version__":
        from importlib.metadata import version

        return version("glassworks")
    raise AttributeError(f"module 'glassworks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
