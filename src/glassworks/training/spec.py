"""TrainingSpec: everything that fixes the numbers of one training."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import say
from glassworks.models.spec import AnyModel, EncoderDecoderSpec, EncoderSpec, TokenModel, TransformerSpec, VectorSpec
from glassworks.tasks import AnyTask, Sentences
from glassworks.tasks.base import TokenTask, VectorTask
from glassworks.training.schedules import AnyClip, AnySchedule, Constant


class Sgd(Spec):
    """Stochastic gradient descent with momentum and coupled weight decay (birth.md 3.1)."""

    kind: Literal["sgd"] = "sgd"
    rate: float = Field(default=0.2, gt=0)
    """Learning rate; the highest where a schedule changes it."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the previous step that is kept."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """Added to the gradient as weight_decay * weight."""


class AdamW(Spec):
    """AdamW with decoupled weight decay."""

    kind: Literal["adamw"] = "adamw"
    rate: float = Field(default=1e-3, gt=0)
    """Learning rate; the highest where a schedule changes it."""
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


class Pace(Spec):
    """Parameters whose names match a pattern learn at a rate and with a decay of their own (infini.md 4.1)."""

    kind: Literal["pace"] = "pace"
    pattern: str
    """Shell pattern over parameter names, e.g. `*.mixer.gate`."""
    factor: float = Field(default=1.0, gt=0)
    """Times the optimiser's rate, whose schedule they follow."""
    weight_decay: float | None = Field(default=None, ge=0)
    """The optimiser's unless given."""


class ExtraLoss(Spec):
    """The mean loss over one more mask of the task, added to the training loss."""

    kind: Literal["extra_loss"] = "extra_loss"
    mask: str
    """The name of the mask."""
    weight: float = Field(gt=0)
    """Its weight; the loss on `loss_on` has weight 1."""


class TrainingSpec(Spec):
    """One training: world, model, optimiser, length and seed. Equal specs are trained once and kept by digest."""

    later: ClassVar[frozenset[str]] = frozenset(
        {
            "schedule",
            "clip",
            "snapshot_every",
            "paces",
            "extra_losses",
            "piece",
            "recompute",
            "truncate_after",
            "start_from",
        }
    )

    kind: Literal["training"] = "training"
    task: AnyTask
    model: AnyModel
    optimiser: AnyOptimiser = Sgd()
    schedule: AnySchedule = Constant()
    """How the rate goes over the steps."""
    clip: AnyClip | None = None
    """How gradients are kept in bounds; not at all unless given."""
    steps: int = Field(default=500, ge=1)
    """Optimiser steps."""
    batch: int = Field(default=64, ge=1)
    """Fresh sequences per step."""
    loss_on: str = "all"
    """The mask of the task whose tokens enter the loss, e.g. "all" or "in_context"."""
    extra_losses: tuple[ExtraLoss, ...] = ()
    """Further masks that enter the loss."""
    paces: tuple[Pace, ...] = ()
    """Parameters with a rate and decay of their own; the first that matches counts."""
    piece: int | None = Field(default=None, ge=1)
    """Tokens of a sequence that are read at a time, the memories handed on; the whole sequence unless given."""
    recompute: bool = True
    """Whether a piece's activations are computed again in the backward pass instead of kept, which bounds the memory."""
    truncate_after: int | None = Field(default=None, ge=1)
    """Pieces over which gradients flow back through the memories; over all unless given."""
    start_from: "TrainingSpec | None" = None
    """The training whose result this one starts from; new weights unless given."""
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
    snapshot_every: int | None = Field(default=None, ge=1)
    """Steps between two copies of the weights that are kept; none unless given."""
    seed: int = 0
    """Chance of initial weights and of all batches."""

    @model_validator(mode="after")
    def _fits(self) -> "TrainingSpec":
        match self.model, self.task:
            case TransformerSpec() | EncoderSpec() | EncoderDecoderSpec() as model, TokenTask() as task:
                _check_tokens(model, task)
                _check_sight(model, task, (self.loss_on, *(extra.mask for extra in self.extra_losses)))
            case VectorSpec() as model, VectorTask() as task:
                _check_vectors(model, task)
            case TransformerSpec() | EncoderSpec() | EncoderDecoderSpec(), task:
                raise ImpossibleValue(
                    say("the task {task} is made of vectors, the model reads tokens", task=task.kind),
                    say("a model of kind {kind}", kind="vector_decoder"),
                )
            case VectorSpec(), task:
                raise ImpossibleValue(
                    say("the task {task} is made of tokens, the model reads vectors", task=task.kind),
                    say("a model of kind {kind}", kind="decoder"),
                )
        if self.truncate_after is not None and self.piece is None:
            raise ImpossibleValue(
                say(
                    "gradients are to end after {count} pieces, but sequences are read whole", count=self.truncate_after
                ),
                say("a piece, in tokens"),
            )
        if self.piece is not None and self.task.reads != "tokens":
            raise ImpossibleValue(
                say("sequences of vectors are read whole, not in pieces"), say("no piece, or a world of tokens")
            )
        if self.piece is not None and not _reads_past(self.model):
            raise ImpossibleValue(
                say("a model that sees tokens ahead reads a sequence at once, not in pieces"),
                say("no piece, or a decoder that reads the past"),
            )
        if self.piece is not None and any(self.model.keeps_keys(layer) for layer in range(self.model.depth)):
            raise ImpossibleValue(
                say("a layer of this model keeps every key; it cannot be read in pieces of bounded memory"),
                say("mixers whose memory is bounded, such as infini; or no piece"),
            )
        has_table = self.model.positions not in ("none", "rotary")
        if (has_table or self.task.reads == "tokens") and self.model.context < self.task.longest:
            raise ImpossibleValue(
                say(
                    "the model's context of {model} positions is shorter than the sequences",
                    model=self.model.context,
                ),
                say("at least {task}", task=self.task.longest),
            )
        return self


