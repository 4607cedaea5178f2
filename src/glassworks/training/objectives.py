"""What a training learns by: cross-entropy of the next token, or half the squared error of the next vector."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutputWithPast

from glassworks.tasks import Batch, VectorBatch
from glassworks.tasks.solvers import half_squared_error

AnyBatch = Batch | VectorBatch
Forward = Callable[..., CausalLMOutputWithPast]


class Objective(ABC):
    """How a model reads a batch, what its loss is, and what is logged of it."""

    @abstractmethod
    def read(self, forward: Forward, batch: AnyBatch, part: slice) -> Tensor:
        """The model's output for some sequences of a batch."""

    @abstractmethod
    def mean_loss(self, output: Tensor, targets: Tensor, mask: Bool[Tensor, "batch position"]) -> Tensor:
        """The mean loss over the positions where `mask` is True; `targets` are the batch's for these sequences."""

    @abstractmethod
    def score(self, output: Tensor, batch: AnyBatch) -> dict[str, float]:
        """What is logged of a whole batch, by name."""


class CrossEntropy(Objective):
    """Nats per token."""

    def read(self, forward: Forward, batch: AnyBatch, part: slice) -> Tensor:
        """Logits, in float32."""
        assert isinstance(batch, Batch)
        written = {} if batch.written is None else {"written": batch.written[part]}
        return _logits(forward(input_ids=batch.inputs[part], use_cache=False, **written))

    def mean_loss(self, output: Tensor, targets: Tensor, mask: Bool[Tensor, "batch position"]) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(output[mask], targets[mask])

    def score(self, output: Tensor, batch: AnyBatch) -> dict[str, float]:
        """Accuracy and loss (nats) over each mask of the batch, as `accuracy/<mask>` and `loss/<mask>`."""
        right = (output.argmax(-1) == batch.targets).float()
        loss = F.cross_entropy(output.flatten(0, 1), batch.targets.flatten(), reduction="none").view_as(right)
        return _means({"accuracy": right, "loss": loss}, batch)


class SquaredError(Objective):
    """Half the squared error, summed over the numbers of a vector (mesa.md 1)."""

    def read(self, forward: Forward, batch: AnyBatch, part: slice) -> Tensor:
        """Predictions, in float32."""
        return _logits(forward(inputs_embeds=batch.inputs[part], use_cache=False))

    def mean_loss(self, output: Tensor, targets: Tensor, mask: Bool[Tensor, "batch position"]) -> Tensor:
        """Half the squared error."""
        return half_squared_error(output, targets)[mask].mean()

    def score(self, output: Tensor, batch: AnyBatch) -> dict[str, float]:
        """The loss over each mask of the batch, as `loss/<mask>`."""
        return _means({"loss": half_squared_error(output, batch.targets)}, batch)


def objective_of(batch_kind: str) -> Objective:
    """The objective of a task that reads "tokens" or "vectors"."""
    return {"tokens": CrossEntropy, "vectors": SquaredError}[batch_kind]()


def score(logits: Tensor, batch: Batch) -> dict[str, float]:
    """Accuracy and loss (nats) over each mask of a batch of tokens."""
    return CrossEntropy().score(logits, batch)


def _logits(output: CausalLMOutputWithPast) -> Tensor:
    assert output.logits is not None, "every decoder of ours returns logits"
    return output.logits.float()


def _means(values: dict[str, Tensor], batch: AnyBatch) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, mask in batch.scored.items():
        count = mask.sum()
        if int(count):
            row |= {f"{what}/{name}": float((value * mask).sum() / count) for what, value in values.items()}
    return row
