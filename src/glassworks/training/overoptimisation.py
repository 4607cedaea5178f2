"""True reward against the distance from the start while a stand-in for it is maximised (Gao et al. 2022, lifecycle.md 4).

d is the root of the KL from the start in nats. The true reward was found to follow d (alpha - beta d) for best-of-n and
d (alpha - beta log d) for reinforcement learning: it rises, and falls where the stand-in is wrong.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.training.store import History

Law = Literal["best_of_n", "reinforced"]


@dataclass(frozen=True)
class Point:
    """A policy: how far it is from the start, what the stand-in gives it, and what it is worth."""

    distance: float
    """The root of the KL in nats."""
    proxy: float
    gold: float
    label: str = ""


def divergence_of_best(count: int) -> float:
    """KL of the best of n samples from the sampler, in nats: log n - (n - 1) / n, exact where no two samples tie."""
    return math.log(count) - (count - 1) / count


def best_of_n_curve(
    proxy: Float[NDArray[np.floating], "prompt sample"],
    gold: Float[NDArray[np.floating], "prompt sample"],
    sizes: Sequence[int],
) -> list[Point]:
    """What the best of n by the stand-in is worth, from N samples of each prompt, without bias (Nakano et al. 2021, app. I).

    The i-th smallest of N samples is the best of n drawn without replacement with chance C(i - 1, n - 1) / C(N, n).
    """
    samples = proxy.shape[1]
    order = np.argsort(proxy, axis=1, kind="stable")
    sorted_proxy, sorted_gold = (np.take_along_axis(values, order, 1).mean(0) for values in (proxy, gold))
    points: list[Point] = []
    for size in sizes:
        if not 1 <= size <= samples:
            raise InvalidInput(
                say("the best of {size} cannot be told from {samples} samples", size=size, samples=samples),
                right=say("sizes from 1 to {samples}", samples=samples),
            )
        chances = np.array([math.comb(place, size - 1) / math.comb(samples, size) for place in range(samples)])
        points.append(
            Point(
                math.sqrt(divergence_of_best(size)),
                float(chances @ sorted_proxy),
                float(chances @ sorted_gold),
                f"n={size}",
            )
        )
    return points


def ppo_curve(history: History, label: str = "", smooth: int = 1) -> list[Point]:
    """The way of a training by reinforcement whose history has reward, gold and kl; means over `smooth` rows in a row."""
    missing = [name for name in ("reward", "gold", "kl") if name not in history.metrics]
    if missing:
        raise InvalidInput(
            say("the history of this training lacks {missing}", missing=", ".join(missing)),
            right=say("a training with gold=… beside its reward"),
        )
    reward, gold, divergence = (history.curve(name) for name in ("reward", "gold", "kl"))
    points: list[Point] = []
    for first in range(0, len(history.steps) - smooth + 1, smooth):
        part = slice(first, first + smooth)
        distance = math.sqrt(max(0.0, float(divergence[part].mean())))
        points.append(Point(distance, float(reward[part].mean()), float(gold[part].mean()), label))
    return points


@dataclass(frozen=True)
class LawFit:
    """A law fitted to gains over the start: gain = d (alpha - beta d) or d (alpha - beta log d)."""

    law: Law
    alpha: float
    beta: float
    start: float
    """The true reward at distance 0."""
    residual: float
    """Root mean square of what the law leaves unexplained, in units of reward."""

    def at(self, distance: float) -> float:
        """The true reward that the law foresees."""
        if distance <= 0:
            return self.start
        fall = distance if self.law == "best_of_n" else math.log(distance)
        return self.start + distance * (self.alpha - self.beta * fall)

    @property
    def peak(self) -> float:
        """The distance beyond which the true reward falls; infinite where it never does."""
        if self.beta <= 0:
            return math.inf
        return self.alpha / (2 * self.beta) if self.law == "best_of_n" else math.exp(self.alpha / self.beta - 1)


def fit_law(points: Sequence[Point], law: Law, start: float) -> LawFit:
    """Least squares for alpha and beta; both laws are linear in them. InvalidInput for fewer than two distances above 0."""
    far = [point for point in points if point.distance > 0]
    if len({point.distance for point in far}) < 2:
        raise InvalidInput(
            say("a law of two numbers needs two distances"),
            given=say("{count} points away from the start", count=len(far)),
            right=say("more points"),
        )
    d = np.array([point.distance for point in far])
    gains = np.array([point.gold - start for point in far])
    falls = d if law == "best_of_n" else np.log(d)
    design = np.stack([d, -d * falls], 1)
    (alpha, beta), *_ = np.linalg.lstsq(design, gains, rcond=None)
    residual = float(np.sqrt(np.mean((design @ np.array([alpha, beta]) - gains) ** 2)))
    return LawFit(law, float(alpha), float(beta), start, residual)
