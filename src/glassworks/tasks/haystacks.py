"""Sentences hidden in filler and asked for at the end: texts of any length, written out piece by piece."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from pydantic import Field
from torch import Tensor

from glassworks.tasks.base import Batch, TokenTask, VectorBatch
from glassworks.tasks.text import ASCII, BYTES, TextWindows
from glassworks.tensors.seeds import Seed

FILLER = b"The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. "
ZERO = ord("0")


@dataclass(frozen=True, eq=False)
class Haystacks:
    """Texts of `length` + 1 bytes that are never held at once: a beginning, filler parted by needles, an ending.

    The filler goes on after each needle where it was left, and round its end.
    """

    length: int
    """Bytes a model reads; the last target is one further on."""
    beginning: UInt8[Tensor, " beginning"]
    filler: UInt8[Tensor, " filler"]
    phases: Int[Tensor, " batch"]
    """Where in the filler each text begins."""
    needles: UInt8[Tensor, "batch needle byte"]
    places: Int[Tensor, "batch needle"]
    """The first byte of each needle, ascending."""
    ending: UInt8[Tensor, "batch ending"]
    """The questions with their answers."""
    answered: Bool[Tensor, " ending"]
    """Which bytes of the ending are the answers."""

    def between(self, start: int, stop: int) -> UInt8[Tensor, "batch position"]:
        """The bytes from `start` to before `stop` of every text."""
        at = torch.arange(start, stop, device=self.phases.device)
        width = self.needles.shape[2]
        order = self.phases[:, None] + at
        for place in self.places.unbind(1):
            order = order - (at >= place[:, None]) * width
        text = self.filler[order % len(self.filler)]
        for place, needle in zip(self.places.unbind(1), self.needles.unbind(1), strict=True):
            inside = at - place[:, None]
            text = torch.where((inside >= 0) & (inside < width), needle.gather(1, inside.clamp(0, width - 1)), text)
        for fixed, first in ((self.beginning.expand(len(text), -1), 0), (self.ending, self.asked)):
            low, high = max(start, first), min(stop, first + fixed.shape[1])
            if low < high:
                text[:, low - start : high - start] = fixed[:, low - first : high - first]
        return text

    def blocks(self, block: int = 8192, start: int = 0) -> Iterator[UInt8[Tensor, "batch position"]]:
        """The input bytes from `start` on, at most `block` at a time."""
        for at in range(start, self.length, block):
            yield self.between(at, min(at + block, self.length))

    @property
    def answers(self) -> UInt8[Tensor, "batch answer"]:
        """The bytes of the answers, one after the other."""
        return self.ending[:, self.answered]

    @property
    def asked(self) -> int:
        """The first byte of the ending."""
        return self.length + 1 - self.ending.shape[1]

    @property
    def answering(self) -> Bool[Tensor, " position"]:
        """Input positions whose target is a byte of an answer."""
        found = torch.zeros(self.length, dtype=torch.bool, device=self.answered.device)
        found[self.asked - 1 :] = self.answered
        return found

    def only_filler(self, segment: int) -> Bool[Tensor, "batch position"]:
        """Input positions in segments that hold no byte of a needle and come before the one where the ending begins."""
        of = torch.arange(self.length, device=self.places.device) // segment
        first = self.places[:, :, None] // segment
        last = (self.places[:, :, None] + self.needles.shape[2] - 1) // segment
        return ((of < first) | (of > last)).all(1) & (of < self.asked // segment)


class HaystackTask(TokenTask):
    """A world of hidden sentences (abstract): bytes, of which `scored` marks "all" and those of the answers, "key"."""

    spells_bytes: ClassVar[bool] = True

    length: int = Field(default=1024, ge=1)
    """Input bytes per text (T)."""
    book: TextWindows | None = None
    """The filler is this text, from anywhere and round its end, in place of five short sentences again and again."""
    segment: int = Field(default=128, ge=1)
    """Bytes of a segment (N), as the model's mixers cut them; segments count from the start of the text."""
    virtual: float = Field(default=0.0, ge=0, le=12)
    """Segments of filler alone count 10^u times in memories that add up, u uniform in 0 .. virtual for each text: a
    short text stands for a long one (infini.md 7)."""

    @property
    def vocabulary(self) -> int:
        """Number of different bytes."""
        return BYTES

    @property
    def alphabet(self) -> tuple[str, ...]:
        """ASCII characters as themselves, all other bytes as <0x80> .. <0xFF>."""
        return tuple(chr(code) if code < ASCII else f"<0x{code:02X}>" for code in range(BYTES))

    @property
    def longest(self) -> int:
        """Positions a model needs."""
        return self.length

    @property
    def least(self) -> int:
        """Input bytes of a text without any filler."""
        raise NotImplementedError

    def ideal(self, batch: Batch | VectorBatch) -> None:
        """None: the answers are certain, but nobody knows what the rest of the text costs."""

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch:
        """`size` texts; with `virtual` also how many times each byte counts."""
        generator = seed.generator(device)
        texts = self.draw(size, generator)
        tokens = texts.between(0, self.length + 1).long()
        everywhere = torch.ones(size, self.length, dtype=torch.bool, device=device)
        scored = {"all": everywhere, "key": everywhere & texts.answering}
        written = self._written(texts, generator) if self.virtual > 0 else None
        return Batch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), scored, written=written)

    def texts(self, size: int, seed: Seed, length: int | None = None) -> Haystacks:
        """The texts of `sample`, or others of the same kind and another length, to be written out on demand.

        Raises InvalidSpec where needles and questions do not fit into `length`.
        """
        task = self if length is None else self.replaced("length", length)
        return task.draw(size, seed.generator())

    def draw(self, size: int, generator: torch.Generator) -> Haystacks:
        """Fresh texts, on the generator's device."""
        raise NotImplementedError

    def filler(self, device: torch.device) -> UInt8[Tensor, " filler"]:
        """What lies between the needles; raises as `TextWindows.data` does."""
        return (letters(FILLER) if self.book is None else torch.from_numpy(np.array(self.book.data()))).to(device)

    def _written(self, texts: Haystacks, generator: torch.Generator) -> Float[Tensor, "batch position"]:
        size, device = len(texts.phases), generator.device
        times = 10 ** (self.virtual * torch.rand(size, 1, generator=generator, device=device))
        return torch.where(texts.only_filler(self.segment), times, 1.0)


def letters(text: bytes) -> UInt8[Tensor, " byte"]:
    """The bytes as a tensor."""
    return torch.tensor(list(text), dtype=torch.uint8)


def random_digits(shape: tuple[int, ...], generator: torch.Generator) -> UInt8[Tensor, "..."]:
    """Uniform digits in ASCII."""
    return torch.randint(10, shape, generator=generator, device=generator.device, dtype=torch.uint8) + ZERO
