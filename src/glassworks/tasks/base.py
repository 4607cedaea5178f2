"""Task: a world with known answers, from which batches are drawn."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from glassworks.core.spec import Spec
from glassworks.tensors.seeds import Seed


@dataclass(frozen=True, eq=False)
class Batch:
    """Token sequences with what should follow each token.

    `inputs` and `targets` are aligned: `targets[:, t]` follows `inputs[:, t]`. `scored` holds the named masks over
    which accuracies and losses are averaged, e.g. "in_context".
    """

    inputs: Int[Tensor, "batch position"]
    targets: Int[Tensor, "batch position"]
    scored: dict[str, Bool[Tensor, "batch position"]]


class Task(Spec):
    """A world: equal arguments of `sample` give equal batches on the same device type."""

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch:
        """`size` independent sequences."""
        raise NotImplementedError

    def ideal(self, batch: Batch) -> Float[Tensor, "batch position"] | None:
        """The best reachable expected loss per token in nats, or None where it is not known."""
        raise NotImplementedError
