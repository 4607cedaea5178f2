"""How the claims about linear layers, compression and theory are judged (mesa.md 9): fixed before the numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.deciding import judged_by_seeds, weakest
from glassworks.experiments.mesa.curves_of import (
    HALF_SQUARED,
    at_positions,
    by_seed,
    has_learned,
    not_learned,
    ratio,
    three,
)

STEP = "one step, best rate"
RATE_TERM = "s_i (s_i-1 . s_t)"
LATE, ALL = "one late", "all pairs"
# Trained network and number of preconditioning steps it is compared with; the last two read raw tokens.
PAIRS = (("LSA-2", 2), ("LSA-4", 4), ("LSA-6", 6), ("Softmax-3", 2), ("Softmax-7", 6))


def solver(steps: int, lag: str) -> str:
    """The label of a solver's curve."""
    return f"Prop. 2, {steps} steps, {lag}"


def one_step(evidence: Evidence) -> Finding:
    """LSA-1 against one gradient step of the best rate."""
    return against_one_step(evidence, "one_layer_loss", (0.015, 0.05))


def against_one_step(evidence: Evidence, name: str, bounds: tuple[float, float]) -> Finding:
    """LSA-1 of a world against one gradient step of the best rate; how far apart they may be to hold, and in part."""
    losses = evidence[name]
    if not has_learned(losses, "LSA-1"):
        return not_learned(evidence)
    found = ratio(losses, "LSA-1", STEP)
    because = say(
        "LSA-1 has a loss of {trained}, one step of the best rate {step}",
        trained=three(by_seed(losses, "LSA-1").mean()), step=three(by_seed(losses, STEP).mean()),
    )  # fmt: skip
    return Finding(judged_by_seeds(abs(found - 1), *bounds), interval_over_seeds(found), "ratio of losses", because)


def coefficients(evidence: Evidence) -> Finding:
    """The rate in the weights, and the largest of the other seven coefficients."""
    found, losses = evidence["one_layer_coefficients"], evidence["one_layer_loss"]
    if not has_learned(losses, "LSA-1"):
        return not_learned(evidence, "rate")
    rate = found.at(term=RATE_TERM).values
    others = np.stack([found.at(term=term).values for term in found.coords["term"] if term != RATE_TERM])
    share = abs(others).max(axis=0) / abs(rate)
    # How far outside the band 0.032 .. 0.035 (0.028 .. 0.039): at most 1 is inside.
    narrow, wide = abs(rate - 0.0335) / 0.0015, abs(rate - 0.0335) / 0.0055
    holds, in_part = bool((narrow <= 1).all() and (share < 0.25).all()), bool((wide <= 1).all() and (share < 0.5).all())
    fails = bool(((wide > 1) | (share >= 0.5)).all())
    because = say(
        "the rate is {rate}, the largest other coefficient {share} of it",
        rate=f"{rate.mean():.4f}", share=f"{share.max():.2f}",
    )  # fmt: skip
    outcome = (
        Outcome.HOLDS if holds else Outcome.HOLDS_IN_PART if in_part else Outcome.FAILS if fails else Outcome.UNDECIDED
    )
    return Finding(outcome, interval_over_seeds(rate), "rate", because)


def compress_one(evidence: Evidence) -> Finding:
    """LSA-1 against its block scalars."""
    losses = evidence["one_layer_loss"]
    if not has_learned(losses, "LSA-1"):
        return not_learned(evidence)
    found = ratio(losses, "compressed LSA-1", "LSA-1")
    because = say("the compressed network has {ratio} times the loss", ratio=f"{found.mean():.4f}")
    return Finding(judged_by_seeds(abs(found - 1), 0.01, 0.05), interval_over_seeds(found), "ratio of losses", because)


