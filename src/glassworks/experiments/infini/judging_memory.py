"""How the claims about sizes, capacity and arithmetic are judged (infini.md 8): fixed before the numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.deciding import judged_by_seeds, weakest
from glassworks.experiments.infini.curves_of import SLACK, nothing, three

# infini.md 1.2.
PRINTED = {
    "Infini-Transformer": 1_585_152,
    "Transformer-XL": 50_331_648,
    "Memorizing Transformers": 183_451_648,
    "RMT": 2_457_600,
    "full cache, 1M tokens": 24_576_000_000,
}
INFINI, MEMORIZING, CACHE = "Infini-Transformer", "Memorizing Transformers", "full cache, 1M tokens"
IN_PROGRESS, PRINTED_RATIO = 50_331_648, 114
# Models whose own memory is counted after they have read.
LIVE = ("infini", "infini delta", "transformer-xl", "memorizing", "rmt")
# A tenth of a million, the last digit that the paper prints.
SMALLEST = 1e5
SAME = 1e-6
POINTS_AT = 0.99
# Segments after which a sum in bfloat16 has lost a tenth, and at which one in float16 overflows (infini.md 4.3).
LOST, LOSS = (150, 260), 0.1
OVERFLOW, APART = {2048: 28, 512: 110}, 2
LONG, EXACT = 10_000, 1e-4
UNIFORM = (1.2, 1.5)


def _decided(right: bool, *numbers: object) -> Outcome:
    """HOLDS or FAILS; UNDECIDED where a number is missing."""
    if any(bool(np.isnan(np.asarray(n, dtype=np.float64)).any()) for n in numbers):
        return Outcome.UNDECIDED
    return Outcome.HOLDS if right else Outcome.FAILS


def kept(sizes: Measurement, model: str) -> float:
    """Numbers that a model of the paper's table keeps across segments."""
    return float(sizes.at(model=model, part="kept").values)


def in_progress(sizes: Measurement, model: str) -> float:
    """Numbers that it holds of the segment it is reading."""
    return float(sizes.at(model=model, part="segment in progress").values)


def sizes(evidence: Evidence) -> Finding:
    """Formulas against the printed integers, and live models against their formulas: to the number."""
    table, live = evidence["memory_sizes"], evidence["memory_live"]
    found = np.array([*(kept(table, m) for m in PRINTED), in_progress(table, INFINI)])
    wrong = [
        m
        for m, size, right in zip((*PRINTED, INFINI), found, (*PRINTED.values(), IN_PROGRESS), strict=True)
        if size != right
    ]
    formula, measured = (live.at(count=count).values for count in ("formula", "measured"))
    needed = np.array([float(live.at(model=m, count="measured").values) for m in LIVE])
    wrong += [str(m) for m, a, b in zip(live.coords["model"], formula, measured, strict=True) if a != b]
    if (needed == 0).any():
        return nothing("sizes that differ", say("a model with a memory has kept nothing of what it read"))
    total = len(found) + len(formula)
    because = say("of {total} sizes none differs", total=total)
    if wrong:
        because = say("of {total} sizes these differ: {wrong}", total=total, wrong=", ".join(wrong))
    outcome = _decided(not wrong, found, formula, measured)
    return Finding(outcome, interval_over_seeds(np.array([float(len(wrong))])), "sizes that differ", because)


def rounded_ratio(table: Measurement) -> float:
    """Memorizing Transformers over Infini, rounded as the paper prints them: to millions, and to tenths of a million."""
    return round(kept(table, MEMORIZING) / 1e6) / round(kept(table, INFINI) / 1e6, 1)


def ratio(evidence: Evidence) -> Finding:
    """The printed factor 114, from the integers."""
    table = evidence["memory_sizes"]
    large, small, segment = kept(table, MEMORIZING), kept(table, INFINI), in_progress(table, INFINI)
    if not (large > 0 and small >= SMALLEST and segment >= 0):
        return nothing("ratio", say("a size is missing"))
    rounded = rounded_ratio(table)
    because = say(
        "rounded as printed {rounded}, exactly {exact}; with the keys and values of the segment in progress {caveat}",
        rounded=f"{rounded:.1f}", exact=f"{large / small:.1f}", caveat=f"{large / (small + segment):.1f}",
    )  # fmt: skip
    outcome = _decided(round(rounded) == PRINTED_RATIO, rounded)
    return Finding(outcome, interval_over_seeds(np.array([large / small])), "ratio", because)


def keeps_more(evidence: Evidence) -> Finding:
    """Share of pairs read rightly with the delta rule less that with the linear one, at each width."""
    found = evidence["capacity"]
    linear, delta = (found.at(rule=rule).values for rule in ("linear", "delta"))
    more = (delta - linear).mean(axis=1)
    if not np.isnan(more).any() and not (delta - linear).any():
        return nothing("share of pairs", say("both rules read the same pairs, so neither keeps more"))
    leads = [interval_over_seeds(row) for row in more]
    outcome = Outcome.FAILS if any(lead.high < 0 for lead in leads) else Outcome.UNDECIDED
    if all(lead.low >= -SLACK for lead in leads):
        outcome = Outcome.HOLDS
    if np.isnan(more).any():
        outcome = Outcome.UNDECIDED
    listed = ", ".join(f"{width}: {lead.mean:+.3f}" for width, lead in zip(found.coords["width"], leads, strict=True))
    because = say("delta minus linear by width: {list}", list=listed)
    return Finding(outcome, min(leads, key=lambda lead: lead.mean), "share of pairs", because)


