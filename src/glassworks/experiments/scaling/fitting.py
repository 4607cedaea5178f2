"""Fits of the law of loss: Huber loss on its logarithm from a grid of starts, and parabolas at equal compute. No torch.

All fits of a grid of starts, or of the draws of a bootstrap, are made side by side: a fit has five numbers and some dozens of
points. With so few numbers quasi-Newton steps (BFGS) need no limited memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int

from glassworks.experiments.scaling.laws import Law

# Residuals of log loss beyond this count linearly, so that one odd training does not bend the law (lifecycle.md 5).
HUBER = 1e-3
# Starts: log A, log B, log E, alpha, beta, as published for the first fit.
GRID = ((0, 5, 10, 15, 20, 25), (0, 5, 10, 15, 20, 25), (-1, -0.5, 0, 0.5, 1), (0, 0.5, 1, 1.5, 2), (0, 0.5, 1, 1.5, 2))
# Of all starts so many of the lowest are followed for some steps, and of these so many to the end.
FOLLOWED, FIRST_STEPS, KEPT, STEPS = 500, 20, 40, 400
# Starts of each draw of a bootstrap beside the fit of all points, and how far they are strewn.
STREWN, SPREAD = 2, 0.25
# Sufficient decrease, and the shortest step that is tried.
ARMIJO, HALVINGS = 1e-4, 30
# A fit is done once a step lowers its value by less than this share.
DONE = 1e-9

Objective = Callable[
    [Float[np.ndarray, "fit number"], Int[np.ndarray, " fit"]],
    tuple[Float[np.ndarray, " fit"], Float[np.ndarray, "fit number"]],
]


@dataclass(frozen=True)
class Points:
    """What is fitted: parameters, tokens and loss of each training."""

    parameters: Float[np.ndarray, " point"]
    tokens: Float[np.ndarray, " point"]
    loss: Float[np.ndarray, " point"]


def fit_law(points: Points, unit: str) -> Law:
    """The law with the lowest mean Huber loss over all starts of the grid."""
    weights = np.full((1, len(points.loss)), 1.0 / len(points.loss))
    found = np.array(list(product(*GRID)), dtype=np.float64)
    objective = _objective(points, weights, np.zeros(len(found), dtype=np.int64))
    values, _ = objective(found, np.arange(len(found)))
    for kept, steps in ((FOLLOWED, FIRST_STEPS), (KEPT, STEPS)):
        found, values = minimise(objective, found[np.argsort(values)[:kept]], steps)
    return _law(found[int(np.argmin(values))], unit)


def resampled_laws(points: Points, law: Law, draws: int, generator: np.random.Generator) -> list[Law]:
    """Fits of trainings drawn with replacement; each begins at the fit of all points and near it."""
    count = len(points.loss)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=draws) / count
    centre = _numbers(law)
    strewn = centre + SPREAD * generator.standard_normal((draws, STREWN, len(centre)))
    starts = np.concatenate([np.broadcast_to(centre, (draws, 1, len(centre))), strewn], axis=1)
    owner = np.repeat(np.arange(draws), STREWN + 1)
    found, values = minimise(_objective(points, weights, owner), starts.reshape(-1, len(centre)), STEPS)
    best = values.reshape(draws, -1).argmin(axis=1)
    return [_law(rows[place], law.unit) for rows, place in zip(found.reshape(*starts.shape), best, strict=True)]


def _objective(points: Points, weights: Float[np.ndarray, "draw point"], owner: Int[np.ndarray, " fit"]) -> Objective:
    """Mean Huber loss on log L with its gradient; `owner` says whose weights each fit has."""
    n, d, target = np.log(points.parameters), np.log(points.tokens), np.log(points.loss)

    def value(
        x: Float[np.ndarray, "fit number"], which: Int[np.ndarray, " fit"]
    ) -> tuple[Float[np.ndarray, " fit"], Float[np.ndarray, "fit number"]]:
        size, data, rest = (
            x[:, :1] - x[:, 3:4] * n,
            x[:, 1:2] - x[:, 4:5] * d,
            np.broadcast_to(x[:, 2:3], (len(x), len(n))),
        )
        parts = np.stack([size, data, rest])
        top = parts.max(axis=0)
        shares = np.exp(parts - top)
        total = shares.sum(axis=0)
        shares = shares / total
        residual = top + np.log(total) - target
        weight = weights[owner[which]]
        near = np.clip(residual, -HUBER, HUBER)
        # Half the square within the limit, a straight line beyond it.
        loss = near * (residual - near / 2)
        slope = weight * near
        by_size, by_data, by_rest = slope * shares
        gradient = [by_size.sum(1), by_data.sum(1), by_rest.sum(1), -(by_size * n).sum(1), -(by_data * d).sum(1)]
        return (weight * loss).sum(axis=1), np.stack(gradient, axis=1)

    return value


def minimise(
    objective: Objective, starts: Float[np.ndarray, "fit number"], steps: int
) -> tuple[Float[np.ndarray, "fit number"], Float[np.ndarray, " fit"]]:
    """Quasi-Newton descent of many fits side by side; the points reached and their values."""
    x = starts.copy()
    fits, numbers = x.shape
    everyone = np.arange(fits)
    value, gradient = objective(x, everyone)
    inverse = np.broadcast_to(np.eye(numbers), (fits, numbers, numbers)).copy()
    inverse /= np.maximum(np.linalg.norm(gradient, axis=1), 1e-300)[:, None, None]
    moving = np.isfinite(value)
    for _ in range(steps):
        if not moving.any():
            break
        who = np.flatnonzero(moving)
        direction = -np.einsum("fij,fj->fi", inverse[who], gradient[who])
        reached, lower, slope, moved = _line_search(objective, who, x, value, gradient, direction)
        step, change = reached - x[who], slope - gradient[who]
        inverse[who] = _updated(inverse[who], step, change)
        moving[who] = moved & (value[who] - lower > DONE * value[who])
        x[who], value[who], gradient[who] = reached, lower, slope
    return x, value


def _line_search(
    objective: Objective,
    who: Int[np.ndarray, " moving"],
    x: Float[np.ndarray, "fit number"],
    value: Float[np.ndarray, " fit"],
    gradient: Float[np.ndarray, "fit number"],
    direction: Float[np.ndarray, "moving number"],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Halves the step until the value falls enough; where it never does the fit stays and is done."""
    fall = (gradient[who] * direction).sum(axis=1)
    length = np.ones(len(who))
    reached, lower, slope = x[who].copy(), value[who].copy(), gradient[who].copy()
    open_ = fall < 0
    moved = np.zeros(len(who), dtype=bool)
    for _ in range(HALVINGS):
        places = np.flatnonzero(open_ & ~moved)
        if not places.size:
            break
        tried = x[who[places]] + length[places, None] * direction[places]
        found, found_slope = objective(tried, who[places])
        good = np.isfinite(found) & (found <= value[who[places]] + ARMIJO * length[places] * fall[places])
        right = places[good]
        reached[right], lower[right], slope[right] = tried[good], found[good], found_slope[good]
        moved[right] = True
        length[places[~good]] /= 2
    return reached, lower, slope, moved


