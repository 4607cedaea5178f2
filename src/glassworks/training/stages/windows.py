"""What a model learns from in pretraining: windows of tokens, and what is asked about each (lifecycle.md 1).

Which window comes when, and what is hidden in it, follow from the seed and its number alone, so a training that stopped
goes on with the very same windows.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.chat import IGNORED
from glassworks.training.stages.tokens import TokenMap

# BERT's shares: of all tokens, those asked for; of those, hidden, and replaced by a random one (the rest stays).
ASKED, HIDDEN, RANDOM = 0.15, 0.8, 0.1
# T5's: share of tokens that are cut out, and mean length of a gap.
NOISE, GAP = 0.15, 3
Row = dict[str, Tensor]


@dataclass(frozen=True)
class Question(ABC):
    """What is asked about a window of tokens."""

    @abstractmethod
    def ask(self, ids: NDArray[np.int64], chance: np.random.Generator) -> Row:
        """The inputs and labels of one window."""

    @property
    def highest(self) -> int:
        """The largest number of a token that is asked with, beside those of the text; -1 for none."""
        return -1


@dataclass(frozen=True)
class NextToken(Question):
    """Every next token from those before it. `end` keeps documents apart: places begin anew behind it."""

    end: int | None = None

    def ask(self, ids: NDArray[np.int64], chance: np.random.Generator) -> Row:
        """The window itself; labels are shifted by the model."""
        row = {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(ids)}
        if self.end is None:
            return row
        begins = np.concatenate([[True], ids[:-1] == self.end])
        place = np.arange(len(ids))
        row["position_ids"] = torch.from_numpy(place - np.maximum.accumulate(np.where(begins, place, 0)))
        # The first token of a document has nothing before it that could foretell it.
        row["labels"] = torch.from_numpy(np.where(begins, IGNORED, ids))
        return row


@dataclass(frozen=True)
class RestOfWindow(Question):
    """What follows a beginning of random length, whose tokens see each other (prefix decoder)."""

    def ask(self, ids: NDArray[np.int64], chance: np.random.Generator) -> Row:
        """Window, length of the beginning, and labels behind it."""
        prefix = int(chance.integers(1, len(ids) - 1)) if len(ids) > 2 else 1
        labels = np.where(np.arange(len(ids)) < prefix, IGNORED, ids)
        return {
            "input_ids": torch.from_numpy(ids),
            "labels": torch.from_numpy(labels),
            "prefix": torch.tensor(prefix),
        }


@dataclass(frozen=True)
class HiddenTokens(Question):
    """Fifteen in a hundred tokens, of which most are hidden: BERT's masked language modelling."""

    mask: int
    vocabulary: int
    special: frozenset[int] = field(default_factory=frozenset[int])
    front: tuple[int, ...] = ()
    """Tokens put before the window in place of its first ones, such as [CLS]."""
    back: tuple[int, ...] = ()

    @property
    def highest(self) -> int:
        """The mask, or the last of the random tokens."""
        return max(self.mask, self.vocabulary - 1)

    def ask(self, ids: NDArray[np.int64], chance: np.random.Generator) -> Row:
        """The window with tokens hidden, replaced or left, and those tokens as labels."""
        ids = ids.copy()
        ids[: len(self.front)] = self.front
        if self.back:
            ids[-len(self.back) :] = self.back
        plain = ~np.isin(ids, list(self.special))
        asked = (chance.random(len(ids)) < ASKED) & plain
        if not asked.any() and plain.any():
            asked[chance.choice(np.flatnonzero(plain))] = True
        labels = np.where(asked, ids, IGNORED)
        kind = chance.random(len(ids))
        drawn = chance.integers(0, self.vocabulary, len(ids))
        ids = np.where(asked & (kind < HIDDEN), self.mask, ids)
        ids = np.where(asked & (kind >= HIDDEN) & (kind < HIDDEN + RANDOM), drawn, ids)
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


