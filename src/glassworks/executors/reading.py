"""From what a person typed (`local:4`, `slurm:partition=gpu,hours=2`, JSON) to an executor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from glassworks.core.errors import InvalidSpec
from glassworks.core.spec import typed_value
from glassworks.core.text import say
from glassworks.executors.base import Executor
from glassworks.executors.shelf import EXECUTORS

_EXAMPLE = "local:4, slurm:partition=gpu,gpus=1,hours=2"


def executor_of(said: str | Mapping[str, Any] | Executor) -> Executor:
    """The executor that is meant: a value, its JSON, or `kind`, `kind:4`, `kind:name=value,name=value`.

    Raises UnknownName or InvalidSpec with the nearest name.
    """
    if isinstance(said, Executor):
        return said
    if not isinstance(said, str):
        return EXECUTORS.parse(dict(said))
    if said.lstrip().startswith("{"):
        return EXECUTORS.parse(typed_value(said))
    kind, _, rest = said.partition(":")
    shelf = EXECUTORS[kind.strip()]
    fields: dict[str, Any] = {"kind": kind.strip()}
    for place, word in enumerate(word for word in rest.split(",") if word.strip()):
        name, separator, value = word.partition("=")
        if not separator:
            if place:
                raise InvalidSpec(
                    say("an executor's settings are name=value with commas between"),
                    given=word,
                    right=say("for example {example}", example=_EXAMPLE),
                )
            name, value = shelf.first, word
        _put(fields, name.strip(), _typed(shelf, name.strip(), value.strip()))
    return EXECUTORS.parse(fields)


def _put(fields: dict[str, Any], path: str, value: object) -> None:
    """Sets a field, or an entry of a field that holds many: `sbatch.qos=low`."""
    if path in fields:
        raise InvalidSpec(say("{name} is said twice", name=path), given=value)
    head, dot, name = path.partition(".")
    if dot:
        cast(dict[str, Any], fields.setdefault(head, {}))[name] = value
    else:
        fields[path] = value


def _typed(shelf: type[Executor], name: str, value: str) -> object:
    """A number where the field holds one; names stay as they are typed, also those that look like numbers."""
    field = shelf.model_fields.get(name)
    is_text = "." in name or (field is not None and "str" in str(field.annotation))
    return value if is_text else typed_value(value)
