"""How the claims of the life study are judged (lifecycle.md 9): fixed before the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, interval_over_seeds, wilson_interval
from glassworks.experiments.deciding import judged_by_lead, judged_by_seeds
from glassworks.experiments.life.names import (
    AFTER,
    ANSWERS,
    BASE,
    CODERS,
    DIRECT,
    HELD,
    LONGER,
    MODEL,
    PRETRAINING_TEXT,
    PROXIMAL,
    REWARD_MODEL,
    TUNED,
    called,
)

BITS, SHARE, COSINE, NATS, SPREADS = "bits per byte", "fraction", "cosine", "nats per answer", "standard deviations"
# A loss must fall by so much to count, and a reward rise by so much of its own spread.
WORTH, RISE = 0.05, 0.5
# A head works at something from this score on; without one nothing can stay.
AT_WORK = 0.3
# Levels are judged as written, whatever the last bit of a difference is.
SLACK = 1e-9
FREE, BEST = "ppo, free", "best_of_n"


def compresses(evidence: Evidence) -> Finding:
    """The model's bits per byte over parts of the held-out text, against the best of the packers."""
    found = evidence["compression"]
    ours = interval_over_seeds(np.ravel(found.at(coder=MODEL).values))
    others = {coder: float(np.nanmean(found.at(coder=coder).values)) for coder in CODERS if coder != MODEL}
    best, plain = min(others.values()), min(value for coder, value in others.items() if coder != AFTER)
    because = say(
        "the model needs {ours} bits per byte, the best packer, {name}, {best}",
        ours=_three(ours.mean), name=called(min(others, key=lambda coder: others[coder])), best=_three(best),
    )  # fmt: skip
    if not np.isfinite([ours.low, best]).all():
        return Finding(Outcome.UNDECIDED, ours, BITS, because)
    outcome = judged_by_lead(Interval(best - ours.mean, best - ours.high, best - ours.low, ours.count))
    if outcome is Outcome.FAILS and ours.high < plain:
        outcome = Outcome.HOLDS_IN_PART
    return Finding(outcome, ours, BITS, because)


def answers_learned(evidence: Evidence) -> Finding:
    """What fine-tuning gains on held-out answers, beyond the least that counts."""
    before, after = _bits(evidence, BASE, ANSWERS), _bits(evidence, TUNED, ANSWERS)
    because = say(
        "held-out answers cost {before} bits per byte before and {after} after",
        before=_three(before.mean()), after=_three(after.mean()),
    )  # fmt: skip
    return _leads(before - after, WORTH, BITS, because)


def little_forgotten(evidence: Evidence) -> Finding:
    """What fine-tuning costs on held-out text of the kind that pretraining read."""
    cost = _bits(evidence, TUNED, PRETRAINING_TEXT) - _bits(evidence, BASE, PRETRAINING_TEXT)
    because = say("text of the pretraining costs {more} bits per byte more", more=_three(cost.mean()))
    return Finding(judged_by_seeds(cost - SLACK, 0.1, 0.3), interval_over_seeds(cost), BITS, because)


def reward_learns(evidence: Evidence) -> Finding:
    """Accuracy on held-out pairs; its interval counts pairs, for seeds are judged on the same ones."""
    accuracy = _finite(evidence["reward_accuracy"].at(scorer=REWARD_MODEL, part="held out"))
    pairs = int(evidence["reward_pairs"].values.ravel()[0])
    mean = float(accuracy.mean()) if accuracy.size else float("nan")
    if np.isnan(mean):
        return _nothing(SHARE)
    interval = wilson_interval(round(mean * pairs), pairs)
    because = say("it is right about {share} of {pairs} pairs it never saw", share=_percent(mean), pairs=pairs)
    lead = Interval(mean - 0.5, interval.low - 0.5, interval.high - 0.5, interval.count)
    return Finding(judged_by_lead(lead), interval, SHARE, because)


def reward_beyond_length(evidence: Evidence) -> Finding:
    """The reward model's accuracy minus that of the better length rule, which is chosen on the training pairs."""
    found = evidence["reward_accuracy"]
    ours = found.at(scorer=REWARD_MODEL, part="held out").values
    theirs = found.at(scorer=LONGER, part="held out").values
    because = say(
        "the reward model is right about {ours}, the length of the answers about {theirs}",
        ours=_percent(float(ours.mean())), theirs=_percent(float(theirs.mean())),
    )  # fmt: skip
    return _leads(ours - theirs, 0.0, SHARE, because)


