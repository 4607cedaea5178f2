"""The names and the help of fields in Chinese: specs write both in English beside the code, as attributes' docstrings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, cast


@cache
def tables() -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Field name to its name, English help to its help."""
    found = json.loads((files("glassworks.studio.forms") / "chinese.json").read_text(encoding="utf-8"))
    return cast(tuple[Mapping[str, str], Mapping[str, str]], (found["names"], found["help"]))


def in_chinese(schema: Any) -> Any:
    """The schema with a `label` for every field and its description in Chinese; what has none stays English."""
    if isinstance(schema, list):
        return [in_chinese(one) for one in cast(list[Any], schema)]
    if not isinstance(schema, dict):
        return schema
    names, helps = tables()
    found: dict[str, Any] = {}
    for key, value in cast(dict[str, Any], schema).items():
        if key == "properties":
            found[key] = {name: in_chinese(field) | {"label": names.get(name, name)} for name, field in value.items()}
        elif key == "description" and isinstance(value, str):
            found[key] = helps.get(value, value)
        else:
            found[key] = value if key in ("default", "enum", "const") else in_chinese(value)
    return found
