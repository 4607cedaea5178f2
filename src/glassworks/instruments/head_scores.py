"""Head scores: how much of a head's attention goes where a known kind of head would send it.

Definitions, for a sequence z and a map A (query q, key s); every score is a mean over the queries for which
it is defined:

* previous_token: A[q, q-1], q >= 1 (Elhage et al. 2021; Olsson et al. 2022, the first half of an induction
  circuit);
* duplicate_token: sum of A[q, s] over s < q with z_s = z_q (Wang et al. 2022);
* induction: sum of A[q, s+1] over s < q-1 with z_s = z_q: the tokens after earlier occurrences of the query's
  token (Olsson et al. 2022, "prefix matching score");
* first_token: A[q, first], q >= 1 (Xiao et al. 2023, attention sink).

Chance is what uniform attention over the keys that a query may see would score on the same tokens. The
interval is a 95 % t-interval over sequences; for a single sequence over its queries, which are not
independent (a caveat says so).
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval
from glassworks.figures import Axes, Dot, Figure, Heading, dots
from glassworks.instruments.base import (
    Instrument,
    Stack,
    interval_over_texts,
    layers_of,
    stacked_heading,
    stacked_name,
    text_of,
)
from glassworks.tensors.seeds import Seed

SCORES = ("previous_token", "duplicate_token", "induction", "first_token")
QUANTITIES = ("value", "low", "high", "chance", "count")


class HeadScores(Instrument):
    """Previous-token, duplicate, induction and first-token-sink scores of every head, beside chance."""

    kind: Literal["head_scores"] = "head_scores"
    stack: Stack = ""
    """Which stack of an encoder-decoder: its decoder's, or "encoder"."""
    shown: int = Field(default=4, ge=1)
    """How many heads of each score the figure shows, the best first."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The pattern of every layer that has attention."""
        layers = layers_of(anatomy, self.stack)
        return tuple(
            Site("mixer.pattern", i, stack=self.stack) for i, layer in enumerate(layers) if layer.attention != "none"
        )

    def fold(self, subject: Subject) -> "_Attention":
        """An empty gathering; raises InvalidInput where no attention can be read."""
        sites = self.sites(subject.anatomy)
        if not sites:
            raise InvalidInput(say("the model has no attention that can be read"))
        causal = all(layer.causal for layer in layers_of(subject.anatomy, self.stack))
        return _Attention(sites, self.stack, causal)

    def draw(self, measurement: Measurement) -> Figure:
        """The best heads of each score above chance, with intervals."""
        heading = Heading(
            "head-scores",
            say("What the heads look for"),
            say(
                "The best heads of each kind, with 95 % intervals; chance is what uniform attention scores. A score says where a head looks, not what it is for."
            ),
        )
        return draw_scores(stacked_heading(heading, self.stack), measurement, self.shown)


class _Attention:
    """The scores of every head on every text; of the first text those of every query too."""

    def __init__(self, sites: tuple[Site, ...], stack: Stack, causal: bool) -> None:
        self._sites, self._causal = sites, causal
        self._stack: Stack = stack
        self._means: list[NDArray[np.float64]] = []
        self._levels: list[NDArray[np.float64]] = []
        self._first: NDArray[np.float64] | None = None

    def add(self, batch: TokenBatch, seen: Activations) -> None:
        """Takes in the maps of every text of a piece."""
        batch = text_of(batch, self._stack)
        targets = head_targets(batch)
        uniform = uniform_map(batch, self._causal)
        levels = np.stack([scored(uniform, targets[name])[:, 0].numpy() for name in SCORES], 1)
        heads = max(seen[site.name].shape[1] for site in self._sites)
        shares = np.full((len(batch.ids), len(SCORES), len(self._sites), heads, batch.ids.shape[1]), np.nan)
        for row, site in enumerate(self._sites):
            pattern = seen[site.name].float().cpu()
            for index, name in enumerate(SCORES):
                shares[:, index, row, : pattern.shape[1]] = scored(pattern, targets[name]).numpy()
        if self._first is None:
            self._first = shares[0]
        self._means += list(_mean_of_known(shares))
        self._levels += list(_mean_of_known(levels))

    def measurement(self) -> Measurement:
        """Scores by kind, layer and head; NaN where no query has the score (no token repeats)."""
        assert self._first is not None, "no text was taken in"
        rows = self._first[None] if len(self._means) == 1 else np.stack(self._means)[..., None]
        values: NDArray[np.float64] = np.full((*self._first.shape[:3], len(QUANTITIES)), np.nan)
        chance = _mean_of_known(np.stack(self._levels, -1))
        for place in np.ndindex(*values.shape[:3]):
            found = interval_over_texts([text[place] for text in rows])
            values[place] = (found.mean, found.low, found.high, chance[place[0]], found.count)
        return Measurement(
            name=stacked_name("head_scores", self._stack),
            says=say("share of a head's attention that goes where a known kind of head sends it"),
            values=values,
            dims=("score", "layer", "head", "quantity"),
            coords={
                "score": SCORES,
                "layer": tuple(site.layer or 0 for site in self._sites),
                "head": tuple(range(values.shape[2])),
                "quantity": QUANTITIES,
            },
            unit="probability",
            caveats=_caveats(len(self._means), values),
            columns={"quantity": "value, its 95 % interval, the score of uniform attention, count averaged"},
        )


