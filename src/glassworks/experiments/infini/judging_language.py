"""How the claims about language and gates are judged (infini.md 8): fixed before the numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.deciding import judged_by_seeds, weakest
from glassworks.experiments.infini.curves_of import (
    BITS,
    READS,
    SLACK,
    between,
    beyond_first,
    bits,
    has_read,
    lead,
    not_learned,
    nothing,
    percent,
    spans,
    three,
)
from glassworks.experiments.infini.names import model_name

OURS, DELTA, LOCAL, FULL, LONGER = "infini", "infini delta", "local", "full", "infini, longer"
SHARED, FREE, DECAYED = "shared", "own rate", "own rate, decay"
# Full attention's lead over local attention must be worth dividing by.
WORTH = 0.01
# A gate in here mixes memory and local attention about equally.
MIXED = (0.4, 0.6)


def lead_over(baseline: str) -> Callable[[Evidence], Finding]:
    """The test of Infini's lead (linear rule) over a baseline, in bits per byte beyond the first segment."""

    def judge(evidence: Evidence) -> Finding:
        if not has_read(evidence, OURS, baseline):
            return not_learned()
        losses = evidence["language_by_position"]
        ours, theirs = beyond_first(losses, OURS), beyond_first(losses, baseline)
        outcome, interval = lead(theirs - ours)
        because = say(
            "{baseline} needs {theirs} bits per byte beyond the first segment, Infini {ours}",
            baseline=model_name(baseline), theirs=bits(theirs.mean()), ours=bits(ours.mean()),
        )  # fmt: skip
        return Finding(outcome, interval, BITS, because)

    return judge


def _worth(losses: Measurement, model: str) -> float:
    """What a model gains over local attention beyond the first segment, in bits per byte, mean over seeds."""
    return float((beyond_first(losses, LOCAL) - beyond_first(losses, model)).mean())


def _idle(worth: float, because: Text, outcome: Outcome) -> tuple[Outcome, Text]:
    """An agreement of memories that are worth nothing says nothing about memories, so it is held back."""
    if outcome not in (Outcome.HOLDS, Outcome.HOLDS_IN_PART) or worth > 0:
        return outcome, because
    held = say(
        "the memory gains nothing over local attention, so this decides nothing; it reads: {because}", because=because
    )
    return Outcome.UNDECIDED, held


def rules_agree(evidence: Evidence) -> Finding:
    """How far the two write rules are apart, in either direction."""
    if not has_read(evidence, OURS, DELTA, LOCAL):
        return not_learned()
    losses = evidence["language_by_position"]
    apart = abs(beyond_first(losses, OURS) - beyond_first(losses, DELTA))
    worth = max(_worth(losses, OURS), _worth(losses, DELTA))
    because = say(
        "the rules differ by at most {apart} bits per byte, where memory is worth {worth}",
        apart=bits(apart.max()), worth=bits(worth),
    )  # fmt: skip
    outcome, because = _idle(worth, because, judged_by_seeds(apart - SLACK, 0.02, 0.05))
    return Finding(outcome, interval_over_seeds(apart), BITS, because)


def near_full(evidence: Evidence) -> Finding:
    """Infini's lead over local attention as a share of full attention's, per seed."""
    if not has_read(evidence, OURS, LOCAL, FULL):
        return not_learned("share")
    losses = evidence["language_by_position"]
    local, full = beyond_first(losses, LOCAL), beyond_first(losses, FULL)
    whole = local - full
    if not (whole > WORTH).all():
        because = say(
            "full attention itself gains only {lead} bits per byte over local attention", lead=bits(whole.min())
        )
        return nothing("share", because)
    share = (local - beyond_first(losses, OURS)) / whole
    because = say(
        "full attention gains {whole} bits per byte over local attention, Infini {share} of that",
        whole=bits(whole.mean()), share=percent(share.mean()),
    )  # fmt: skip
    return Finding(judged_by_seeds(-share - SLACK, -0.5, -0.25), interval_over_seeds(share), "share", because)


def longer_training(evidence: Evidence) -> Finding:
    """The same bytes in sequences twice as long."""
    if not has_read(evidence, OURS, LONGER):
        return not_learned()
    losses = evidence["language_by_position"]
    short, long = beyond_first(losses, OURS), beyond_first(losses, LONGER)
    outcome, interval = lead(short - long)
    because = say(
        "trained on sequences twice as long it needs {long} bits per byte, else {short}",
        long=bits(long.mean()), short=bits(short.mean()),
    )  # fmt: skip
    return Finding(outcome, interval, BITS, because)