def not_idempotent(evidence: Evidence) -> Finding:
    """What is read of a value that was stored again and again."""
    found = evidence["repeats"]
    times = found.along("times")
    linear, delta = (found.at(rule=rule).values for rule in ("linear", "delta"))
    if not (times > 1).any():
        return nothing("of the value", say("nothing was stored twice"))
    expected = np.where(times > 1, 0.5, 1.0)
    error = float(max(abs(linear - 1).max(), abs(delta - expected).max()))
    because = say(
        "stored {times} times, the linear rule reads {linear} of the value and the delta rule {delta}; largest error {error}",
        times=int(times[-1]), linear=f"{linear[-1]:.6f}", delta=f"{delta[-1]:.6f}", error=f"{error:.1e}",
    )  # fmt: skip
    outcome = _decided(error <= SAME, linear, delta)
    return Finding(outcome, interval_over_seeds(np.array([delta[-1]])), "of the value", because)


def latest_value(evidence: Evidence) -> Finding:
    """Where a reading points after the value of a key has changed."""
    found = evidence["update"]
    delta, linear = (found.at(rule=rule) for rule in ("delta", "linear"))
    new, mean = float(delta.at(towards="new").values), float(linear.at(towards="mean").values)
    crossed = float(delta.at(towards="mean").values), float(linear.at(towards="new").values)
    because = say(
        "cosine of delta's reading with the new value {new}, of linear's with the mean {mean}",
        new=f"{new:.3f}",
        mean=f"{mean:.3f}",
    )
    outcome = _decided(min(new, mean) >= POINTS_AT - SLACK, new, mean, *crossed)
    if max(crossed) >= POINTS_AT:
        # Values so much alike that a reading points at both tell nothing apart.
        outcome = Outcome.UNDECIDED
    return Finding(outcome, interval_over_seeds(np.array([new])), "cosine", because)


def _bracket(segments: NDArray[np.float64], errors: NDArray[np.float64], level: float) -> tuple[float, float]:
    """The last count of segments before an error reaches a level, and the first at which it has; infinity if never."""
    known = ~np.isnan(errors)
    counts, reached = np.append(0.0, segments[known]), np.flatnonzero(errors[known] >= level)
    return (float(counts[reached[0]]), float(counts[reached[0] + 1])) if reached.size else (float(counts[-1]), np.inf)


def _within(bracket: tuple[float, float], low: int, high: int) -> Outcome:
    """Whether what happens after the first and by the second end happens in a range: not decided where both may be."""
    after, by = bracket
    if after + 1 >= low and by <= high:
        return Outcome.HOLDS
    return Outcome.FAILS if by < low or after >= high else Outcome.UNDECIDED


def half_precision(evidence: Evidence) -> Finding:
    """Running sums in bfloat16 and float16 against arithmetic, and ours after 10,000 segments."""
    found = evidence["running_sum"]
    segments = found.along("segments")
    lengths = [int(length) for length in found.coords["length"]]
    brain = {n: _bracket(segments, found.at(format="bfloat16", length=n).values, LOSS) for n in lengths}
    half = {n: _bracket(segments, found.at(format="float16", length=n).values, np.inf) for n in OVERFLOW}
    ours = float(found.at(format="ours", segments=LONG).values.max())
    outcomes = [_within(bracket, *LOST) for bracket in brain.values()]
    outcomes += [_within(half[n], predicted - APART, predicted + APART) for n, predicted in OVERFLOW.items()]
    outcomes.append(_decided(ours < EXACT, ours))
    because = say(
        "bfloat16 errs by a tenth at {brain} segments, float16 overflows at {half}, ours errs by {ours} after 10,000",
        brain=_listed(brain), half=_listed(half), ours=f"{ours:.1e}",
    )  # fmt: skip
    first = np.array([by for _, by in brain.values() if np.isfinite(by)])
    return Finding(weakest(outcomes), interval_over_seeds(first[:1]), "segments", because)


def _listed(brackets: dict[int, tuple[float, float]]) -> str:
    """The first count of segments at each length of a segment."""
    return ", ".join(f"{by:.0f} (N = {n})" for n, (_, by) in brackets.items())


def uniform_reading(evidence: Evidence) -> Finding:
    """The kernel of the match over the average one, for random keys of each width."""
    values = evidence["kernel_ratio"].values
    outside = np.maximum(np.maximum(UNIFORM[0] - values, values - UNIFORM[1]), 0).max(axis=0)
    because = say("between {low} and {high} times the average", low=three(values.min()), high=three(values.max()))
    return Finding(
        judged_by_seeds(outside - SLACK, 0.0, 0.0), interval_over_seeds(values.mean(axis=0)), "ratio", because
    )