def raises(stage: str) -> Callable[[Evidence], Finding]:
    """The test of a stage's gain in learned reward, in spreads of the fine-tuned model's rewards."""

    def judge(evidence: Evidence) -> Finding:
        found = evidence["stage_rewards"].at(metric="reward")
        gain = (found.at(stage=stage).values - found.at(stage=TUNED).values) / _spread(evidence)
        because = say(
            "{stage} gains {gain} standard deviations of the fine-tuned model's rewards",
            stage=called(stage), gain=_three(float(gain.mean())),
        )  # fmt: skip
        return _leads(gain, RISE, SPREADS, because)

    return judge


def kl_holds(evidence: Evidence) -> Finding:
    """KL of PPO minus KL of PPO with the larger price; both must have moved to be compared."""
    found = evidence["stage_rewards"].at(metric="kl")
    free, held = found.at(stage=PROXIMAL).values, found.at(stage=HELD).values
    because = say(
        "PPO ends {free} nats per answer from the fine-tuned model, with the larger price {held}",
        free=_three(float(free.mean())), held=_three(float(held.mean())),
    )  # fmt: skip
    return _leads(free - held, 0.0, NATS, because)


def dpo_prefers(evidence: Evidence) -> Finding:
    """Share of held-out pairs whose chosen answer is the likelier one, after DPO minus before."""
    found = evidence["preferences"]
    before, after = found.at(stage=TUNED).values, found.at(stage=DIRECT).values
    because = say(
        "the chosen answer is the likelier one in {before} of held-out pairs before and {after} after",
        before=_percent(float(before.mean())), after=_percent(float(after.mean())),
    )  # fmt: skip
    return _leads(after - before, 0.0, SHARE, because)


def over_optimised(evidence: Evidence) -> Finding:
    """How far the true reward falls from its best to the end, while the learned one does not fall.

    Where the best lies is read from the other seeds: the largest of several noisy points would fall by chance alone.
    """
    path = evidence["overoptimisation"].at(method=FREE)
    gold, proxy = (_by_seed(path.at(metric=name)) for name in ("gold", "proxy"))
    if len(gold) < 2 or np.isnan(gold).any() or np.isnan(proxy).any():
        return _nothing(SPREADS)
    best = [int(np.delete(gold, seed, 0).mean(0).argmax()) for seed in range(len(gold))]
    fall = np.array([row[place] - row[-1] for row, place in zip(gold, best, strict=True)])
    rise = np.array([row[-1] - row[place] for row, place in zip(proxy, best, strict=True)])
    because = say(
        "from its best to the end the true reward falls by {fall}, while the learned one changes by {rise}",
        fall=_three(float(fall.mean())), rise=_three(float(rise.mean())),
    )  # fmt: skip
    finding = _leads(fall, 0.0, SPREADS, because)
    if rise.mean() < 0 and finding.outcome in (Outcome.HOLDS, Outcome.HOLDS_IN_PART):
        return Finding(Outcome.FAILS, finding.value, SPREADS, because)
    return finding


def best_of_n_gap(evidence: Evidence) -> Finding:
    """The learned reward's lead over the true one at the largest n, minus that at the smallest above one."""
    path = evidence["overoptimisation"].at(method=BEST)
    gap = _by_seed(path.at(metric="proxy")) - _by_seed(path.at(metric="gold"))
    known = np.flatnonzero(~np.isnan(gap).any(0))
    if known.size < 3:
        return _nothing(SPREADS)
    growth = gap[:, known[-1]] - gap[:, known[1]]
    because = say(
        "the gap grows by {growth} standard deviations from the smallest to the largest n",
        growth=_three(float(growth.mean())),
    )
    return _leads(growth, 0.0, SPREADS, because)


def tuning_shallow(evidence: Evidence) -> Finding:
    """The least cosine of any layer's stream after fine-tuning with the stream before, per seed."""
    least = _by_seed(evidence["stream_likeness"].at(stage=TUNED)).min(1)
    because = say("the layer that changes most keeps a cosine of {least}", least=_three(float(least.mean())))
    return Finding(judged_by_seeds(1 - least - SLACK, 0.1, 0.3), interval_over_seeds(least), COSINE, because)


def reinforcement_shallower(evidence: Evidence) -> Finding:
    """Mean cosine over layers after PPO (with the fine-tuned model) minus that after fine-tuning (with the pretrained)."""
    found = evidence["stream_likeness"]
    tuned, reinforced = (_by_seed(found.at(stage=stage)).mean(1) for stage in (TUNED, PROXIMAL))
    because = say(
        "mean cosine {tuned} through fine-tuning and {reinforced} through PPO",
        tuned=_three(float(tuned.mean())), reinforced=_three(float(reinforced.mean())),
    )  # fmt: skip
    return _leads(reinforced - tuned, 0.0, COSINE, because)


