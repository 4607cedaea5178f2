"""What every plan gave on every piece of a text: asked once, kept on disk, and the only memory that a search has."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassworks.anatomy import Subject
from glassworks.core.errors import BrokenFile
from glassworks.core.events import EventLog, Progressed
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.evaluation import Item, MetricScore, batches
from glassworks.evaluation.items import ItemBatch, is_causal
from glassworks.surgery.plans import Plan
from glassworks.surgery.scoring import Running, score_piece

METRICS = ("nll", "kl")
# A piece is what is lost with a kill, and what a race begins with: two windows of 256 tokens.
TOKENS_PER_PIECE = 512
SECONDS_BETWEEN_NEWS = 1.0

# For each metric the sum over the targets of each item of a piece, in nats.
Sums = Mapping[str, tuple[float, ...]]


@dataclass(eq=False)
class Ledger:
    """Sums of nats by plan and piece; `events` hears of the work, `run` keeps it under `name`."""

    subject: Subject
    stack: str
    items: Sequence[Item]
    name: str
    events: EventLog
    run: RunFolder | None = None
    tokens_per_piece: int = TOKENS_PER_PIECE
    _known: dict[Plan, dict[int, Sums]] = field(default_factory=dict[Plan, dict[int, Sums]])

    def __post_init__(self) -> None:
        self.pieces: list[ItemBatch] = batches(self.items, self.tokens_per_piece, causal=is_causal(self.subject))
        if self.run is not None and self.run.has(self._file):
            self._read(self.run.read_json(self._file))

    @property
    def plans(self) -> int:
        """Different plans asked about so far."""
        return len(self._known)

    def ask(self, plans: Iterable[Plan], pieces: int) -> None:
        """Makes known what plans give on the first so many pieces; what they have in common is run once."""
        wanted = list(dict.fromkeys(plans))
        missing = [[plan for plan in wanted if place not in self._known.get(plan, {})] for place in range(pieces)]
        news = _News(self.events, self.name, sum(map(len, missing)))
        for place, asked in enumerate(missing):
            if not asked:
                continue
            found = score_piece(self.subject, self.pieces[place], asked, Running(self.stack, tick=news.tick))
            ends = np.cumsum(self.pieces[place].counts)[:-1]
            for row, plan in enumerate(asked):
                values = {"nll": -found.logprobs[row], "kl": found.divergence[row]}
                sums = {name: _sums(value.astype(np.float64), ends) for name, value in values.items()}
                self._known.setdefault(plan, {})[place] = sums

    def value(self, plan: Plan, metric: str, pieces: int) -> float:
        """Mean nats per target over the first so many pieces; infinite where a number is none."""
        total = sum(sum(self._known[plan][place][metric]) for place in range(pieces))
        return total / sum(sum(piece.counts) for piece in self.pieces[:pieces])

    def score(self, plan: Plan, metric: str) -> MetricScore:
        """Nats per target item by item, over all pieces, weighted by the items' targets."""
        order = [item for piece in self.pieces for item in piece.items]
        counts = np.array([count for piece in self.pieces for count in piece.counts], np.float64)
        sums = np.array([value for place in range(len(self.pieces)) for value in self._known[plan][place][metric]])
        rank = np.argsort(order)
        return MetricScore.mean(sums[rank] / counts[rank], counts[rank], higher_is_better=False)

    def keep(self) -> None:
        """Writes all that is known."""
        if self.run is not None:
            rows = {
                str(plan): {str(place): _plain(sums) for place, sums in known.items()}
                for plan, known in self._known.items()
            }
            self.run.write_json(self._file, {"pieces": len(self.pieces), "sums": rows})

    @property
    def _file(self) -> str:
        return f"ledger/{self.name}.json"

    def _read(self, found: Any) -> None:
        try:
            assert found["pieces"] == len(self.pieces)
            for text, known in found["sums"].items():
                self._known[Plan.parse(text)] = {
                    int(place): {
                        name: tuple(math.inf if v is None else float(v) for v in sums[name]) for name in METRICS
                    }
                    for place, sums in known.items()
                }
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as problem:
            raise BrokenFile(
                say("{path} is damaged: {reason}", path=self._file, reason=str(problem)),
                right=say("delete this file and run the search again"),
            ) from None


class _News:
    """Tells how many plans are done, at most once a second."""

    def __init__(self, events: EventLog, label: str, total: int) -> None:
        self._events, self._label, self._total = events, label, total
        self._done = 0
        self._started = self._told = time.perf_counter()

    def tick(self) -> None:
        self._done += 1
        now = time.perf_counter()
        if now - self._told >= SECONDS_BETWEEN_NEWS or self._done == self._total:
            self._told = now
            self._events.emit(
                Progressed(label=self._label, done=self._done, total=self._total, seconds=now - self._started)
            )


def _sums(values: NDArray[np.float64], ends: NDArray[np.int64]) -> tuple[float, ...]:
    """Per item; what is no number counts as infinitely bad."""
    parts = (float(part.sum()) for part in np.split(values, ends))
    return tuple(part if math.isfinite(part) else math.inf for part in parts)


def _plain(sums: Sums) -> dict[str, list[float | None]]:
    return {name: [value if math.isfinite(value) else None for value in values] for name, values in sums.items()}
