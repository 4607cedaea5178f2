"""What each part of the life measures, once its stages lie in the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.curves import on_common_steps, stack_histories
from glassworks.experiments.life import inside, weighing
from glassworks.experiments.life.chain import FREE, PARENTS, PROXY, REWARD, Chain
from glassworks.experiments.life.judging import BEST
from glassworks.experiments.life.names import (
    ANSWERS,
    BASE,
    CODERS,
    DIRECT,
    GROUP,
    HELD,
    LONGER,
    MODEL,
    PRETRAINING_TEXT,
    PROXIMAL,
    REWARD_MODEL,
    SCORERS,
    SHUFFLED,
    STAGES,
    TUNED,
    sample_label,
)
from glassworks.experiments.life.texts import packed_bits
from glassworks.tensors.seeds import Seed
from glassworks.training.overoptimisation import Point, best_of_n_curve, fit_law

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.life.spec import Life
    from glassworks.training.store import History

LAW = ("alpha", "beta", "peak", "residual")
METRICS = ("reward", "kl", "length", "spread")
# What is held out of conversations for judging at most, and how many prompts are shown with their answers.
_TALKS, _SHOWN = 100, 4
_TEMPERATURE = 0.8


def measure(study: Life, name: str, bench: Bench) -> Sequence[Measurement]:
    """The measurements of one part."""
    chain = Chain(study, bench)
    parts: Mapping[str, Callable[[Chain], list[Measurement]]] = {
        "pretraining": _pretraining,
        "tuning": _tuning,
        "reward": _reward,
        "reinforcement": _reinforcement,
        "overoptimisation": _overoptimisation,
        "inside": _inside,
    }
    return parts[name](chain)


def _pretraining(chain: Chain) -> list[Measurement]:
    """The model's bits of every window of the held-out text, and the packers' of the whole."""
    subject = chain.subject(BASE, 0)
    ours = inside.bits_per_byte(subject, replace(chain.held, windows=10**6))
    packers = packed_bits(chain.texts)
    # As many bytes in each part as windows allow; a packer's number is one for the whole text.
    parts = [float(part.mean()) for part in np.array_split(ours, min(20, len(ours)))]
    rows = [parts if coder == MODEL else [packers[coder]] * len(parts) for coder in CODERS]
    says = say("bits per byte of held-out text, of the model part by part and of packers")
    return [_made("compression", says, (rows, "bits per byte"), {"coder": CODERS, "part": tuple(range(len(parts)))})]


def _tuning(chain: Chain) -> list[Measurement]:
    return [_bits(chain, (BASE, TUNED))]


def _bits(chain: Chain, stages: Sequence[str]) -> Measurement:
    """Bits per byte of both held-out texts after each of some stages; NaN for the others."""
    study = chain.study
    talks = chain.demonstrations.held_out[:_TALKS]
    values = np.full((len(STAGES), 2, len(study.seeds)), np.nan)
    for stage in stages:
        for column, seed in enumerate(study.seeds):
            subject = chain.subject(stage, seed)
            of_text = inside.bits_per_byte(subject, chain.held).mean()
            of_answers = weighing.answer_bits(chain.writer(stage, seed), talks, study.length)
            values[STAGES.index(stage), :, column] = of_text, of_answers
    says = say("bits per byte of held-out text and of held-out answers, after each stage")
    coords = {"stage": STAGES, "text": (PRETRAINING_TEXT, ANSWERS), "seed": study.seeds}
    return _made("stage_bits", says, (values, "bits per byte"), coords)


def _reward(chain: Chain) -> list[Measurement]:
    """Accuracy of the reward models and of two rules, on held-out pairs and on those learned from."""
    study, found = chain.study, chain.preferences
    parts = {"held out": found.held_out, "training": found.fit}
    values = np.full((len(SCORERS), len(parts), len(study.seeds)), np.nan)
    longer = weighing.longer_is_better(found.fit)
    rules = {
        LONGER: [weighing.length_accuracy(pairs, longer=longer) for pairs in parts.values()],
        SHUFFLED: list(weighing.words_alone(found.fit, found.held_out)),
    }
    for scorer, shares in rules.items():
        values[SCORERS.index(scorer)] = np.array(shares)[:, None]
    for column, seed in enumerate(study.seeds):
        scorer = chain.scorer(REWARD, seed)
        for row, pairs in enumerate(parts.values()):
            values[SCORERS.index(REWARD_MODEL), row, column] = weighing.reward_accuracy(
                scorer, pairs[: 4 * len(found.held_out)]
            )
    says = say("share of pairs in which the chosen answer scores higher")
    coords = {"scorer": SCORERS, "part": tuple(parts), "seed": study.seeds}
    count = _made("reward_pairs", say("held-out pairs"), (float(len(found.held_out)), "pairs"), {})
    return [_made("reward_accuracy", says, (values, "fraction"), coords), count]


def _reinforcement(chain: Chain) -> list[Measurement]:
    """Rewards, distances and answers of every stage, on prompts that were held out."""
    study = chain.study
    prompts = chain.prompts([pair.prompt for pair in chain.preferences.held_out], study.judged, Seed(0).child("judged"))
    rewards = np.full((len(STAGES), len(METRICS), len(study.seeds)), np.nan)
    prefers = np.full((2, len(study.seeds)), np.nan)
    for column, seed in enumerate(study.seeds):
        scorer, tuned = chain.scorer(REWARD, seed), chain.writer(TUNED, seed)
        for row, stage in enumerate(STAGES):
            writer = chain.writer(stage, seed)
            written = weighing.write(writer, prompts, study.answer_length, 1.0, Seed(seed).child("judged"))
            scores = scorer(written.answers).double().numpy()
            kl = weighing.divergence(writer, tuned, written).mean()
            length = float(written.rollout.lengths.double().mean())
            rewards[row, :, column] = scores.mean(), kl, length, scores.std(ddof=1)
        for row, stage in enumerate((TUNED, DIRECT)):
            prefers[row, column] = weighing.preferred(
                chain.writer(stage, seed), chain.preferences.held_out, study.length
            )
    says = say("reward, distance and length of answers to held-out prompts, after each stage")
    coords = {"stage": STAGES, "metric": METRICS, "seed": study.seeds}
    share = say("share of held-out pairs whose chosen answer is likelier, per token")
    return [
        _made("stage_rewards", says, (rewards, "reward; nats per answer; tokens"), coords),
        _made("preferences", share, (prefers, "fraction"), {"stage": (TUNED, DIRECT), "seed": study.seeds}),
        _bits(chain, STAGES),
        _paths(chain, rewards[STAGES.index(TUNED)]),
        _training(chain),
        _seconds(chain),
        _samples(chain),
    ]


def _paths(chain: Chain, tuned: NDArray[np.float64]) -> Measurement:
    """Reward and KL of PPO and GRPO while they learn, rewards in spreads of the fine-tuned model's."""
    methods = (GROUP, PROXIMAL, HELD)
    rows = [
        [_path(chain.run(method, seed).history, ("kl", "reward")) for seed in chain.study.seeds] for method in methods
    ]
    longest = max(len(path) for row in rows for path in row)
    values = np.full((len(methods), len(chain.study.seeds), longest, 2), np.nan)
    for place, row in enumerate(rows):
        for column, path in enumerate(row):
            mean, spread = tuned[METRICS.index("reward"), column], tuned[METRICS.index("spread"), column]
            values[place, column, : len(path), 0] = path[:, 0]
            values[place, column, : len(path), 1] = (path[:, 1] - mean) / spread
    coords = {
        "method": methods, "seed": chain.study.seeds, "point": tuple(range(longest)), "metric": ("kl", "reward"),
    }  # fmt: skip
    return _made("policy_paths", say("reward against KL while a policy learns"), (values, "nats; spreads"), coords)


