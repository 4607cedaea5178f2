"""How the claims of the tree study are judged (lifecycle.md 8): fixed before the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.statistics import Interval
from glassworks.experiments.deciding import judged_by_lead, judged_by_seeds, judged_together, weakest
from glassworks.experiments.tree.losses import (
    BITS,
    READS,
    SLACK,
    interval,
    lead,
    missing,
    percent,
    rise,
    signed,
    three,
    unknown,
    within,
)
from glassworks.experiments.tree.names import block_name, branch_name, task_name

LLAMA, LAYER, LAYER_AFTER, RMS_AFTER = "llama", "layer norm", "layer norm after", "rms after"
GPT2, ORIGINAL = "gpt-2", "2017"
# Before and after the parts, of one norm.
PAIRS = ((LAYER, LAYER_AFTER), (LLAMA, RMS_AFTER))
# A difference that a person would care about when training is unstable, in bits per byte.
STABLE = 0.1
# A share of a step's time that is more than the clock's own unrest.
FASTER = 1.02
# What a better block may lead by without making LLaMA's a bad one.
SMALL = 0.05


def _listed(names: Sequence[Text], values: Sequence[str]) -> list[Text]:
    return [say("{name} {value}", name=name, value=value) for name, value in zip(names, values, strict=True)]


def _joined(parts: Sequence[Text]) -> Text:
    """Several short findings, one after the other, in both languages."""
    found = parts[0]
    for part in parts[1:]:
        found = say("{first}, {second}", first=found, second=part)
    return found


def alike(first: str, second: str) -> Callable[[Evidence], Finding]:
    """The test of two blocks that are to be equally good: 0.02 bits per byte in every seed, in part 0.05."""

    def judge(evidence: Evidence) -> Finding:
        apart = lead(evidence, first, second)
        if unknown([apart]):
            return missing(BITS)
        losses = evidence["blocks_by_position"]
        because = say(
            "{first} needs {ours} bits per byte, {second} {theirs}",
            first=block_name(first), ours=three(within(losses, first).mean()),
            second=block_name(second), theirs=three(within(losses, second).mean()),
        )  # fmt: skip
        return Finding(judged_by_seeds(abs(apart) - SLACK, 0.02, 0.05), interval(apart), BITS, because)

    return judge


def leads_over(others: Sequence[str], enough: int) -> Callable[[Evidence], Finding]:
    """The test of LLaMA's lead over several blocks; the finding shows the smallest one."""

    def judge(evidence: Evidence) -> Finding:
        leads = [lead(evidence, LLAMA, other) for other in others]
        if unknown(leads):
            return missing(BITS)
        parts = _listed([block_name(o) for o in others], [signed(found.mean()) for found in leads])
        because = say("bits per byte more than LLaMA's block: {parts}", parts=_joined(parts))
        found = [interval(one) for one in leads]
        outcome = judged_by_lead(found[0]) if len(found) == 1 else judged_together(found, enough)
        return Finding(outcome, min(found, key=lambda one: one.mean), BITS, because)

    return judge


def pre_norm_stable(evidence: Evidence) -> Finding:
    """What norms after the sums cost in hasty trainings more than norms before the parts."""
    hasty = evidence["blocks_hasty"]
    leads = [hasty.at(block=after).values - hasty.at(block=before).values for before, after in PAIRS]
    if unknown(leads):
        return missing(BITS)
    levels = [interval(found - STABLE) for found in leads]
    parts = _listed(
        [block_name(label) for pair in PAIRS for label in pair],
        [three(hasty.at(block=label).values.mean()) for pair in PAIRS for label in pair],
    )
    because = say("at the end of a hasty training, in bits per byte: {parts}", parts=_joined(parts))
    return Finding(judged_together(levels, 1), interval(np.mean(leads, axis=0)), BITS, because)