def _reads_past(model: AnyModel) -> bool:
    return isinstance(model, VectorSpec) or (isinstance(model, TransformerSpec) and model.reads == "past")


def _check_sight(model: TokenModel, task: TokenTask, masks: tuple[str, ...]) -> None:
    """A token that a model sees is none that it can be asked for."""
    if isinstance(task, Sentences):
        # Any body can carry a head for labels, which are no tokens.
        return
    if task.hides != isinstance(model, EncoderSpec):
        raise ImpossibleValue(
            say("the task {task} does not fit a model of kind {kind}", task=task.kind, kind=model.kind),
            say("hidden tokens (masked) for an encoder, tokens to come for all others, labels (sentences) for any"),
        )
    if task.hides or _reads_past(model):
        return
    if not task.gives:
        raise ImpossibleValue(
            say("nothing is given in the task {task} that this model could read ahead", task=task.kind),
            say("pairs or continuations, or a decoder that reads the past"),
        )
    for mask in masks:
        if mask in task.past_masks:
            raise ImpossibleValue(
                say("{mask} asks for given tokens, which this model sees", mask=mask),
                say("loss_on=all, or a decoder that reads the past"),
            )


def _check_tokens(model: TokenModel, task: TokenTask) -> None:
    if model.vocabulary < task.vocabulary:
        raise ImpossibleValue(
            say("the model's vocabulary of {model} is smaller than the task's", model=model.vocabulary),
            say("at least {task}", task=task.vocabulary),
        )


def _check_vectors(model: VectorSpec, task: VectorTask) -> None:
    if (model.inputs, model.outputs) != (task.inputs, task.outputs):
        raise ImpossibleValue(
            say("the model reads {inputs} numbers and predicts {outputs}", inputs=model.inputs, outputs=model.outputs),
            say("inputs={inputs}, outputs={outputs}", inputs=task.inputs, outputs=task.outputs),
        )
