"""Variants: one training with some of its settings varied, every combination, as a run with one table. No torch."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from glassworks.core.errors import InvalidInput
from glassworks.core.spec import Spec, typed_value
from glassworks.core.text import say
from glassworks.evidence.statistics import Interval, interval_over_seeds

if TYPE_CHECKING:
    import pandas as pd

VARIANTS = "variants"
SEED = "seed"
# Above this a mistyped range is likelier than a wish.
MOST = 10_000
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_EXAMPLE = "seed=0,1,2"


class VariantsSpec(Spec):
    """What was varied, and which trainings came of it."""

    kind: Literal["variants"] = VARIANTS
    task: str
    """What is learned, or the stage."""
    names: tuple[str, ...]
    """The settings that vary."""
    values: tuple[tuple[str, ...], ...]
    """Of each training, their values as they were typed."""
    trainings: tuple[str, ...]
    """The digests of the trainings; two combinations may mean the same one."""


@dataclass(frozen=True)
class Row:
    """What came of one combination; `facts` are numbers by name, `error` is why there are none."""

    values: tuple[str, ...]
    digest: str
    facts: Mapping[str, Any]
    folder: str = ""
    error: str | None = None

    @property
    def loss(self) -> float:
        """The loss on what was held out; NaN where there is none."""
        found = self.facts.get("loss")
        return float(found) if isinstance(found, int | float) else math.nan


@dataclass(frozen=True)
class Group:
    """All seeds of one combination of the other settings."""

    values: tuple[str, ...]
    loss: Interval


def read_varied(words: Sequence[str]) -> dict[str, list[str]]:
    """The values to try by setting: `seed=0,1,2`, `seed=0..9`, or a JSON list where a value holds commas itself.

    Raises InvalidInput for a setting without values, or said twice.
    """
    found: dict[str, list[str]] = {}
    for word in words:
        name, separator, text = word.partition("=")
        values = _values(text.strip())
        if not separator or not name.strip() or not values:
            raise InvalidInput(
                say("what varies is name=value,value"), given=word, right=say("for example {example}", example=_EXAMPLE)
            )
        if name.strip() in found:
            raise InvalidInput(say("{name} is said twice", name=name.strip()), given=word)
        if len(set(values)) < len(values):
            raise InvalidInput(say("{name} takes a value twice", name=name.strip()), given=word)
        found[name.strip()] = values
    return found


def combinations(varied: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """Every combination of the values, the last setting changing fastest; InvalidInput for more than ten thousand."""
    count = math.prod(len(values) for values in varied.values())
    if count > MOST:
        raise InvalidInput(say("{count} combinations are more than {most}", count=count, most=MOST))
    return list(itertools.product(*varied.values()))


def groups_of(names: Sequence[str], rows: Sequence[Row]) -> list[Group]:
    """Mean and 95 % interval over seeds for each combination of the other settings; nothing where no seed varies."""
    if SEED not in names:
        return []
    place = list(names).index(SEED)
    found: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        others = tuple(value for i, value in enumerate(row.values) if i != place)
        found.setdefault(others, []).append(row.loss)
    return [Group(values, interval_over_seeds(np.array(losses))) for values, losses in found.items()]


def table_of(names: Sequence[str], rows: Sequence[Row]) -> pd.DataFrame:
    """One line per combination: its values, the facts that any has, the folder, the error."""
    import pandas as pd

    facts = list(dict.fromkeys(name for row in rows for name in row.facts))
    return pd.DataFrame(
        [
            dict(zip(names, row.values, strict=True))
            | {name: row.facts.get(name) for name in facts}
            | {"digest": row.digest, "folder": row.folder, "error": row.error}
            for row in rows
        ],
        columns=[*names, *facts, "digest", "folder", "error"],
    )


def _values(text: str) -> list[str]:
    """The values of one setting as words of a command line."""
    if match := _RANGE.fullmatch(text):
        first, last = int(match[1]), int(match[2])
        if last - first >= MOST:
            raise InvalidInput(say("{count} combinations are more than {most}", count=last - first + 1, most=MOST))
        return [str(number) for number in range(first, last + 1)]
    listed = typed_value(text) if text.startswith("[") else None
    if isinstance(listed, list):
        import json

        values = cast(list[object], listed)
        return [value if isinstance(value, str) else json.dumps(value) for value in values]
    return [value.strip() for value in text.split(",") if value.strip()]