def draw_scores(heading: Heading, measurement: Measurement, shown: int) -> Figure:
    """The best heads of each score; the caption names the scores that the tokens could not show."""
    blank = not_measurable(measurement)
    if blank is not None:
        heading = replace(heading, caption=say("{first} {second}", first=heading.caption, second=blank))
    return dots(heading, _best_rows(measurement, shown), Axes(say("share of attention"), "", x_range=(0.0, 1.02)))


def not_measurable(measurement: Measurement) -> Text | None:
    """The scores that no query of the tokens defines, and why, in one sentence; None where all are defined."""
    names = [
        score_name(str(score))
        for index, score in enumerate(measurement.coords["score"])
        if np.isnan(measurement.values[index, ..., 0]).all()
    ]
    if not names:
        return None
    listed = names[0]
    for name in names[1:]:
        listed = say("{first}, {second}", first=listed, second=name)
    if len(names) == len(SCORES):
        return say("Not measurable on this text: {scores}; one token has none before it.", scores=listed)
    return say("Not measurable on this text: {scores}; no token comes back in it as they need.", scores=listed)


def _best_rows(measurement: Measurement, shown: int) -> list[Dot]:
    rows: list[Dot] = []
    for index, name in enumerate(measurement.coords["score"]):
        part = measurement.values[index]
        order = np.argsort(-np.nan_to_num((part[..., 0] - part[..., 3]).ravel(), nan=-np.inf))
        for place in order[:shown]:
            layer, head = divmod(int(place), part.shape[1])
            mean, low, high, chance, _ = part[layer, head]
            if np.isnan(mean):
                continue
            label = say(
                    "L{layer}H{head}, chance {chance}",
                    layer=measurement.coords["layer"][layer], head=head, chance=f"{chance:.2f}",
                )  # fmt: skip
            # Count 0: the spread is over sequences or queries, not over seeds.
            rows.append(Dot(label, Interval(mean, low, high, 0), group=score_name(str(name))))
    return rows


def score_name(score: str) -> Text:
    """The name of a score for people."""
    match score:
        case "previous_token":
            return say("previous token")
        case "duplicate_token":
            return say("duplicate token")
        case "induction":
            return say("induction")
        case _:
            return say("first token (sink)")


def head_targets(batch: TokenBatch) -> dict[str, Float[Tensor, "batch query key"]]:
    """For each score, 1 on the keys that count for a query, 0 elsewhere.

    Queries without such a key are left out.
    """
    ids, real = batch.ids.cpu(), batch.real.cpu()
    count = ids.shape[1]
    step = torch.arange(count)
    both = real[:, :, None] & real[:, None, :]
    earlier = (step[:, None] > step[None, :]) & both
    equal = (ids[:, :, None] == ids[:, None, :]) & earlier
    after = torch.zeros_like(equal)
    # s+1 is a key only before q itself: after a doubled token it would be the query's own place.
    after[:, :, 1:] = equal[:, :, :-1]
    after &= earlier
    first = torch.zeros_like(both)
    first[torch.arange(len(ids)), :, real.int().argmax(1)] = True
    previous = (step[:, None] - 1 == step[None, :]) & both
    return {
        "previous_token": previous.float(),
        "duplicate_token": equal.float(),
        "induction": after.float(),
        "first_token": (first & earlier).float(),
    }


def uniform_map(batch: TokenBatch, causal: bool) -> Float[Tensor, "batch 1 query key"]:
    """Attention that spreads evenly over the real keys a query may see."""
    real = batch.real.cpu()
    allowed: Bool[Tensor, "batch query key"] = real[:, None, :] & real[:, :, None]
    if causal:
        allowed = allowed & torch.ones(allowed.shape[-2:], dtype=torch.bool).tril()
    weight = allowed.float()
    return (weight / weight.sum(-1, keepdim=True).clamp_min(1))[:, None]


def repeated_random_tokens(subject: Subject, seed: Seed, *, sequences: int = 8, half: int = 24) -> TokenBatch:
    """Random tokens, each sequence said twice: the text on which induction shows purest (Olsson et al.

    2022).
    """
    context = subject.anatomy.context
    half = half if context is None else min(half, context // 2)
    if half < 2:
        raise InvalidInput(say("the model's context is too short to repeat anything"), given=context)
    first = torch.randint(0, subject.anatomy.vocabulary, (sequences, half), generator=seed.generator())
    ids = torch.cat([first, first], 1)
    return TokenBatch(ids, None, subject.labels(ids[0].tolist()))


def scored(pattern: Tensor, target: Tensor) -> Float[Tensor, "batch head query"]:
    """The attention that each query gives to its targets; NaN for queries that have none."""
    share = (pattern * target[:, None]).sum(-1)
    defined = (target.sum(-1) > 0)[:, None].expand_as(share)
    return torch.where(defined, share, torch.full_like(share, float("nan")))


def _mean_of_known(values: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over the last axis without NaN; NaN where nothing else is there."""
    known = ~np.isnan(values)
    count = known.sum(-1)
    total = np.where(known, values, 0).sum(-1, dtype=np.float64)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def _caveats(texts: int, values: np.ndarray) -> tuple[Text, ...]:
    caveats = [say("Attention shows where information is read from, not that it is used.")]
    if texts == 1:
        caveats.append(say("One sequence: the interval is over its queries, which are not independent."))
    if np.isnan(values[SCORES.index("duplicate_token"), ..., 0]).all():
        caveats.append(say("No token repeats in this text, so duplicate-token and induction scores are not defined."))
    elif np.isnan(values[SCORES.index("induction"), ..., 0]).all():
        caveats.append(say("Tokens repeat side by side only, so induction scores are not defined."))
    return tuple(caveats)