def _path(history: History, names: Sequence[str], points: int = 12) -> NDArray[np.float64]:
    """Columns of a history, averaged over spans of steps so that at most so many points are left."""
    columns = np.stack([history.curve(name) for name in names], 1)
    columns = columns[np.isfinite(columns).all(1)]
    spans = np.array_split(columns, min(points, max(1, len(columns))))
    return np.stack([span.mean(0) for span in spans])


def _overoptimisation(chain: Chain) -> list[Measurement]:
    """Learned and true reward against KL: along PPO without a price, and for best-of-n."""
    study = chain.study
    prompts = chain.prompts([pair.prompt for pair in chain.preferences.held_out], study.judged, Seed(0).child("judged"))
    paths: list[NDArray[np.float64]] = []
    curves: list[NDArray[np.float64]] = []
    for seed in study.seeds:
        proxy, gold, writer = chain.scorer(PROXY, seed), chain.scorer(REWARD, seed), chain.writer(TUNED, seed)
        draws = [
            weighing.write(writer, prompts, study.answer_length, 1.0, Seed(seed).child("best", draw)).answers
            for draw in range(max(study.best_of))
        ]
        both = [np.stack([scorer(answers).double().numpy() for answers in draws], 1) for scorer in (proxy, gold)]
        means, spreads = (np.array([getter(scores) for scores in both]) for getter in (np.mean, np.std))
        path = _path(chain.run(FREE, seed).history, ("kl", "reward", "gold"), 10)
        path[:, 1:] = (path[:, 1:] - means) / spreads
        points = best_of_n_curve(both[0], both[1], study.best_of)
        curve = np.array([[point.distance**2, point.proxy, point.gold] for point in points])
        curve[:, 1:] = (curve[:, 1:] - means) / spreads
        paths.append(path)
        curves.append(curve)
    longest = max(max(map(len, paths)), len(study.best_of))
    values = np.full((2, len(study.seeds), longest, 3), np.nan)
    for place, rows in enumerate((paths, curves)):
        for column, row in enumerate(rows):
            values[place, column, : len(row)] = row
    coords = {
        "method": (FREE, BEST), "seed": study.seeds, "point": tuple(range(longest)), "metric": ("kl", "proxy", "gold"),
    }  # fmt: skip
    says = say("learned (proxy) and true (gold) reward against KL, in spreads of the fine-tuned model's rewards")
    laws = np.array([[_law(row, method) for row in rows] for rows, method in ((paths, FREE), (curves, BEST))])
    named = {"method": (FREE, BEST), "seed": study.seeds, "number": LAW}
    return [
        _made("overoptimisation", says, (values, "nats; spreads"), coords),
        _made(
            "overoptimisation_law", say("the law of the true reward, fitted to each curve"), (laws, "spreads"), named
        ),
    ]


