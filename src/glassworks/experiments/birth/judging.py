"""How each claim of Birth is judged: thresholds fixed before the numbers were seen; a changed one is a new claim.

Each test reads measurements only, so that a verdict can be reached again without torch.
"""

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, first_crossing, interval_over_seeds

SOLVED = 0.9
FORMED = 0.9
HALF_FORMED = 0.5
IDLE = 0.15  # a memory recalled less than this has learned nothing worth naming
# The smallest drop of a loss, in nats, that counts as learning when two losses are compared.
LEARNED_NATS = 0.5


def _decide(holds: bool, in_part: bool) -> Outcome:
    return Outcome.HOLDS if holds else Outcome.HOLDS_IN_PART if in_part else Outcome.FAILS


def _graded(interval: Interval, full: float, part: float, *, also: bool = True) -> Outcome:
    """HOLDS above `full` (where `also` is true), in part above `part`, FAILS below it, each with the whole interval.

    An interval that contains the lower level refutes nothing: UNDECIDED.
    """
    if _surely_above(interval, full) and also:
        return Outcome.HOLDS
    if _surely_above(interval, part):
        return Outcome.HOLDS_IN_PART
    high = interval.high if interval.high == interval.high else interval.mean
    return Outcome.FAILS if high <= part else Outcome.UNDECIDED


def _nothing_learned(unit: str, value: Interval) -> Finding:
    """The finding where what a claim compares has not been learned at all: it says nothing about the claim."""
    return Finding(Outcome.UNDECIDED, value, unit, say("what is compared was not learned in this run"))


def _surely_above(interval: Interval, level: float) -> bool:
    """Whether the whole 95 % interval lies above a level; a lone value stands for itself."""
    low = interval.low if interval.low == interval.low else interval.mean
    return low > level


def last(curves: Measurement, metric: str, **labels: str) -> Interval:
    """The value of a metric at the last step, over seeds."""
    part = curves.at(metric=metric, **labels)
    return part.interval(step=part.coords["step"][-1])


def crossing_steps(part: Measurement, level: float, *, censored: bool = True) -> NDArray[np.float64]:
    """Per seed, the step at which a curve passes a level; one that never does counts as the last step."""
    steps = part.along("step")
    found = np.array([first_crossing(steps, curve, level) for curve in _by_seed(part)])
    return np.where(np.isnan(found), steps[-1], found) if censored else found


def _by_seed(part: Measurement) -> NDArray[np.float64]:
    return np.moveaxis(part.values, part.dims.index("seed"), 0)


def two_layers(evidence: Evidence) -> Finding:
    """The gap between two layers and one, at the end."""
    curves = evidence["depth"]
    one, two = (curves.at(layers=n, metric="accuracy/in_context") for n in (1, 2))
    gap = interval_over_seeds(_by_seed(two)[:, -1] - _by_seed(one)[:, -1])
    solved = interval_over_seeds(_by_seed(two)[:, -1])
    outcome = _graded(gap, 0.2, 0.05, also=solved.mean >= SOLVED)
    because = say(
        "two layers reach {two} of in-context tokens, one layer {one}; counting alone reaches {counting}",
        two=f"{solved.mean:.3f}", one=f"{_by_seed(one)[:, -1].mean():.3f}",
        counting=f"{evidence['counting'].at(predictor='surprise', mask='in_context').values.mean():.3f}",
    )  # fmt: skip
    return Finding(outcome, gap, "accuracy", because)


def memories_form(evidence: Evidence) -> Finding:
    """All three recalls at the end, with the accuracy."""
    recalls = {m: last(evidence["formation"], f"recall/{m}") for m in ("output", "match", "position_64")}
    accuracy = last(evidence["formation"], "accuracy/in_context")
    worst = min(recalls.values(), key=lambda interval: interval.mean)
    holds = all(r.mean >= FORMED for r in recalls.values()) and accuracy.mean >= SOLVED
    outcome = _decide(holds, all(r.mean >= HALF_FORMED for r in recalls.values()))
    because = say(
        "final recall of W_O² {output}, W_K² {match}, W_K¹ (t < 64) {position}, with accuracy {accuracy}",
        output=f"{recalls['output'].mean:.2f}", match=f"{recalls['match'].mean:.2f}",
        position=f"{recalls['position_64'].mean:.2f}", accuracy=f"{accuracy.mean:.3f}",
    )  # fmt: skip
    return Finding(outcome, worst, "recall", because)


