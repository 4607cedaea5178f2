"""Verdicts in sentences, the same in every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Outcome, Verdict, judge
from glassworks.report.page import SummaryLine


def summary_of(
    claims: Sequence[Claim], evidence: Evidence, headlines: Sequence[str], anchors: Mapping[str, str]
) -> list[SummaryLine]:
    """How many claims hold, the headlines as far as they are decided, and every claim that fails.

    `anchors` names the figure or section that shows what a claim is about.
    """
    verdicts = {verdict.claim: verdict for verdict in judge(claims, evidence)}
    failed = [key for key, verdict in verdicts.items() if verdict.outcome is Outcome.FAILS and key not in headlines]
    shown = [key for key in headlines if verdicts[key].outcome is not Outcome.UNDECIDED] + failed
    return [
        SummaryLine(told_together(verdicts.values()), "verdicts"),
        *(SummaryLine(told(verdicts[key]), anchors[key]) for key in shown),
    ]


def told(verdict: Verdict) -> Text:
    """A claim, whether it was found, and why."""
    match verdict.outcome:
        case Outcome.HOLDS:
            return say("{says} Found: {because}.", says=verdict.says, because=verdict.because)
        case Outcome.HOLDS_IN_PART:
            return say("{says} Found in part: {because}.", says=verdict.says, because=verdict.because)
        case Outcome.FAILS:
            return say("{says} Not found: {because}.", says=verdict.says, because=verdict.because)
        case Outcome.UNDECIDED:
            return say("{says} Undecided: {because}.", says=verdict.says, because=verdict.because)


def told_together(verdicts: Iterable[Verdict]) -> Text:
    """How many claims hold, hold in part, fail and are undecided."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    return say(
        "Of {total} claims, {holds} hold, {part} hold in part, {fails} fail and {undecided} are undecided in this run.",
        total=counts.total(), holds=counts[Outcome.HOLDS], part=counts[Outcome.HOLDS_IN_PART],
        fails=counts[Outcome.FAILS], undecided=counts[Outcome.UNDECIDED],
    )  # fmt: skip