def _law(path: NDArray[np.float64], method: str) -> tuple[float, ...]:
    """Both constants, the distance of the peak and what is left unexplained; NaN where two distances are not to be had."""
    points = [Point(float(np.sqrt(max(kl, 0.0))), float(proxy), float(gold)) for kl, proxy, gold in path]
    if len({point.distance for point in points if point.distance > 0}) < 2:
        return (np.nan,) * len(LAW)
    fit = fit_law(points, "best_of_n" if method == BEST else "reinforced", 0.0)
    return fit.alpha, fit.beta, fit.peak if np.isfinite(fit.peak) else np.nan, fit.residual


def _inside(chain: Chain) -> list[Measurement]:
    """Streams, heads and layers of every stage."""
    seeds = chain.study.seeds
    subjects = {(stage, seed): chain.subject(stage, seed) for stage in STAGES for seed in seeds}
    return inside.measure(inside.Family(STAGES, seeds, PARENTS), subjects, chain.held)


def _training(chain: Chain) -> Measurement:
    """The losses that were logged."""
    stages = (BASE, TUNED, REWARD, DIRECT)
    histories: dict[tuple[Label, ...], History] = {
        (stage, seed): chain.run(stage, seed).history
        for stage in stages
        for seed in (chain.study.seeds[:1] if stage == BASE else chain.study.seeds)
    }
    says = say("losses while each stage learns")
    return stack_histories("training", says, on_common_steps(histories), ("stage", "seed"), ("loss", "bits_per_byte"))


def _seconds(chain: Chain) -> Measurement:
    """Seconds of every stage; of tokenizer and pretraining those of the one there is."""
    stages = ("tokenizer", *STAGES[:2], REWARD, *STAGES[2:])
    values = np.full((len(stages), len(chain.study.seeds)), np.nan)
    for row, stage in enumerate(stages):
        once = stage in ("tokenizer", BASE)
        for column, seed in enumerate(chain.study.seeds[: 1 if once else None]):
            values[row, column] = chain.run(stage, seed).seconds
    coords = {"stage": stages, "seed": chain.study.seeds}
    return _made("stage_seconds", say("seconds of training of every stage"), (values, "seconds"), coords)


def _samples(chain: Chain) -> Measurement:
    """What every stage of the first seed answers to some held-out prompts, with the learned reward."""
    study = chain.study
    seed = study.seeds[0]
    prompts = chain.prompts([talk[:-1] for talk in chain.demonstrations.held_out if len(talk) == 2], _SHOWN, Seed(0))
    scorer = chain.scorer(REWARD, seed)
    labels: dict[str, float] = {}
    for stage in STAGES:
        answers = weighing.write(
            chain.writer(stage, seed), prompts, study.answer_length, _TEMPERATURE, Seed(seed).child("shown")
        ).answers
        for prompt, text, score in zip(prompts, answers.texts, scorer(answers).tolist(), strict=True):
            labels[sample_label(stage, prompt[-1].text, text.strip())] = float(score)
    says = say("the learned reward of shown answers")
    return _made("samples", says, (list(labels.values()), "reward"), {"sample": tuple(labels)})


def _made(name: str, says: Text, numbers: tuple[Any, str], coords: Mapping[str, Sequence[Label]]) -> Measurement:
    values, unit = numbers
    labels = {dim: tuple(found) for dim, found in coords.items()}
    return Measurement(name, says, np.asarray(values, dtype=np.float64), tuple(labels), labels, unit)
