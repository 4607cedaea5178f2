"""Task: a world with known answers, from which batches are drawn."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
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
    written: Float[Tensor, "batch position"] | None = field(default=None, kw_only=True)
    """How many times each token counts in memories that add up; once unless given."""
    real: Bool[Tensor, "batch position"] | None = field(default=None, kw_only=True)
    """False at padding; None where every token is real."""
    given: int = field(default=0, kw_only=True)
    """Places at the beginning, the same of all sequences, that hold what is given (padding before it); the rest is to be written."""

    @property
    def prefix(self) -> Int[Tensor, " batch"]:
        """How many real tokens of each sequence are given."""
        if self.real is None:
            return torch.full((len(self.inputs),), self.given, device=self.inputs.device)
        return self.real[:, : self.given].sum(1)


@dataclass(frozen=True, eq=False)
class VectorBatch:
    """Sequences of vectors with what should be predicted at each position.

    `inputs` is what the model reads (raw observations or constructed tokens); `targets[:, t]` is what should be predicted
    once `inputs[:, : t + 1]` has been read. `scored` holds the named masks over which losses are averaged; "all" is
    always among them. `observations` is the raw sequence s_1 .. s_{T+1}, one row more than there are positions, for
    probes and solvers.
    """

    inputs: Float[Tensor, "batch position channel"]
    targets: Float[Tensor, "batch position observed"]
    scored: dict[str, Bool[Tensor, "batch position"]]
    observations: Float[Tensor, "batch time observed"]


class Task(Spec):
    """A world: equal arguments of `sample` give equal batches on the same device type."""

    reads: ClassVar[Literal["tokens", "vectors"]] = "tokens"
    """What a model of this world reads: token ids (`Batch`) or vectors (`VectorBatch`).

    A world of tokens has the properties `vocabulary`, `alphabet`, `longest`; one of vectors has `inputs` (channels per
    token), `outputs` (numbers predicted per position), `length`, `longest`.
    """

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch | VectorBatch:
        """`size` independent sequences."""
        raise NotImplementedError

    def ideal(self, batch: Batch | VectorBatch) -> Float[Tensor, "batch position"] | None:
        """The best reachable expected loss per position, or None where it is not known.

        In nats for tokens; half the squared error summed over dimensions for vectors.
        """
        raise NotImplementedError


class VectorTask(Task):
    """A world of vectors (abstract)."""

    reads: ClassVar[Literal["tokens", "vectors"]] = "vectors"

    @property
    def inputs(self) -> int:
        """Numbers per token, as a model reads them."""
        raise NotImplementedError

    @property
    def outputs(self) -> int:
        """Numbers predicted at each position."""
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """Positions of the longest sequence."""
        raise NotImplementedError

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> VectorBatch:
        """`size` independent sequences."""
        raise NotImplementedError


class TokenTask(Task):
    """A world of tokens (abstract)."""

    spells_bytes: ClassVar[bool] = False
    """True where tokens are the bytes of UTF-8 text, for which there is a tokenizer."""
    gives: ClassVar[bool] = False
    """True where the first tokens of a sequence are given (`Batch.given`), so that a model may read them in both directions."""
    hides: ClassVar[bool] = False
    """True where `targets` are the hidden tokens of the same places, for models that see both sides."""
    past_masks: ClassVar[frozenset[str]] = frozenset()
    """Masks that ask for given tokens too, which only a model that reads the past alone can be asked for."""

    @property
    def vocabulary(self) -> int:
        """Number of different tokens."""
        raise NotImplementedError

    @property
    def alphabet(self) -> tuple[str, ...]:
        """How each token is written."""
        raise NotImplementedError

    @property
    def longest(self) -> int:
        """Positions of the longest sequence."""
        raise NotImplementedError

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch:
        """`size` independent sequences."""
        raise NotImplementedError
