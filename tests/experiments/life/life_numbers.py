"""Invented numbers of the life study on which every claim holds; a test changes what its claim is about."""

from collections.abc import Sequence

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Outcome, Scale, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.life.claims import CLAIMS
from glassworks.experiments.life.names import CODERS, STAGES, sample_label

SEEDS = (0, 1, 2)
LAYERS, HEADS = tuple(range(5)), (0, 1)
METRICS = ("reward", "kl", "length", "spread")
STEPS = (0, 10, 20)
BETWEEN = np.array([-0.01, 0.0, 0.01])


def measurement(name: str, values: object, **coords: Sequence[object]) -> Measurement:
    """Numbers with labels."""
    labels = {dim: tuple(c) for dim, c in coords.items()}
    return Measurement(name, say("numbers"), np.asarray(values, dtype=float), tuple(labels), labels, "share")


def compression(model: float = 1.4, after: float = 2.0) -> Measurement:
    """Bits per byte of a text in four parts."""
    levels = {"model": model, "gzip": 3.0, "bzip2": 2.5, "xz": 2.6, "xz after the training text": after}
    rows = [np.full(4, levels[coder]) for coder in CODERS]
    rows[0] = rows[0] + np.array([-0.1, 0.0, 0.05, 0.05])
    return measurement("compression", rows, coder=CODERS, part=(0, 1, 2, 3))


def stage_bits(gain: Sequence[float] = (0.3, 0.31, 0.32), cost: Sequence[float] = (0.05, 0.06, 0.07)) -> Measurement:
    """Bits per byte before and after fine-tuning; later stages as the fine-tuned one."""
    text = np.full((len(STAGES), 3), 1.4)
    answers = np.full((len(STAGES), 3), 2.4)
    text[1:] += np.asarray(cost)
    answers[1:] -= np.asarray(gain)
    values = np.stack([text, answers], 1)
    return measurement("stage_bits", values, stage=STAGES, text=("pretraining text", "answers"), seed=SEEDS)


def reward_accuracy(model: Sequence[float] = (0.64, 0.65, 0.66), length: float = 0.55) -> Measurement:
    """Share of pairs ordered as people did."""
    rows = [list(model), [length] * 3, [0.56, 0.56, 0.56]]
    values = np.stack([np.asarray(rows), np.asarray(rows) + 0.1], 1)
    coords = {"scorer": ("reward model", "longer answer", "words alone"), "part": ("held out", "training")}
    return measurement("reward_accuracy", values, **coords, seed=SEEDS)


def stage_rewards(**changed: Sequence[float]) -> Measurement:
    """Reward, KL, length and spread of each stage; `changed`: values by seed under `stage/metric` with _ for what a name cannot hold."""
    values = np.zeros((len(STAGES), len(METRICS), 3))
    values[:, METRICS.index("spread")] = 1.0
    values[:, METRICS.index("length")] = 30.0
    for stage, reward, kl in (("dpo", 0.4, 3.0), ("grpo", 1.0, 6.0), ("ppo", 1.2, 8.0), ("ppo, held", 0.6, 2.0)):
        values[STAGES.index(stage), 0] = reward + BETWEEN
        values[STAGES.index(stage), 1] = kl + BETWEEN
    for key, row in changed.items():
        stage, _, metric = key.partition("__")
        values[STAGES.index(stage), METRICS.index(metric)] = row
    return measurement("stage_rewards", values, stage=STAGES, metric=METRICS, seed=SEEDS)


def preferences(gain: Sequence[float] = (0.05, 0.06, 0.07)) -> Measurement:
    """Share of pairs whose chosen answer is likelier."""
    values = np.full((2, 3), 0.5)
    values[1] += np.asarray(gain)
    return measurement("preferences", values, stage=("sft", "dpo"), seed=SEEDS)


def overoptimisation(
    gold: Sequence[float] = (0, 0.5, 0.8, 0.6, 0.2), proxy: Sequence[float] = (0, 0.6, 1.2, 1.6, 2.0), gap: float = 0.5
) -> Measurement:
    """Two ways to be optimised, five points each."""
    kl = np.arange(5.0) ** 2
    free = np.stack(
        [
            np.stack([kl + s, np.asarray(proxy) + b, np.asarray(gold) + b], 1)
            for s, b in zip(SEEDS, BETWEEN, strict=True)
        ]
    )
    curve = np.linspace(0, 1, 5)
    best = np.stack([np.stack([kl, curve * (1 + gap) + b, curve - b], 1) for b in BETWEEN])
    coords = {
        "method": ("ppo, free", "best_of_n"),
        "seed": SEEDS,
        "point": tuple(range(5)),
        "metric": ("kl", "proxy", "gold"),
    }
    return measurement("overoptimisation", np.stack([free, best]), **coords)


