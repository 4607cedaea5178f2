"""Spec: everything a person can choose, as a frozen value with a digest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from glassworks.core.errors import InvalidSpec, known_names
from glassworks.core.text import Text, say

# Not typing.Self: the type checks of the tests wrap single methods and cannot know the class.
S = TypeVar("S", bound="Spec")

_nested: ContextVar[bool] = ContextVar("nested", default=False)


class Spec(BaseModel):
    """A frozen choice: its fields are the knobs, its docstring the help, its JSON schema the form.

    `revision` rises when the same knobs give other numbers, so that stored results are never mixed.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    kind: str
    revision: ClassVar[int] = 1
    # Fields younger than stored results: at their default they are no part of the identity, so that older digests stand.
    later: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **fields: Any) -> None:
        # pydantic builds nested specs through here too: only the outermost knows a wrong field's whole path.
        if _nested.get():
            super().__init__(**fields)
            return
        with _reporting(type(self)):
            super().__init__(**fields)

    @classmethod
    def parse(cls: type[S], found: object) -> S:
        """Reads a spec from plain data (JSON); InvalidSpec names the field's path and the nearest name."""
        with _reporting(cls):
            return cls.model_validate(found)

    def identity(self) -> dict[str, Any]:
        """Plain data that fixes the numbers: kinds, revisions and fields, nested specs included."""
        return {"revision": self.revision} | {
            name: _identity_of(self.__dict__[name])
            for name, field in type(self).model_fields.items()
            if not (name in self.later and self.__dict__[name] == field.default)
        }

    def digest(self) -> str:
        """Sixteen hexadecimal digits that name this spec on disk; equal specs, equal digests."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """Plain data that `parse` reads back."""
        return self.model_dump(mode="json")

    def replaced(self: S, path: str, value: object) -> S:
        """A copy with the field at a dotted path changed, e.g. `spec.replaced("model.width", 64)`."""
        return self.replaced_all({path: value})

    def replaced_all(self: S, changes: Mapping[str, object]) -> S:
        """A copy with the fields at several dotted paths changed at once; only the result has to be possible."""
        tree = self.to_json()
        for path, value in changes.items():
            *parents, last = path.split(".")
            branch: Any = tree
            for depth, name in enumerate(parents):
                branch = _child(branch, name, ".".join(parents[: depth + 1]))
            _child(branch, last, path)
            if isinstance(branch, list):
                branch[int(last)] = value
            else:
                branch[last] = value
        return type(self).parse(tree)

    def replaced_from_text(self: S, assignment: str) -> S:
        """Applies one `path=value` of the command line; the value is JSON where it parses, text otherwise."""
        path, separator, text = assignment.partition("=")
        if not separator or not path:
            raise InvalidSpec(
                say("--set needs path=value"),
                given=assignment,
                right=say("for example {example}", example="seeds=[0,1,2]"),
            )
        return self.replaced(path.strip(), typed_value(text))


def typed_value(text: str) -> object:
    """What a person typed as a value: JSON where it parses, the text itself otherwise."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # No JSON, a number of thousands of digits, or brackets without end: the field itself then says what it wants.
        return text


@contextmanager
def _reporting(spec: type[BaseModel]) -> Generator[None, None, None]:
    """Turns pydantic's error into InvalidSpec, once, at the outermost spec."""
    token = _nested.set(True)
    try:
        yield
    except ValidationError as problem:
        raise invalid_spec(spec, problem) from None
    finally:
        _nested.reset(token)


def _child(branch: Any, name: str, path: str) -> Any:
    if isinstance(branch, list):
        items = cast(list[Any], branch)
        if name.isdecimal() and int(name) < len(items):
            return items[int(name)]
        known = [str(i) for i in range(len(items))]
    elif isinstance(branch, dict):
        table = cast(dict[str, Any], branch)
        if name in table:
            return table[name]
        known = list(table)
    else:
        known = []
    raise InvalidSpec(
        say("no field at {path}", path=path),
        given=name,
        right=known_names(name, known),
    )


