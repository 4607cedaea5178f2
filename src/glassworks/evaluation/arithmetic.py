"""Arithmetic coding: symbols of unequal probability in as many bits as their probabilities say, in whole numbers alone.

A symbol is a range of counts [start, start + size) out of a total. Encoder and decoder keep an interval of whole numbers, cut
it by the counts, and move bits out of it as soon as both ends agree on them (Witten, Neal, Cleary 1987). No rounding depends on
the machine, so equal counts give equal bits everywhere; both ends together cost at most two bits beyond the symbols.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

_BITS = 62
_ALL, _HALF, _QUARTER = (1 << _BITS) - 1, 1 << (_BITS - 1), 1 << (_BITS - 2)
# Counts of a distribution. What rounding to it costs is beyond notice, and a range of 2^60 has room for each.
TOTAL = 1 << 32


def cumulative_counts(probabilities: Float[np.ndarray, " symbol"]) -> Int[np.ndarray, " boundary"]:
    """Where each symbol's counts begin, and the total behind the last: every symbol gets at least one count.

    The probabilities need not add up to one exactly; they must be finite and not negative.
    """
    spread = probabilities.astype(np.float64)
    spread = spread / spread.sum()
    counts = np.floor(spread * (TOTAL - len(spread))).astype(np.int64) + 1
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])


class Encoder:
    """Symbols in, bytes out."""

    def __init__(self) -> None:
        self._low, self._high, self._pending = 0, _ALL, 0
        self._bits: list[int] = []

    def push(self, start: int, size: int, total: int) -> None:
        """Adds the symbol whose counts are [start, start + size) of `total`."""
        assert 0 < size <= total - start, "a symbol needs a count of its own"
        assert total <= _QUARTER, "an interval must have room for every count"
        width = self._high - self._low + 1
        self._high = self._low + width * (start + size) // total - 1
        self._low = self._low + width * start // total
        while True:
            if self._high < _HALF:
                self._out(0)
            elif self._low >= _HALF:
                self._out(1)
                self._low, self._high = self._low - _HALF, self._high - _HALF
            elif self._low >= _QUARTER and self._high < _HALF + _QUARTER:
                # Both ends near the middle: which bit comes is not known yet, only that its opposite follows.
                self._pending += 1
                self._low, self._high = self._low - _QUARTER, self._high - _QUARTER
            else:
                return
            self._low, self._high = 2 * self._low, 2 * self._high + 1

    def finish(self) -> bytes:
        """The bytes of all symbols; nothing may be added after it."""
        self._pending += 1
        self._out(0 if self._low < _QUARTER else 1)
        return np.packbits(np.array(self._bits, dtype=np.uint8)).tobytes()

    def _out(self, bit: int) -> None:
        self._bits.append(bit)
        self._bits.extend([1 - bit] * self._pending)
        self._pending = 0


class Decoder:
    """Bytes in, symbols out, given the same counts in the same order."""

    def __init__(self, data: bytes) -> None:
        self._bits: list[int] = np.unpackbits(np.frombuffer(data, dtype=np.uint8)).tolist()
        self._low, self._high, self._read = 0, _ALL, 0
        self._value = 0
        for _ in range(_BITS):
            self._value = 2 * self._value + self._next()

    def pull(self, boundaries: Int[np.ndarray, " boundary"]) -> int:
        """The next symbol, of those whose counts begin at `boundaries`."""
        total = int(boundaries[-1])
        width = self._high - self._low + 1
        place = ((self._value - self._low + 1) * total - 1) // width
        symbol = int(np.searchsorted(boundaries, place, side="right")) - 1
        start, end = int(boundaries[symbol]), int(boundaries[symbol + 1])
        self._high = self._low + width * end // total - 1
        self._low = self._low + width * start // total
        while True:
            if self._high < _HALF:
                shift = 0
            elif self._low >= _HALF:
                shift = _HALF
            elif self._low >= _QUARTER and self._high < _HALF + _QUARTER:
                shift = _QUARTER
            else:
                return symbol
            self._low, self._high = 2 * (self._low - shift), 2 * (self._high - shift) + 1
            self._value = 2 * (self._value - shift) + self._next()

    def _next(self) -> int:
        # Behind the last bit any bits will do: the encoder made sure of it.
        self._read += 1
        return self._bits[self._read - 1] if self._read <= len(self._bits) else 0
