"""What a network remembers of its training: moments to go back to, and the loss curve. Both stay within bounds."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from glassworks.studio.playground.data import Numbers

# Kept moments of one network: at most so many, and at most so many bytes.
MOST_MOMENTS, MOST_BYTES, FEWEST_MOMENTS = 2048, 4 << 20, 16
# Every one of the last epochs, so that "10 epochs back" is exact however far the kept ones lie apart.
RECENT = 24
MOST_ROWS = 40_000


@dataclass(frozen=True)
class Moment:
    """A state at the end of an epoch."""

    epoch: int
    table: Tensor
    updates: int
    carried: int


@dataclass
class History:
    """Moments at even distances; when they become too many, every second one goes and the distance doubles."""

    capacity: int = MOST_MOMENTS
    every: int = 1
    _kept: list[Moment] = field(default_factory=list[Moment])
    _recent: deque[Moment] = field(default_factory=lambda: deque[Moment](maxlen=RECENT))

    @classmethod
    def of_size(cls, bytes_each: int) -> History:
        """A history of moments that take so many bytes."""
        return cls(min(MOST_MOMENTS, max(FEWEST_MOMENTS, MOST_BYTES // max(1, bytes_each))))

    @property
    def first(self) -> int:
        """The earliest epoch that is kept; 0, as long as nothing was imported in the middle."""
        return self._kept[0].epoch if self._kept else 0

    @property
    def last(self) -> int:
        """The latest epoch that is kept."""
        return self._recent[-1].epoch if self._recent else self.first

    def keep(self, moment: Moment) -> None:
        """Adds a moment, in place of one of the same epoch."""
        for line in (self._recent, self._kept):
            if line and line[-1].epoch == moment.epoch:
                line.pop()
        self._recent.append(moment)
        if not self._kept or moment.epoch % self.every == 0:
            self._kept.append(moment)
            if len(self._kept) > self.capacity:
                self.every *= 2
                self._kept = [one for place, one in enumerate(self._kept) if not place or one.epoch % self.every == 0]

    def at(self, epoch: int) -> Moment | None:
        """The latest moment that is not after this epoch, else the earliest; None before the first was kept."""
        for moment in reversed(self._recent):
            if moment.epoch <= epoch:
                return moment
        place = bisect_right(self._kept, epoch, key=lambda one: one.epoch)
        return self._kept[max(0, place - 1)] if self._kept else None

    def nearest(self, epoch: int) -> Moment | None:
        """The moment nearest to this epoch."""
        every = [*self._kept, *self._recent]
        return min(every, key=lambda one: abs(one.epoch - epoch), default=None)

    def forget_after(self, epoch: int) -> None:
        """Drops what came later."""
        self._kept = [one for one in self._kept if one.epoch <= epoch]
        self._recent = deque((one for one in self._recent if one.epoch <= epoch), maxlen=RECENT)


@dataclass
class Curve:
    """Rows of epoch, training loss and test loss; beyond a bound every second row is dropped and they lie further apart."""

    every: int = 1
    _values: array[float] = field(default_factory=lambda: array("d"))
    _sent: int = 0

    def __len__(self) -> int:
        return len(self._values) // 3

    def add(self, epoch: int, train: float, test: float) -> None:
        """A row, where the epoch is one of those that are kept."""
        if epoch % self.every:
            return
        self._values.extend((float(epoch), train, test))
        if len(self) > MOST_ROWS:
            self.every *= 2
            rows = self.rows()
            self._values = array("d", rows[rows[:, 0] % self.every == 0].tobytes())
            self._sent = 0

    def rows(self) -> Numbers:
        """All rows, (k, 3)."""
        return np.array(self._values, dtype=np.float64).reshape(-1, 3)

    def forget_after(self, epoch: int) -> None:
        """Drops later rows."""
        while self._values and self._values[-3] > epoch:
            del self._values[-3:]
        self._sent = min(self._sent, len(self))

    def unsent(self) -> tuple[int, Numbers]:
        """Index of the first row that the page does not have, and the rows from there on; they then count as sent."""
        begin = self._sent
        self._sent = len(self)
        return begin, np.array(self._values[3 * begin :], dtype=np.float64).reshape(-1, 3)
