"""How the claims about hidden keys and recalled facts are judged (infini.md 8): fixed before the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Finding
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.deciding import judged_by_seeds, weakest
from glassworks.experiments.infini.curves_of import SLACK, nothing, percent, present
from glassworks.experiments.infini.names import length_name, rule_name

MILLION, FAR, NEEDLE_AT, WINDOW_AT, TRAINED = 1_048_576, 131_072, 8192, 4096, 1024
LINEAR, DELTA = "linear", "delta"
BOTH = (LINEAR, DELTA)
WITHOUT_MEMORY = ("linear, memory off", "delta, memory off")
REAL_LENGTHS = ("linear, real lengths", "delta, real lengths")
EARLY = ("start", "middle")
# Twice what guessing digits gives; a rule that finds no more of the key in its own training length has learned nothing.
GUESSED = 0.2
# A key counts as found from here on where a claim asks what is lost of it (infini.md 8).
FOUND = 0.9
# Fewer texts than this, over seeds and both depths, cannot tell 98 % from 90 %.
FEWEST_TEXTS = 16
# A window model that finds half of the digits inside its window has learned to copy keys.
COPIES = 0.5
# F1 below this everywhere: nothing was recalled, and nothing can be said about its growth.
RECALLED = 0.1
ACCURACY = "token accuracy"


def digits(found: Measurement, rule: str, length: int, depths: Sequence[str] = EARLY) -> NDArray[np.float64]:
    """Token accuracy of a rule at a length: depth, seed. What was not measured at all raises UnknownName."""
    part = found.at(rule=rule, length=length)
    return np.stack([part.at(depth=depth).values for depth in depths])


def _read(found: Measurement, rule: str) -> list[int]:
    """The lengths at which a rule was measured."""
    part = found.at(rule=rule)
    return [int(n) for n in part.coords["length"] if not np.isnan(part.at(length=n).values).all()]


def has_learned(found: Measurement, rule: str, depths: Sequence[str] = EARLY) -> bool:
    """Whether every seed finds clearly more than guessing does in texts as long as those of training."""
    return bool((digits(found, rule, TRAINED, depths).mean(axis=0) > GUESSED).all())


def _unlearned(what: Text) -> Finding:
    because = say("{what} finds hardly more of the key than guessing even in the texts it was trained on", what=what)
    return nothing(ACCURACY, because)


def at_a_million(rule: str) -> Callable[[Evidence], Finding]:
    """The test of a rule at 1,048,576 bytes, from start and middle."""

    def judge(evidence: Evidence) -> Finding:
        found = evidence["passkey"]
        accuracy = digits(found, rule, MILLION)
        if not has_learned(found, rule):
            return _unlearned(rule_name(rule))
        texts = float(evidence["passkey_samples"].at(length=MILLION).values) * accuracy.size
        if not texts >= FEWEST_TEXTS:
            return nothing(
                ACCURACY,
                say("only {count} texts were read, fewer than {needed}", count=f"{texts:.0f}", needed=FEWEST_TEXTS),
            )
        least = accuracy.min(axis=0)
        because = say(
            "{start} of the digits are right from the start and {middle} from the middle, {least} in the worst seed, over {texts} texts",
            start=percent(accuracy[0].mean()), middle=percent(accuracy[1].mean()), least=percent(least.min()),
            texts=int(texts),
        )  # fmt: skip
        return Finding(judged_by_seeds(-least - SLACK, -0.98, -0.9), interval_over_seeds(least), ACCURACY, because)

    return judge


def passkey_end(evidence: Evidence) -> Finding:
    """Keys at the end, at every length that was read, up to a million bytes."""
    found = evidence["passkey"]
    rules = present(found, "rule", BOTH)
    if not all(has_learned(found, rule, ("end",)) for rule in rules):
        return _unlearned(say("one rule"))
    worst: list[NDArray[np.float64]] = []
    for rule in rules:
        worst += [digits(found, rule, length, ("end",))[0] for length in {*_read(found, rule), MILLION}]
    least = np.min(worst, axis=0)
    because = say("at the worst length {least} of the digits are right", least=percent(least.min()))
    return Finding(judged_by_seeds(-least - SLACK, -0.95, -0.85), interval_over_seeds(least), ACCURACY, because)


def passkey_memory(evidence: Evidence) -> Finding:
    """What is found from start and middle with the memory switched off, where it is found with it."""
    found = evidence["passkey"]
    worst: list[NDArray[np.float64]] = []
    for off in present(found, "rule", WITHOUT_MEMORY):
        rule = off.partition(",")[0]
        if not bool((digits(found, rule, TRAINED) >= FOUND - SLACK).all()):
            return nothing(ACCURACY, say("the key is not found with the memory either ({rule})", rule=rule_name(rule)))
        worst += [digits(found, off, length).max(axis=0) for length in _read(found, off)]
    most = np.max(worst, axis=0)
    because = say("without it at most {most} of the digits are right", most=percent(most.max()))
    return Finding(judged_by_seeds(most - SLACK, 0.25, 0.4), interval_over_seeds(most), ACCURACY, because)


def passkey_control(evidence: Evidence) -> Finding:
    """The paper's own recipe, real lengths only: short texts and long ones."""
    found = evidence["passkey"]
    most: list[NDArray[np.float64]] = []
    told: list[str] = []
    for rule in present(found, "rule", REAL_LENGTHS):
        near, far = digits(found, rule, TRAINED), digits(found, rule, FAR)
        if not bool((near >= FOUND - SLACK).all()):
            because = say(
                "trained on real lengths alone the {rule} rule does not find the key at {length} bytes: {near}",
                rule=rule_name(rule.partition(",")[0]), length=TRAINED, near=percent(near.min()),
            )  # fmt: skip
            return nothing(ACCURACY, because)
        most.append(far.max(axis=0))
        told.append(f"{percent(near.mean())} → {percent(far.mean())}")
    because = say(
        "from {near} to {far} bytes: {found}", near=length_name(TRAINED), far=length_name(FAR), found="; ".join(told)
    )
    worst = np.max(most, axis=0)
    return Finding(judged_by_seeds(worst - SLACK, 0.5, 0.5), interval_over_seeds(worst), ACCURACY, because)