def _identity_of(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.identity()
    if isinstance(value, tuple | list):
        return [_identity_of(item) for item in cast(tuple[Any, ...], value)]
    if isinstance(value, dict):
        return {str(k): _identity_of(v) for k, v in cast(dict[Any, Any], value).items()}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value


def invalid_spec(spec: type[BaseModel], problem: ValidationError) -> InvalidSpec:
    """Turns pydantic's report into one error that names the path of the field and the nearest known name."""
    first = problem.errors()[0]
    path = ".".join(_without_tags(spec, first["loc"]))
    if first["type"] == "union_tag_invalid":
        context = first.get("ctx", {})
        known = re.findall(r"'([^']*)'", str(context.get("expected_tags", "")))
        return InvalidSpec(
            say("no such kind at {path} of {spec}", path=path, spec=spec.__name__),
            given=context.get("tag"),
            right=known_names(str(context.get("tag")), known),
        )
    if first["type"] == "extra_forbidden":
        known = _fields_at(spec, first["loc"][:-1])
        return InvalidSpec(
            say("unknown field {path} of {spec}", path=path, spec=spec.__name__),
            given=first.get("input"),
            right=known_names(str(first["loc"][-1]), known),
        )
    cause = first.get("ctx", {}).get("error")
    reason = cause.what if isinstance(cause, ImpossibleValue) else _reason(first)
    right = cause.right if isinstance(cause, ImpossibleValue) else None
    # What is wrong with fields together is said by the reason; a whole spec in print would bury it.
    given = first.get("input")
    return InvalidSpec(
        say("{path} of {spec}: {reason}", path=path or spec.__name__, spec=spec.__name__, reason=reason),
        given=None if isinstance(given, Mapping | BaseModel) else given,
        right=right,
    )


def _reason(problem: Any) -> Text:
    """Pydantic's sentence, in both languages where it is one that a person meets often."""
    bound = problem.get("ctx", {})
    match problem["type"]:
        case "greater_than":
            return say("Input should be greater than {bound}", bound=f"{bound['gt']:g}")
        case "greater_than_equal":
            return say("Input should be greater than or equal to {bound}", bound=f"{bound['ge']:g}")
        case "less_than":
            return say("Input should be less than {bound}", bound=f"{bound['lt']:g}")
        case "less_than_equal":
            return say("Input should be less than or equal to {bound}", bound=f"{bound['le']:g}")
        case "missing":
            return say("Field required")
        case "literal_error" | "enum":
            return say("Input should be {expected}", expected=bound["expected"])
        case "int_type":
            return say("Input should be a valid integer")
        case "float_type":
            return say("Input should be a valid number")
        case _:
            return say("{reason}", reason=problem["msg"])


class ImpossibleValue(ValueError):
    """Raised inside a validator; becomes an InvalidSpec with this sentence and the cure."""

    def __init__(self, what: Any, right: Any = None) -> None:
        super().__init__(what.en)
        self.what = what
        self.right = right


def _without_tags(spec: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """A field's path as `--set` takes it: pydantic's tags of unions are no part of it."""
    return [
        str(part)
        for place, part in enumerate(location)
        if isinstance(part, int)
        or part in _fields_at(spec, location[:place])
        or (place == len(location) - 1 and part not in map(_default_kind, _models_at(spec, location[:place])))
    ]


def _fields_at(spec: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The field names of the (nested) spec at a path; tags of unions are stepped over."""
    return sorted({name for model in _models_at(spec, path) for name in model.model_fields})


def _models_at(spec: type[BaseModel], path: tuple[int | str, ...]) -> list[type[BaseModel]]:
    """What may stand at a path, several where it is a union."""
    here: list[type[BaseModel]] = [spec]
    for part in path:
        name = str(part)
        if all(name in model.model_fields for model in here):
            inner = [t for model in here for t in _models_in(model.model_fields[name].annotation)]
        else:
            inner = [model for model in here if _default_kind(model) == name]
        here = inner or here
    return here


def _default_kind(model: type[BaseModel]) -> object:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]
