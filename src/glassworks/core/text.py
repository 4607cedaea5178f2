"""Every sentence a person reads: written in English beside the code, translated in one catalogue.

`say("found {count} layers", count=3)` returns a `Text`, which knows both languages; the English template is
the key of the catalogue. `tests/core/test_text.py` fails when a template in the source has no translation.
"""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Literal, cast

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")

_chosen: ContextVar[Language | None] = ContextVar("language", default=None)


def choose_language(language: Language) -> None:
    """Sets the language of `str(Text)` for this process; `GLASSWORKS_LANG` is the default, then English."""
    _chosen.set(language)


def current_language() -> Language:
    """The language that `str(Text)` uses now."""
    chosen = _chosen.get()
    if chosen is not None:
        return chosen
    return "zh" if os.environ.get("GLASSWORKS_LANG", "").lower().startswith("zh") else "en"


@cache
def chinese_catalogue() -> Mapping[str, str]:
    """English template to Simplified Chinese, merged from one file per room in `core/locales/zh`."""
    merged: dict[str, str] = {}
    for entry in sorted(files("glassworks.core").joinpath("locales", "zh").iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".json"):
            merged |= cast(dict[str, str], json.loads(entry.read_text(encoding="utf-8")))
    return merged


@dataclass(frozen=True)
class Text:
    """A sentence in every language: an English template and the values it is filled with."""

    template: str
    values: Mapping[str, object] = field(default_factory=dict[str, object])

    def in_language(self, language: Language) -> str:
        """The filled sentence; values that are texts themselves follow the same language."""
        template = self.template if language == "en" else chinese_catalogue().get(self.template, self.template)
        if not self.values:
            return template
        return template.format(
            **{k: v.in_language(language) if isinstance(v, Text) else v for k, v in self.values.items()}
        )

    @property
    def en(self) -> str:
        """The sentence in English."""
        return self.in_language("en")

    @property
    def zh(self) -> str:
        """The sentence in Simplified Chinese."""
        return self.in_language("zh")

    def __str__(self) -> str:
        return self.in_language(current_language())

    def to_json(self) -> dict[str, object]:
        """A JSON object that `Text.from_json` reads back; values become text or numbers."""
        plain = {k: _plain(v) for k, v in self.values.items()}
        return {"template": self.template, "values": plain}

    @classmethod
    def from_json(cls, found: object) -> Text:
        """Reads what `to_json` wrote; a bare string is taken as a template without values."""
        if isinstance(found, str):
            return cls(found)
        if not isinstance(found, dict) or "template" not in found:
            raise ValueError(f"{found!r} is no text")
        entry = cast(dict[str, object], found)
        values = cast(dict[str, object], entry.get("values", {}))
        return cls(
            str(entry["template"]),
            {k: _lively(v) for k, v in values.items()},
        )


def _plain(value: object) -> object:
    if isinstance(value, Text):
        return value.to_json()
    if isinstance(value, bool | str):
        return value
    # numpy's numbers too: as text they could not be formatted again after reading.
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else {"number": str(number)}
    return str(value)


def _lively(value: object) -> object:
    if isinstance(value, dict):
        entry = cast(dict[str, object], value)
        if "template" in entry:
            return Text.from_json(entry)
        if "number" in entry:  # JSON has no NaN and no infinity
            return float(str(entry["number"]))
    return cast(object, value)


def say(template: str, /, **values: object) -> Text:
    """A `Text` from an English template with `{named}` values; the template must stand in the catalogue."""
    return Text(template, values)
