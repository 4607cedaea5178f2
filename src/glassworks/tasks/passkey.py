"""A key hidden in a long text and asked for at its end (infini.md 3), byte by byte and of any length."""

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import UInt8
from pydantic import Field, model_validator
from torch import Tensor

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.tasks.haystacks import Haystacks, HaystackTask, letters, random_digits
from glassworks.tensors.seeds import Seed

INTRODUCTION = (
    b"There is important information hidden in a lot of irrelevant text. Find it and memorize it. "
    b"You will be asked about this information at the end. "
)
QUESTION = b"What is the pass key? The pass key is "
# The needle around the two places of its key.
NEEDLE = (b"The pass key is ", b". Remember it. ", b" is the pass key. ")


class Passkey(HaystackTask):
    """Texts that name a key of random digits once, among filler, and ask for it at the end (infini.md 3).

    A text is `length` + 1 bytes that end with the answer. The needle may part the filler at any byte, and the filler
    begins anywhere, so that no place in a segment gives the key away. "key" marks the positions whose target is a digit
    of the answer.
    """

    kind: Literal["passkey"] = "passkey"
    digits: int = Field(default=5, ge=1)
    """Digits of a key, uniform and independent; a guess is right for one in ten."""
    introduction: bool = False
    """Whether the text first says that something is hidden and will be asked for."""
    earlier: float = Field(default=1.0, ge=0, le=1)
    """Share of texts whose needle ends before the segment where the question begins; in the others it reaches into it."""
    depth: float | None = Field(default=None, ge=0, le=1)
    """Share of the filler before the needle, the same for all texts, in place of `earlier`: 1 puts the needle right
    before the question."""

    @model_validator(mode="after")
    def _fits(self) -> "Passkey":
        if self.length < self.least:
            raise ImpossibleValue(
                say("needles and questions do not fit into {length} bytes", length=self.length),
                say("a length of at least {least}", least=self.least),
            )
        if self.depth is None and self.earlier > 0 and self._room_earlier < 0:
            raise ImpossibleValue(
                say("no needle fits before the segment of the question in {length} bytes", length=self.length),
                say("a longer text, shorter segments, or earlier=0"),
            )
        return self

    @property
    def least(self) -> int:
        """Input bytes of a text without any filler."""
        return self._begin + self._needle + len(QUESTION) + self.digits - 1

    def stream(
        self, size: int, seed: Seed, length: int | None = None, depth: float | None = None, block: int = 8192
    ) -> tuple[Iterator[UInt8[Tensor, "batch position"]], UInt8[Tensor, "batch digit"]]:
        """The input bytes of texts of any length in blocks of at most `block` positions, and the keys.

        `length` and `depth` are the task's own unless given, and then these are the inputs of `sample`. The last block
        ends with all digits of the answer but the last, which its last position predicts. Raises InvalidSpec where
        needle and question do not fit into `length`.
        """
        given = {"length": length, "depth": depth}
        task = self.replaced_all({name: value for name, value in given.items() if value is not None})
        texts = task.texts(size, seed)
        return texts.blocks(block), texts.answers

    def draw(self, size: int, generator: torch.Generator) -> Haystacks:
        """Fresh texts, on the generator's device."""
        device, filler = generator.device, self.filler(generator.device)
        keys = random_digits((size, self.digits), generator)
        phases = torch.randint(len(filler), (size,), generator=generator, device=device)
        places = self._begin + self._offsets(size, generator)
        first, middle, last = (letters(part).to(device).expand(size, -1) for part in NEEDLE)
        question = letters(QUESTION).to(device).expand(size, -1)
        ending = torch.cat((question, keys), 1)
        return Haystacks(
            length=self.length,
            beginning=letters(INTRODUCTION[: self._begin]).to(device),
            filler=filler,
            phases=phases,
            needles=torch.cat((first, keys, middle, keys, last), 1)[:, None],
            places=places[:, None],
            ending=ending,
            answered=torch.arange(ending.shape[1], device=device) >= len(QUESTION),
        )

    @property
    def _begin(self) -> int:
        return len(INTRODUCTION) if self.introduction else 0

    @property
    def _needle(self) -> int:
        return sum(map(len, NEEDLE)) + 2 * self.digits

    @property
    def _room_earlier(self) -> int:
        """How far a needle can move that ends before the segment of the question; negative where it does not fit."""
        asked = self.length + 1 - len(QUESTION) - self.digits
        return asked // self.segment * self.segment - self._needle - self._begin

    def _offsets(self, size: int, generator: torch.Generator) -> Tensor:
        """How many bytes of filler come before each needle."""
        device, room = generator.device, self.length - self.least
        if self.depth is not None:
            return torch.full((size,), round(self.depth * room), device=device)
        early = torch.rand(size, generator=generator, device=device) < self.earlier
        shares = torch.rand(size, generator=generator, device=device, dtype=torch.float64)
        edge = self._room_earlier
        low = torch.where(early, 0, min(max(edge + 1, 0), room))
        high = torch.where(early, edge, room)
        return low + (shares * (high - low + 1)).long().clamp(max=high - low)
