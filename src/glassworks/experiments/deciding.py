"""From numbers to an outcome: the rules by which claims of several papers are decided."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from glassworks.evidence.claims import Outcome
from glassworks.evidence.statistics import Interval


def judged_by_level(value: float, holds: float, in_part: float, *, also: bool = True) -> Outcome:
    """HOLDS from one level on (where `also` is true), in part from a lower one, else FAILS; UNDECIDED without a number."""
    if math.isnan(value):
        return Outcome.UNDECIDED
    if value >= holds and also:
        return Outcome.HOLDS
    return Outcome.HOLDS_IN_PART if value >= in_part else Outcome.FAILS


def judged_by_lead(lead: Interval) -> Outcome:
    """HOLDS with the whole interval above 0, in part with the difference, FAILS with the whole interval below."""
    if lead.low > 0:
        return Outcome.HOLDS
    if lead.mean > 0:
        return Outcome.HOLDS_IN_PART
    return Outcome.FAILS if lead.high < 0 else Outcome.UNDECIDED


def judged_together(leads: Sequence[Interval], enough: int) -> Outcome:
    """HOLDS with all intervals above 0, in part with `enough` of them, FAILS where so many below 0 leave no room."""
    above, below = sum(lead.low > 0 for lead in leads), sum(lead.high < 0 for lead in leads)
    if above == len(leads):
        return Outcome.HOLDS
    if above >= enough:
        return Outcome.HOLDS_IN_PART
    return Outcome.FAILS if len(leads) - below < enough else Outcome.UNDECIDED


def judged_by_seeds(values: ArrayLike, holds: float, in_part: float) -> Outcome:
    """For a number that should be small: HOLDS where every seed is at most `holds`, in part where at most `in_part`.

    FAILS where every seed is above `in_part`; seeds that disagree about it, and missing numbers, decide nothing.
    """
    found = np.asarray(values, dtype=np.float64).ravel()
    if found.size == 0 or np.isnan(found).any():
        return Outcome.UNDECIDED
    if (found <= holds).all():
        return Outcome.HOLDS
    if (found <= in_part).all():
        return Outcome.HOLDS_IN_PART
    return Outcome.FAILS if (found > in_part).all() else Outcome.UNDECIDED


def weakest(outcomes: Sequence[Outcome]) -> Outcome:
    """What several parts of one claim amount to: all must hold; one that fails is enough to fail it."""
    order = (Outcome.FAILS, Outcome.UNDECIDED, Outcome.HOLDS_IN_PART, Outcome.HOLDS)
    return min(outcomes, key=order.index)
