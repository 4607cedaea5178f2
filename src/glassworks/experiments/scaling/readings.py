"""Losses, fits and draws of the scaling study as its claims, figures and tables read them. No torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, interval_over_seeds
from glassworks.experiments.scaling.fitting import Parabola, fit_power
from glassworks.experiments.scaling.laws import BITS_PER_BYTE, NUMBERS, Law

BITS = say("bits per byte")
# The label of the fit among the draws, which are counted from 1.
FIT = "fit"
# Fewer repetitions have no interval worth the name (docs/decisions/0006).
FEWEST_SEEDS = 3
# A model above this has not learned the letters' frequencies: there is nothing to compare.
LEARNED = 4.0
# Cells whose data differ by less than this share read equally much.
SAME_DATA = 0.03
# Two seeds that give one and the same losses are one run that was counted twice.
_UNEQUAL = ("scaling_loss", "compression_models")


def nothing(unit: str, because: Text) -> Finding:
    """A finding without a number, and why."""
    return Finding(Outcome.UNDECIDED, interval_over_seeds(np.array([np.nan])), unit, because)


def copied(evidence: Evidence, names: Iterable[str]) -> str:
    """The first of these measurements with two seeds that are one: a label twice, or equal losses; else ""."""
    for name in names:
        found = evidence[name]
        if len(set(found.seeds)) < len(found.seeds):
            return name
        if name in _UNEQUAL:
            rows = found.values.reshape(-1, len(found.seeds)).T
            known = [row[: _first_gap(row)].tobytes() for row in rows if not np.isnan(row[0])]
            if len(set(known)) < len(known):
                return name
    return ""


def _first_gap(row: NDArray[np.float64]) -> int:
    gaps = np.flatnonzero(np.isnan(row))
    return int(gaps[0]) if gaps.size else len(row)


def judged_budgets(losses: Measurement) -> list[int]:
    """The places of budgets all of whose sizes were trained with three seeds or more."""
    counts = (~np.isnan(losses.values)).sum(axis=2).min(axis=1)
    return [place for place, count in enumerate(counts) if count >= FEWEST_SEEDS]


def seeds_known(losses: Measurement, budget: int) -> NDArray[np.float64]:
    """The losses of a budget: place, seed; seeds that were not trained are left out."""
    values = losses.values[budget]
    return values[:, ~np.isnan(values).any(axis=0)]


def has_learned(losses: Measurement) -> bool:
    """Whether every model knows at least how often each letter comes."""
    return bool(np.nanmax(losses.values) < LEARNED) if not np.isnan(losses.values).all() else False


def diagonals(losses: Measurement, grid: Measurement) -> list[list[tuple[int, int]]]:
    """Cells (budget, place) that read equally many bytes, smallest model first, three sizes or more each."""
    read = grid.at(number="bytes").values
    rest = [
        (b, p) for b in range(read.shape[0]) for p in range(read.shape[1]) if not np.isnan(losses.values[b, p]).all()
    ]
    found: list[list[tuple[int, int]]] = []
    while rest:
        first = rest[0]
        alike = [cell for cell in rest if abs(read[cell] / read[first] - 1) <= SAME_DATA]
        rest = [cell for cell in rest if cell not in alike]
        if len(alike) >= 3:
            found.append(alike)
    return sorted(found, key=lambda cells: float(read[cells[0]]))


def draws_of(found: Measurement, **labels: str) -> tuple[float, NDArray[np.float64]]:
    """The fit's value and the draws' at some labels of the other dimensions; values that are no numbers included."""
    part = found.at(**labels)
    assert part.dims[0] == "draw", f"{found.name} has no draws"
    return float(part.values[0]), part.values[1:]


def interval_of_draws(fit: float, draws: NDArray[np.float64]) -> Interval:
    """The fit with the middle 95 % of its draws; ends are NaN where more than 2.5 % of the draws are no numbers."""
    if draws.size < 2 or np.isnan(draws).mean() > 0.025:
        return Interval(fit, np.nan, np.nan, int(draws.size))
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return Interval(fit, float(low), float(high), int(draws.size))


def power_draws(optimum: Measurement, number: str) -> NDArray[np.float64]:
    """The power with which the best sizes (or bytes) grow with compute: that of the fit, then of the draws."""
    budgets, values = optimum.along("budget"), optimum.at(number=number).values
    return np.array(
        [
            fit_power(budgets[known], row[known])[0] if (known := np.isfinite(row)).sum() >= 3 else np.nan
            for row in values
        ]
    )


def power_interval(optimum: Measurement, number: str = "parameters") -> Interval:
    """The power of the parabolas' optima with the middle 95 % of its draws."""
    powers = power_draws(optimum, number)
    return interval_of_draws(float(powers[0]), powers[1:])


def off_the_line(optimum: Measurement) -> float:
    """The largest factor between a budget's best size and the power law through all of them."""
    budgets, best = optimum.along("budget"), optimum.at(draw=FIT, number="parameters").values
    known = np.isfinite(best)
    if known.sum() < 3:
        return float("nan")
    power, factor = fit_power(budgets[known], best[known])
    return float(np.exp(np.abs(np.log(best[known] / (factor * budgets[known] ** power))).max()))


def fitted_law(evidence: Evidence) -> Law:
    """The law of our own trainings, in bits per byte; raises UnknownName where none was fitted."""
    found = evidence["scaling_law"]
    return law_at(found, FIT)


def law_at(found: Measurement, draw: str | int) -> Law:
    """The law of one draw."""
    part: Float[np.ndarray, " number"] = np.array([float(found.at(draw=draw, number=n).values) for n in NUMBERS])
    return Law.of_numbers(part, BITS_PER_BYTE)


def bits(value: float) -> str:
    """Bits per byte, or a difference of them."""
    return f"{value:.3f}"


def compute(flop: float) -> str:
    """A number of operations as sentences show it: 1.2e11."""
    mantissa, exponent = f"{flop:.3g}".split("e") if "e" in f"{flop:.3g}" else f"{flop:.2e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def size_words(count: float) -> str:
    """A number of bytes in decimal units: 1.85 MB."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g}\u00a0{unit}"
        count /= 1000
    return f"{count:.3g}\u00a0GB"


def parabola_of(optimum: Measurement, budget: int) -> Parabola | None:
    """The fitted parabola of a budget; None where it has no lowest point."""
    names = ("curvature", "parameters", "loss")
    bend, best, lowest = (float(optimum.at(draw=FIT, number=name).values[budget]) for name in names)
    return Parabola(bend, float(np.log(best)), lowest) if np.isfinite([bend, best, lowest]).all() else None


def law_name(law: str) -> Text:
    """Whose constants a law has."""
    match law:
        case "hoffmann":
            return say("Hoffmann et al. 2022")
        case "besiroglu":
            return say("Besiroglu et al. 2024")
        case _:
            return say("ours")


def method_name(method: str) -> str:
    """A compressor with the effort that it was asked for."""
    return {"gzip": "gzip -9", "bzip2": "bzip2 -9", "xz": "xz -9e", "zstd": "zstd -19"}.get(method, method)