def heads_stay(evidence: Evidence) -> Finding:
    """The largest change of any head's score from the pretrained model to any stage, per seed."""
    found = evidence["head_scores"]
    scores = ("previous token", "induction")
    before = np.stack([_by_seed(found.at(stage=BASE, score=score)) for score in scores])
    moved = [
        abs(_by_seed(found.at(stage=stage, score=score)) - first).reshape(first.shape[0], -1).max(1)
        for stage in _later(found)
        for score, first in zip(scores, before, strict=True)
    ]
    if not moved or np.isnan(before).any() or before.max() < AT_WORK:
        return _nothing(SHARE)
    most = np.stack(moved).max(0)
    because = say("the head that changes most moves by {most}", most=_three(float(most.mean())))
    return Finding(judged_by_seeds(most - SLACK, 0.1, 0.2), interval_over_seeds(most), SHARE, because)


def layers_stay(evidence: Evidence) -> Finding:
    """The least rank correlation of what skipping each layer costs, pretrained against any later stage, per seed."""
    found = evidence["skip_costs"]
    before = _by_seed(found.at(stage=BASE))
    later = [_by_seed(found.at(stage=stage)) for stage in _later(found)]
    if not later or before.shape[1] < 4 or any(np.isnan(costs).any() for costs in (before, *later)):
        return _nothing("rank correlation")
    least = np.array(
        [min(_rank_correlation(first, costs[seed]) for costs in later) for seed, first in enumerate(before)]
    )
    because = say("the least rank correlation with the pretrained model is {least}", least=_three(float(least.mean())))
    return Finding(
        judged_by_seeds(1 - least - SLACK, 0.2, 0.5), interval_over_seeds(least), "rank correlation", because
    )


def cheaper(stage: str, other: str) -> Callable[[Evidence], Finding]:
    """The test that a stage takes less time than another together with the reward model that it needs."""

    def judge(evidence: Evidence) -> Finding:
        found = evidence["stage_seconds"]
        own = found.at(stage=stage).values
        theirs = found.at(stage=other).values + found.at(stage="reward").values
        ratio = own / theirs
        because = say(
            "{stage} takes {share} of the time of {other} with its reward model",
            stage=called(stage), share=_percent(float(ratio.mean())), other=called(other),
        )  # fmt: skip
        return _leads(1 - ratio, 0.0, SHARE, because)

    return judge


def _leads(values: NDArray[np.float64], least: float, unit: str, because: Text) -> Finding:
    """Whether differences per seed lie surely above `least`; what is told is the difference itself."""
    values = np.ravel(values)
    interval = interval_over_seeds(values)
    if values.size == 0 or np.isnan(values).any():
        return Finding(Outcome.UNDECIDED, interval, unit, because)
    return Finding(judged_by_lead(interval_over_seeds(values - least)), interval, unit, because)


def _bits(evidence: Evidence, stage: str, text: str) -> NDArray[np.float64]:
    return evidence["stage_bits"].at(stage=stage, text=text).values


def _spread(evidence: Evidence) -> NDArray[np.float64]:
    spread = evidence["stage_rewards"].at(stage=TUNED, metric="spread").values
    return np.where(spread > 0, spread, np.nan)


def _by_seed(part: Measurement) -> NDArray[np.float64]:
    """Values with the seeds first, whatever follows."""
    return np.moveaxis(part.values, part.dims.index("seed"), 0)


def _later(found: Measurement) -> Sequence[str]:
    """The stages after pretraining that were measured at all."""
    return [
        str(stage)
        for stage in found.coords["stage"]
        if stage != BASE and not np.isnan(found.at(stage=stage).values).all()
    ]


def _finite(part: Measurement) -> NDArray[np.float64]:
    return part.values[np.isfinite(part.values)]


def _rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's: the correlation of places; ties do not occur among measured losses."""
    places = [np.argsort(np.argsort(values)).astype(np.float64) for values in (one, other)]
    return float(np.corrcoef(places[0], places[1])[0, 1])


def _nothing(unit: str) -> Finding:
    because = say("what is compared was not measured, or nothing was there to compare")
    return Finding(Outcome.UNDECIDED, interval_over_seeds(np.array([np.nan])), unit, because)


def _three(value: float) -> str:
    return f"{value:.3g}"


def _percent(share: float) -> Text:
    return say("{percent} %", percent=f"{100 * share:.1f}")
