"""A new world with known answers: sequences that are said twice, so that the second half can be predicted."""

from typing import Literal

import torch
from pydantic import Field

from glassworks.tasks import Batch, TokenTask, VectorBatch
from glassworks.tensors.seeds import Seed


class SaidTwice(TokenTask):
    """Random tokens, then the same tokens again."""

    kind: Literal["said_twice"] = "said_twice"
    half: int = Field(default=8, ge=1)
    """Tokens before the repetition."""
    signs: int = Field(default=10, ge=2, le=26)
    """Number of different tokens, written as the first letters."""

    @property
    def vocabulary(self) -> int:
        """Number of different tokens."""
        return self.signs

    @property
    def alphabet(self) -> tuple[str, ...]:
        """How each token is written."""
        return tuple("abcdefghijklmnopqrstuvwxyz"[: self.signs])

    @property
    def longest(self) -> int:
        """Positions a model needs."""
        return 2 * self.half - 1

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch:
        """`size` sequences; chance comes from the seed alone."""
        first = torch.randint(self.vocabulary, (size, self.half), generator=seed.generator(device), device=device)
        whole = torch.cat([first, first], 1)
        inputs, targets = whole[:, :-1], whole[:, 1:]
        known = torch.arange(inputs.shape[1], device=device) >= self.half - 1
        return Batch(
            inputs, targets, {"all": torch.ones_like(inputs, dtype=torch.bool), "known": known.expand_as(inputs)}
        )

    def ideal(self, batch: Batch | VectorBatch) -> torch.Tensor:
        """Zero where the token was said before, the entropy of a uniform choice elsewhere, in nats."""
        unknown = torch.log(torch.tensor(float(self.vocabulary)))
        return torch.where(batch.scored["known"], torch.tensor(0.0), unknown)


task = SaidTwice()
batch = task.sample(2, Seed(3))
print(batch.inputs[0].tolist())
print("best reachable loss:", round(float(task.ideal(batch).mean()), 3), "nats per token")

assert torch.equal(batch.inputs, task.sample(2, Seed(3)).inputs)
assert SaidTwice.parse(task.to_json()) == task