def beyond_counting(evidence: Evidence) -> Finding:
    """What remains after the best counting rule, self-copies left out."""
    accuracy = last(evidence["formation"], "accuracy/in_context_no_copy")
    counting = evidence["counting"].at(predictor="surprise", mask="in_context_no_copy").interval()
    margin = Interval(
        accuracy.mean - counting.mean,
        accuracy.low - counting.mean,
        accuracy.high - counting.mean,
        accuracy.count,
    )
    because = say(
        "without self-copies the model is right on {model} of in-context tokens, the best counting rule on {counting}",
        model=f"{accuracy.mean:.3f}", counting=f"{counting.mean:.3f}",
    )  # fmt: skip
    return Finding(_graded(margin, 0.2, 0.0), margin, "accuracy", because)


def top_down(evidence: Evidence) -> Finding:
    """Which memory passes half of its final recall first."""
    memories = ("output", "match", "position_64")
    halves = {m: _half_steps(evidence["formation"], f"recall/{m}") for m in memories}
    lead = interval_over_seeds(np.minimum(halves["match"], halves["position_64"]) - halves["output"])
    if min(last(evidence["formation"], f"recall/{m}").mean for m in memories) < HALF_FORMED:
        return _nothing_learned("steps", lead)
    because = say(
        "half of the final recall is passed at step {output} by W_O², {match} by W_K², {position} by W_K¹",
        output=f"{halves['output'].mean():.0f}", match=f"{halves['match'].mean():.0f}",
        position=f"{halves['position_64'].mean():.0f}",
    )  # fmt: skip
    return Finding(_lead_outcome(lead), lead, "steps", because)


def _lead_outcome(lead: Interval) -> Outcome:
    """A lead holds with its whole interval above zero, in part with its mean only, and fails with all of it below."""
    if _surely_above(lead, 0.0) or lead.mean > 0:
        return Outcome.HOLDS if _surely_above(lead, 0.0) else Outcome.HOLDS_IN_PART
    return _graded(lead, 0.0, 0.0)


def _half_steps(curves: Measurement, metric: str) -> NDArray[np.float64]:
    part = curves.at(metric=metric)
    steps = part.along("step")
    return np.array([first_crossing(steps, c, c[-1] / 2) for c in _by_seed(part)])


def output_first(evidence: Evidence) -> Finding:
    """What is lost at the release when W_O^2 was frozen."""
    frozen = evidence["freezing"]
    release = float(evidence["release"].values)
    at = {s: _at_step(frozen.at(frozen=s, metric="accuracy/in_context"), release) for s in ("none", "output")}
    keys = [_at_step(frozen.at(frozen="output", metric=f"recall/{m}"), release) for m in ("match", "position_64")]
    lost = interval_over_seeds(at["none"] - at["output"])
    waits = interval_over_seeds(_at_step(frozen.at(frozen="match+position", metric="recall/output"), release))
    keys_idle = max(float(k.mean()) for k in keys)
    holds = keys_idle < IDLE and waits.mean >= FORMED
    because = say(
        "at the release, W_O² frozen: accuracy {frozen} (free: {free}), keys recalled {keys}; both keys frozen: W_O² recalled {waits}",
        frozen=f"{at['output'].mean():.3f}", free=f"{at['none'].mean():.3f}",
        keys=f"{keys_idle:.2f}", waits=f"{waits.mean:.2f}",
    )  # fmt: skip
    return Finding(_graded(lost, 0.3, 0.1, also=holds), lost, "accuracy", because)


def catch_up(evidence: Evidence) -> Finding:
    """The slowest freezing schedule, at the end."""
    frozen = evidence["freezing"]
    sets = [str(s) for s in frozen.coords["frozen"]]
    final = {s: last(frozen, "accuracy/in_context", frozen=s) for s in sets}
    slowest = min(final, key=lambda s: final[s].mean)
    because = say(
        "the slowest set ({slowest}) ends at {accuracy}; unfrozen ends at {free}",
        slowest=slowest, accuracy=f"{final[slowest].mean:.3f}", free=f"{final['none'].mean:.3f}",
    )  # fmt: skip
    outcome = _decide(final[slowest].mean >= 0.8, sum(f.mean >= 0.8 for f in final.values()) >= len(sets) / 2)
    return Finding(outcome, final[slowest], "accuracy", because)


def _at_step(part: Measurement, step: float) -> NDArray[np.float64]:
    """The last row at or before a step, so that nothing after it is counted."""
    return _by_seed(part)[:, max(0, int(np.searchsorted(part.along("step"), step, side="right")) - 1)]


