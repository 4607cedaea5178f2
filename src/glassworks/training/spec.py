"""TrainingSpec: everything that fixes the numbers of one training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import say
from glassworks.models.spec import TransformerSpec
from glassworks.tasks import AnyTask


class Sgd(Spec):
    """Stochastic gradient descent with momentum and coupled weight decay, constant rate (birth.md 3.1)."""

    kind: Literal["sgd"] = "sgd"
    rate: float = Field(default=0.2, gt=0)
    """Learning rate."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the previous step that is kept."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Added to the gradient as weight_decay * weight."""


class AdamW(Spec):
    """AdamW with decoupled weight decay, constant rate."""

    kind: Literal["adamw"] = "adamw"
    rate: float = Field(default=1e-3, gt=0)
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Averaging constants of the first and second moment."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Added to the root of the second moment."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Share of the weight taken off per unit of rate."""


AnyOptimiser = Annotated[Sgd | AdamW, Field(discriminator="kind")]


class FrozenUntil(Spec):
    """Parameters whose names match a pattern get no gradient, decay or momentum before a step."""

    kind: Literal["frozen_until"] = "frozen_until"
    pattern: str
    """Shell pattern over parameter names, e.g. `model.layers.1.self_attn.o_proj.*`."""
    step: int = Field(gt=0)
    """The first step that trains them."""


class TrainingSpec(Spec):
    """One training: world, model, optimiser, length and seed. Equal specs are trained once and kept by digest."""

    kind: Literal["training"] = "training"
    task: AnyTask
    model: TransformerSpec
    optimiser: AnyOptimiser = Sgd()
    steps: int = Field(default=500, ge=1)
    """Optimiser steps."""
    batch: int = Field(default=64, ge=1)
    """Fresh sequences per step."""
    loss_on: str = "all"
    """The mask of the task whose tokens enter the loss, e.g. "all" or "in_context"."""
    frozen: tuple[str, ...] = ()
    """Patterns of parameters that are never trained."""
    frozen_until: tuple[FrozenUntil, ...] = ()
    """Parameters released at a later step."""
    probe: str = "none"
    """The name of the look inside that is taken while training; chosen by the experiment."""
    probe_every: int = Field(default=10, ge=1)
    """Steps between two rows of the history."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Matrix products of forward and backward pass; weights stay float32. "auto" takes bfloat16 in hardware."""
    seed: int = 0
    """Chance of initial weights and of all batches."""

    @model_validator(mode="after")
    def _fits(self) -> "TrainingSpec":
        if self.model.vocabulary < self.task.vocabulary:
            raise ImpossibleValue(
                say(
                    "the model's vocabulary of {model} is smaller than the task's",
                    model=self.model.vocabulary,
                ),
                say("at least {task}", task=self.task.vocabulary),
            )
        if self.model.context < self.task.longest:
            raise ImpossibleValue(
                say(
                    "the model's context of {model} positions is shorter than the sequences",
                    model=self.model.context,
                ),
                say("at least {task}", task=self.task.longest),
            )
        return self
