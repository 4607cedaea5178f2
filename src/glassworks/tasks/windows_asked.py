"""Two other questions about windows of a text: which tokens were hidden, and how a window goes on after its beginning."""

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.tasks.base import Batch, TokenTask, VectorBatch
from glassworks.tasks.text import BYTES, TextWindows
from glassworks.tensors.seeds import Seed

# Of the tokens to be guessed so many are replaced by the mask and by a random one; the others stay (Devlin and others 2018).
MASKED, RANDOM = 0.8, 0.1


class MaskedText(TokenTask):
    """Windows of a text in which some bytes are hidden and have to be guessed from both sides, as BERT learns.

    Of each window the same number of bytes is chosen at random, at least one: 80 % of them become the mask, 10 % a random
    byte, 10 % stay as they are. "all" marks the chosen ones.
    """

    hides: ClassVar[bool] = True

    kind: Literal["masked"] = "masked"
    text: TextWindows
    """The windows."""
    share: float = Field(default=0.15, gt=0, le=1)
    """The share of bytes to be guessed."""

    @property
    def vocabulary(self) -> int:
        """All bytes and the mask."""
        return BYTES + 1

    @property
    def alphabet(self) -> tuple[str, ...]:
        """How each token is written."""
        return (*self.text.alphabet, "<mask>")

    @property
    def length(self) -> int:
        """Bytes of a window."""
        return self.text.length

    @property
    def longest(self) -> int:
        """Positions a model needs."""
        return self.length

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch:
        """`size` windows, the same text as of the windows themselves; raises as they do."""
        windows = self.text.sample(size, seed, device).inputs
        generator = seed.child("hidden").generator(device)
        order = torch.rand(windows.shape, generator=generator, device=device).argsort(1).argsort(1)
        chosen = order < max(1, round(self.share * self.length))
        fate = torch.rand(windows.shape, generator=generator, device=device)
        random = torch.randint(BYTES, windows.shape, generator=generator, device=device)
        changed = torch.where(fate < MASKED, torch.full_like(windows, BYTES), random)
        shown = torch.where(chosen & (fate < MASKED + RANDOM), changed, windows)
        return Batch(shown, windows, {"all": chosen})

    def ideal(self, batch: Batch | VectorBatch) -> None:
        """None: nobody knows the entropy of a text."""


class Continuations(TokenTask):
    """Windows of a text of which the beginning is given and the rest is to be written, byte by byte.

    "all" marks the bytes to be written; "text" every byte, which only a reader of the past alone can be asked for.
    """

    gives: ClassVar[bool] = True
    past_masks: ClassVar[frozenset[str]] = frozenset({"text"})

    kind: Literal["continuations"] = "continuations"
    text: TextWindows
    """The windows."""
    given: int = Field(default=64, ge=1)
    """Bytes at the beginning that are given."""

    @model_validator(mode="after")
    def _check_rest(self) -> "Continuations":
        if self.given > self.text.length:
            raise ImpossibleValue(
                say(
                    "{given} bytes of {length} are given: nothing is left to write",
                    given=self.given,
                    length=self.text.length,
                ),
                say("given={length} or less", length=self.text.length),
            )
        return self

    @property
    def vocabulary(self) -> int:
        """Number of different bytes."""
        return self.text.vocabulary

    @property
    def alphabet(self) -> tuple[str, ...]:
        """How each byte is written."""
        return self.text.alphabet

    @property
    def length(self) -> int:
        """Input bytes of a window."""
        return self.text.length

    @property
    def longest(self) -> int:
        """Positions a model needs."""
        return self.length

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch:
        """`size` windows; raises as the windows do."""
        found = self.text.sample(size, seed, device)
        asked = torch.zeros_like(found.scored["all"])
        asked[:, self.given - 1 :] = True
        return Batch(found.inputs, found.targets, {"all": asked, "text": found.scored["all"]}, given=self.given)

    def ideal(self, batch: Batch | VectorBatch) -> None:
        """None: nobody knows the entropy of a text."""