def pre_norm_costs_nothing(evidence: Evidence) -> Finding:
    """What norms before the parts need more than norms after the sums, at the common rate."""
    costs = [lead(evidence, after, before) for before, after in PAIRS]
    if unknown(costs):
        return missing(BITS)
    outcome = weakest([judged_by_seeds(found - SLACK, 0.02, 0.05) for found in costs])
    parts = _listed([block_name(before) for before, _ in PAIRS], [signed(found.mean()) for found in costs])
    because = say("bits per byte more than the same norm after the sums: {parts}", parts=_joined(parts))
    return Finding(outcome, interval(np.mean(costs, axis=0)), BITS, because)


def reaches(block: str) -> Callable[[Evidence], Finding]:
    """The test of a block's loss beyond its training length."""

    def judge(evidence: Evidence) -> Finding:
        more = rise(evidence["blocks_by_position"], block)
        if unknown([more]):
            return missing(BITS)
        because = say(
            "between two and four training lengths {block} needs {more} bits per byte more than within one",
            block=block_name(block), more=signed(more.mean()),
        )  # fmt: skip
        return Finding(judged_by_seeds(more - SLACK, 0.05, 0.2), interval(more), BITS, because)

    return judge


def tables_stop(evidence: Evidence) -> Finding:
    """A learned table has nothing beyond its length; a computed one has places that were never trained."""
    losses = evidence["blocks_by_position"]
    learned, more = rise(losses, "learned"), rise(losses, "sinusoidal")
    if unknown([within(losses, "learned"), more]):
        return missing(BITS)
    refuses = bool(np.isnan(learned).all())
    because = say(
        "the learned table gives {numbers} beyond its length, the sinusoidal one costs {more} bits per byte more there",
        numbers=say("nothing") if refuses else say("numbers"), more=signed(more.mean()),
    )  # fmt: skip
    outcome = judged_by_seeds(-more - SLACK, -0.2, -0.05)
    return Finding(outcome if refuses else Outcome.FAILS, interval(more), BITS, because)


def rms_faster(evidence: Evidence) -> Finding:
    """How many times as long a step with LayerNorm takes, round by round."""
    speed = evidence["blocks_speed"]
    ratio = speed.at(block=LAYER).values / speed.at(block=LLAMA).values
    found = interval(ratio)
    because = say(
        "a step takes {ours} ms with RMSNorm and {theirs} ms with LayerNorm",
        ours=f"{1000 * speed.at(block=LLAMA).values.mean():.1f}", theirs=f"{1000 * speed.at(block=LAYER).values.mean():.1f}",
    )  # fmt: skip
    if unknown([ratio]):
        return missing("times")
    if found.low > FASTER:
        return Finding(Outcome.HOLDS, found, "times", because)
    return Finding(_faster_in_part(found), found, "times", because)


def _faster_in_part(ratio: Interval) -> Outcome:
    if ratio.mean > 1:
        return Outcome.HOLDS_IN_PART
    return Outcome.FAILS if ratio.high < 1 else Outcome.UNDECIDED


def best_block(evidence: Evidence) -> Finding:
    """Whether any block leads LLaMA's with its whole interval, and by how much."""
    losses = evidence["blocks_by_position"]
    others = [str(label) for label in losses.coords["block"] if label != LLAMA]
    leads = {other: lead(evidence, other, LLAMA) for other in others}
    if unknown(list(leads.values())):
        return missing(BITS)
    better = {other: found for other, found in leads.items() if interval(found).low > 0}
    best = max(leads, key=lambda other: float(leads[other].mean()))
    because = say(
        "{count} blocks lead it beyond doubt; {best} leads it by {lead} bits per byte",
        count=len(better), best=block_name(best), lead=signed(leads[best].mean()),
    )  # fmt: skip
    if not better:
        return Finding(Outcome.HOLDS, interval(leads[best]), BITS, because)
    small = all(found.mean() <= SMALL + SLACK for found in better.values())
    return Finding(Outcome.HOLDS_IN_PART if small else Outcome.FAILS, interval(leads[best]), BITS, because)


