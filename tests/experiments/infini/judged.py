"""Claims of the Infini study judged on invented numbers."""

import math

from glassworks.evidence.claims import Evidence, Outcome, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini.claims import CLAIMS
from tests.experiments.infini.infini_numbers import everything

HOLDS, PART, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.HOLDS_IN_PART, Outcome.FAILS, Outcome.UNDECIDED
NAN = math.nan


def verdict(key: str, evidence: Evidence):
    claim = next(c for c in CLAIMS if c.key == f"infini.{key}")
    return judge([claim], evidence)[0]


def outcome(key: str, *changed: Measurement) -> Outcome:
    """What a claim comes to on numbers on which all claims hold, these changed."""
    return verdict(key, everything(*changed)).outcome


def reason(key: str, *changed: Measurement) -> str:
    """Why."""
    return verdict(key, everything(*changed)).because.en


def two_of_three(level: float, other: float) -> list[float]:
    """Seeds that disagree."""
    return [level, level, other]