def stream_likeness(tuned: float = 0.95, reinforced: float = 0.99) -> Measurement:
    """Cosines by layer, of each stage with the model it began from."""
    stages = STAGES[1:]
    values = np.full((len(stages), 3, len(LAYERS)), reinforced) + BETWEEN[:, None] / 10
    values[0] = tuned + BETWEEN[:, None] / 10
    return measurement("stream_likeness", values, stage=stages, seed=SEEDS, layer=LAYERS)


def head_scores(working: float = 0.6, moved: float = 0.02) -> Measurement:
    """Scores of heads; one works, and moves through the stages."""
    names = ("previous token", "induction", "first token")
    values = np.full((len(STAGES), 3, len(LAYERS), len(HEADS), len(names)), 0.1)
    values[:, :, 1, 0, 0] = working
    values[1:, :, 1, 0, 0] += moved
    return measurement("head_scores", values, stage=STAGES, seed=SEEDS, layer=LAYERS, head=HEADS, score=names)


def skip_costs(order: Sequence[float] = (2.0, 0.5, 0.3, 0.4, 1.0)) -> Measurement:
    """What skipping each layer costs; later stages in the given order."""
    values = np.empty((len(STAGES), 3, len(LAYERS)))
    values[:] = np.asarray((2.0, 0.5, 0.3, 0.4, 1.0))
    values[1:] = np.asarray(order)
    return measurement("skip_costs", values, stage=STAGES, seed=SEEDS, layer=LAYERS)


def stage_seconds(direct: float = 60.0) -> Measurement:
    """Seconds of every stage."""
    stages = ("tokenizer", "pretrained", "sft", "reward", "dpo", "grpo", "ppo", "ppo, held")
    values = np.full((len(stages), 3), 100.0) + BETWEEN
    values[4] = direct + BETWEEN
    return measurement("stage_seconds", values, stage=stages, seed=SEEDS)


def others() -> list[Measurement]:
    """What no claim is about but figures and tables show."""
    stages = ("pretrained", "sft")
    training = np.stack([np.linspace(4, 2, 3) * np.ones((3, 1)), np.linspace(2, 1, 3) * np.ones((3, 1))])[..., None]
    paths = np.stack([np.stack([np.arange(4.0) + b, np.arange(4.0) / 2 + b], 1) for b in BETWEEN])[None]
    labels = [sample_label(stage, "Say \u4f60\u597d.", f"I am {stage}.") for stage in ("sft", "pretrained")]
    return [
        measurement("training", training, stage=stages, seed=SEEDS, step=STEPS, metric=("loss",)),
        measurement("policy_paths", paths, method=("ppo",), seed=SEEDS, point=(0, 1, 2, 3), metric=("kl", "reward")),
        measurement("samples", [0.5, np.nan], sample=labels),
        measurement("reward_pairs", 400.0),
        measurement(
            "overoptimisation_law",
            np.ones((2, 3, 4)),
            method=("ppo, free", "best_of_n"),
            seed=SEEDS,
            number=("alpha", "beta", "peak", "residual"),
        ),
    ]


def everything(*changed: Measurement, scale: Scale = Scale.LAPTOP) -> Evidence:
    """All numbers, some replaced."""
    made = [
        compression(), stage_bits(), reward_accuracy(), stage_rewards(), preferences(), overoptimisation(), stream_likeness(),
        head_scores(), skip_costs(), stage_seconds(), *others(),
    ]  # fmt: skip
    return Evidence({m.name: m for m in (*made, *changed)}, scale)


def outcome(key: str, *changed: Measurement, scale: Scale = Scale.LAPTOP) -> Outcome:
    """What a claim comes to on these numbers."""
    return next(v.outcome for v in judge(CLAIMS, everything(*changed, scale=scale)) if v.claim == f"life.{key}")