def hasty_2017(evidence: Evidence) -> Finding:
    """In how many seeds a hasty training gets beyond the frequencies of letters."""
    hasty = evidence["blocks_hasty"]
    ours, theirs = hasty.at(block=LLAMA).values, hasty.at(block=ORIGINAL).values
    if unknown([ours, theirs]):
        return missing("seeds")
    learned, stuck = int((ours < READS).sum()), int((theirs >= READS).sum())
    seeds = len(ours)
    because = say(
        "LLaMA's block gets below 4 bits in {ours} of {seeds} seeds, that of 2017 in {theirs}",
        ours=learned, theirs=seeds - stuck, seeds=seeds,
    )  # fmt: skip
    if learned == seeds and stuck == seeds:
        outcome = Outcome.HOLDS
    else:
        outcome = Outcome.HOLDS_IN_PART if learned > seeds - stuck else Outcome.FAILS
    return Finding(outcome, interval(theirs - ours), BITS, because)


def _accuracies(evidence: Evidence, task: str, branch: str) -> NDArray[np.float64]:
    return evidence["branches_understanding"].at(task=task, branch=branch).values


def understands(branch: str, over: str) -> Callable[[Evidence], Finding]:
    """The test of a branch's lead in right labels over another, on both collections of sentences."""

    def judge(evidence: Evidence) -> Finding:
        tasks = [str(task) for task in evidence["branches_understanding"].coords["task"]]
        leads = [_accuracies(evidence, task, branch) - _accuracies(evidence, task, over) for task in tasks]
        if unknown(leads):
            return missing("share")
        parts = [
            say(
                "{task} {ours} against {theirs}", task=task_name(task),
                ours=percent(_accuracies(evidence, task, branch).mean()),
                theirs=percent(_accuracies(evidence, task, over).mean()),
            )
            for task in tasks
        ]  # fmt: skip
        because = say(
            "right labels, {branch} against {over}: {parts}",
            branch=branch_name(branch), over=branch_name(over), parts=_joined(parts),
        )  # fmt: skip
        outcome = judged_together([interval(found) for found in leads], 1)
        return Finding(outcome, interval(np.mean(leads, axis=0)), "share", because)

    return judge


def decoder_continues(evidence: Evidence) -> Finding:
    """The decoder's lead over the two branches that read the beginning in both directions."""
    found = evidence["branches_continuing"]
    others = ("prefix decoder", "encoder-decoder")
    leads = [found.at(branch=other).values - found.at(branch="decoder").values for other in others]
    if unknown(leads):
        return missing(BITS)
    names = ("decoder", *others)
    parts = _listed([branch_name(n) for n in names], [three(found.at(branch=n).values.mean()) for n in names])
    because = say("bits per byte of the second half: {parts}", parts=_joined(parts))
    intervals = [interval(one) for one in leads]
    return Finding(judged_together(intervals, 1), min(intervals, key=lambda one: one.mean), BITS, because)


def translates(branch: str, score: str) -> Callable[[Evidence], Finding]:
    """The test of a branch's lead over the decoder in translation: in loss (lower) or BLEU (higher)."""

    def judge(evidence: Evidence) -> Finding:
        found = evidence["branches_translating"].at(score=score)
        ours, theirs = found.at(branch=branch).values, found.at(branch="decoder").values
        led = ours - theirs if score == "bleu" else theirs - ours
        unit = "BLEU" if score == "bleu" else "nats per token"
        if unknown([led]):
            return missing(unit)
        because = say(
            "{branch} {ours}, decoder {theirs} ({unit})",
            branch=branch_name(branch), ours=f"{ours.mean():.2f}", theirs=f"{theirs.mean():.2f}", unit=unit,
        )  # fmt: skip
        return Finding(judged_by_lead(interval(led)), interval(led), unit, because)

    return judge
