"""The points: TensorFlow Playground's six sets number by number, further ones, and the person's own; shuffled and split.

What the six sets are (radii, noise, order of the draws): playground.md 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from glassworks.studio.playground.chance import TextChance
from glassworks.studio.playground.settings import Curve, PlaygroundSettings

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Point = tuple[float, float, float]
"""x1, x2 and the label: -1 or 1, a class number where there are more than two, a value in regression."""
CLASSIFY_COUNT, REGRESS_COUNT = 500, 1200
EDGE = 6.0


@dataclass(frozen=True)
class Data:
    """Points in the order in which they are learned, and the chance that goes on from there to the first weights."""

    train: Numbers
    """(points, 3): x1, x2, label."""
    test: Numbers
    chance: TextChance


@dataclass(frozen=True)
class Making:
    """What a set is made from."""

    chance: TextChance
    count: int
    noise: float
    """A share, not per cent."""
    classes: int = 2
    curve: Curve = "parabola"

    def shifted(self, x: float, y: float, reach: float) -> tuple[float, float]:
        """Where noise takes a point: some sets move it, others only label it as if it were there."""
        return (
            x + self.chance.between(-reach, reach) * self.noise,
            y + self.chance.between(-reach, reach) * self.noise,
        )

    def normal(self, mean: float, variance: float) -> float:
        """Marsaglia's polar method; the second of its two numbers is thrown away, as in the original."""
        while True:
            u, v = 2 * self.chance.number() - 1, 2 * self.chance.number() - 1
            size = u * u + v * v
            if 0 < size <= 1:
                return mean + math.sqrt(variance) * (math.sqrt(-2 * math.log(size) / size) * u)

    def label_of(self, number: int) -> float:
        """A class as a label: of two, the first is positive."""
        return float(number) if self.classes > 2 else (1.0, -1.0)[number]

    def sizes(self) -> list[int]:
        """Points by class, as equal as they can be."""
        return [(self.count + self.classes - 1 - number) // self.classes for number in range(self.classes)]


def make_data(settings: PlaygroundSettings) -> Data:
    """The points of some settings; the seed's text fixes them."""
    chance = TextChance(settings.seed)
    points = own_points(settings) if settings.has_own_points else made_points(settings, chance)
    _shuffle(points, chance)
    split = math.floor(len(points) * settings.train_percent / 100)
    # One's own first point has to be learned, not only tested.
    split = max(split, min(1, len(points)))
    rows = np.array(points, dtype=np.float64).reshape(-1, 3)
    return Data(rows[:split], rows[split:], chance)


def own_points(settings: PlaygroundSettings) -> list[Point]:
    """The person's points; of two classes numbered 0 and 1, the second is positive."""
    if settings.problem == "regression" or settings.outputs > 1:
        return list(settings.points)
    return [(x, y, 1.0 if label == 1 else -1.0) for x, y, label in settings.points]


def made_points(settings: PlaygroundSettings, chance: TextChance) -> list[Point]:
    """The chosen set, not yet shuffled."""
    classify = settings.problem == "classification"
    making = Making(
        chance,
        CLASSIFY_COUNT if classify else REGRESS_COUNT,
        settings.noise / 100,
        settings.outputs if settings.outputs > 1 else 2,
        settings.curve,
    )
    return SETS[settings.dataset if classify else settings.regression_dataset](making)


def thumbnail(settings: PlaygroundSettings, count: int = 200) -> list[Point]:
    """Few points of a set without noise, always the same ones."""
    making = Making(
        TextChance("thumbnail"), count, 0.0, settings.outputs if settings.outputs > 1 else 2, settings.curve
    )
    return SETS[settings.dataset if settings.problem == "classification" else settings.regression_dataset](making)


def _shuffle(points: list[Point], chance: TextChance) -> None:
    """Fisher and Yates, from the end."""
    for last in range(len(points) - 1, -1, -1):
        chosen = math.floor(chance.number() * (last + 1))
        points[last], points[chosen] = points[chosen], points[last]


def _circle(making: Making) -> list[Point]:
    radius, half = 5.0, making.count // 2
    points: list[Point] = []
    for low, high in ((0.0, radius * 0.5), (radius * 0.7, radius)):
        for _ in range(half):
            distance, angle = making.chance.between(low, high), making.chance.between(0.0, 2 * math.pi)
            x, y = distance * math.sin(angle), distance * math.cos(angle)
            seen_x, seen_y = making.shifted(x, y, radius)
            points.append((x, y, 1.0 if math.sqrt(seen_x * seen_x + seen_y * seen_y) < radius * 0.5 else -1.0))
    return points


def _xor(making: Making) -> list[Point]:
    padding = 0.3
    points: list[Point] = []
    for _ in range(making.count):
        x = making.chance.between(-5.0, 5.0)
        x += padding if x > 0 else -padding
        y = making.chance.between(-5.0, 5.0)
        y += padding if y > 0 else -padding
        seen_x, seen_y = making.shifted(x, y, 5.0)
        points.append((x, y, 1.0 if seen_x * seen_y >= 0 else -1.0))
    return points


def _variance(noise: float) -> float:
    """0.5 without noise, 4 at 50 %, and on along this line."""
    share = noise / 0.5
    return 0.5 * (1 - share) + 4 * share


def _gauss(making: Making) -> list[Point]:
    variance = _variance(making.noise)
    return [
        (making.normal(centre, variance), making.normal(centre, variance), label)
        for centre, label in ((2.0, 1.0), (-2.0, -1.0))
        for _ in range(making.count // 2)
    ]


def _spiral(making: Making) -> list[Point]:
    half = making.count / 2
    points: list[Point] = []
    for turned, label in ((0.0, 1.0), (math.pi, -1.0)):
        for i in range(math.ceil(half)):
            radius, angle = i / half * 5, 1.75 * i / half * 2 * math.pi + turned
            x = radius * math.sin(angle) + making.chance.between(-1.0, 1.0) * making.noise
            y = radius * math.cos(angle) + making.chance.between(-1.0, 1.0) * making.noise
            points.append((x, y, label))
    return points


def _spread(making: Making, value: Callable[[float, float], float]) -> list[Point]:
    """Points all over the square, labelled where noise takes them."""
    points: list[Point] = []
    for _ in range(making.count):
        x, y = making.chance.between(-EDGE, EDGE), making.chance.between(-EDGE, EDGE)
        points.append((x, y, value(*making.shifted(x, y, EDGE))))
    return points


def _plane(making: Making) -> list[Point]:
    def value(x: float, y: float) -> float:
        share = (x + y + 10) / 20
        return -1 * (1 - share) + share

    return _spread(making, value)


_HILLS = ((-4, 2.5, 1), (0, 2.5, -1), (4, 2.5, 1), (-4, -2.5, -1), (0, -2.5, 1), (4, -2.5, -1))


def _hills(making: Making) -> list[Point]:
    def value(x: float, y: float) -> float:
        found = 0.0
        for centre_x, centre_y, sign in _HILLS:
            distance = math.sqrt((x - centre_x) * (x - centre_x) + (y - centre_y) * (y - centre_y))
            height = sign * (1 - min(max(distance / 2, 0.0), 1.0))
            if abs(height) > abs(found):
                found = height
        return found

    return _spread(making, value)


def _moons(making: Making) -> list[Point]:
    points: list[Point] = []
    for number, side in enumerate((1, -1)):
        for _ in range(making.sizes()[number]):
            angle = making.chance.between(0.0, math.pi)
            x, y = making.shifted(side * (3.2 * math.cos(angle) - 1.6), side * (3.2 * math.sin(angle) - 0.9), 3.0)
            points.append((x, y, making.label_of(number)))
    return points


CURVES: Mapping[Curve, Callable[[float], float]] = {
    "line": lambda x: 0.5 * x,
    "parabola": lambda x: x * x / 4 - 3,
    "cubic": lambda x: x**3 / 18 - x,
    "sine": lambda x: 2.5 * math.sin(x),
    "absolute": lambda x: abs(x) - 3,
}


def _curve(making: Making) -> list[Point]:
    edge = CURVES[making.curve]
    return _spread(making, lambda x, y: 1.0 if y > edge(x) else -1.0)


def _rings(making: Making) -> list[Point]:
    points: list[Point] = []
    for number, size in enumerate(making.sizes()):
        for _ in range(size):
            radius = making.chance.between(5 * (number + 0.1) / making.classes, 5 * (number + 0.75) / making.classes)
            angle = making.chance.between(0.0, 2 * math.pi)
            x, y = making.shifted(radius * math.sin(angle), radius * math.cos(angle), 3.0)
            points.append((x, y, making.label_of(number)))
    return points


def _blobs(making: Making) -> list[Point]:
    variance = _variance(making.noise)
    points: list[Point] = []
    for number, size in enumerate(making.sizes()):
        angle = 2 * math.pi * number / making.classes
        for _ in range(size):
            x = making.normal(3.4 * math.sin(angle), variance)
            points.append((x, making.normal(3.4 * math.cos(angle), variance), making.label_of(number)))
    return points


def _arms(making: Making) -> list[Point]:
    turns = 3 / making.classes
    points: list[Point] = []
    for number, size in enumerate(making.sizes()):
        for i in range(size):
            radius = 0.3 + 4.7 * i / size
            angle = 2 * math.pi * (turns * i / size + number / making.classes)
            x, y = making.shifted(radius * math.sin(angle), radius * math.cos(angle), 1.0)
            points.append((x, y, making.label_of(number)))
    return points


SETS: Mapping[str, Callable[[Making], list[Point]]] = {
    "circle": _circle,
    "xor": _xor,
    "gauss": _gauss,
    "spiral": _spiral,
    "reg-plane": _plane,
    "reg-gauss": _hills,
    "moons": _moons,
    "curve": _curve,
    "rings": _rings,
    "blobs": _blobs,
    "arms": _arms,
}
