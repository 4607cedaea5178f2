"""Alphabet: characters and ids for worlds without a tokenizer."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say

_SIGNS = {"\n": "↵", " ": "␣", "\t": "⇥", "\r": "␍"}


def legible(text: str) -> str:
    """Text with its blanks made visible: newline ↵, space ␣, tab ⇥.

    Other control characters by their code.
    """
    shown = "".join(_SIGNS.get(sign) or (f"⟨U+{ord(sign):04X}⟩" if not sign.isprintable() else sign) for sign in text)
    return shown or "∅"


@dataclass(frozen=True)
class Alphabet:
    """Characters in the order of their ids."""

    characters: tuple[str, ...]

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {character: token for token, character in enumerate(self.characters)}

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Ids of a text; raises InvalidInput for a character that is not in the alphabet."""
        unknown = next((sign for sign in text if sign not in self._ids), None)
        if unknown is not None:
            raise InvalidInput(
                say("the character {character} is not in the model's alphabet", character=legible(unknown)),
                given=text,
                right=say("characters among {known}", known="".join(legible(c) for c in self.characters)),
            )
        return [self._ids[sign] for sign in text]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        return "".join(self.characters[token] for token in ids)

    def labels(self, ids: Iterable[int]) -> tuple[str, ...]:
        """The legible text of each id."""
        return tuple(legible(self.characters[token]) for token in ids)
