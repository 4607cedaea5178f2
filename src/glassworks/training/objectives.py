"""What a training learns by: cross-entropy of tokens or labels, or half the squared error of the next vector."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from glassworks.models.spec import AnyModel, EncoderDecoderSpec, EncoderSpec, TransformerSpec
from glassworks.tasks import AnyTask, Batch, Sentences, VectorBatch
from glassworks.tasks.base import VectorTask
from glassworks.tasks.solvers import half_squared_error

AnyBatch = Batch | VectorBatch
# Whatever the library's model returns that has `logits`.
Forward = Callable[..., Any]
_ALL = slice(None)


def _as_it_is(part: Tensor) -> Tensor:
    return part


class Objective(ABC):
    """How a model reads a batch, what its loss is, and what is logged of it."""

    @abstractmethod
    def read(self, forward: Forward, batch: AnyBatch, part: slice) -> Tensor:
        """The model's output for some sequences of a batch."""

    @abstractmethod
    def mean_loss(self, output: Tensor, targets: Tensor, mask: Bool[Tensor, "batch position"]) -> Tensor:
        """The mean loss over the positions where `mask` is True; `targets` are the batch's for these sequences."""

    @abstractmethod
    def score(
        self, output: Tensor, batch: AnyBatch, rows: slice = _ALL, total: Callable[[Tensor], Tensor] = _as_it_is
    ) -> dict[str, float]:
        """What is logged of a whole batch, by name.

        Where `output` is of some `rows` of the batch, `total` adds up what other processes found in the other rows.
        """


class CrossEntropy(Objective):
    """Nats per token."""

    def read(self, forward: Forward, batch: AnyBatch, part: slice) -> Tensor:
        """Logits, in float32."""
        assert isinstance(batch, Batch)
        return _logits(forward(input_ids=batch.inputs[part], **self.beside(batch, part)))

    def beside(self, batch: Batch, part: slice) -> dict[str, Any]:
        """What the model is told beside the tokens."""
        told: dict[str, Any] = {"use_cache": False}
        if batch.written is not None:
            told["written"] = batch.written[part]
        return told | _mask(batch.real, part)

    def mean_loss(self, output: Tensor, targets: Tensor, mask: Bool[Tensor, "batch position"]) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(output[mask], targets[mask])

    def score(
        self, output: Tensor, batch: AnyBatch, rows: slice = _ALL, total: Callable[[Tensor], Tensor] = _as_it_is
    ) -> dict[str, float]:
        """Accuracy and loss (nats) over each mask of the batch, as `accuracy/<mask>` and `loss/<mask>`."""
        targets = batch.targets[rows]
        right = (output.argmax(-1) == targets).float()
        loss = F.cross_entropy(output.flatten(0, 1), targets.flatten(), reduction="none").view_as(right)
        return _means({"accuracy": right, "loss": loss}, batch, rows, total)


class BothSides(CrossEntropy):
    """Nats per token of an encoder, which sees every token but the hidden ones."""

    def beside(self, batch: Batch, part: slice) -> dict[str, Any]:
        """The mask of padding alone: an encoder keeps nothing."""
        return _mask(batch.real, part)


class Prefix(CrossEntropy):
    """Nats per token of a decoder that reads what is given in both directions."""

    def beside(self, batch: Batch, part: slice) -> dict[str, Any]:
        """How many tokens of each sequence are given, too."""
        return super().beside(batch, part) | {"prefix": batch.prefix[part]}


class SequenceToSequence(CrossEntropy):
    """Nats per token of an encoder-decoder: the encoder reads what is given, the decoder its last token and what follows."""

    def read(self, forward: Forward, batch: AnyBatch, part: slice) -> Tensor:
        """Logits, in float32; zeros at the places of given tokens, whose followers nobody predicts."""
        assert isinstance(batch, Batch)
        inputs = batch.inputs[part]
        given, written = inputs[:, : batch.given], inputs[:, batch.given - 1 :]
        real = _mask(None if batch.real is None else batch.real[:, : batch.given], part)
        logits = _logits(forward(input_ids=given, decoder_input_ids=written, use_cache=False, **real))
        nothing = torch.zeros(len(inputs), batch.given - 1, logits.shape[-1], device=logits.device)
        return torch.cat([nothing, logits], 1)


class Classification(CrossEntropy):
    """Nats per sentence: one label each, which is asked for at its last real token."""

    def __init__(self, *, reads_ahead: bool = False) -> None:
        # A prefix decoder is given the whole sentence.
        self.reads_ahead = reads_ahead

    def read(self, forward: Forward, batch: AnyBatch, part: slice) -> Tensor:
        """The scores of all labels, in float32, the same at every place of a sentence."""
        assert isinstance(batch, Batch)
        inputs, told = batch.inputs[part], _mask(batch.real, part)
        if self.reads_ahead:
            every = torch.ones_like(inputs) if batch.real is None else batch.real[part]
            told["prefix"] = every.sum(1)
        scores = _logits(forward(input_ids=inputs, **told))
        return scores[:, None].expand(-1, batch.inputs.shape[1], -1)


class SquaredError(Objective):
    """Half the squared error, summed over the numbers of a vector (mesa.md 1)."""

    def read(self, forward: Forward, batch: AnyBatch, part: slice) -> Tensor:
        """Predictions, in float32."""
        return _logits(forward(inputs_embeds=batch.inputs[part], use_cache=False))

    def mean_loss(self, output: Tensor, targets: Tensor, mask: Bool[Tensor, "batch position"]) -> Tensor:
        """Half the squared error."""
        return half_squared_error(output, targets)[mask].mean()

    def score(
        self, output: Tensor, batch: AnyBatch, rows: slice = _ALL, total: Callable[[Tensor], Tensor] = _as_it_is
    ) -> dict[str, float]:
        """The loss over each mask of the batch, as `loss/<mask>`."""
        return _means({"loss": half_squared_error(output, batch.targets[rows])}, batch, rows, total)


def objective_of(model: AnyModel, task: AnyTask) -> Objective:
    """What a model of this kind learns a task by; that the two fit is checked by TrainingSpec."""
    match model, task:
        case _, VectorTask():
            return SquaredError()
        case _, Sentences():
            return Classification(reads_ahead=isinstance(model, TransformerSpec) and model.reads == "prefix")
        case EncoderSpec(), _:
            return BothSides()
        case EncoderDecoderSpec(), _:
            return SequenceToSequence()
        case TransformerSpec(reads="prefix"), _:
            return Prefix()
        case _:
            return CrossEntropy()


def score(logits: Tensor, batch: Batch) -> dict[str, float]:
    """Accuracy and loss (nats) over each mask of a batch of tokens."""
    return CrossEntropy().score(logits, batch)


def _logits(output: Any) -> Tensor:
    assert output.logits is not None, "every model of ours returns logits"
    return output.logits.float()


def _mask(real: Tensor | None, part: slice) -> dict[str, Tensor]:
    """The library's mask of padding, where there is any."""
    return {} if real is None else {"attention_mask": real[part].long()}


def _means(
    values: dict[str, Tensor], batch: AnyBatch, rows: slice, total: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, mask in batch.scored.items():
        count = mask.sum()
        if int(count):
            row |= {
                f"{what}/{name}": float(total((value * mask[rows]).sum()) / count) for what, value in values.items()
            }
    return row
