"""How the claims about few-shot prompts and language are judged (mesa.md 9): fixed before the numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Finding, Outcome
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.deciding import judged_by_lead, judged_by_seeds
from glassworks.experiments.mesa.curves_of import not_learned, three

MODELS = ("Softmax-7", "Hybrid-mesa")
PROMPTS = ("plain", "separator", "prefix")
PAIRS = "ridge on pairs"


def _late(found: Measurement, model: str, prompt: str) -> NDArray[np.float64]:
    """Mean loss over the last tenth of the labels, per seed."""
    values = found.at(model=model, prompt=prompt).values
    return values[:, -max(1, values.shape[1] // 10) :].mean(axis=1)


def _has_learned(evidence: Evidence) -> bool:
    """Whether the models predict their own world clearly better than zero does."""
    curves = evidence["training_few_shot"].at(metric="loss")
    first, last = (curves.at(step=curves.coords["step"][i]).values for i in (0, -1))
    return bool((last < 0.9 * first).all())


def few_shot(evidence: Evidence) -> Finding:
    """Labels late against first, with the separator against without, with the prefix against without."""
    if not _has_learned(evidence):
        return not_learned(evidence)
    found = evidence["few_shot"]
    first = {m: found.at(model=m, prompt="plain").values[:, 0] for m in MODELS}
    learns = np.stack([_late(found, m, "plain") / first[m] for m in MODELS])
    separates = np.stack([_late(found, m, "separator") / _late(found, m, "plain") for m in MODELS])
    early = {
        p: [found.at(model=m, prompt=p).values[:, :5].mean(axis=1) for m in MODELS] for p in ("separator", "prefix")
    }
    prefixes = np.stack([b / a for a, b in zip(early["separator"], early["prefix"], strict=True)])
    # Per part and seed, whether both models do it; NaN where a number is missing.
    seeds = np.stack([_both(learns, learns <= 0.7), _both(separates, separates < 1), _both(prefixes, prefixes < 1)])
    outcome = _parts(seeds, enough=2)
    because = say(
        "late labels cost {learns} of the first; the separator brings them to {separates} of that, the prefix the first five to {prefixes}",
        learns=f"{learns.mean():.2f}", separates=f"{separates.mean():.2f}", prefixes=f"{prefixes.mean():.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(learns.mean(axis=0)), "ratio of losses", because)


def _both(values: NDArray[np.float64], met: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Whether all rows of a seed meet a bound: 1 or 0, NaN where one of its numbers is missing."""
    return np.where(np.isnan(values).any(axis=0), np.nan, met.all(axis=0))


def _parts(found: NDArray[np.float64], enough: int) -> Outcome:
    """Parts of a claim by seed, 1 where met: HOLDS with all, in part with `enough`, FAILS where so many cannot be."""
    met, unmet = int((found == 1).all(axis=1).sum()), int((found == 0).all(axis=1).sum())
    if met == len(found):
        return Outcome.HOLDS
    if met >= enough:
        return Outcome.HOLDS_IN_PART
    return Outcome.FAILS if len(found) - unmet < enough else Outcome.UNDECIDED


