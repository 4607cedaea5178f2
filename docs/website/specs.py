"""The reference of everything that can be chosen, from the specs themselves: shelf by shelf, field by field."""

from __future__ import annotations

import enum
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic_core import PydanticUndefined

from glassworks.core.spec import Spec
from website.words import code, docstring, escaped, first_line, table

# Room of the catalogue -> title of its page and how a person names one of its kinds.
SHELF_WORDS: Mapping[str, tuple[str, str]] = {
    "mixers": ("Mixers", "`glassworks train bigram mixer=KIND`, one for all layers or one per layer"),
    "tasks": ("Tasks", "`glassworks train KIND`; fields as `task.length=128`"),
    "evaluation": ("Benchmarks of models", "`--eval KIND` of `surgery` and `sweep`"),
    "instruments": ("Instruments", "`glassworks examine MODEL --with KIND`"),
    "training": ("Stages of a model's life", "`glassworks train KIND`; fields as `steps=500`"),
    "experiments": ("Experiments", "`glassworks reproduce KIND`; fields as `--set width=64`"),
    "executors": ("Executors", "`--executor KIND` of commands that do many pieces of work"),
}
NESTED = "reference/specs/parts.md"


@dataclass(frozen=True)
class Places:
    """Which page and section tells of which spec."""

    by_class: Mapping[type[Spec], str]

    def link(self, spec: type[Spec], page: str) -> str:
        """A link from `page`, in the folder of all pages of specs."""
        place = self.by_class.get(spec)
        words = str(spec.model_fields["kind"].default) if _has_kind(spec) else spec.__name__
        if place is None:
            return code(words)
        there, _, anchor = place.partition("#")
        name = "" if there == page else there.rpartition("/")[2]
        return f"[{words}]({name}#{anchor})"


def pages() -> dict[str, str]:
    """Place on the site -> Markdown: a page per shelf, and one for specs that stand only inside others."""
    from glassworks.catalog import SHELVES

    shelves = {room: list(SHELVES[room]) for room in SHELVES}
    shelved = {spec for kinds in shelves.values() for spec in kinds}
    parts = sorted(set(_inside(shelved)) - shelved, key=lambda spec: spec.__name__)
    by_class = {spec: f"reference/specs/{room}.md#{_anchor(spec)}" for room, kinds in shelves.items() for spec in kinds}
    by_class |= {spec: f"{NESTED}#{_anchor(spec)}" for spec in parts}
    places = Places(by_class)
    found = {f"reference/specs/{room}.md": _shelf_page(room, kinds, places) for room, kinds in shelves.items()}
    found[NESTED] = _page(
        "Parts of specs",
        "What stands inside the fields of others. A field of a part is reached by its path: `model.norm=rms`.",
        parts, places, NESTED,
    )  # fmt: skip
    return found


def _shelf_page(room: str, kinds: list[type[Spec]], places: Places) -> str:
    title, typed = SHELF_WORDS.get(room, (room.capitalize(), ""))
    intro = f"By name: {typed}. " if typed else ""
    intro += f'In Python: `gw.catalog.SHELVES["{room}"]["{kinds[0].model_fields["kind"].default}"]`.'
    return _page(title, intro, kinds, places, f"reference/specs/{room}.md")


def _page(title: str, intro: str, kinds: list[type[Spec]], places: Places, page: str) -> str:
    rows = [(places.link(spec, page), first_line(spec)) for spec in kinds]
    parts = [f"# {title}\n", f"{intro}\n", table(("kind", "what it is"), rows)]
    parts += [_section(spec, places, page) for spec in kinds]
    return "\n".join(parts)


def _section(spec: type[Spec], places: Places, page: str) -> str:
    kind = spec.model_fields["kind"].default if _has_kind(spec) else spec.__name__
    rows = [
        (code(name), _type_words(field.annotation, field.metadata, places, page), _default(field), escaped(field.description or ""))
        for name, field in spec.model_fields.items()
        if name != "kind"
    ]  # fmt: skip
    fields = table(("field", "type", "default", "meaning"), rows) if rows else "It has no fields to set.\n"
    where = f"`{spec.__module__}.{spec.__qualname__}`, revision {spec.revision}\n"
    return f"## {kind} {{#{_anchor(spec)}}}\n\n{docstring(spec)}\n{fields}\n{where}"


def _anchor(spec: type[Spec]) -> str:
    return spec.__name__.lower()


def _has_kind(spec: type[Spec]) -> bool:
    return spec.model_fields["kind"].default is not PydanticUndefined


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return code(_plain(value)) if _plain(value) else ""


def _plain(value: object) -> str:
    """A default as a person would type it."""
    match value:
        case Spec():
            changed = [
                f"{name}={_plain(value.__dict__[name])}"
                for name, field in type(value).model_fields.items()
                if name != "kind" and value.__dict__[name] != field.get_default(call_default_factory=True)
            ]
            return str(value.kind) + (f"({', '.join(changed)})" if changed else "")
        case enum.Enum():
            return str(value.value)
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case tuple() | list():
            return f"[{', '.join(map(_plain, value))}]"
        case _:
            return str(value)


_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "none"}


def _type_words(annotation: Any, metadata: list[Any], places: Places, page: str) -> str:
    words = _words_of(annotation, places, page)
    bounds = [bound for bound in map(_bound, metadata) if bound]
    return ", ".join([words, *bounds])


def _words_of(annotation: Any, places: Places, page: str) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in _NAMES:
        return _NAMES[annotation]
    if origin is Annotated:
        return _type_words(inner[0], list(inner[1:]), places, page)
    if origin is Literal:
        return ", ".join(code(value if value != "" else '""') for value in inner)
    if origin in (Union, types.UnionType):
        return ", or ".join(_words_of(part, places, page) for part in inner)
    if origin is tuple:
        each = [part for part in inner if part is not Ellipsis]
        words = [_words_of(part, places, page) for part in each]
        return f"list of: {words[0]}" if inner[-1] is Ellipsis else f"{len(each)} of: {', '.join(dict.fromkeys(words))}"
    if isinstance(annotation, type):
        if issubclass(annotation, Spec):
            return places.link(annotation, page)
        if issubclass(annotation, enum.Enum):
            return ", ".join(code(member.value) for member in annotation)
        return code(annotation.__name__)
    return code(annotation)


def _bound(found: Any) -> str:
    match found:
        case Ge(ge=value):
            return f"at least {value:g}" if isinstance(value, int | float) else f"at least {value}"
        case Gt(gt=value):
            return f"above {value}"
        case Le(le=value):
            return f"at most {value}"
        case Lt(lt=value):
            return f"below {value}"
        case MinLen(min_length=value):
            return f"at least {value} of them"
        case MaxLen(max_length=value):
            return f"at most {value} of them"
        case _:
            return ""


def _inside(specs: set[type[Spec]]) -> Iterator[type[Spec]]:
    """All specs that stand in the fields of these, and in theirs."""
    seen = set[type[Spec]]()
    waiting = list(specs)
    while waiting:
        spec = waiting.pop()
        for field in spec.model_fields.values():
            for part in _specs_in(field.annotation):
                if part not in seen:
                    seen.add(part)
                    waiting.append(part)
    yield from seen


def _specs_in(annotation: Any) -> Iterator[type[Spec]]:
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for part in get_args(annotation):
        yield from _specs_in(part)
