"""Claims, written before their numbers are seen, and the verdicts that measurements give them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from glassworks.core.errors import BrokenFile, UnknownName
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval


class Scale(StrEnum):
    """How much is spent on a study: smoke (seconds), laptop (minutes), paper (the published settings)."""

    SMOKE = "smoke"
    LAPTOP = "laptop"
    PAPER = "paper"

    def reaches(self, other: Scale) -> bool:
        """Whether this scale is at least the other."""
        order = list(Scale)
        return order.index(self) >= order.index(other)


class Outcome(StrEnum):
    """What the measurements say of a claim."""

    HOLDS = "HOLDS"
    HOLDS_IN_PART = "HOLDS_IN_PART"
    FAILS = "FAILS"
    UNDECIDED = "UNDECIDED"


@dataclass(frozen=True)
class Finding:
    """What a claim's test returns: the outcome, the deciding number, and the reason in a sentence."""

    outcome: Outcome
    value: Interval
    unit: str
    because: Text


@dataclass(frozen=True)
class Evidence:
    """The measurements of one run, by name, and the scale they were made at."""

    measurements: Mapping[str, Measurement]
    scale: Scale

    def __getitem__(self, name: str) -> Measurement:
        """The measurement of this name; a missing one raises Missing, which makes a claim UNDECIDED."""
        if name not in self.measurements:
            raise Missing(name, self.measurements)
        return self.measurements[name]

    def __contains__(self, name: object) -> bool:
        return name in self.measurements


class Missing(UnknownName):
    """A measurement that a claim needs and this run does not have."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__("measurement", name, known)


@dataclass(frozen=True)
class Claim:
    """A sentence that numbers can refute: its source, what it needs, and the test that judges it."""

    key: str
    says: Text
    where: Text
    needs: tuple[str, ...]
    test: Callable[[Evidence], Finding]
    smallest_scale: Scale = Scale.LAPTOP
    fewest_seeds: int = 3


@dataclass(frozen=True)
class Verdict:
    """A judged claim, with everything a reader needs to doubt it."""

    claim: str
    says: Text
    where: Text
    outcome: Outcome
    value: Interval
    unit: str
    because: Text
    seeds: tuple[int, ...]
    scale: Scale

    def to_json(self) -> dict[str, Any]:
        """Plain data; `Verdict.from_json` reads it back."""
        return {
            "claim": self.claim,
            "says": self.says.to_json(),
            "where": self.where.to_json(),
            "verdict": self.outcome.value,
            "value": _finite(self.value.mean),
            "interval": [_finite(self.value.low), _finite(self.value.high)],
            "count": self.value.count,
            "unit": self.unit,
            "because": self.because.to_json(),
            "seeds": list(self.seeds),
            "scale": self.scale.value,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Verdict:
        """Reads what `to_json` wrote; anything else raises BrokenFile."""
        try:
            low, high = (_or_nan(v) for v in found["interval"])
            return cls(
                claim=str(found["claim"]),
                says=Text.from_json(found["says"]),
                where=Text.from_json(found["where"]),
                outcome=Outcome(found["verdict"]),
                value=Interval(_or_nan(found["value"]), low, high, int(found["count"])),
                unit=str(found["unit"]),
                because=Text.from_json(found["because"]),
                seeds=tuple(found["seeds"]),
                scale=Scale(found["scale"]),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise BrokenFile(
                say("a verdict is damaged: {reason}", reason=str(problem)), next_command="glassworks claims check"
            ) from None


def judge(claims: Sequence[Claim], evidence: Evidence) -> list[Verdict]:
    """Judges every claim; one that lacks measurements, seeds or scale is UNDECIDED and says why."""
    return [_judge_one(claim, evidence) for claim in claims]


def _judge_one(claim: Claim, evidence: Evidence) -> Verdict:
    nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
    missing = [name for name in claim.needs if name not in evidence]
    seeds: tuple[int, ...] = ()
    if missing:
        because = say("not measured in this run: {missing}", missing=", ".join(missing))
        finding = Finding(Outcome.UNDECIDED, nothing, "", because)
    else:
        # The least repeated measurement decides whether there are seeds enough.
        seeds = min((evidence[name].seeds for name in claim.needs if evidence[name].seeds), key=len, default=())
        finding = _tested(claim, evidence)
        if finding.outcome is not Outcome.UNDECIDED:
            finding = _held_back(claim, evidence, finding, seeds)
    return Verdict(
        claim.key,
        claim.says,
        claim.where,
        finding.outcome,
        finding.value,
        finding.unit,
        finding.because,
        seeds,
        evidence.scale,
    )


def _tested(claim: Claim, evidence: Evidence) -> Finding:
    try:
        return claim.test(evidence)
    except UnknownName as problem:
        # A whole measurement, or one label of it, that this run does not have.
        nothing = Interval(float("nan"), float("nan"), float("nan"), 0)
        return Finding(Outcome.UNDECIDED, nothing, "", say("not measured in this run: {missing}", missing=problem.name))


def _held_back(claim: Claim, evidence: Evidence, finding: Finding, seeds: tuple[int, ...]) -> Finding:
    if not evidence.scale.reaches(claim.smallest_scale):
        because = say(
            "{scale} scale is too small to decide (needs {needed}); it reads: {because}",
            scale=evidence.scale.value, needed=claim.smallest_scale.value, because=finding.because,
        )  # fmt: skip
        return Finding(Outcome.UNDECIDED, finding.value, finding.unit, because)
    # A number without chance in it (no seed dimension at all) needs no repetition.
    if seeds and len(seeds) < claim.fewest_seeds:
        because = say(
            "too few seeds to decide ({count}; needs {needed}); it reads: {because}",
            count=len(seeds), needed=claim.fewest_seeds, because=finding.because,
        )  # fmt: skip
        return Finding(Outcome.UNDECIDED, finding.value, finding.unit, because)
    return finding


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else float(value)
