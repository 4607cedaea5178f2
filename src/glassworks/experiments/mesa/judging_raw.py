"""How the claims about raw tokens, other worlds and controls are judged (mesa.md 9): fixed before the numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds, rank_correlation
from glassworks.experiments.deciding import judged_by_level, judged_by_seeds, weakest
from glassworks.experiments.mesa.curves_of import has_fallen, has_learned, not_learned, ratio, three
from glassworks.experiments.mesa.judging_linear import STEP, against_one_step, best_over_input

BOTH = ("Softmax-7", "Hybrid-mesa")


def binding(evidence: Evidence) -> Finding:
    """Decoding the previous token from the first layer, as a share of its variance."""
    if not has_learned(evidence["softmax_loss"], *BOTH):
        return not_learned(evidence)
    share = _decoded(evidence["binding_decode"], evidence["binding_variance"], 1)
    because = say(
        "{softmax} of the previous token's variance is lost in Softmax-7, {hybrid} in Hybrid-mesa",
        softmax=f"{share[0].mean():.1%}", hybrid=f"{share[1].mean():.1%}",
    )  # fmt: skip
    worst = share.max(axis=0)
    return Finding(judged_by_seeds(worst, 0.02, 0.10), interval_over_seeds(worst), "share of variance", because)


def _decoded(found: Measurement, variance: Measurement, back: int) -> NDArray[np.float64]:
    """Error of decoding a token over its variance: [model, seed], Softmax-7 and Hybrid-mesa."""
    return np.stack([found.at(model=model, back=back).values for model in BOTH]) / float(variance.values)


def binding_attention(evidence: Evidence) -> Finding:
    """The mass of each head of the first layer on the present and the previous token."""
    if not has_learned(evidence["softmax_loss"], *BOTH):
        return not_learned(evidence)
    found = evidence["binding_attention"]
    mass = np.stack([found.at(model=m, back="0").values + found.at(model=m, back="1").values for m in BOTH])
    heads = mass.mean(axis=2)
    by_training = mass.mean(axis=(0, 1))
    # NaN in one head makes both numbers NaN.
    outcome = judged_by_level(float(heads.mean()), 0.8, 0.8, also=bool((heads > 0.8).all()))
    because = say(
        "mass on the present and the previous token: {mean} on average, {least} in the least of the heads",
        mean=f"{heads.mean():.2f}", least=f"{heads.min():.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(by_training), "mass", because)


def binding_partial(evidence: Evidence) -> Finding:
    """How many of the last tokens the first layer has bound in the partially observed world."""
    if not has_learned(evidence["partial_loss"], *BOTH):
        return not_learned(evidence)
    found, variance = evidence["partial_decode"], evidence["partial_variance"]
    shares = np.stack([_decoded(found, variance, back) for back in range(4)])
    decodable = np.where(np.isnan(shares), np.nan, shares < 0.10)
    counts = np.cumprod(decodable, axis=0).sum(axis=0).min(axis=0)
    because = say(
        "errors of the last four tokens reach {worst} of the variance; {count} in a row are decodable",
        worst=f"{shares.mean(axis=2).max():.1%}", count=f"{counts.min():.0f}",
    )  # fmt: skip
    return Finding(judged_by_seeds(-counts, -4.0, -3.0), interval_over_seeds(counts), "tokens", because)


def sensitivity(evidence: Evidence) -> Finding:
    """How much the first layer feels tokens older than five, over the present one, at the end of training."""
    if not has_learned(evidence["softmax_loss"], *BOTH):
        return not_learned(evidence)
    older = {model: _felt_at_the_end(evidence["binding_sensitivity"], model) for model in (*BOTH, "Full-mesa")}
    near = np.maximum(*(older[model] for model in BOTH))
    outcome = judged_by_seeds(near, 0.05, 0.05)
    if outcome is Outcome.HOLDS and not (older["Full-mesa"] > 0.10).all():
        outcome = Outcome.HOLDS_IN_PART
    because = say(
        "tokens older than five count {softmax} (Softmax-7), {hybrid} (Hybrid-mesa) and {full} (Full-mesa) of the present one",
        softmax=f"{older['Softmax-7'].mean():.1%}", hybrid=f"{older['Hybrid-mesa'].mean():.1%}",
        full=f"{older['Full-mesa'].mean():.1%}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(near), "ratio of norms", because)


def _felt_at_the_end(found: Measurement, model: str) -> NDArray[np.float64]:
    """Older tokens over the present one after the model's own last step, per seed; models differ in their steps."""
    part = found.at(model=model)
    kept = [step for step in part.coords["step"] if not np.isnan(part.at(step=step).values).all()]
    last = part.at(step=kept[-1] if kept else part.coords["step"][-1])
    return last.at(back="older").values / last.at(back="0").values