def _updated(
    inverse: Float[np.ndarray, "fit number number"],
    step: Float[np.ndarray, "fit number"],
    change: Float[np.ndarray, "fit number"],
) -> Float[np.ndarray, "fit number number"]:
    """The inverse curvature after a step (BFGS); unchanged where the step shows no positive curvature."""
    curvature = (step * change).sum(axis=1)
    usable = curvature > 1e-300
    rho = np.where(usable, 1 / np.where(usable, curvature, 1.0), 0.0)
    carried = np.einsum("fij,fj->fi", inverse, change)
    scale = (1 + rho * (change * carried).sum(axis=1)) * rho
    outer = np.einsum("fi,fj->fij", step, step) * scale[:, None, None]
    cross = np.einsum("fi,fj->fij", step, carried)
    cross = (cross + cross.transpose(0, 2, 1)) * rho[:, None, None]
    return inverse + outer - cross


def _numbers(law: Law) -> Float[np.ndarray, " number"]:
    return np.array([np.log(law.size_factor), np.log(law.data_factor), np.log(law.irreducible), law.alpha, law.beta])


def _law(found: Float[np.ndarray, " number"], unit: str) -> Law:
    a, b, e, alpha, beta = (float(number) for number in found)
    return Law(float(np.exp(e)), float(np.exp(a)), float(np.exp(b)), alpha, beta, unit)


@dataclass(frozen=True)
class Parabola:
    """Loss over log N at equal compute: a quadratic through some sizes."""

    curvature: float
    """Twice this is the second derivative; a minimum needs it positive."""
    centre: float
    """log N of the lowest point, or of the highest where the curvature is negative."""
    lowest: float
    """The value there."""

    def at(self, parameters: Float[np.ndarray, " size"]) -> Float[np.ndarray, " size"]:
        """The parabola's loss at these sizes."""
        return self.lowest + self.curvature * (np.log(parameters) - self.centre) ** 2


def fit_parabola(parameters: Float[np.ndarray, " size"], loss: Float[np.ndarray, " size"]) -> Parabola:
    """Least squares; needs three sizes."""
    logs = np.log(parameters)
    middle = logs.mean()
    square, linear, constant = (float(c) for c in np.polyfit(logs - middle, loss, 2))
    shift = -linear / (2 * square) if square else np.inf
    return Parabola(square, float(middle + shift), constant + linear * shift / 2 if square else np.nan)


def fit_power(x: Float[np.ndarray, " point"], y: Float[np.ndarray, " point"]) -> tuple[float, float]:
    """The power and the factor of y = factor · x^power, by least squares of the logarithms."""
    power, factor = np.polyfit(np.log(x), np.log(y), 1)
    return float(power), float(np.exp(factor))
