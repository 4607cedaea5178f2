"""Invented numbers of the tree study on which every claim holds; a test changes what its claim is about."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Outcome, Scale, judge
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.tree.claims import CLAIMS

HOLDS, PART, FAILS, UNDECIDED = Outcome.HOLDS, Outcome.HOLDS_IN_PART, Outcome.FAILS, Outcome.UNDECIDED
# One level for all seeds, or one for each; levels by label, for what differs from the numbers below.
Level = float | Sequence[float]
Levels = Mapping[str, Level]
UNCHANGED: Levels = {}

SEEDS, STEPS = (0, 1, 2), (0, 10, 20)
POSITIONS = tuple(range(32, 513, 32))
# Bits per byte within the training length.
BITS = {
    "llama": 2.40, "layer norm": 2.41, "layer norm after": 2.41, "rms after": 2.40, "gelu": 2.45, "relu": 2.46, "learned": 3.1,
    "sinusoidal": 3.0, "alibi": 2.41, "none": 3.2, "gpt-2": 3.1, "2017": 2.9,
}  # fmt: skip
# What is needed more beyond two training lengths.
RISES = {"llama": 0.04, "alibi": 0.0, "learned": float("nan"), "gpt-2": float("nan"), "sinusoidal": 0.6}
HASTY = {"layer norm after": 4.4, "rms after": 4.4, "2017": 4.4}
SECONDS = {"llama": 0.050, "layer norm": 0.055}
BRANCHES = ("encoder", "decoder", "prefix decoder", "encoder-decoder")
WRITING = BRANCHES[1:]


def measurement(name: str, values: object, **coords: Sequence[object]) -> Measurement:
    """Numbers with labels."""
    labels = {dim: tuple(c) for dim, c in coords.items()}
    return Measurement(name, say("numbers"), np.asarray(values, dtype=float), tuple(labels), labels, "share")


def by_seed(level: Level) -> np.ndarray:
    """One number for each seed; seeds differ a little, as trainings do."""
    return np.broadcast_to(np.asarray(level, dtype=float), (len(SEEDS),)) + 1e-6 * np.arange(len(SEEDS))


def positions(changed: Levels = UNCHANGED, rises: Levels = UNCHANGED) -> Measurement:
    """One level for each block up to the training length, and so much more beyond it."""
    more = RISES | dict(rises)
    values = np.stack([by_seed(level) for level in (BITS | dict(changed)).values()])[:, :, None].repeat(16, 2)
    for row, block in enumerate(BITS):
        values[row, :, 4:] += np.asarray(more.get(block, 0.3), dtype=float).reshape(-1, 1)
    return measurement("blocks_by_position", values, block=BITS, seed=SEEDS, position=POSITIONS)


def curves(name: str, **coords: Sequence[object]) -> Measurement:
    """Losses that fall, in every cell a little differently."""
    shape = tuple(len(labels) for labels in coords.values())
    cells = 1e-6 * np.arange(int(np.prod(shape))).reshape(*shape, 1)
    values = (np.array([5.5, 3.0, 2.0]) + cells)[..., None]
    return measurement(name, values, **coords, step=STEPS, metric=("loss",))


def hasty(changed: Levels = UNCHANGED) -> Measurement:
    """Bits per byte at the end of hasty trainings."""
    levels = dict.fromkeys(BITS, 3.6) | HASTY | dict(changed)
    return measurement("blocks_hasty", [by_seed(v) for v in levels.values()], block=BITS, seed=SEEDS)


def speed(changed: Mapping[str, Sequence[float]] | None = None) -> Measurement:
    """Seconds of four rounds."""
    levels = {b: (s, s * 1.01, s * 0.99, s) for b, s in (dict.fromkeys(BITS, 0.05) | SECONDS).items()} | dict(
        changed or {}
    )
    return measurement("blocks_speed", list(levels.values()), block=BITS, round=range(4))


def sizes() -> Measurement:
    """Trained numbers and hidden widths."""
    return measurement(
        "blocks_sizes", [[1000.0 + row, 256] for row in range(12)], block=BITS, number=("parameters", "hidden")
    )


def understanding(changed: Mapping[tuple[str, str], Level] | None = None) -> Measurement:
    """Shares of right labels by task and branch."""
    levels = {(t, b): 0.6 if b == "decoder" else 0.7 for t in ("sentiment", "questions") for b in BRANCHES}
    values = np.stack([by_seed(level) for level in (levels | dict(changed or {})).values()]).reshape(2, 4, 3)
    return measurement("branches_understanding", values, task=("sentiment", "questions"), branch=BRANCHES, seed=SEEDS)


def continuing(changed: Levels = UNCHANGED) -> Measurement:
    """Bits per byte of second halves."""
    levels = {"decoder": 2.5, "prefix decoder": 2.7, "encoder-decoder": 2.8} | dict(changed)
    return measurement("branches_continuing", [by_seed(v) for v in levels.values()], branch=WRITING, seed=SEEDS)


def translating(losses: Levels = UNCHANGED, bleu: Levels = UNCHANGED) -> Measurement:
    """Loss and BLEU by branch."""
    nats = {"decoder": 3.0, "prefix decoder": 2.9, "encoder-decoder": 2.8} | dict(losses)
    scores = {"decoder": 4.0, "prefix decoder": 5.0, "encoder-decoder": 6.0} | dict(bleu)
    values = np.stack([np.stack([by_seed(nats[b]), by_seed(scores[b])], 1) for b in WRITING])
    return measurement("branches_translating", values, branch=WRITING, seed=SEEDS, score=("loss", "bleu"))


def everything(*changed: Measurement, scale: Scale = Scale.LAPTOP) -> Evidence:
    """All measurements, those given in place of their namesakes."""
    tasks = ("sentiment", "questions", "continuing", "translating")
    found = [
        positions(), hasty(), speed(), sizes(), understanding(), continuing(), translating(),
        curves("blocks_training", block=BITS, seed=SEEDS), curves("blocks_hasty_training", block=BITS, seed=SEEDS),
        curves("branches_training", task=tasks, branch=BRANCHES, seed=SEEDS),
        measurement("branches_guessing", [1.5, 1.6, 1.7], seed=SEEDS),
        measurement("branches_sizes", np.full((4, 4, 2), 5.0), task=tasks, branch=BRANCHES, number=("parameters", "seconds")),
    ]  # fmt: skip
    return Evidence({one.name: one for one in (*found, *changed)}, scale)


def verdict(key: str, *changed: Measurement):
    """The verdict on one claim, some measurements changed."""
    claim = next(c for c in CLAIMS if c.key == f"tree.{key}")
    return judge([claim], everything(*changed))[0]


def outcome(key: str, *changed: Measurement) -> Outcome:
    """What a claim comes to, some measurements changed."""
    return verdict(key, *changed).outcome


def without(found: Measurement, **labels: object) -> Measurement:
    """The same measurement with one part not measured."""
    values = found.values.copy()
    place = tuple(found.coords[d].index(labels[d]) if d in labels else slice(None) for d in found.dims)
    values[place] = np.nan
    return replace(found, values=values)
