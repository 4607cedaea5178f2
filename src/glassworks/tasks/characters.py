"""Character statistics of a text: the counts from which a bigram world is made."""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class CharacterCounts:
    """Characters sorted by code point, how often each occurs, and how often each follows each.

    `bigrams[i, j]` counts pairs (i, then j); there is no smoothing (birth.md 1.2).
    """

    characters: tuple[str, ...]
    unigrams: NDArray[np.int64]
    bigrams: NDArray[np.int64]
    provenance: str

    @property
    def unigram_law(self) -> NDArray[np.float64]:
        """pi_u: the share of each character, shape [vocabulary]."""
        return self.unigrams / self.unigrams.sum()

    @property
    def bigram_law(self) -> NDArray[np.float64]:
        """pi_b: row i is the law of the character after i, shape [vocabulary, vocabulary]."""
        return self.bigrams / self.bigrams.sum(axis=1, keepdims=True)

    def by_frequency(self) -> NDArray[np.int64]:
        """Token ids from the most to the least frequent."""
        return np.argsort(-self.unigrams, kind="stable")

    def to_json(self) -> dict[str, Any]:
        """Plain data; the bigrams as [row, column, count] triples of the non-zero cells."""
        rows, columns = np.nonzero(self.bigrams)
        cells = [[int(i), int(j), int(self.bigrams[i, j])] for i, j in zip(rows, columns, strict=True)]
        return {
            "provenance": self.provenance,
            "characters": list(self.characters),
            "unigrams": self.unigrams.tolist(),
            "bigrams": cells,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "CharacterCounts":
        """Reads what `to_json` wrote."""
        size = len(found["characters"])
        bigrams = np.zeros((size, size), dtype=np.int64)
        cells = np.asarray(found["bigrams"], dtype=np.int64)
        bigrams[cells[:, 0], cells[:, 1]] = cells[:, 2]
        unigrams = np.asarray(found["unigrams"], dtype=np.int64)
        return cls(tuple(found["characters"]), unigrams, bigrams, str(found["provenance"]))


def count_characters(text: str, provenance: str) -> CharacterCounts:
    """Counts characters and adjacent pairs of a text of at least two characters."""
    characters = tuple(sorted(set(text)))
    index = {character: i for i, character in enumerate(characters)}
    ids = np.fromiter((index[c] for c in text), dtype=np.int64, count=len(text))
    bigrams = np.zeros((len(characters), len(characters)), dtype=np.int64)
    np.add.at(bigrams, (ids[:-1], ids[1:]), 1)
    return CharacterCounts(characters, np.bincount(ids, minlength=len(characters)), bigrams, provenance)


@cache
def shipped_counts(source: str) -> CharacterCounts:
    """The counts that are part of the package, e.g. "tiny_shakespeare"."""
    data = files("glassworks.tasks").joinpath("data", f"{source}_counts.json").read_text(encoding="utf-8")
    return CharacterCounts.from_json(cast(dict[str, Any], json.loads(data)))
