"""Verdicts in sentences, the same in every report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Outcome, Verdict, judge
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine, Table


def _no_tables(_: Evidence) -> list[Table]:
    return []


def _no_sums(_: Evidence) -> tuple[Text, ...]:
    return ()


@dataclass(frozen=True)
class Part:
    """A section of a report: its words, the claims judged there by full key, its figures and tables, what it works out."""

    key: str
    title: Text
    paragraphs: tuple[Text, ...]
    claims: tuple[str, ...]
    figures: tuple[str, ...]
    tables: Callable[[Evidence], list[Table]] = _no_tables
    sums: Callable[[Evidence], tuple[Text, ...]] = _no_sums


def anchors_of(parts: Sequence[Part]) -> dict[str, str]:
    """The section that shows what a claim is about, by the claim's key."""
    return {claim: part.key for part in parts for claim in part.claims}


def sections_of(
    parts: Sequence[Part], claims: Sequence[Claim], evidence: Evidence, figures: Mapping[str, Figure]
) -> list[Section]:
    """One section for each part that has a figure or table: what it is about, its decided verdicts, figures, tables."""
    verdicts = {verdict.claim: verdict for verdict in judge(claims, evidence)}
    found = (_section_of(part, evidence, figures, verdicts) for part in parts)
    return [section for section in found if section is not None]


def _section_of(
    part: Part, evidence: Evidence, figures: Mapping[str, Figure], verdicts: Mapping[str, Verdict]
) -> Section | None:
    shown = tuple(figures[name] for name in part.figures if name in figures)
    tables = tuple(part.tables(evidence))
    if not shown and not tables:
        return None
    judged = [verdicts[claim] for claim in part.claims]
    decided = (told(verdict) for verdict in judged if verdict.outcome is not Outcome.UNDECIDED)
    return Section(part.key, part.title, (*part.paragraphs, *part.sums(evidence), *decided), shown, tables)


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
