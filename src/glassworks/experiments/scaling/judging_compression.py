"""How the claims about compression are judged (lifecycle.md 7): fixed before the numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, interval_over_seeds
from glassworks.experiments.scaling.laws import BITS_PER_BYTE
from glassworks.experiments.scaling.readings import FEWEST_SEEDS, LEARNED, bits, nothing

COMPARED = ("gzip", "xz", "zstd")
# What an arithmetic coder may cost beyond the cross-entropy: a share of it, and bits for both ends.
TIGHT, LOOSE, ENDS = 0.01, 0.05, 64


def judged_budget(models: Measurement) -> int | None:
    """The place of the largest budget whose best size has three seeds; None where none has."""
    counts = (~np.isnan(models.values)).sum(axis=1)
    enough = np.flatnonzero(counts >= FEWEST_SEEDS)
    return int(enough[-1]) if enough.size else None


def below(reading: str) -> Callable[[Evidence], Finding]:
    """The test of a model against compressors that read the text alone, or behind the text of training (primed)."""

    def judge(evidence: Evidence) -> Finding:
        models, found = evidence["compression_models"], evidence["compressors"].at(reading=reading)
        place = judged_budget(models)
        if place is None:
            return nothing(BITS_PER_BYTE, say("no budget was repeated with three seeds"))
        ours = models.values[place]
        ours = ours[~np.isnan(ours)]
        model = interval_over_seeds(ours)
        others = {method: float(found.at(method=method).values) for method in COMPARED}
        if model.mean >= LEARNED:
            return nothing(BITS_PER_BYTE, say("what is compared was not learned in this run"))
        listed = ", ".join(f"{method} {bits(value)}" for method, value in others.items())
        because = say("the model needs {model} bits per byte; {list}", model=str(model), list=listed)
        return Finding(_outcome(model, others, reading), model, BITS_PER_BYTE, because)

    return judge


def _outcome(model: Interval, others: dict[str, float], reading: str) -> Outcome:
    if np.isnan(list(others.values())).any():
        return Outcome.UNDECIDED
    under = {method: model.high < value for method, value in others.items()}
    over = {method: model.low > value for method, value in others.items()}
    if all(under.values()):
        return Outcome.HOLDS
    # Alone the weakest, gzip, decides what is left of the claim; primed it is any one of them.
    some, fails = (under["gzip"], over["gzip"]) if reading == "alone" else (any(under.values()), all(over.values()))
    if some:
        return Outcome.HOLDS_IN_PART
    return Outcome.FAILS if fails else Outcome.UNDECIDED


def coding(evidence: Evidence) -> Finding:
    """The code's bits against the cross-entropy, and whether every byte came back."""
    found = evidence["coding"]
    number = {str(name): float(found.at(number=name).values) for name in found.coords["number"]}
    ideal, code, wrong = number["ideal_bits"], number["code_bits"], number["wrong_bytes"]
    if np.isnan([ideal, code, wrong]).any() or number["bytes"] < 1:
        return nothing("more than the cross-entropy", say("nothing was coded"))
    because = say(
        "{bytes} bytes became {code} bits of code, the cross-entropy is {ideal}; {wrong} bytes came back wrong",
        bytes=f"{number['bytes']:,.0f}", code=f"{code:,.0f}", ideal=f"{ideal:,.1f}", wrong=f"{wrong:.0f}",
    )  # fmt: skip
    outcome = Outcome.FAILS
    if wrong == 0 and code <= (1 + TIGHT) * ideal + ENDS:
        outcome = Outcome.HOLDS
    elif wrong == 0 and code <= (1 + LOOSE) * ideal + ENDS:
        outcome = Outcome.HOLDS_IN_PART
    # A code shorter than the cross-entropy would not be of this model.
    if code < ideal - ENDS:
        outcome = Outcome.UNDECIDED
    return Finding(outcome, Interval(code / ideal - 1, np.nan, np.nan, 1), "more than the cross-entropy", because)
