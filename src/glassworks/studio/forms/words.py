"""Values as words of a command line: what `typed_value` reads back as the same value."""

from __future__ import annotations

import json
from collections.abc import Mapping

from glassworks.core.spec import typed_value


def word_of(value: object) -> str:
    """A text as it is, where it would not be read as something else; anything else as JSON."""
    if isinstance(value, str) and typed_value(value) == value and value == value.strip() and value:
        return value
    return json.dumps(value, ensure_ascii=False)


def settings_of(choices: Mapping[str, object]) -> list[str]:
    """`path=value` words, shorter paths first, so that what a path leads into is chosen before."""
    return [f"{path}={word_of(choices[path])}" for path in sorted(choices, key=lambda path: (path.count("."), path))]
