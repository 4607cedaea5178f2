"""What each stage changed inside a model: streams against those of the model it began from, heads, layers left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from glassworks.anatomy import Subject
from glassworks.anatomy.capture import capture
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import Text, say
from glassworks.evaluation import Perplexity, evaluate
from glassworks.evaluation.base import Prepared
from glassworks.evaluation.spelling import Spelling
from glassworks.evidence.measurements import Label, Measurement
from glassworks.instruments import HeadScores, RepeatedTokens
from glassworks.instruments.base import stream_sites
from glassworks.surgery import Layer, Plan, operated

# Scores of the report; induction is taken on random tokens said twice, the others on text.
SCORES = ("previous token", "induction", "first token")
_ON_TEXT = {"previous token": "previous_token", "first token": "first_token"}
# Tokens of each text, and texts, that streams and heads are read on.
TOKENS, TEXTS = 64, 16


@dataclass(frozen=True)
class Held:
    """The held-out text that all models are looked at on."""

    path: Path
    windows: int
    length: int = 256
    """Tokens of a window: those of training, so that no place is read that was never trained."""

    def perplexity(self, subject: Subject) -> Prepared:
        """Its windows for a model; `bits_per_byte` is what is read of them."""
        prepared = Perplexity(text_file=str(self.path), window=self.length, limit=self.windows).prepare(subject)
        assert isinstance(prepared, Prepared)
        return prepared

    def batch(self, subject: Subject) -> TokenBatch:
        """Its first tokens as texts of equal length."""
        text = self.path.read_text(encoding="utf-8")[: 16 * TOKENS * TEXTS]
        ids = Spelling.of(subject, "auto").plain(text)
        count = min(TEXTS, len(ids) // TOKENS)
        return subject.batch([list(ids[row * TOKENS : (row + 1) * TOKENS]) for row in range(count)])


def bits_per_byte(subject: Subject, held: Held) -> NDArray[np.float64]:
    """Bits per byte of every window of the text."""
    return evaluate(subject, held.perplexity(subject))["bits_per_byte"].per_document


def skip_costs(subject: Subject, held: Held) -> NDArray[np.float64]:
    """Bits per byte that each layer's absence adds, layer by layer."""
    prepared = held.perplexity(subject)
    depth = len(subject.anatomy.layers)
    plain = evaluate(subject, prepared)["bits_per_byte"].value
    found: list[float] = []
    for left_out in range(depth):
        plan = Plan(tuple(Layer(layer) for layer in range(depth) if layer != left_out))
        with operated(subject, plan) as cut:
            found.append(evaluate(cut, prepared)["bits_per_byte"].value - plain)
    return np.array(found)


def head_scores(subject: Subject, batch: TokenBatch) -> Float[np.ndarray, "layer head score"]:
    """The scores of every head in the order of `SCORES`."""
    on_text = HeadScores().read(subject, batch).at(quantity="value")
    repeated = RepeatedTokens(sequences=16).read(subject, batch).at(quantity="value")
    parts = [
        on_text.at(score=_ON_TEXT[name]).values if name in _ON_TEXT else repeated.at(score=name).values
        for name in SCORES
    ]
    return np.stack(parts, -1)


def streams(subject: Subject, batch: TokenBatch) -> Float[Tensor, "layer token width"]:
    """The stream after every layer, texts one after the other."""
    sites = stream_sites(subject.anatomy)[1:]
    seen = capture(subject, batch, sites)
    return torch.stack([seen[site.name].float().flatten(0, 1) for site in sites])


def likeness(one: Float[Tensor, "layer token width"], other: Float[Tensor, "layer token width"]) -> NDArray[np.float64]:
    """Mean cosine of two models' streams at the same tokens, layer by layer."""
    return torch.cosine_similarity(one, other, dim=-1).mean(1).double().numpy()


@dataclass(frozen=True)
class Family:
    """Models of one life: a subject for each stage and seed, and the stage that each began from."""

    stages: Sequence[str]
    seeds: Sequence[int]
    parents: Mapping[str, str]

    def places(self) -> Iterator[tuple[int, str, int, int]]:
        """Row and name of each stage with column and value of each seed."""
        for row, stage in enumerate(self.stages):
            for column, seed in enumerate(self.seeds):
                yield row, stage, column, seed


def measure(family: Family, subjects: Mapping[tuple[str, int], Subject], held: Held) -> list[Measurement]:
    """Heads, skipped layers and likeness of streams; what was not trained stays NaN. Equal subjects are looked at once."""
    some = next(iter(subjects.values()))
    batch = held.batch(some)
    depth = len(some.anatomy.layers)
    heads = head_scores(some, batch).shape[1]
    shape = (len(family.stages), len(family.seeds), depth)
    scores = np.full((*shape, heads, len(SCORES)), np.nan)
    costs, alike = np.full(shape, np.nan), np.full(shape, np.nan)
    done: dict[int, tuple[NDArray[np.float64], NDArray[np.float64], Tensor]] = {}
    for row, stage, column, seed in family.places():
        subject = subjects.get((stage, seed))
        if subject is None:
            continue
        if id(subject) not in done:
            done[id(subject)] = (head_scores(subject, batch), skip_costs(subject, held), streams(subject, batch))
        scores[row, column], costs[row, column], own = done[id(subject)]
        parent = subjects.get((family.parents.get(stage, ""), seed))
        if parent is not None:
            alike[row, column] = likeness(own, done[id(parent)][2])
    base: dict[str, tuple[Label, ...]] = {
        "stage": tuple(family.stages), "seed": tuple(family.seeds), "layer": tuple(range(depth)),
    }  # fmt: skip
    by_layer = ("stage", "seed", "layer")
    by_head = base | {"head": tuple(range(heads)), "score": SCORES}
    return [
        _made("head_scores", say("what every head looks for, after each stage"), (scores, "probability"), by_head),
        _made(
            "skip_costs",
            say("bits per byte lost when a layer is skipped, after each stage"),
            (costs, "bits per byte"),
            base,
        ),
        _made(
            "stream_likeness",
            say("cosine of every layer's stream with that of the model a stage began from"),
            (alike, "cosine"),
            {dim: base[dim] for dim in by_layer},
        ),
    ]


def _made(
    name: str, says: Text, numbers: tuple[NDArray[np.float64], str], coords: Mapping[str, tuple[Label, ...]]
) -> Measurement:
    values, unit = numbers
    return Measurement(name, says, values, tuple(coords), dict(coords), unit)