def by_hand(evidence: Evidence) -> Finding:
    """Weights of propositions 1 and 2, set by hand, against trained ones."""
    one, deep = evidence["one_layer_loss"], evidence["deep_loss"]
    if not (has_learned(one, "LSA-1") and has_learned(deep, "LSA-6")):
        return not_learned(evidence)
    first = ratio(one, "construction", "LSA-1")
    second = ratio(deep, "constructed network, 6 steps", "LSA-6")
    outcome = weakest([judged_by_seeds(abs(first - 1), 0.02, 0.05), judged_by_seeds(second, 1.05, 1.15)])
    because = say(
        "set by hand, one step has {first} times the loss of LSA-1, six steps and one {second} times that of LSA-6",
        first=f"{first.mean():.3f}", second=f"{second.mean():.3f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(second), "ratio of losses", because)


def mesa_is_ridge(evidence: Evidence) -> Finding:
    """Mesa-1 against exact ridge on all pairs."""
    losses = evidence["one_layer_loss"]
    if not has_learned(losses, "Mesa-1"):
        return not_learned(evidence)
    found = ratio(losses, "Mesa-1", "ridge")
    because = say(
        "Mesa-1 has a loss of {mesa}, exact ridge {ridge}",
        mesa=three(by_seed(losses, "Mesa-1").mean()), ridge=three(by_seed(losses, "ridge").mean()),
    )  # fmt: skip
    return Finding(judged_by_seeds(found, 1.05, 1.10), interval_over_seeds(found), "ratio of losses", because)


def mesa_beats(evidence: Evidence) -> Finding:
    """Mesa-1 against the best of LSA-2, LSA-4 and LSA-6 of the same seed."""
    one, deep = evidence["one_layer_loss"], evidence["deep_loss"]
    names = ("LSA-2", "LSA-4", "LSA-6")
    if not (has_learned(one, "Mesa-1") and has_learned(deep, *names)):
        return not_learned(evidence)
    mesa, best = by_seed(one, "Mesa-1"), np.min([by_seed(deep, name) for name in names], axis=0)
    lead = best - mesa
    outcome = judged_by_seeds(-lead, 0.0, 0.0)
    if outcome is Outcome.HOLDS and not (mesa <= 0.20).all():
        outcome = Outcome.HOLDS_IN_PART
    because = say(
        "one mesa layer reaches {mesa}, the best linear network {best}",
        mesa=three(mesa.mean()),
        best=three(best.mean()),
    )
    return Finding(outcome, interval_over_seeds(lead), HALF_SQUARED, because)


def compress_deep(evidence: Evidence) -> Finding:
    """LSA-6 against its block scalars."""
    losses = evidence["deep_loss"]
    if not has_learned(losses, "LSA-6"):
        return not_learned(evidence)
    rise = by_seed(losses, "compressed LSA-6") - by_seed(losses, "LSA-6")
    because = say(
        "the compressed network has {compressed}, the trained one {trained}",
        compressed=three(by_seed(losses, "compressed LSA-6").mean()), trained=three(by_seed(losses, "LSA-6").mean()),
    )  # fmt: skip
    return Finding(judged_by_seeds(rise, 0.02, 0.05), interval_over_seeds(rise), HALF_SQUARED, because)


def interpolation(evidence: Evidence) -> Finding:
    """How far the mean of both networks rises above the worse of them, late in training."""
    # A path between networks one of which predicts zero would be no higher than its worse end, and say nothing.
    one, deep = evidence["one_layer_loss"], evidence["deep_loss"]
    if not (has_learned(one, "LSA-1", "compressed LSA-1") and has_learned(deep, "LSA-6", "compressed LSA-6")):
        return not_learned(evidence)
    rises = np.stack(
        [_rise(evidence["one_layer_interpolation"], "LSA-1"), _rise(evidence["deep_interpolation"], "LSA-6")]
    )
    worst = rises.max(axis=0)
    because = say(
        "the mean network exceeds the worse of the two by at most {one} (one layer) and {six} (six layers)",
        one=three(rises[0].max()), six=three(rises[1].max()),
    )  # fmt: skip
    return Finding(judged_by_seeds(worst, 0.02, 0.05), interval_over_seeds(worst), HALF_SQUARED, because)


def _rise(found: Measurement, model: str) -> NDArray[np.float64]:
    """Per seed, the largest excess of the interpolated network after 3/8 of the steps."""
    part = found.at(model=model)
    middle, *ends = (part.at(network=network).values for network in ("interpolated", "trained", "construction"))
    # Models of one measurement may differ in their number of steps: those of another are NaN here.
    kept = ~np.isnan(ends[0]).all(axis=0)
    steps = part.along("step")
    late = kept & (steps >= 0.375 * steps[kept].max(initial=0.0))
    return (middle - np.maximum(*ends))[:, late].max(axis=1) if late.any() else np.full(len(middle), np.nan)


def _pairs(evidence: Evidence, lag: str) -> dict[str, NDArray[np.float64]]:
    """Loss of each network over that of its solver, per seed."""
    return {
        model: ratio(evidence["deep_loss" if model.startswith("LSA") else "softmax_loss"], model, solver(steps, lag))
        for model, steps in PAIRS
    }


def _listed(ratios: dict[str, NDArray[np.float64]]) -> str:
    return ", ".join(f"{model} {values.mean():.2f}" for model, values in ratios.items())


def _all_learned(evidence: Evidence, models: Sequence[str]) -> bool:
    return all(
        has_learned(evidence["deep_loss" if model.startswith("LSA") else "softmax_loss"], model) for model in models
    )


def steps_as_layers(evidence: Evidence) -> Finding:
    """Networks against solvers of as many steps, as published: one pair late."""
    if not _all_learned(evidence, [model for model, _ in PAIRS]):
        return not_learned(evidence)
    ratios = _pairs(evidence, LATE)
    apart = np.stack([abs(values - 1) for values in ratios.values()])
    within = int((apart <= 0.08).all(axis=1).sum())
    beyond = int((apart > 0.08).all(axis=1).sum())
    outcome = Outcome.HOLDS if within == len(PAIRS) else Outcome.HOLDS_IN_PART if within >= 3 else Outcome.UNDECIDED
    if within < 3 and beyond > len(PAIRS) - 3:
        outcome = Outcome.FAILS
    because = say("loss over that of the solver: {list}", list=_listed(ratios))
    return Finding(outcome, interval_over_seeds(apart.max(axis=0)), "largest distance from 1", because)


def steps_all_pairs(evidence: Evidence) -> Finding:
    """LSA-6 and Softmax-7 against the solver that uses every pair."""
    if not _all_learned(evidence, ("LSA-6", "Softmax-7")):
        return not_learned(evidence)
    ratios = {model: values for model, values in _pairs(evidence, ALL).items() if model in ("LSA-6", "Softmax-7")}
    above = sum(bool((values > 1).all()) for values in ratios.values())
    below = sum(bool((values < 1).all()) for values in ratios.values())
    outcome = {2: Outcome.HOLDS, 1: Outcome.HOLDS_IN_PART}.get(
        above, Outcome.FAILS if below == 2 else Outcome.UNDECIDED
    )
    because = say("loss over that of the solver with all pairs: {list}", list=_listed(ratios))
    return Finding(outcome, interval_over_seeds(np.min(list(ratios.values()), axis=0)), "ratio of losses", because)


def target_probe(evidence: Evidence) -> Finding:
    """Whether every layer makes the next state at least as readable as the layer before."""
    if not _all_learned(evidence, ("LSA-6", "Softmax-7")):
        return not_learned(evidence)
    worse, total, unknown, steepest = 0, 0, 0, 0.0
    for name in ("deep_probe", "softmax_probe"):
        error = evidence[name].at(target="next")
        places = [p for p in (10, 20, 30, 40, 50) if p in error.coords["position"]]
        if not places:
            return not_learned(evidence)
        means = np.stack([error.at(position=p).values.mean(axis=1) for p in places], axis=1)
        growth = means[1:] / means[:-1]
        unknown += int(np.isnan(growth).sum())
        worse, total, steepest = (
            worse + int((growth > 1.02).sum()),
            total + growth.size,
            max(steepest, growth.max(initial=0)),
        )
    share = worse / total if total and not unknown else float("nan")
    outcome = judged_by_seeds([share], 0.0, 0.1)
    because = say(
        "{worse} of {total} steps from layer to layer make it worse by more than 2 %, the worst by a factor {factor}",
        worse=worse, total=total, factor=f"{steepest:.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(np.array([share])), "share of layers", because)


def precondition_probe(evidence: Evidence) -> Finding:
    """The best layer's error for the preconditioned input over that of the raw input."""
    if not _all_learned(evidence, ("LSA-6", "Softmax-7")):
        return not_learned(evidence)
    linear, softmax = (best_over_input(evidence[name]) for name in ("deep_probe", "softmax_probe"))
    outcome = weakest([judged_by_seeds(linear, 0.2, 0.4), judged_by_seeds(softmax, 0.4, 0.6)])
    because = say(
        "at t = 20 to 50 the best layer leaves {linear} of the input's error in LSA-6, {softmax} in Softmax-7",
        linear=f"{linear.mean():.2f}", softmax=f"{softmax.mean():.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(linear), "ratio of errors", because)


def best_over_input(probe: Measurement, target: str = "polynomial") -> NDArray[np.float64]:
    """Per seed, the smallest mean error of a layer at t = 20 to 50 over that at the input; NaN in shorter sequences."""
    means = _late_means(probe.at(target=target))
    return means[1:].min(axis=0) / means[0]


def _late_means(part: Measurement) -> NDArray[np.float64]:
    """Means over the positions 20 to 50, by layer and seed; NaN where there are none."""
    late = at_positions(part, 20, 50)
    return part.values[:, :, late].mean(axis=2) if late.any() else np.full(part.values.shape[:2], np.nan)


def inverse_probe(evidence: Evidence) -> Finding:
    """The best layer's R^2 for the inverse itself."""
    if not _all_learned(evidence, ("LSA-6",)):
        return not_learned(evidence)
    layers = _late_means(evidence["deep_probe_r2"].at(target="exact"))
    best, raw = layers[1:].max(axis=0), layers[0]
    because = say(
        "the inverse is read with an R² of {best} in the best layer of LSA-6, of {raw} in the input",
        best=f"{best.mean():.2f}", raw=f"{raw.mean():.2f}",
    )  # fmt: skip
    return Finding(judged_by_seeds(-best, -0.8, -0.5), interval_over_seeds(best), "R²", because)
