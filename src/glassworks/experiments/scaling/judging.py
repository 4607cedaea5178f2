"""How the claims about sizes, data and compute are judged (lifecycle.md 7): fixed before the numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, interval_over_seeds
from glassworks.experiments.deciding import judged_together
from glassworks.experiments.scaling.laws import BITS_PER_BYTE
from glassworks.experiments.scaling.readings import (
    FEWEST_SEEDS,
    bits,
    compute,
    diagonals,
    draws_of,
    has_learned,
    interval_of_draws,
    judged_budgets,
    nothing,
    off_the_line,
    power_interval,
    seeds_known,
)

# Powers of size and data that differ by at most 0.2 are near each other, for they add up to one.
NEAR = (0.4, 0.6)
# The best sizes lie on a power law where none is further off than this factor.
STRAIGHT = 1.25
# Of the draws of a budget's parabola so many must agree.
SURE = 0.975
# Sizes apart on the grid: sqrt(3) squared is three times as large.
APART = 2
SAME_BUDGET = 1.2
EXACT, CLOSE = 0.01, 0.05
GOOD, FAIR = 0.02, 0.05
_NOT_LEARNED = say("what is compared was not learned in this run")
_TOO_FEW = say("no budget was repeated with three seeds")


def size_helps(evidence: Evidence) -> Finding:
    """Along cells of equal data: every step lowers the mean loss, and the first step more than the second."""
    losses, grid = evidence["scaling_loss"], evidence["scaling_grid"]
    if not has_learned(losses):
        return nothing(BITS_PER_BYTE, _NOT_LEARNED)
    rows = _steps_down(losses, grid)
    if not rows:
        return nothing(BITS_PER_BYTE, say("no three sizes read equally much with three seeds each"))
    steps = np.array(rows)
    whole = interval_over_seeds(steps.sum(axis=1).mean(axis=0))
    shrinking = interval_over_seeds((steps[:, 0] - steps[:, 1]).mean(axis=0))
    because = say(
        "at equal data the first three times as many parameters take off {first} bits per byte and the next {second}, "
        "means of {count} series; the step shrinks by {shrinking}",
        first=bits(steps[:, 0].mean()), second=bits(steps[:, 1].mean()), count=len(rows), shrinking=str(shrinking),
    )  # fmt: skip
    outcome = Outcome.UNDECIDED
    if whole.high < 0:
        outcome = Outcome.FAILS
    elif whole.low > 0:
        every = bool((steps.mean(axis=2) > 0).all())
        outcome = Outcome.HOLDS if every and shrinking.low > 0 else Outcome.HOLDS_IN_PART
    return Finding(outcome, whole, BITS_PER_BYTE, because)


def _steps_down(losses: Measurement, grid: Measurement) -> list[NDArray[np.float64]]:
    """For each series of equal data, what its first two steps of size take off: step, seed."""
    found: list[NDArray[np.float64]] = []
    for series in diagonals(losses, grid):
        rows = [losses.values[cell] for cell in series]
        rows = [row for row in rows if (~np.isnan(row)).sum() >= FEWEST_SEEDS]
        if len(rows) >= 3:
            found.append(np.array([rows[0] - rows[1], rows[1] - rows[2]], dtype=np.float64))
    return [steps for steps in found if not np.isnan(steps).any()]


def interior_optimum(evidence: Evidence) -> Finding:
    """How many draws of each budget's parabola have their lowest point between the smallest and largest size."""
    losses, grid, optimum = evidence["scaling_loss"], evidence["scaling_grid"], evidence["scaling_optimum"]
    if not has_learned(losses):
        return nothing("share of draws", _NOT_LEARNED)
    judged = judged_budgets(losses)
    if not judged:
        return nothing("share of draws", _TOO_FEW)
    shares = np.array([share_inside(optimum, grid, budget) for budget in judged])
    listed = ", ".join(
        f"{compute(float(losses.along('budget')[budget]))}: {share:.3f}"
        for budget, share in zip(judged, shares, strict=True)
    )
    because = say("share of draws whose lowest point lies between the sizes, by operations: {list}", list=listed)
    inside, outside = (shares >= SURE).sum(), (shares <= 1 - SURE).sum()
    outcome = Outcome.UNDECIDED
    if np.isnan(shares).any():
        outcome = Outcome.UNDECIDED
    elif inside == len(judged):
        outcome = Outcome.HOLDS
    elif inside * 2 >= len(judged):
        outcome = Outcome.HOLDS_IN_PART
    elif outside * 2 > len(judged):
        outcome = Outcome.FAILS
    return Finding(outcome, Interval(float(shares.min()), np.nan, np.nan, len(judged)), "share of draws", because)


def share_inside(optimum: Measurement, grid: Measurement, budget: int) -> float:
    """Of one budget's draws; NaN where the fit was not made. A parabola without a lowest point counts as outside."""
    sizes = grid.at(number="parameters").values[budget]
    best = optimum.at(number="parameters").values[1:, budget]
    bent = optimum.at(number="curvature").values[1:, budget]
    if best.size == 0 or np.isnan(bent).any():
        return float("nan")
    with np.errstate(invalid="ignore"):
        return float(((best > sizes.min()) & (best < sizes.max())).mean())


