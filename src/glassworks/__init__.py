"""Glassworks: train a transformer, look inside it, judge claims from measurements.

`gw.reproduce("birth")`, `gw.train("notes.txt", mixer="softmax,mesa")`, `gw.load(path)`, `gw.examine(source, text=...)`, `gw.compare(a, b, text)`,
`gw.surgery(source, plan, prompt=...)`, `gw.sweep(source)`, `gw.generate(source, prompt)`, `gw.stream(source, "book.txt", ask=...)`,
`gw.infinify(source, out)`, `gw.presets()`, `gw.build(name)`, `gw.tree()`, `gw.plan(flops=1e21)`,
`gw.vary("bigram", {"seed": [0, 1, 2]}, executor="local:2")`, `gw.catalog`. Importing this loads nothing heavy.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glassworks import (
        anatomy,
        catalog,
        evaluation,
        evidence,
        experiments,
        figures,
        instruments,
        mixers,
        models,
        tasks,
        training,
    )
    from glassworks.cli.api import (
        compare,
        examine,
        generate,
        infinify,
        load,
        reproduce,
        results,
        stream,
        surgery,
        sweep,
        train,
    )
    from glassworks.cli.api_family import build, presets, tree
    from glassworks.cli.api_plan import plan
    from glassworks.cli.api_vary import vary
    from glassworks.core import errors
    from glassworks.models.mixing import MixingLayer

__all__ = [
    "MixingLayer",
    "anatomy",
    "build",
    "catalog",
    "compare",
    "errors",
    "evaluation",
    "evidence",
    "examine",
    "experiments",
    "figures",
    "generate",
    "infinify",
    "instruments",
    "load",
    "mixers",
    "models",
    "plan",
    "presets",
    "reproduce",
    "results",
    "stream",
    "surgery",
    "sweep",
    "tasks",
    "train",
    "training",
    "tree",
    "vary",
]

_ROOMS = (
    "anatomy", "evaluation", "evidence", "experiments", "figures", "instruments", "mixers", "models", "surgery", "tasks",
    "training",
)  # fmt: skip
_MODULES = {"catalog": "glassworks.catalog", "errors": "glassworks.core.errors"} | {
    room: f"glassworks.{room}" for room in _ROOMS
}
_FUNCTIONS = (
    "compare", "examine", "generate", "infinify", "load", "reproduce", "results", "stream", "sweep", "train",
)  # fmt: skip
_FAMILY = ("build", "presets", "tree")


class _RoomAndVerb(ModuleType):
    """A room that is also a verb: called, `gw.surgery(...)` does what the command of its name does."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Runs the verb."""
        return import_module("glassworks.cli.api").__dict__["surgery"](*arguments, **options)


class _Package(ModuleType):
    """This package: Python binds each room that is imported as its attribute, where the verb `surgery` must stay."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "surgery" and isinstance(value, ModuleType):
            value.__class__ = _RoomAndVerb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    """Loads a name on first use (PEP 562)."""
    if name in _FUNCTIONS:
        return import_module("glassworks.cli.api").__dict__[name]
    if name in _FAMILY:
        return import_module("glassworks.cli.api_family").__dict__[name]
    if name == "plan":
        return import_module("glassworks.cli.api_plan").__dict__[name]
    if name == "vary":
        return import_module("glassworks.cli.api_vary").__dict__[name]
    if name == "MixingLayer":
        return import_module("glassworks.models.mixing").__dict__[name]
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name == "__version__":
        from importlib.metadata import version

        return version("glassworks")
    raise AttributeError(f"module 'glassworks' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
