"""Claims of the mesa study judged on invented numbers."""

import math

from glassworks.evidence.claims import Evidence, Outcome, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.claims import CLAIMS
from tests.experiments.mesa.mesa_numbers import everything

HOLDS, PART, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.HOLDS_IN_PART, Outcome.FAILS, Outcome.UNDECIDED
NAN = math.nan
BOTH = ("Softmax-7", "Hybrid-mesa")


def verdict(key: str, evidence: Evidence):
    claim = next(c for c in CLAIMS if c.key == f"mesa.{key}")
    return judge([claim], evidence)[0]


def outcome(key: str, *changed: Measurement) -> Outcome:
    """What a claim comes to on numbers on which all claims hold, these changed."""
    return verdict(key, everything(*changed)).outcome


def two_of_three(level: float, other: float) -> list[float]:
    """Seeds that disagree."""
    return [level, level, other]
