"""Sentences that carry a label: what is to be understood is which one."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int
from pydantic import Field
from torch import Tensor

from glassworks.core.errors import BrokenFile
from glassworks.core.text import say
from glassworks.tasks.base import Batch, TokenTask, VectorBatch
from glassworks.tasks.files import checked, digest_of, lines_of
from glassworks.tasks.word_pieces import END, SMALLEST, WordPieces, learned_from, padded
from glassworks.tensors.seeds import Seed


class Sentences(TokenTask):
    """Lines of a label, a space and a sentence; a whole sentence has one target, its label, set at its last token.

    Tokens are word pieces learned from the training file. A sentence ends with an end token, and one that is too long loses
    its last pieces. `Sentences.of` fills in the digests.
    """

    kind: Literal["sentences"] = "sentences"
    path: str = Field(min_length=1)
    """The file of training sentences; labels are whole numbers from 0."""
    held_out_path: str = Field(min_length=1)
    """The file of sentences that are never trained on."""
    sha256: tuple[str, str] | None = None
    """SHA-256 of the two files; None takes whatever they hold."""
    split: Literal["train", "held_out"] = "train"
    """The file to draw from; vocabulary and labels are those of the training file."""
    labels: int = Field(default=2, ge=2)
    """How many labels there are."""
    pieces: int = Field(default=2048, ge=SMALLEST)
    """Tokens of the vocabulary."""
    length: int = Field(default=32, ge=2)
    """Places of a sentence, its end included."""

    @classmethod
    def of(cls, path: str | Path, held_out_path: str | Path, **choices: object) -> "Sentences":
        """The sentences of these very contents. Raises NotFound."""
        places = [checked(str(one), None) for one in (path, held_out_path)]
        found: dict[str, object] = {"kind": "sentences", "path": str(places[0]), "held_out_path": str(places[1])}
        return cls.parse(found | {"sha256": tuple(digest_of(place) for place in places)} | choices)

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
        """Positions a model needs."""
        return self.length

    def identity(self) -> dict[str, Any]:
        """Plain data that fixes the numbers: contents instead of places, where the contents are known."""
        found = super().identity()
        return found | {"path": None, "held_out_path": None} if self.sha256 is not None else found

    def words(self) -> WordPieces:
        """The vocabulary, learned from the training sentences."""
        return learned_from(self._sentences("train")[1], self.pieces)

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> Batch:
        """`size` sentences drawn uniformly. Raises NotFound, and BrokenFile for other contents or lines without a label."""
        found = _prepared(self.model_dump_json())
        return found.batch(torch.randint(len(found.labels), (size,), generator=seed.generator()), device)

    def first(self, count: int, device: str = "cpu") -> Batch:
        """The first sentences of the file in their order, all of them where they are fewer."""
        found = _prepared(self.model_dump_json())
        return found.batch(torch.arange(min(count, len(found.labels))), device)

    def lines(self) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Labels and sentences of this split."""
        return self._sentences(self.split)

    def ideal(self, batch: Batch | VectorBatch) -> None:
        """None: nobody knows how far people agree."""

    def _sentences(self, split: Literal["train", "held_out"]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        path, place = (self.path, 0) if split == "train" else (self.held_out_path, 1)
        lines = lines_of(checked(path, None if self.sha256 is None else self.sha256[place]))
        return _labelled(path, lines, self.labels)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """All sentences of a split as tokens, with their labels."""

    tokens: Int[Tensor, "sentence position"]
    real: Bool[Tensor, "sentence position"]
    labels: Int[Tensor, " sentence"]

    def batch(self, rows: Int[Tensor, " row"], device: str) -> Batch:
        """Some of them; the label stands at every place and is asked for at the last real one."""
        inputs, real = self.tokens[rows].to(device), self.real[rows].to(device)
        last = torch.zeros_like(real).scatter(1, real.sum(1, keepdim=True) - 1, value=True)
        targets = self.labels[rows].to(device)[:, None].expand_as(inputs).contiguous()
        return Batch(inputs, targets, {"all": last}, real=real)


@cache
def _labelled(path: str, lines: tuple[str, ...], labels: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    split = [line.partition(" ") for line in lines if line.strip()]
    for number, (label, _, sentence) in enumerate(split, start=1):
        if not (label.isdecimal() and int(label) < labels and sentence.strip()):
            raise BrokenFile(
                say("line {number} of {path} is no label with a sentence", number=number, path=path),
                given=f"{label} {sentence[:40]}",
                right=say("a whole number below {labels}, a space, a sentence", labels=labels),
            )
    return tuple(int(label) for label, _, _ in split), tuple(sentence.strip() for _, _, sentence in split)


@cache
def _prepared(settings: str) -> _Prepared:
    task = Sentences.model_validate_json(settings)
    labels, texts = task.lines()
    rows = [[*ids[: task.length - 1], END] for ids in task.words().ids(texts)]
    tokens, real = padded(rows, task.length)
    return _Prepared(tokens, real, torch.tensor(labels))