@dataclass(frozen=True)
class Gaps(Question):
    """Spans cut out of a window and asked for in turn: T5's denoising. All windows of one length give equal lengths."""

    sentinels: tuple[int, ...]
    """Tokens that stand where a span was, one for each."""
    end: int

    @property
    def highest(self) -> int:
        """Of the sentinels and the end."""
        return max(*self.sentinels, self.end)

    def count(self, length: int) -> tuple[int, int]:
        """Tokens that are cut out of a window, and the spans that they make."""
        noise = min(max(round(length * NOISE), 1), length - 1)
        return noise, min(max(round(noise / GAP), 1), length - noise)

    def ask(self, ids: NDArray[np.int64], chance: np.random.Generator) -> Row:
        """The window with sentinels for spans, and the spans behind their sentinels."""
        noise, spans = self.count(len(ids))
        cut, kept = _composed(noise, spans, chance), _composed(len(ids) - noise, spans, chance)
        source: list[int] = []
        target: list[int] = []
        place = 0
        for sentinel, stay, gone in zip(self.sentinels, kept, cut, strict=False):
            source += [*ids[place : place + stay].tolist(), sentinel]
            target += [sentinel, *ids[place + stay : place + stay + gone].tolist()]
            place += stay + gone
        return {
            "input_ids": torch.tensor([*source, self.end]),
            "labels": torch.tensor([*target, self.end]),
        }


class Windows(Dataset[Row]):
    """Windows of a memory map in the order of a seed: each epoch goes once over all tokens, from another offset.

    `count` windows are offered; neighbours share the token that ends one and begins the next, so that all are asked for.
    """

    def __init__(self, ids: TokenMap, length: int, count: int, question: Question, seed: Seed) -> None:
        super().__init__()
        if len(ids) < length:
            raise InvalidInput(
                say("the text is shorter than one window"),
                given=say("{count} tokens to learn from, windows of {length}", count=len(ids), length=length),
                right=say("a longer text, or length={longest} or less", longest=len(ids)),
            )
        self.ids, self.length, self.count, self.question, self.seed = ids, length, count, question, seed
        self.stride = max(1, length - 1)
        self.offsets = min(self.stride, len(ids) - length + 1)
        self.per_epoch = (len(ids) - length - (self.offsets - 1)) // self.stride + 1
        self._epoch, self._offset = -1, 0
        self._order: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Row:
        return self.question.ask(self.window(index), self.seed.child("question", index).numpy())

    def window(self, index: int) -> NDArray[np.int64]:
        """The tokens of a window."""
        epoch, place = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            chance = self.seed.child("epoch", epoch).numpy()
            self._epoch, self._offset = epoch, int(chance.integers(self.offsets))
            self._order = chance.permutation(self.per_epoch)
        start = self._offset + int(self._order[place]) * self.stride
        return np.asarray(self.ids[start : start + self.length], dtype=np.int64)


def stacked(rows: list[Row]) -> dict[str, Tensor]:
    """A batch of rows of equal lengths."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def spread_over(ids: TokenMap, length: int, count: int) -> Int[Tensor, "window position"]:
    """At most `count` windows spread evenly over some tokens; fewer where they would share tokens."""
    length = min(length, len(ids))
    fits = max(1, min(count, len(ids) // length))
    starts = np.unique(np.linspace(0, len(ids) - length, fits).astype(np.int64))
    rows: list[Any] = [np.asarray(ids[start : start + length], dtype=np.int64) for start in starts]
    return torch.from_numpy(np.stack(rows))


def _composed(total: int, parts: int, chance: np.random.Generator) -> list[int]:
    """A random way to write a number as a sum of so many positive ones, all ways equally likely."""
    cuts = np.sort(chance.choice(total - 1, parts - 1, replace=False) + 1) if parts > 1 else np.zeros(0, dtype=np.int64)
    return np.diff(cuts, prepend=0, append=total).tolist()
