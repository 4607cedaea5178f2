"""Pairs of sentences: one is given, the other is to be written, as in translation."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.tasks.base import Batch, TokenTask, VectorBatch
from glassworks.tasks.files import checked, digest_of, lines_of
from glassworks.tasks.word_pieces import END, SEPARATOR, SMALLEST, WordPieces, learned_from, padded
from glassworks.tensors.seeds import Seed

SIDES = ("source", "target", "held_out_source", "held_out_target")


class Pairs(TokenTask):
    """Sentence pairs from line-aligned files: source, a separator, target, an end; learned from the target alone.

    Tokens are word pieces learned from both sides of the training files. Sources stand at the end of their `source_length`
    places, targets at the beginning of theirs. Pairs with a side that does not fit are left out. `Pairs.of` fills in the digests.
    """

    gives: ClassVar[bool] = True

    kind: Literal["pairs"] = "pairs"
    source: str = Field(min_length=1)
    """The file of the given sentences, one a line; may be packed (.gz), as all of them."""
    target: str = Field(min_length=1)
    """The file of their translations, line by line."""
    held_out_source: str = Field(min_length=1)
    """Given sentences that are never trained on."""
    held_out_target: str = Field(min_length=1)
    """Their translations."""
    sha256: tuple[str, str, str, str] | None = None
    """SHA-256 of the four files in the order of these fields; None takes whatever they hold."""
    split: Literal["train", "held_out"] = "train"
    """The files to draw from; the vocabulary is that of the training files."""
    pieces: int = Field(default=2048, ge=SMALLEST)
    """Tokens of the vocabulary."""
    source_length: int = Field(default=24, ge=2)
    """Places of a source, its separator included."""
    target_length: int = Field(default=26, ge=2)
    """Places of a target, its end included."""

    @classmethod
    def of(cls, files: tuple[str | Path, str | Path, str | Path, str | Path], **choices: object) -> "Pairs":
        """The pairs of these very contents: source, target, held-out source, held-out target. Raises NotFound."""
        places = [checked(str(path), None) for path in files]
        named = dict(zip(SIDES, map(str, places), strict=True))
        digests = tuple(digest_of(place) for place in places)
        return cls.parse({"kind": "pairs", "sha256": digests} | named | choices)

    @property
    def vocabulary(self) -> int:
        """Number of different tokens."""
        return self.pieces

    @property
    def alphabet(self) -> tuple[str, ...]:
        """How each token is written."""
        return self.words().alphabet

    @property
    def longest(self) -> int:
        """Positions a decoder needs, which reads both sides; the last token is a target only."""
        return self.source_length + self.target_length - 1

    @property
    def length(self) -> int:
        """The same."""
        return self.longest

    def identity(self) -> dict[str, Any]:
        """Plain data that fixes the numbers: contents instead of places, where the contents are known."""
        found = super().identity()
        return found | dict.fromkeys(SIDES, None) if self.sha256 is not None else found

    def words(self) -> WordPieces:
        """The vocabulary, learned from both training files."""
        return learned_from(self._lines("source") + self._lines("target"), self.pieces)

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch:
        """`size` pairs drawn uniformly. Raises NotFound, BrokenFile for other contents, and InvalidInput where no pair fits."""
        found = _prepared(self.model_dump_json())
        rows = torch.randint(len(found.tokens), (size,), generator=seed.generator())
        return self._batch(found.tokens[rows].to(device), found.real[rows].to(device))

    def first(self, count: int, device: str = "cpu") -> Batch:
        """The first pairs of the files that fit, in their order, all of them where they are fewer."""
        found = _prepared(self.model_dump_json())
        return self._batch(found.tokens[:count].to(device), found.real[:count].to(device))

    def texts(self, count: int) -> list[tuple[str, str]]:
        """Source and target of the first pairs that fit, as the files have them."""
        sources, targets = self.sides()
        return [(sources[i], targets[i]) for i in _prepared(self.model_dump_json()).places[:count]]

    def share_that_fits(self) -> float:
        """The share of the pairs that fit into their places."""
        return len(_prepared(self.model_dump_json()).places) / len(self.sides()[0])

    def sides(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The lines of this split's files; InvalidInput where the sides differ in number."""
        names = ("source", "target") if self.split == "train" else ("held_out_source", "held_out_target")
        sources, targets = self._lines(names[0]), self._lines(names[1])
        if len(sources) != len(targets):
            raise InvalidInput(
                say("the two sides of the pairs differ in their lines"),
                given=say("{sources} and {targets} lines", sources=len(sources), targets=len(targets)),
                right=say("files in which line n of one belongs to line n of the other"),
            )
        return sources, targets

    def ideal(self, batch: Batch | VectorBatch) -> None:
        """None: nobody knows how many translations a sentence has."""

    def _batch(self, tokens: Int[Tensor, "batch row"], real: Bool[Tensor, "batch row"]) -> Batch:
        asked = real[:, 1:].clone()
        asked[:, : self.source_length - 1] = False
        return Batch(tokens[:, :-1], tokens[:, 1:], {"all": asked}, real=real[:, :-1], given=self.source_length)

    def _lines(self, side: str) -> tuple[str, ...]:
        place = SIDES.index(side)
        path = (self.source, self.target, self.held_out_source, self.held_out_target)[place]
        return lines_of(checked(path, None if self.sha256 is None else self.sha256[place]))


@dataclass(frozen=True, eq=False)
class _Prepared:
    """The pairs that fit: their lines, counted from 0, and one row of tokens for each."""

    places: tuple[int, ...]
    tokens: Int[Tensor, "pair row"]
    real: Bool[Tensor, "pair row"]


@cache
def _prepared(settings: str) -> _Prepared:
    task = Pairs.model_validate_json(settings)
    words = task.words()
    sources, targets = (words.ids(side) for side in task.sides())
    places = tuple(
        place
        for place, (source, target) in enumerate(zip(sources, targets, strict=True))
        if 0 < len(source) < task.source_length and 0 < len(target) < task.target_length
    )
    if not places:
        raise InvalidInput(
            say("no pair fits into {source} and {target} tokens", source=task.source_length, target=task.target_length),
            right=say("longer sides, or a larger vocabulary"),
        )
    left = padded([[*sources[i], SEPARATOR] for i in places], task.source_length, in_front=True)
    right = padded([[*targets[i], END] for i in places], task.target_length)
    return _Prepared(places, torch.cat([left[0], right[0]], 1), torch.cat([left[1], right[1]], 1))
