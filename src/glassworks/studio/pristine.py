"""A model as it was when it was opened: what a question that was called off had put into it is taken out again.

A call-off may strike between any two instructions, also inside the `__exit__` that would have cleaned up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

# Where torch keeps what is called beside a module's forward, and what our rooms and transformers set on a module.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_SET = ("forward", "layer_idx")
_ABSENT = object()


@dataclass(frozen=True, eq=False)
class Pristine:
    """Children, hooks and replaced attributes of every module of a model."""

    kept: tuple[tuple[nn.Module, dict[str, dict[Any, Any]], dict[str, Any]], ...]

    @classmethod
    def of(cls, model: nn.Module) -> Pristine:
        """Notes the model as it is; no weight is copied."""
        return cls(
            tuple(
                (
                    module,
                    {name: dict(vars(module)[name]) for name in ("_modules", *_HOOKS)},
                    {name: vars(module).get(name, _ABSENT) for name in _SET},
                )
                for module in model.modules()
            )
        )

    def restore(self) -> None:
        """Puts everything back that is no longer as it was noted."""
        for module, tables, attributes in self.kept:
            own = vars(module)
            for name, entries in tables.items():
                if dict(own[name]) != entries:
                    own[name].clear()
                    own[name].update(entries)
            for name, value in attributes.items():
                if value is _ABSENT:
                    own.pop(name, None)
                elif own.get(name) is not value:
                    own[name] = value