def global_first(evidence: Evidence) -> Finding:
    """Which loss makes half of its drop first."""
    curves = evidence["data"].at(setting="random K=5")
    halves = {m: _half_drop(curves.at(metric=f"loss/{m}")) for m in ("global", "in_context")}
    lead = interval_over_seeds(halves["in_context"] - halves["global"])
    loss = curves.at(metric="loss/in_context")
    dropped = interval_over_seeds(_by_seed(loss)[:, 0] - _by_seed(loss).min(axis=1))
    if dropped.mean < LEARNED_NATS:
        return _nothing_learned("steps", lead)
    because = say(
        "half of its total drop is made by the global loss at step {near}, by the in-context loss at step {far}",
        near=f"{halves['global'].mean():.0f}", far=f"{halves['in_context'].mean():.0f}",
    )  # fmt: skip
    return Finding(_lead_outcome(lead), lead, "steps", because)


def _half_drop(part: Measurement) -> NDArray[np.float64]:
    steps = part.along("step")
    return np.array([first_crossing(steps, -c, -(c[0] + c.min()) / 2) for c in _by_seed(part)])


def data_decides(evidence: Evidence) -> Finding:
    """When accuracy 0.8 is passed under each choice of triggers."""
    curves = evidence["data"]
    steps = {
        s: crossing_steps(curves.at(setting=s, metric="accuracy/in_context"), 0.8)
        for s in ("frequent K=5", "frequent K=1", "rare K=5", "random K=5")
    }
    delays = {s: interval_over_seeds(v - steps["frequent K=5"]) for s, v in steps.items() if s != "frequent K=5"}
    reached = np.nanmax(_by_seed(curves.at(setting="frequent K=5", metric="accuracy/in_context")), axis=1)
    if reached.min() < 0.8:
        return _nothing_learned("steps", min(delays.values(), key=lambda d: d.mean))
    slower = [s for s, d in delays.items() if _surely_above(d, 0.0)]
    because = say(
        "accuracy 0.8 is passed at step {frequent} with five frequent triggers, {one} with one, {rare} with rare, {random} with random ones (never = last step)",
        frequent=f"{steps['frequent K=5'].mean():.0f}", one=f"{steps['frequent K=1'].mean():.0f}",
        rare=f"{steps['rare K=5'].mean():.0f}", random=f"{steps['random K=5'].mean():.0f}",
    )  # fmt: skip
    return Finding(
        _decide(len(slower) == len(delays), bool(slower)),
        min(delays.values(), key=lambda d: d.mean),
        "steps",
        because,
    )


def diverse_outputs(evidence: Evidence) -> Finding:
    """The drop under the other output law, both ways."""
    table = evidence["shift"]
    drop = {
        trained: table.at(trained=trained, tested=trained).values - table.at(trained=trained, tested=other).values
        for trained, other in (("bigram", "uniform"), ("uniform", "bigram"))
    }
    asymmetry = interval_over_seeds(drop["bigram"] - drop["uniform"])
    if min(table.at(trained=law, tested=law).values.mean() for law in drop) < HALF_FORMED:
        return _nothing_learned("accuracy", asymmetry)
    because = say(
        "trained on bigram outputs the model loses {bigram} under uniform ones; trained on uniform outputs it loses {uniform} under bigram ones",
        bigram=f"{drop['bigram'].mean():.3f}", uniform=f"{drop['uniform'].mean():.3f}",
    )  # fmt: skip
    return Finding(_graded(asymmetry, 0.2, 0.0), asymmetry, "accuracy", because)


def width(evidence: Evidence) -> Finding:
    """Accuracy of the hand-built head from the smallest to the largest width."""
    built = evidence["construction"].at(variant="random, all tokens")
    widths = built.along("width")
    curve = _by_seed(built)
    rises = bool((np.diff(curve.mean(axis=0)) > -0.02).all())
    gain = interval_over_seeds(curve[:, -1] - curve[:, 0])
    because = say(
        "with no training, width {small} solves {low} and width {large} solves {high}",
        small=int(widths[0]), low=f"{curve[:, 0].mean():.3f}", large=int(widths[-1]), high=f"{curve[:, -1].mean():.3f}",
    )  # fmt: skip
    return Finding(
        _graded(gain, 0.2, 0.0, also=rises and float(curve[:, -1].mean()) >= SOLVED), gain, "accuracy", because
    )


def early_positions(evidence: Evidence) -> Finding:
    """Recall of the first 64 positions against the later ones."""
    recall = evidence["position_recall"]
    positions = recall.along("position")
    by_seed = _by_seed(recall)
    if positions.max() <= 64:
        nothing = interval_over_seeds(np.array([]))
        return Finding(Outcome.UNDECIDED, nothing, "recall", say("the sequences end before position 64"))
    gap = interval_over_seeds(by_seed[:, positions <= 64].mean(axis=1) - by_seed[:, positions > 64].mean(axis=1))
    because = say(
        "previous positions are recalled for {early} of the first 64 positions and {late} of the later ones",
        early=f"{by_seed[:, positions <= 64].mean():.2f}", late=f"{by_seed[:, positions > 64].mean():.2f}",
    )  # fmt: skip
    return Finding(_graded(gap, 0.2, 0.0), gap, "recall", because)