def needle_share(evidence: Evidence) -> Finding:
    """The head that reads most from the needle, at 8192 bytes."""
    if not has_learned(evidence["passkey"], LINEAR):
        return _unlearned(rule_name(LINEAR))
    shares = evidence["needle_share"].at(rule=LINEAR, length=NEEDLE_AT).values
    best = shares.max(axis=(0, 1))
    because = say(
        "the best head reads {share} of its memory from the needle, {least} in the worst seed",
        share=percent(best.mean()),
        least=percent(best.min()),
    )
    return Finding(judged_by_seeds(-best - SLACK, -0.9, -0.5), interval_over_seeds(best), "share", because)


def window_forgets(evidence: Evidence) -> Finding:
    """The sliding window at 4096 bytes: keys from the start, where it finds those at the end."""
    part = evidence["passkey_comparators"].at(model="window", length=WINDOW_AT)
    start, end = part.at(depth="start").values, part.at(depth="end").values
    if not (end >= COPIES).all():
        because = say(
            "the window model has not learned to copy keys: {end} of the digits at the end", end=percent(end.min())
        )
        return nothing(ACCURACY, because)
    because = say("{start} from the start, {end} at the end", start=percent(start.mean()), end=percent(end.mean()))
    return Finding(judged_by_seeds(start - SLACK, 0.25, 0.4), interval_over_seeds(start), ACCURACY, because)


def facts_grow(evidence: Evidence) -> Finding:
    """F1 of the recalled facts from one length read to the next, and from the shortest to the longest."""
    part = evidence["facts"].at(score="f1")
    order = np.argsort(part.along("read"))
    scores = part.values[order]
    if len(scores) < 2 or not (scores.max(axis=0) >= RECALLED).all():
        return nothing("F1", say("hardly a fact was recalled, however much was read"))
    falls, rise = (scores[:-1] - scores[1:]).max(axis=0), scores[-1] - scores[0]
    outcome = weakest([judged_by_seeds(falls - SLACK, 0.05, 0.05), judged_by_seeds(-rise - SLACK, -0.2, -0.1)])
    because = say(
        "F1 goes from {first} to {last}, and its largest fall on the way is {fall}",
        first=f"{scores[0].mean():.2f}", last=f"{scores[-1].mean():.2f}", fall=f"{max(falls.max(), 0.0):.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(rise), "F1", because)
