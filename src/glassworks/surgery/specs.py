"""What healing, fine-tuning and a search for plans are, as values; no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from glassworks.core.spec import Spec

Precision = Literal["auto", "bfloat16", "as_loaded"]
Parts = Literal["all", "mixer", "feedforward"]
Mutation = Literal["drop", "swap", "duplicate", "group"]

# The kind of a search's run folder, and how plans are named in its results.
SEARCH = "search"
FOUND, SKIP, INFLUENCE, WHOLE = "found", "skip middle", "block influence", "whole"


class TextSplit(Spec):
    """Windows of two text files: one to fit on, the other to judge by."""

    kind: Literal["text_split"] = "text_split"
    fit_file: str | None = None
    """A text file in UTF-8; None for the validation part of WikiText-2."""
    held_out_file: str | None = None
    """A text file in UTF-8; None for the test part of WikiText-2."""
    window: int = Field(default=256, ge=3)
    """Tokens that the model reads at once."""
    fit: int | None = Field(default=None, ge=1)
    """At most so many windows to fit on, spread evenly over the text; None for all."""
    held_out: int | None = Field(default=32, ge=1)
    """At most so many windows to judge by, spread evenly over the text; None for all."""


class HealSpec(Spec):
    """How a model under a plan is healed: adapters, steps and texts. Dropout is off, so a seed fixes every number."""

    kind: Literal["heal"] = "heal"
    rank: int = Field(default=8, ge=1)
    """Rank of every update."""
    alpha: float = Field(default=16.0, gt=0)
    """Updates are scaled by alpha / rank."""
    parts: Parts = "all"
    """Which matrices of a layer are adapted: of the attention ("mixer"), of the feed-forward, or both."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """The largest; reached after a tenth of the steps, then falling straight to zero (AdamW without decay)."""
    steps: int = Field(default=40, ge=1)
    """Updates."""
    batch: int = Field(default=2, ge=1)
    """Windows in an update."""
    control: bool = True
    """Also train the whole model alike: what is won by getting used to the text is no healing. Twice the work."""
    texts: TextSplit = TextSplit()
    """What is trained on and what is judged by."""
    precision: Precision = "auto"
    """Products in bfloat16 where the device is fast at it, always, or never; for training and for judging."""
    seed: int = 0
    """Draws the adapters' beginning and the order of the windows."""


class FrozenSpec(Spec):
    """A linear classifier (multinomial logistic regression) on the mean vectors of a frozen encoder."""

    kind: Literal["frozen_classifier"] = "frozen_classifier"
    max_length: int = Field(default=128, ge=8)
    """Tokens that a text or pair is cut to."""
    examples: int | None = Field(default=None, ge=10)
    """At most so many training examples, drawn by the seed; None for all."""
    penalties: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)
    """Weights of the squared norm to choose from, on a fifth of the training examples that is set apart."""
    seed: int = 0
    """Draws the examples and the fifth."""


class FinetuneSpec(Spec):
    """Fine-tuning of a whole encoder with a plan in place: AdamW, the rate falling straight to zero, no decay, dropout on.

    The defaults take minutes for a small encoder; `PUBLISHED` are the paper's settings.
    """

    kind: Literal["finetune"] = "finetune"
    learning_rate: float = Field(default=5e-5, gt=0)
    """At the first step."""
    epochs: float = Field(default=3.0, gt=0)
    """Passes over the examples."""
    batch: int = Field(default=32, ge=1)
    """Examples in an update."""
    max_length: int = Field(default=64, ge=8)
    """Tokens that a text or pair is cut to."""
    examples: int | None = Field(default=1000, ge=10)
    """At most so many training examples, drawn anew by each seed; None for all."""
    pooling: Literal["mean", "first"] = "mean"
    """What the new head reads: the mean of the last stream over the text's tokens, or its first token's."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Of the sentence vector, as BERT's own head has it; inside the model its own dropout is active."""
    precision: Precision = "auto"
    """Products in bfloat16 where the device is fast at it, always, or never."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Repetitions: each draws examples, head, order and dropout."""


PUBLISHED = FinetuneSpec(learning_rate=2e-5, epochs=3, batch=32, max_length=128, examples=None)
"""What the published code says (painters.md 2), with the mean in place of BERT's pooler."""


class Greedy(Spec):
    """Layers are left out one after the other: each round tries every single further removal and keeps the best."""

    kind: Literal["greedy"] = "greedy"


class Beam(Spec):
    """As greedy, with several plans kept in each round."""

    kind: Literal["beam"] = "beam"
    width: int = Field(default=4, ge=2)
    """Plans kept."""


class Evolution(Spec):
    """Mutations of the best plans so far, at the budget itself (EvoPress, 2410.14649).

    A plan may leave layers out, run them twice, exchange neighbours or run them side by side, as `mutations` allows.
    """

    kind: Literal["evolution"] = "evolution"
    generations: int = Field(default=30, ge=1)
    """Rounds at most."""
    offspring: int = Field(default=16, ge=1)
    """New plans in a round."""
    survivors: int = Field(default=3, ge=1)
    """Plans that a round begins with."""
    mutations: tuple[Mutation, ...] = ("drop", "swap", "duplicate", "group")
    """ "drop" exchanges a layer for one that is left out, "swap" two neighbours; "duplicate" runs one twice in place of
    another; "group" runs neighbours side by side, or one after the other again."""
    start: tuple[str, ...] = ()
    """Plans to begin with, of the budget's layer runs; none for random removals."""
    patience: int = Field(default=10, ge=1)
    """Rounds without a better plan after which it ends."""


class SearchSpec(Spec):
    """A search for the plan that does least harm with so many layer runs."""

    kind: Literal["search_choice"] = "search_choice"
    budget: int = Field(ge=1)
    """Layer runs to come down to."""
    method: Annotated[Greedy | Beam | Evolution, Field(discriminator="kind")] = Greedy()
    """How plans are proposed."""
    objective: Literal["kl", "nll"] = "kl"
    """What is made small on the text: divergence from the whole model (needs no right answers) or nats per token."""
    texts: TextSplit = TextSplit(fit=16, held_out=32)
    """What plans are chosen by and what the chosen ones are judged by."""
    racing: bool = True
    """Judge all on a little text, the better half on twice as much, and so on; or all on everything."""
    protect: tuple[int, ...] = ()
    """Layers that stay in their place."""
    seed: int = 0
    """Of the mutations."""
    stack: str | None = None
    """Of an encoder-decoder: "encoder" or "decoder"."""


class SearchRun(Spec):
    """A search as a value: equal runs give equal plans. `weights` and `items` are digests of every parameter and token."""

    kind: Literal["search"] = SEARCH
    model: str
    weights: str
    dtype: str
    items: str
    choice: SearchSpec
