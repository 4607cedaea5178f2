"""One plan tried on one model, as a value: what was said, scored and used, beside the plain model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from glassworks.anatomy import Subject
from glassworks.anatomy.showing import byte_words, html_table
from glassworks.core.errors import InvalidInput
from glassworks.core.files import write_atomically, write_bytes
from glassworks.core.spec import Spec
from glassworks.core.text import Text, say
from glassworks.evaluation import AnyPrepared, Scores
from glassworks.evidence.statistics import Interval
from glassworks.surgery.caches import CacheMode
from glassworks.surgery.plan_files import SavedPlan
from glassworks.surgery.plans import Plan
from glassworks.surgery.rows import Drawn, between_chance_and_whole
from glassworks.surgery.vectors import Beside

if TYPE_CHECKING:
    import pandas as pd


class TrialChoice(Spec):
    """What is asked of a model under a plan."""

    kind: Literal["trial"] = "trial"
    prompt: str | tuple[int, ...] | None = None
    """A text or token ids to go on from; of an encoder-decoder, the source."""
    new_tokens: int = Field(default=40, ge=1)
    """At most so many tokens are written."""
    temperature: float = Field(default=0.0, ge=0)
    """0 takes the likeliest token; otherwise tokens are drawn."""
    seed: int = 0
    """Chance of drawn tokens."""
    evals: str | None = None
    """Benchmarks with commas between."""
    limit: int | None = Field(default=None, ge=1)
    """Documents of each benchmark; None for all."""
    stack: str | None = None
    """Of an encoder-decoder: "encoder" or "decoder"."""
    cache: CacheMode = "exact"
    """"mean" keeps one average for a parallel set, as the published code."""
    check_cache: bool = False
    """Whether the tokens are compared with an uncached pass."""


@dataclass(frozen=True)
class Continuation:
    """What was written: all token ids, how many of them were given, the whole text and the new part of it."""

    tokens: tuple[int, ...]
    given: int
    text: str
    new_text: str


@dataclass(frozen=True)
class ScoreRow:
    """One metric under the plan and of the plain model, with 95 % intervals over documents.

    `share` places the main metric between chance (0) and the plain model (1); None for the others.
    """

    benchmark: str
    metric: str
    plan: Interval
    plain: Interval
    higher_is_better: bool
    documents: int
    chance: float | None = None
    share: Interval | None = None

    def cells(self) -> dict[str, Any]:
        """The columns of a tidy table."""
        share = self.share or Interval(math.nan, math.nan, math.nan, 0)
        return {
            "benchmark": self.benchmark, "metric": self.metric, "main": self.share is not None,
            "higher_is_better": self.higher_is_better, "documents": self.documents,
            "value": self.plan.mean, "low": self.plan.low, "high": self.plan.high,
            "plain": self.plain.mean, "plain_low": self.plain.low, "plain_high": self.plain.high,
            "chance": math.nan if self.chance is None else self.chance,
            "normalised": share.mean, "normalised_low": share.low, "normalised_high": share.high,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scored:
    """A benchmark's scores under the plan and of the plain model, all metrics."""

    prepared: AnyPrepared
    plan: Scores
    plain: Scores

    def rows(self) -> list[ScoreRow]:
        """One row a metric, the one to compare by first."""
        main = self.prepared.metric
        return [self._row(name) for name in sorted(self.plan, key=lambda name: name != main)]

    def _row(self, name: str) -> ScoreRow:
        ours, plain = self.plan[name], self.plain[name]
        drawn = Drawn.of([ours, plain])
        row = ScoreRow(
            self.prepared.name, name, drawn.interval(0, ours), drawn.interval(1, plain), ours.higher_is_better,
            self.prepared.documents,
        )  # fmt: skip
        if name != self.prepared.metric:
            return row
        # Any two plans will do as names of the two models.
        plan, whole = Plan.of([0]), Plan.of([0, 1])
        share = between_chance_and_whole(self.prepared, {plan: self.plan, whole: self.plain}, whole)[plan]
        return replace(row, chance=self.prepared.chance, share=share.interval)