def beyond_length(evidence: Evidence) -> Finding:
    """Bits per byte in the last half of eight training lengths against the last half of one."""
    if not has_read(evidence, OURS, LOCAL):
        return not_learned()
    losses = evidence["language_by_position"]
    length = spans(losses)[1]
    if 8 * length not in losses.coords["position"]:
        return nothing(BITS, say("nothing was read at eight times the training length"))
    far, near = between(losses, OURS, 4 * length, 8 * length), between(losses, OURS, length / 2, length)
    rise = far - near
    outcome = judged_by_seeds(abs(rise) - SLACK, 0.02, 0.05)
    # The claim is that length does no harm: a loss that falls further than the bounds is no failure of that.
    if outcome is Outcome.FAILS and not (rise > 0).all():
        outcome = Outcome.UNDECIDED
    worth = _worth(losses, OURS)
    because = say(
        "at eight times the training length the loss changes by {rise} bits per byte, where memory is worth {worth}",
        rise=f"{rise.mean():+.3f}", worth=bits(worth),
    )  # fmt: skip
    outcome, because = _idle(worth, because, outcome)
    return Finding(outcome, interval_over_seeds(rise), BITS, because)


def last_gates(path: Measurement, setting: str) -> NDArray[np.float64]:
    """Gates (weights of the memory) at the end of training: layer, head, seed; settings may differ in their steps."""
    values = path.at(setting=setting).values
    known = [step for step in range(values.shape[-1]) if not np.isnan(values[..., step]).all()]
    return values[..., known[-1] if known else -1]


def _by_seed(gates: NDArray[np.float64]) -> NDArray[np.float64]:
    """One row of gates for each seed."""
    return gates.reshape(-1, gates.shape[-1]).T


def near_half(gates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of gates between 0.4 and 0.6, per seed; NaN where a gate is missing."""
    rows = _by_seed(gates)
    inside = (rows >= MIXED[0] - SLACK) & (rows <= MIXED[1] + SLACK)
    return np.where(np.isnan(rows).any(axis=1), np.nan, inside.mean(axis=1))


def span(gates: NDArray[np.float64]) -> NDArray[np.float64]:
    """From the lowest to the highest gate, per seed."""
    rows = _by_seed(gates)
    return rows.max(axis=1) - rows.min(axis=1)


def _read_with(evidence: Evidence, *settings: str) -> bool:
    """Whether the models whose gates these are have learned to predict text."""
    return all(bool((evidence["gates_loss"].at(setting=s).values < READS).all()) for s in settings)


def gates_stuck(evidence: Evidence) -> Finding:
    """The share of gates that stay near one half where they learn as all weights do."""
    if not _read_with(evidence, SHARED):
        return not_learned("share")
    gates = last_gates(evidence["gates_path"], SHARED)
    share = near_half(gates)
    because = say(
        "{share} of the gates end between 0.4 and 0.6, all between {low} and {high}: the rate over all steps bounds their way",
        share=percent(share.mean()), low=three(gates.min()), high=three(gates.max()),
    )  # fmt: skip
    return Finding(judged_by_seeds(-share - SLACK, -0.95, -0.8), interval_over_seeds(share), "share", because)


def gates_free(evidence: Evidence) -> Finding:
    """The same share with a rate of their own and no decay, and how far the gates are apart."""
    if not _read_with(evidence, FREE):
        return not_learned("share")
    gates = last_gates(evidence["gates_path"], FREE)
    share, apart = near_half(gates), span(gates)
    outcome = weakest([judged_by_seeds(share - SLACK, 0.5, 0.5), judged_by_seeds(-apart - SLACK, -0.5, -0.3)])
    because = say(
        "{share} of the gates end between 0.4 and 0.6, and they span {span}",
        share=percent(share.mean()), span=three(apart.mean()),
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(apart), "span", because)


def short_range_head(evidence: Evidence) -> Finding:
    """The layer whose lowest gate is highest, with free gates."""
    if not _read_with(evidence, FREE):
        return not_learned("gate")
    gates = last_gates(evidence["gates_path"], FREE)
    if not (near_half(gates) < 1).all():
        return nothing("gate", say("gates that have not moved from one half choose no range"))
    worst = gates.min(axis=1).max(axis=0)
    without = np.where(np.isnan(worst), np.nan, worst >= 0.5)
    because = say("the layer with the highest lowest gate has it at {gate}", gate=three(worst.max()))
    return Finding(judged_by_seeds(without, 0.0, 0.0), interval_over_seeds(worst), "gate", because)


def decay_pulls_back(evidence: Evidence) -> Finding:
    """How much further from one half the gates end without decay than with it."""
    if not _read_with(evidence, FREE, DECAYED):
        return not_learned("gate")
    path = evidence["gates_path"]
    free = last_gates(path, FREE)
    if not (near_half(free) < 1).all():
        return nothing("gate", say("gates that have not moved from one half cannot be pulled back"))
    away, held = (abs(_by_seed(gates) - 0.5).mean(axis=1) for gates in (free, last_gates(path, DECAYED)))
    outcome, interval = lead(away - held)
    because = say(
        "gates end {away} from one half on average, with decay {held}", away=three(away.mean()), held=three(held.mean())
    )
    return Finding(outcome, interval, "gate", because)