def linearise(evidence: Evidence) -> Finding:
    """The cost of replacing one softmax layer, averaged over seeds, in dimensions from 20 on."""
    found = evidence["linearise"]
    wide = [d for d in found.coords["dimension"] if int(d) >= 20]
    training = evidence["training_linearise"].at(metric="loss")
    if not wide or not all(has_fallen(training, str(d)) for d in wide):
        return not_learned(evidence, "ratio of losses")
    costs = np.stack([found.at(dimension=d).values for d in wide])
    later, first = costs[:, 2:].mean(axis=2), costs[:, 0].mean(axis=1)
    # Layers are no repetitions: the costliest decides.
    outcome = judged_by_seeds([later.max()], 1.10, 1.25)
    if outcome is Outcome.HOLDS and not (first >= 2).all():
        outcome = Outcome.HOLDS_IN_PART
    because = say(
        "layers from the third on cost a factor of at most {later}, the first one {first}",
        later=f"{later.max():.2f}", first=f"{first.mean():.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(costs[:, 2:].max(axis=(0, 1))), "ratio of losses", because)


def dimension(evidence: Evidence) -> Finding:
    """Ridge and a softmax kernel in growing dimension."""
    found = evidence["kernels"]
    sizes = found.along("dimension")
    ridge, kernel = (found.at(solver=name).values for name in ("ridge", "softmax kernel"))
    falls, rises = -rank_correlation(sizes, ridge), rank_correlation(sizes, kernel)
    signs = bool(ridge[-1] < ridge[0] and kernel[-1] > kernel[0])
    strong = min(falls, rises)
    outcome = Outcome.FAILS if not signs else Outcome.HOLDS if strong >= 0.8 else Outcome.HOLDS_IN_PART
    if np.isnan([ridge, kernel]).any():
        outcome = Outcome.UNDECIDED
    because = say(
        "from {first} to {last} dimensions ridge goes from {r0} to {r1}, the kernel from {k0} to {k1}",
        first=f"{sizes[0]:.0f}", last=f"{sizes[-1]:.0f}", r0=three(ridge[0]), r1=three(ridge[-1]),
        k0=three(kernel[0]), k1=three(kernel[-1]),
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(np.array([strong])), "rank correlation", because)


def hybrid(evidence: Evidence) -> Finding:
    """Hybrid-mesa over Softmax-7 in three worlds."""
    names = ("softmax_loss", "nonlinear_loss", "partial_loss")
    if not all(has_learned(evidence[name], *BOTH) for name in names):
        return not_learned(evidence)
    linear, nonlinear, partial = (ratio(evidence[name], "Hybrid-mesa", "Softmax-7") for name in names)
    ends = [evidence["partial_loss"].at(model=m).values[:, -1] for m in BOTH]
    at_end = ends[1] / ends[0]
    parts = [judged_by_seeds(linear, 1.0, 1.0), judged_by_seeds(nonlinear, 1.0, 1.0)]
    parts += [judged_by_seeds(partial, 1.05, 1.05), judged_by_seeds(at_end, 1.0, 1.0)]
    # The weaker claim is about the linear world alone.
    outcome = weakest(parts)
    if outcome is not Outcome.HOLDS:
        outcome = Outcome.HOLDS_IN_PART if parts[0] is Outcome.HOLDS else parts[0]
    because = say(
        "loss over that of Softmax-7: linear {linear}, nonlinear {nonlinear}, partial {partial} ({end} at the end)",
        linear=f"{linear.mean():.2f}", nonlinear=f"{nonlinear.mean():.2f}", partial=f"{partial.mean():.2f}",
        end=f"{at_end.mean():.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(linear), "ratio of losses", because)


def contracting(evidence: Evidence) -> Finding:
    """LSA-1 against one step in the contracting world."""
    return against_one_step(evidence, "contracting_loss", (0.03, 0.10))


def fixed_teacher(evidence: Evidence) -> Finding:
    """LSA-1 against one step, and the preconditioning probe, where one law serves all sequences."""
    losses = evidence["fixed_teacher_loss"]
    # Probes are those of LSA-4: layers that have learned nothing prepare nothing.
    if not has_learned(losses, "LSA-1", "LSA-4"):
        return not_learned(evidence)
    found, probe = ratio(losses, "LSA-1", STEP), best_over_input(evidence["fixed_teacher_probe"])
    outcome = judged_by_seeds(found, 0.25, 0.25)
    if outcome is Outcome.HOLDS and not (probe >= 0.5).all():
        outcome = Outcome.HOLDS_IN_PART
    because = say(
        "LSA-1 has {ratio} times the loss of one step, and its best layer leaves {probe} of the input's probe error",
        ratio=f"{found.mean():.2f}", probe=f"{probe.mean():.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(found), "ratio of losses", because)