def attention_as_predicted(evidence: Evidence) -> Finding:
    """Where both layers look after training."""
    looks = evidence["attention_probes"]
    probes = {str(p): looks.interval(probe=p) for p in looks.coords["probe"]}
    key = ("layer 1 looks at the previous token", "layer 2 looks at the right output")
    worst = min((probes[k] for k in key), key=lambda interval: interval.mean)
    because = say(
        "after a trigger, layer 1 looks at the previous token {previous} of the time; at repeated triggers layer 2 looks at the right output {right} of the time",
        previous=f"{probes[key[0]].mean:.3f}", right=f"{probes[key[1]].mean:.3f}",
    )  # fmt: skip
    return Finding(_decide(worst.mean >= SOLVED, worst.mean >= HALF_FORMED), worst, "share", because)


def three_steps(evidence: Evidence) -> Finding:
    """Accuracy after the three steps, on restricted and unrestricted streams."""
    steps = evidence["three_steps"]
    end = {
        v: steps.at(version=v, after="position", metric="accuracy").interval() for v in ("restricted", "unrestricted")
    }
    recalls = [
        steps.at(version="restricted", after="position", metric=f"recall/{m}").interval().mean
        for m in ("output", "match", "position")
    ]
    because = say(
        "restricted streams end at accuracy {restricted} with recalls {recalls}; unrestricted streams end at {unrestricted}",
        restricted=f"{end['restricted'].mean:.3f}", recalls=", ".join(f"{r:.2f}" for r in recalls),
        unrestricted=f"{end['unrestricted'].mean:.3f}",
    )  # fmt: skip
    in_restricted = min(recalls) >= 0.99 and end["restricted"].mean >= SOLVED
    outcome = _decide(in_restricted and end["unrestricted"].mean >= SOLVED, in_restricted)
    return Finding(outcome, end["restricted"], "accuracy", because)


def order_is_forced(evidence: Evidence) -> Finding:
    """Gradient norms at zero weights."""
    norms = evidence["three_steps"].at(version="restricted", after="start")
    others = max(float(norms.at(metric=f"gradient/{m}").values.max()) for m in ("match", "position"))
    own = norms.at(metric="gradient/output").interval()
    because = say(
        "at the start the gradient norm is {own} for W_O² and {others} for both key matrices",
        own=f"{own.mean:.2g}", others=f"{others:.2g}",
    )  # fmt: skip
    return Finding(_decide(others == 0.0 and own.mean > 0, False), own, "gradient norm", because)


def gradients_are_memories(evidence: Evidence) -> Finding:
    """Autograd against the sum of Lemma 1."""
    difference = evidence["lemmas"].interval(quantity="lemma 1: largest difference")
    because = say(
        "autograd and the outer-product sum differ by at most {value} in float64",
        value=f"{difference.mean:.1e}",
    )
    return Finding(_decide(difference.mean < 1e-6, False), difference, "gradient", because)


def noise_is_filtered(evidence: Evidence) -> Finding:
    """One step on noisy inputs (Lemma 2)."""
    lemmas = evidence["lemmas"]
    recall = lemmas.interval(quantity="lemma 2: recall after one step")
    leak = lemmas.interval(quantity="lemma 2: share on positions")
    because = say(
        "after one step the labels are recalled {recall} of the time and the largest position weight is {leak} of a label's",
        recall=f"{recall.mean:.2f}", leak=f"{leak.mean:.3f}",
    )  # fmt: skip
    return Finding(
        _decide(recall.mean == 1.0 and leak.mean < 0.1, recall.mean > HALF_FORMED), recall, "recall", because
    )


def early_by_theory(evidence: Evidence) -> Finding:
    """The profile of the step on W_K^1 against its prediction."""
    profile = evidence["position_profile"]
    measured = _by_seed(profile.at(source="measured"))
    predicted = profile.at(source="predicted").values
    predicted = predicted[0] if predicted.ndim == 2 else predicted
    agreement = interval_over_seeds(np.array([np.corrcoef(m, predicted)[0, 1] for m in measured]))
    because = say("measured and predicted strength over positions correlate {value}", value=f"{agreement.mean:.2f}")
    return Finding(
        _graded(agreement, 0.95, 0.5),
        agreement,
        "correlation",
        because,
    )
