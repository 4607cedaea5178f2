"""Chance from a seed's text as old lesson links mean it: ARC4 keyed with the text, read as numbers of 52 bits.

The algorithm is RC4 with its first 256 bytes dropped (R. Rivest; RFC 6229 prints its stream) and the way in which the
JavaScript package `seedrandom` makes a key of a text and numbers of bytes, so that an address drawn years ago shows the same
points. Facts: playground.md 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_WIDTH = 256
_SIGNIFICANT = 2**52


@dataclass
class TextChance:
    """Uniform numbers in [0, 1) from a text; equal texts give equal numbers, everywhere."""

    text: str
    _bytes: list[int] = field(init=False)
    _i: int = field(init=False, default=0)
    _j: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        key, state, j = _key(self.text), list(range(_WIDTH)), 0
        for i in range(_WIDTH):
            j = (j + state[i] + key[i % len(key)]) % _WIDTH
            state[i], state[j] = state[j], state[i]
        self._bytes = state
        self._take(_WIDTH)

    def number(self) -> float:
        """The next number: six bytes, and further ones until its 52 significant bits are filled."""
        top, scale, last = self._take(6), 2**48, 0
        while top < _SIGNIFICANT:
            top, scale = (top + last) * _WIDTH, scale * _WIDTH
            last = self._take(1)
        while top >= 2 * _SIGNIFICANT:
            top, scale, last = top / 2, scale // 2, last >> 1
        return (top + last) / scale

    def between(self, low: float, high: float) -> float:
        """The next number, stretched to [low, high)."""
        return self.number() * (high - low) + low

    def copy(self) -> TextChance:
        """Another source that goes on from here by itself."""
        made = object.__new__(TextChance)
        made.text, made._bytes, made._i, made._j = self.text, self._bytes.copy(), self._i, self._j
        return made

    def _take(self, count: int) -> int:
        """The next bytes as one number, the first of them on top."""
        state, i, j, found = self._bytes, self._i, self._j, 0
        for _ in range(count):
            i = (i + 1) & 255
            here = state[i]
            j = (j + here) & 255
            there = state[j]
            state[i], state[j] = there, here
            found = (found << 8) | state[(here + there) & 255]
        self._i, self._j = i, j
        return found


def _key(text: str) -> list[int]:
    """At most 256 numbers below 256: the text's UTF-16 units, from the second round on mixed with those of the rounds before."""
    units = text.encode("utf-16-le", "surrogatepass")
    key: list[int] = []
    smear = 0
    for place in range(len(units) // 2):
        unit = units[2 * place] | units[2 * place + 1] << 8
        at = place % _WIDTH
        if at < len(key):
            smear ^= key[at] * 19
            key[at] = (smear + unit) & 255
        else:
            key.append((smear + unit) & 255)
    return key or [0]