def early_ascent(evidence: Evidence) -> Finding:
    """The loss after three to five pairs against that after none, on plain prompts."""
    if not _has_learned(evidence):
        return not_learned(evidence)
    found = evidence["few_shot"]
    rises = np.stack([_ascent(found, m) for m in MODELS])
    risen, fallen = (int(np.all(there, axis=1).sum()) for there in (rises > 0, rises <= 0))
    outcome = Outcome.HOLDS if risen == 2 else Outcome.HOLDS_IN_PART if risen else Outcome.UNDECIDED
    if fallen == 2:
        outcome = Outcome.FAILS
    because = say(
        "the loss changes by {softmax} in Softmax-7 and by {hybrid} in Hybrid-mesa",
        softmax=f"{rises[0].mean():+.2f}", hybrid=f"{rises[1].mean():+.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(rises.mean(axis=0)), "half squared error", because)


def _ascent(found: Measurement, model: str) -> NDArray[np.float64]:
    values = found.at(model=model, prompt="plain").values
    return values[:, 3:6].mean(axis=1) - values[:, 0]


def separator_zero(evidence: Evidence) -> Finding:
    """The largest entry of the learned separator."""
    if not _has_learned(evidence):
        return not_learned(evidence)
    values = evidence["few_shot_separator"].values
    because = say("its largest entry is {most}", most=three(values.max()))
    outcome = judged_by_seeds(values.max(axis=0), 0.05, 0.2)
    return Finding(outcome, interval_over_seeds(values.max(axis=0)), "entry", because)


def two_tasks(evidence: Evidence) -> Finding:
    """The loss just after the switch against before it, and at the end against just after it."""
    if not _has_learned(evidence):
        return not_learned(evidence)
    found, switch = evidence["few_shot_two_tasks"], int(evidence["few_shot_switch"].values)
    met: list[NDArray[np.float64]] = []
    falls: list[NDArray[np.float64]] = []
    for model in MODELS:
        values = found.at(model=model, prompt="separator").values
        before, after = values[:, max(0, switch - 3) : switch].mean(axis=1), values[:, switch : switch + 3].mean(axis=1)
        end = values[:, -3:].mean(axis=1)
        met.append(_both(np.stack([before, after, end]), np.stack([after > before, end < after])))
        falls.append(end / after)
    outcome = _parts(np.stack(met), enough=1)
    because = say(
        "from just after the switch to the end the loss falls to {softmax} (Softmax-7) and {hybrid} (Hybrid-mesa) of itself",
        softmax=f"{falls[0].mean():.2f}", hybrid=f"{falls[1].mean():.2f}",
    )  # fmt: skip
    return Finding(outcome, interval_over_seeds(np.mean(falls, axis=0)), "ratio of losses", because)


def not_regression(evidence: Evidence) -> Finding:
    """Late labels against ridge regression on the pairs alone; the closest of all prompts and models."""
    if not _has_learned(evidence):
        return not_learned(evidence)
    found = evidence["few_shot"]
    ratios = np.stack([_late(found, m, p) / _late(found, m, PAIRS) for m in MODELS for p in PROMPTS])
    closest = ratios.min(axis=0)
    because = say("the closest model has {ratio} times the loss of ridge on the pairs", ratio=three(closest.min()))
    return Finding(judged_by_seeds(-closest, -10.0, -3.0), interval_over_seeds(closest), "ratio of losses", because)


def _bits(evidence: Evidence, model: str) -> NDArray[np.float64]:
    return evidence["language_loss"].at(model=model).values.mean(axis=1)


def _has_read(evidence: Evidence) -> bool:
    """Whether every model of text is better than knowing nothing but which bytes there are (8 bits)."""
    return bool((evidence["language_loss"].values.mean(axis=2) < 0.5 * 8).all())


def language_order(evidence: Evidence) -> Finding:
    """Bits per byte with a mesa layer against linear attention, paired by seed."""
    if not _has_read(evidence):
        return not_learned(evidence, "bits per byte")
    lead = interval_over_seeds(_bits(evidence, "linear") - _bits(evidence, "mesa"))
    because = say(
        "linear attention needs {linear} bits per byte, mesa {mesa}",
        linear=f"{_bits(evidence, 'linear').mean():.3f}", mesa=f"{_bits(evidence, 'mesa').mean():.3f}",
    )  # fmt: skip
    return Finding(judged_by_lead(lead), lead, "bits per byte", because)


def language_context(evidence: Evidence) -> Finding:
    """How much more late bytes gain over early ones with mesa than with linear attention."""
    if not _has_read(evidence):
        return not_learned(evidence, "bits per byte")
    scores = evidence["language_icl"]
    linear, mesa = (scores.at(model=m).values for m in ("linear", "mesa"))
    lead = interval_over_seeds(linear - mesa)
    if min(linear.mean(), mesa.mean()) >= 0:
        # Late bytes are no easier than early ones: there is no use of context to compare.
        because = say("neither model uses its context yet: late bytes cost no less than early ones")
        return Finding(Outcome.UNDECIDED, lead, "bits per byte", because)
    because = say(
        "late minus early: linear attention {linear}, mesa {mesa}",
        linear=f"{linear.mean():.3f}",
        mesa=f"{mesa.mean():.3f}",
    )
    return Finding(judged_by_lead(lead), lead, "bits per byte", because)


def language_softmax(evidence: Evidence) -> Finding:
    """Bits per byte with a mesa layer over those with softmax."""
    if not _has_read(evidence):
        return not_learned(evidence, "bits per byte")
    excess = _bits(evidence, "mesa") / _bits(evidence, "softmax") - 1
    because = say("mesa needs {excess} more bits than softmax", excess=f"{excess.mean():+.1%}")
    return Finding(judged_by_seeds(excess, 0.02, 0.05), interval_over_seeds(excess), "share", because)


def copy_heads(evidence: Evidence) -> Finding:
    """The mass of the most local head of each variant's first layer on the last four tokens."""
    if not _has_read(evidence):
        return not_learned(evidence, "mass")
    found = evidence["language_copy"]
    near = sum(found.at(back=str(back)).values for back in range(4))
    least = np.asarray(near).max(axis=1).min(axis=0)
    because = say(
        "the most local head of the least local variant has {mass} of its mass there", mass=f"{least.min():.2f}"
    )
    return Finding(judged_by_seeds(-least, -0.8, -0.5), interval_over_seeds(least), "mass", because)
