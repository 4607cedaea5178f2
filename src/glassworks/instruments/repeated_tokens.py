"""Head scores on random tokens said twice: the standard measurement of induction, whatever text was given.

Every token comes back after equally many steps, so a head that only looks that far back would score too. Hence a
control in the same pass: the same first halves, each followed by another sequence's. What a head gives there to
the very same places is chance for its duplicate-token and induction scores, where it is above that of uniform
attention.
"""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from glassworks.anatomy.capture import Activations, capture
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Figure, Heading
from glassworks.instruments.base import Instrument
from glassworks.instruments.head_scores import (
    QUANTITIES,
    SCORES,
    HeadScores,
    draw_scores,
    head_targets,
    repeated_random_tokens,
    scored,
)
from glassworks.tensors.seeds import Seed

_QUANTITY_WORDS = (
    "value, its 95 % interval, the score of uniform attention or of the control (the more of the two), count averaged"
)
# Of fewer tokens too many come back by chance before the repetition begins.
FEWEST_TOKENS = 50


class RepeatedTokens(Instrument):
    """Head scores on random tokens said twice (Olsson et al. 2022); the text plays no part."""

    kind: Literal["repeated_tokens"] = "repeated_tokens"
    seed: int = 0
    """Which random tokens."""
    sequences: int = Field(default=8, ge=2)
    """How many sequences; the interval is over them."""
    half: int = Field(default=24, ge=2)
    """Tokens of a sequence before it is said again; cut to half the model's context."""
    shown: int = Field(default=4, ge=1)
    """How many heads of each score the figure shows, the best first."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """None: it runs on its own tokens, so nothing of the shared pass serves it."""
        return ()

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Scores by kind, layer and head on its own tokens; `batch` and `activations` are not looked at."""
        tokens = repeated_random_tokens(subject, Seed(self.seed), sequences=self.sequences, half=self.half)
        found = _against_control(subject, tokens)
        says = say(
            "share of a head's attention that goes where a known kind of head sends it, on {sequences} sequences of {half} random tokens said twice (seed {seed})",
            sequences=self.sequences, half=tokens.ids.shape[1] // 2, seed=self.seed,
        )  # fmt: skip
        return replace(found, name=self.kind, says=says, columns={"quantity": _QUANTITY_WORDS})

    def draw(self, measurement: Measurement) -> Figure:
        """The best heads of each score above chance, with intervals over the sequences."""
        heading = Heading(
            "repeated-tokens",
            say("What the heads look for in random tokens said twice"),
            say(
                "Shown: {measured}; 95 % intervals over the sequences. Chance is what uniform attention scores, or the head itself at the same places where nothing repeats, whichever is more.",
                measured=measurement.says,
            ),
        )
        return draw_scores(heading, measurement, self.shown)


def _against_control(subject: Subject, tokens: TokenBatch) -> Measurement:
    """The scores on the tokens, chance raised to what each head scores on the control."""
    count, half = len(tokens.ids), tokens.ids.shape[1] // 2
    control = torch.cat([tokens.ids[:, :half], tokens.ids[:, half:].roll(1, 0)], 1)
    both = TokenBatch(torch.cat([tokens.ids, control]), None, tokens.labels)
    sites = HeadScores().sites(subject.anatomy)
    seen = capture(subject, both, sites)
    first = replace(seen, batch=tokens, tensors={name: tensor[:count] for name, tensor in seen.tensors.items()})
    found = HeadScores().read(subject, tokens, first)
    values, targets = found.values.copy(), head_targets(tokens)
    place = QUANTITIES.index("chance")
    for row, site in enumerate(sites):
        pattern = seen[site.name][count:].float().cpu()
        for name in ("duplicate_token", "induction"):
            level = scored(pattern, targets[name]).nanmean((0, 2)).double().numpy()
            chance = values[SCORES.index(name), row, : len(level), place]
            np.maximum(chance, level, out=chance)
    return replace(found, values=values)
