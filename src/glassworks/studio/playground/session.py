"""One page's playground: one network or two on the same data, trained in slices and shown by frames.

A frame is made only when fewer than two wait to be drawn; training goes on meanwhile. What the page says is in hearing.py.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.studio.playground.picture import made_of, side_of
from glassworks.studio.playground.trainer import Trainer

Which = Literal["a", "b"]
Mode = Literal["max", "redraw", "rate"]
Body = dict[str, Any]
# Frames that may be under way: one that the browser draws, and the next one, so that it never waits.
CREDIT = 2
# No screen shows more, and making a frame may take no more than half of the time.
SHORTEST_FRAME = 1 / 60
# Seconds: a rate that the machine does not reach is not made up for later.
MOST_BEHIND = 0.25


@dataclass(frozen=True)
class Goal:
    """Where a run ends by itself."""

    epoch: int | None = None
    loss: float | None = None
    of: Literal["train", "test"] = "train"

    def is_reached(self, trainer: Trainer) -> bool:
        """Whether the network is there."""
        if self.epoch is not None and trainer.epoch >= self.epoch:
            return True
        if self.loss is None:
            return False
        losses = trainer.losses()
        value = losses.train if self.of == "train" else losses.test
        return value is not None and value <= self.loss

    def to_json(self) -> Body:
        """Plain data for the page."""
        return {"epoch": self.epoch, "loss": self.loss, "of": self.of}


@dataclass
class Session:
    """What one socket holds."""

    may_add: Callable[[], bool] = lambda: True
    """Whether the process takes one more network."""
    trainers: dict[Which, Trainer] = field(default_factory=dict[Which, Trainer])
    answers: deque[Body] = field(default_factory=deque[Body])
    """What was asked for and is not sent yet."""
    running: bool = False
    mode: Mode = "redraw"
    rate: float = 60.0
    goal: Goal | None = None
    epochs_left: int = 0
    """Of a step of several epochs."""
    node: int | None = None
    """Whose map is large; None is the output."""
    point: tuple[float, float] | None = None
    """Whose way through the network is shown."""
    scrubbed: int | None = None
    """The epoch that is shown instead of the present."""
    _sent: int = 0
    _acknowledged: int = 0
    _is_changed: bool = False
    _is_new: bool = False
    _notes: tuple[Text, ...] = ()
    _next_frame: float = 0.0
    _owed: float = 0.0
    _counted: float = 0.0
    _pace: deque[tuple[float, int]] = field(default_factory=lambda: deque[tuple[float, int]](maxlen=256))

    # -- what hearing does

    def begin(self, made: Mapping[Which, Trainer], notes: tuple[Text, ...] = ()) -> None:
        """Takes these networks instead of the present ones, paused. Raises InvalidInput where there is no room."""
        if len(made) > len(self.trainers) and not self.may_add():
            raise InvalidInput(
                say("too many networks are open in the playground"), right=say("close other tabs of the playground")
            )
        self.trainers = dict(made)
        if self.node is not None and self.node >= self.nodes:
            self.node = None
        self.tell_anew(notes)
        self.halt()

    def tell_anew(self, notes: tuple[Text, ...] = ()) -> None:
        """Settings and points go out with the next frame."""
        self._is_new, self._notes = True, notes
        self.mark()

    def mark(self) -> None:
        """There is something to show."""
        self._is_changed = True

    def halt(self) -> None:
        """Nothing is trained until a message says so; the present is shown."""
        self.running, self.goal, self.epochs_left, self.scrubbed = False, None, 0, None
        self._pace.clear()
        self.mark()

    def start(self, goal: Goal | None = None) -> None:
        """Trains from the present on, to the goal if there is one."""
        self.halt()
        self.running, self.goal = True, goal
        self.count_from_now()

    def count_from_now(self) -> None:
        """Epochs by rate are owed from this moment on."""
        self._counted, self._owed = time.perf_counter(), 0.0

    def acknowledge(self, frame: int) -> None:
        """The page has drawn this frame and those before it."""
        self._acknowledged = min(max(self._acknowledged, frame), self._sent)

    @property
    def nodes(self) -> int:
        """Neurons that both networks have."""
        return min(trainer.layout.nodes for trainer in self.trainers.values())

    # -- training

    @property
    def credit(self) -> int:
        """Frames that may still be sent before one is acknowledged."""
        return CREDIT - (self._sent - self._acknowledged)

    @property
    def _is_paced(self) -> bool:
        return self.running and self.goal is None

    def wants_to_work(self, now: float) -> bool:
        """Whether there is something to train at this moment."""
        if not self._is_paced or self.mode == "max":
            return self.running or self.epochs_left > 0
        if self.mode == "redraw":
            return self.credit > 0 and not self._is_changed
        self._owed = min(self._owed + (now - self._counted) * self.rate, max(1.0, MOST_BEHIND * self.rate))
        self._counted = now
        return self._owed >= 1

    def due(self, now: float) -> float | None:
        """The moment at which there is something to do without a message; None where there is nothing."""
        if self.wants_to_work(now):
            return now
        moments = [max(now, self._next_frame)] if self._is_changed and self.credit > 0 and self.trainers else []
        if self._is_paced and self.mode == "rate":
            moments.append(now + (1 - self._owed) / self.rate)
        return min(moments, default=None)

    def work(self, deadline: float) -> None:
        """Trains up to the deadline; two networks epoch by epoch, the one that is behind first."""
        while (now := time.perf_counter()) < deadline and self.wants_to_work(now):
            self.mark()
            if not self._round(deadline):
                return
            self._after_round()

    def _round(self, deadline: float) -> bool:
        """One epoch of each network; whether it was finished in time."""
        target = min(trainer.epoch for trainer in self.trainers.values()) + 1
        return all(trainer.epoch >= target or trainer.train(target, deadline) for trainer in self.trainers.values())

    def _after_round(self) -> None:
        self._owed -= 1
        first = self.trainers["a"]
        self.epochs_left = max(0, self.epochs_left - 1)
        self._pace.append((time.perf_counter(), first.epoch))
        in_trouble = any(trainer.trouble is not None for trainer in self.trainers.values())
        if in_trouble or (self.goal is not None and self.goal.is_reached(first)):
            self.halt()

    # -- showing

    def taken_answers(self) -> list[Body]:
        """Answers that were not sent yet."""
        found = list(self.answers)
        self.answers.clear()
        return found

    def frame(self, now: float) -> Body | None:
        """The next frame, where something changed, the page has drawn enough of the last ones, and it is time."""
        if not self._is_changed or not self.trainers or self.credit <= 0 or now < self._next_frame:
            return None
        self._sent += 1
        body: Body = {
            "kind": "frame",
            "number": self._sent,
            "running": self.running or self.epochs_left > 0,
            "scrubbed": self.scrubbed is not None,
            "speed": {"mode": self.mode, "rate": self.rate},
            "rate": self._measured_rate(now),
            "until": None if self.goal is None else self.goal.to_json(),
            "a": self._side("a"),
            "b": self._side("b") if "b" in self.trainers else None,
        }
        if self._is_new:
            body["made"] = made_of(self.trainers, self._notes)
        self._is_new = self._is_changed = False
        # While epochs follow the redraws, the browser's own pace is the pace.
        shortest = 0.0 if self._is_paced and self.mode == "redraw" else SHORTEST_FRAME
        self._next_frame = now + max(shortest, 2 * (time.perf_counter() - now))
        return body

    def _side(self, which: Which) -> Body:
        trainer = self.trainers[which]
        moment = None if self.scrubbed is None else trainer.history.nearest(self.scrubbed)
        return side_of(trainer, moment, self.node, self.point)

    def _measured_rate(self, now: float) -> float:
        recent = [one for one in self._pace if one[0] > now - 1]
        if not self.running or len(recent) < 2:
            return 0.0
        (begin, first), (end, last) = recent[0], recent[-1]
        return (last - first) / (end - begin) if end > begin else 0.0
