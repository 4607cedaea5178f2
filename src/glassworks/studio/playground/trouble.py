"""Why a training ran away, said so that a person can do something about it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from glassworks.core.text import Text, say
from glassworks.studio.playground.settings import PlaygroundSettings

# Of the page's controls.
LEARNING_RATES = (0.00001, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
REGULARIZATION_RATES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
# A loss or weight beyond it is on its way to infinity; the last finite picture of it would show nothing any more.
LARGEST = 1e12
# The original's own inputs reach 36 (x1 squared).
LARGE_INPUT = 100.0
LARGE_WEIGHT = 1e3


@dataclass(frozen=True)
class Trouble:
    """A stop, its cause and its cure."""

    cause: Literal["rate", "regularization", "input", "weight"]
    what: Text
    right: Text
    epoch: int
    suggestion: float | None = None

    def to_json(self) -> dict[str, object]:
        """Plain data for the page."""
        return {
            "cause": self.cause, "what": self.what, "right": self.right, "epoch": self.epoch,
            "suggestion": self.suggestion,
        }  # fmt: skip


def is_lost(train: float, test: float, weights_squared: float) -> bool:
    """Whether a loss or a weight is no number any more, or beyond all measure."""
    return not (abs(train) < LARGEST and abs(test) < LARGEST and weights_squared < LARGEST**2)


def explained(settings: PlaygroundSettings, largest_input: float, largest_edit: float, epoch: int) -> Trouble:
    """The likeliest cause, from what is known to run away."""
    pull = settings.learning_rate * settings.regularization_rate
    if settings.regularization == "L2" and pull > 1:
        # Each update multiplies the weights by 1 - pull; beyond 2 they grow and change sign each time.
        most = _below(REGULARIZATION_RATES, 1 / max(settings.learning_rate, 1e-12))
        return Trouble(
            "regularization",
            say(
                "learning rate times regularization rate is {pull}: the pull towards zero overshoots", pull=_short(pull)
            ),
            say("a regularization rate of {rate} or less", rate=_short(most)),
            epoch,
            most,
        )
    if largest_input > LARGE_INPUT:
        return Trouble(
            "input",
            say(
                "an input is as large as {value}, and the step of a weight grows with its input",
                value=_short(largest_input),
            ),
            say("points between -6 and 6, or a smaller learning rate"),
            epoch,
        )
    if largest_edit > LARGE_WEIGHT:
        return Trouble(
            "weight",
            say("a weight was set to {value}, and the outputs grow with it", value=_short(largest_edit)),
            say("weights between -5 and 5"),
            epoch,
        )
    slower = _below(LEARNING_RATES, settings.learning_rate / 2)
    return Trouble(
        "rate",
        say("the learning rate of {rate} is too high: each step goes further beyond the valley than the last", rate=_short(settings.learning_rate)),
        say("a learning rate of {rate} or less", rate=_short(slower)),
        epoch,
        slower,
    )  # fmt: skip


def _below(listed: tuple[float, ...], most: float) -> float:
    return max((one for one in listed if one <= most), default=listed[0])


def _short(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "∞"