def exponents(evidence: Evidence) -> Finding:
    """A of the parabolas with its draws, beside that of the parametric fit."""
    losses, optimum, law = evidence["scaling_loss"], evidence["scaling_optimum"], evidence["scaling_law"]
    if not has_learned(losses):
        return nothing("power", _NOT_LEARNED)
    found, off = power_interval(optimum), off_the_line(optimum)
    parametric = interval_of_draws(*draws_of(law, number="a"))
    because = say(
        "the best size grows as C^{a}, the best data as C^{b}; the parametric fit says {parametric}; the optima lie within a "
        "factor of {off} of the power law",
        a=str(found), b=f"{1 - found.mean:.3g}", parametric=str(parametric), off=f"{off:.2f}",
    )  # fmt: skip
    low, high = NEAR
    outcome = Outcome.UNDECIDED
    if np.isnan([found.mean, found.low, found.high, parametric.mean, off]).any():
        outcome = Outcome.UNDECIDED
    elif found.high < low or found.low > high:
        outcome = Outcome.FAILS
    elif found.low >= low and found.high <= high and low <= parametric.mean <= high and off <= STRAIGHT:
        outcome = Outcome.HOLDS
    elif found.low > 0 and found.high < 1:
        outcome = Outcome.HOLDS_IN_PART
    return Finding(outcome, found, "power", because)


def data_matters(evidence: Evidence) -> Finding:
    """The largest size of each budget against the one a third of its size, seed by seed."""
    losses, grid = evidence["scaling_loss"], evidence["scaling_grid"]
    if not has_learned(losses):
        return nothing(BITS_PER_BYTE, _NOT_LEARNED)
    judged = judged_budgets(losses)
    if not judged or losses.values.shape[1] <= APART:
        return nothing(BITS_PER_BYTE, _TOO_FEW)
    leads = [interval_over_seeds(lead_of_smaller(losses, budget)) for budget in judged]
    sizes = grid.at(number="parameters").values
    listed = ", ".join(
        f"{sizes[budget, -1 - APART]:,.0f} / {sizes[budget, -1]:,.0f}: {lead}"
        for budget, lead in zip(judged, leads, strict=True)
    )
    because = say("bits per byte that the larger model needs more, by parameters: {list}", list=listed)
    outcome = judged_together(leads, enough=-(-len(leads) // 2))
    return Finding(outcome, min(leads, key=lambda lead: lead.mean), BITS_PER_BYTE, because)


def lead_of_smaller(losses: Measurement, budget: int) -> NDArray[np.float64]:
    """What the largest size of a budget needs more than the one a third of its size, per seed."""
    known = seeds_known(losses, budget)
    return known[-1] - known[-1 - APART]


def gopher_chinchilla(evidence: Evidence) -> Finding:
    """The losses of both models under each law."""
    found = evidence["published_models"]
    laws = [str(law) for law in found.coords["law"]]
    loss = {model: found.at(model=model, number="loss").values for model in ("Gopher", "Chinchilla")}
    spent = [float(found.at(model=model, number="operations").values[0]) for model in loss]
    leads = loss["Gopher"] - loss["Chinchilla"]
    listed = ", ".join(f"{law}: {loss['Gopher'][i]:.3f} / {loss['Chinchilla'][i]:.3f}" for i, law in enumerate(laws))
    because = say(
        "nats per token of Gopher / Chinchilla by law: {list}; operations {gopher} and {chinchilla}",
        list=listed, gopher=f"{spent[0]:.3g}", chinchilla=f"{spent[1]:.3g}",
    )  # fmt: skip
    if np.isnan([*leads, *spent]).any():
        outcome = Outcome.UNDECIDED
    elif max(spent) > SAME_BUDGET * min(spent):
        return nothing("nats per token", say("the two models did not cost equally much"))
    else:
        outcome = Outcome.HOLDS if (leads > 0).all() else Outcome.HOLDS_IN_PART if (leads > 0).any() else Outcome.FAILS
    return Finding(outcome, interval_over_seeds(leads[:1]), "nats per token", because)


def recovery(evidence: Evidence) -> Finding:
    """The largest relative error of a constant without noise, and the error of a with noise."""
    true, found = evidence["published_laws"], evidence["recovered_laws"]
    clean, noisy = found.coords["noise"][0], found.coords["noise"][-1]
    error = float(np.abs(found.at(noise=clean).values / true.values - 1).max())
    power = float(np.abs(found.at(noise=noisy, number="a").values - true.at(number="a").values).max())
    because = say(
        "largest error of a constant without noise {error}, of the power a with noise {power}",
        error=f"{error:.1e}", power=f"{power:.3f}",
    )  # fmt: skip
    if np.isnan([error, power]).any():
        outcome = Outcome.UNDECIDED
    elif error <= EXACT:
        outcome = Outcome.HOLDS if power <= CLOSE else Outcome.HOLDS_IN_PART
    else:
        outcome = Outcome.FAILS
    return Finding(outcome, Interval(error, np.nan, np.nan, 1), "share of the constant", because)


def foretells(evidence: Evidence) -> Finding:
    """The mean error of foretold losses of the largest budget, over draws of the fit to the smaller ones."""
    losses, foretold = evidence["scaling_loss"], evidence["scaling_foretold"]
    if not has_learned(losses):
        return nothing("share of the loss", _NOT_LEARNED)
    measured = np.nanmean(losses.values[-1], axis=1)
    errors = np.abs(foretold.values / measured - 1).mean(axis=1)
    found = interval_of_draws(float(errors[0]), errors[1:])
    because = say(
        "losses of {budget} operations are foretold with a mean error of {error} of the loss",
        budget=compute(float(losses.along("budget")[-1])), error=str(found),
    )  # fmt: skip
    outcome = Outcome.UNDECIDED
    if not np.isnan([found.mean, found.low, found.high]).any():
        outcome = Outcome.HOLDS if found.high <= GOOD else Outcome.HOLDS_IN_PART if found.high <= FAIR else outcome
        outcome = Outcome.FAILS if found.low > FAIR else outcome
    return Finding(outcome, found, "share of the loss", because)