@dataclass(frozen=True, eq=False)
class Trial:
    """What was found; shows itself in a notebook.

    `says` and `plain_says` are None for a model that writes nothing, `vectors` for one that does;
    `cached_equals_uncached` is None where it was not asked for.
    """

    subject: Subject = field(repr=False)
    plan: Plan
    stack: str
    choice: TrialChoice
    says: Continuation | None = None
    plain_says: Continuation | None = None
    vectors: Beside | None = None
    scores: tuple[Scored, ...] = ()
    cached_equals_uncached: bool | None = None
    notes: tuple[Text, ...] = ()

    @property
    def depth(self) -> int:
        """Layers of the stack."""
        return len(self.subject.anatomy.stacks[self.stack])

    @property
    def uses_cache(self) -> bool:
        """Whether the model would write with a cache: the likeliest tokens are, drawn ones are not."""
        return writes(self.subject) and self.choice.temperature == 0.0

    @property
    def saved(self) -> SavedPlan:
        """The plan with what must be known of its model, for a file."""
        # Deferred: `sweep` needs most of this room.
        from glassworks.surgery.sweep import fingerprint

        origin = self.subject.origin
        # A model on this disk is found again by its path, any other by its name.
        source = origin.source if origin.source and Path(origin.source).exists() else origin.name
        return SavedPlan(self.plan, origin.name, source, fingerprint(self.subject), self.stack, self.depth)

    def facts(self) -> list[tuple[Text, Text | str]]:
        """What the plan runs and what that costs."""
        unused = ", ".join(map(str, self.plan.unused(self.depth)))
        rows: list[tuple[Text, Text | str]] = [
            (say("plan"), str(self.plan)),
            (say("layer runs"), say("{runs} (plain model: {depth})", runs=self.plan.layer_runs, depth=self.depth)),
            (say("layers one after the other"), str(self.plan.critical_depth)),
            (say("layers never run"), unused or say("none")),
        ]
        size = cache_bytes(self)
        if size is not None:
            told = say(
                "{slots} slots, {size} a token (plain model: {plain})",
                slots=self.plan.layer_runs, size=byte_words(size[0]), plain=byte_words(size[1]),
            )  # fmt: skip
            rows.append((say("cache"), told))
        if len(self.subject.anatomy.stacks) > 1:
            rows.append((say("stack"), self.stack))
        return rows

    def score_rows(self) -> list[ScoreRow]:
        """Every metric of every benchmark."""
        return [row for one in self.scores for row in one.rows()]

    def to_pandas(self) -> pd.DataFrame:
        """One row for each benchmark and metric: under the plan, plain, intervals over documents."""
        import pandas as pd

        return pd.DataFrame([row.cells() for row in self.score_rows()])

    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`, without NaN."""
        says, plain = self.says, self.plain_says
        scores: dict[str, dict[str, Any]] = {one.prepared.name: {} for one in self.scores}
        for row in self.score_rows():
            cells = {name: _known(value) for name, value in row.cells().items()}
            scores[row.benchmark][row.metric] = cells
        found: dict[str, Any] = {
            **self.plan.to_json(),
            "unused": list(self.plan.unused(self.depth)),
            "model": self.subject.origin.name,
            "stack": self.stack,
            "text": None if says is None else says.text,
            "tokens": [] if says is None else list(says.tokens),
            "prompt_tokens": 0 if says is None else says.given,
            "plain": None if plain is None else {"text": plain.text, "tokens": list(plain.tokens)},
            "vectors": None if self.vectors is None else self.vectors.to_json(),
            "scores": scores,
            "cache": self.choice.cache if self.uses_cache else "none",
            "notes": [str(note) for note in self.notes],
        }
        return found | ({"cached_equals_uncached": self.cached_equals_uncached} if self.choice.check_cache else {})

    def save(self, path: str | Path) -> Path:
        """Writes .json (the plan and the model it is for), or .csv or .parquet (the scores)."""
        path = Path(path)
        match path.suffix.lower():
            case ".json":
                self.saved.save(path)
            case ".csv":
                write_bytes(path, self.to_pandas().to_csv(index=False).encode())
            case ".parquet":
                write_atomically(path, lambda temporary: self.to_pandas().to_parquet(temporary, index=False))
            case other:
                raise InvalidInput(
                    say("a plan and its scores cannot be written as {suffix}", suffix=other or "-"),
                    right=say(".json, .csv or .parquet"),
                )
        return path

    def _repr_html_(self) -> str:
        return html_table((self.subject.origin.name, ""), self._shown())

    def __str__(self) -> str:
        return "\n".join([self.subject.origin.name, *(f"{name}: {value}" for name, value in self._shown())])

    def _shown(self) -> list[tuple[Text | str, Text | str]]:
        rows: list[tuple[Text | str, Text | str]] = [*self.facts()]
        if self.says is not None and self.plain_says is not None:
            rows += [(say("under the plan"), self.says.text), (say("plain model"), self.plain_says.text)]
        if self.vectors is not None:
            rows.append((say("cosine to the plain model's vector"), f"{self.vectors.of_mean:.3f}"))
        for row in self.score_rows():
            if row.share is not None:
                told = say("{plan} (plain model: {plain})", plan=row.plan, plain=row.plain)
                rows.append((f"{row.benchmark} {row.metric}", told))
        return rows


def cache_bytes(trial: Trial) -> tuple[int, int] | None:
    """Bytes of keys and values per token under the plan and of the plain model; None where no cache is used."""
    if trial.stack == "encoder" or not writes(trial.subject):
        return None
    size = next(trial.subject.model.parameters()).element_size()
    each = [2 * layer.kv_heads * layer.head_width * size for layer in trial.subject.anatomy.layers]
    return sum(each[layer] for layer in trial.plan.executions), sum(each)


def writes(subject: Subject) -> bool:
    """Whether the model goes on from a text: decoders and encoder-decoders with a head over the vocabulary."""
    anatomy = subject.anatomy
    has_head = (anatomy.head is not None or anatomy.tied_head) and not anatomy.answers_once
    return has_head and (anatomy.causal or anatomy.has_source)


def _known(value: Any) -> Any:
    """A number as JSON can hold it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
