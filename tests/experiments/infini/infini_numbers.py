"""Invented numbers of the Infini study on which every claim holds; a test changes what its claim is about."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini.judging_memory import IN_PROGRESS, PRINTED

# One level for all seeds, or one for each; levels by label, for what differs from the numbers below.
Level = float | Sequence[float]
Levels = Mapping[str, Level]
UNCHANGED: Levels = {}

SEEDS = (0, 1, 2)
SEGMENT, LENGTH = 128, 1024
WITHIN = tuple(range(SEGMENT, LENGTH + 1, SEGMENT))
POSITIONS = (*WITHIN, *range(2 * LENGTH, 8 * LENGTH + 1, LENGTH))
STEPS = (0, 100, 200)
# Bits per byte beyond the first segment.
BITS = {
    "infini": 2.20, "infini delta": 2.205, "infini, longer": 2.15, "local": 2.40, "transformer-xl": 2.30, "memorizing": 2.28,
    "rmt": 2.35, "full": 2.10, "mesa": 2.25, "gated linear": 2.32, "window": 2.33,
}  # fmt: skip
SETTINGS = ("shared", "own rate", "own rate, decay")
LAYERS, HEADS = (1, 2, 3), (1, 2, 3, 4)
LENGTHS = (1024, 4096, 8192, 16_384, 131_072, 1_048_576)
DEPTHS = ("start", "middle", "end")
RULES = {
    "linear": (1.0, 0.99, 1.0), "delta": (0.99, 1.0, 0.98), "linear, memory off": (0.12, 0.1, 1.0),
    "delta, memory off": (0.1, 0.12, 1.0), "linear, real lengths": (0.3, 0.3, 1.0), "delta, real lengths": (0.2, 0.2, 1.0),
}  # fmt: skip
COMPARATORS = {"window": 0.1, "gated linear": 0.4, "mesa": 0.9, "transformer-xl": 0.15, "local": 0.1, "linear": 0.95}
READ = (512, 1024, 2048, 4096)
WIDTHS, PAIRS = (16, 32, 64), (1, 4, 16, 64)
TIMES = (1, 2, 3, 10, 100, 1000)
SEGMENTS = (*range(1, 301), 1000, 10_000)
SUMS = (64, 512, 2048)
KEPT = PRINTED | {"Compressive Transformer": 2.5e7, "AutoCompressors": 4.9e6}
LIVE = {
    "infini": 12_672, "infini delta": 12_672, "transformer-xl": 98_304, "memorizing": 147_456, "rmt": 2048, "full": 221_184,
    "local": 0, "window": 199_680,
}  # fmt: skip


def measurement(name: str, values: object, **coords: Sequence[object]) -> Measurement:
    """Numbers with labels."""
    labels = {dim: tuple(c) for dim, c in coords.items()}
    return Measurement(name, say("numbers"), np.asarray(values, dtype=float), tuple(labels), labels, "share")


def by_seed(level: Level) -> np.ndarray:
    """One number for each seed."""
    return np.broadcast_to(np.asarray(level, dtype=float), (len(SEEDS),)).copy()


def apart(shape: tuple[int, ...], axis: int) -> np.ndarray:
    """Seeds differ a little, as trainings do: nothing for the first, a millionth more for each of the others."""
    return np.expand_dims(1e-6 * np.arange(shape[axis]), tuple(i for i in range(len(shape)) if i != axis))


def positions(changed: Levels = UNCHANGED, far: Level = 0.0, seeds: Sequence[int] = SEEDS) -> Measurement:
    """One level beyond the first segment, which costs a bit more, and `far` more beyond half of eight lengths."""
    assert set(changed) <= set(BITS), f"no such models: {set(changed) - set(BITS)}"
    levels = np.stack([by_seed(level) for level in (dict(BITS) | dict(changed)).values()])
    values = levels[:, :, None].repeat(len(POSITIONS), 2)
    values[:, :, 0] += 1.0
    values[:, :, np.array(POSITIONS) > 4 * LENGTH] += by_seed(far)[None, :, None]
    values += apart(values.shape, 1)
    return measurement("language_by_position", values, model=BITS, seed=seeds, position=POSITIONS)


def training(name: str, models: Sequence[str], last: Level = 1.6, idle: str = "") -> Measurement:
    """A loss that falls from 5.5 to `last`, or hardly at all for one idle model."""
    values = np.stack([np.stack([np.full(3, 5.5), np.full(3, 3.0), by_seed(last)], axis=1)] * len(models))
    if idle:
        values[models.index(idle)] = 5.5
    values += apart(values.shape, 1)
    return measurement(name, values[..., None], model=models, seed=SEEDS, step=STEPS, metric=("loss",))


def gate_paths(**ends: Sequence[float] | np.ndarray) -> Measurement:
    """Gates that begin at one half; `ends` by setting ("own_rate_decay") for the twelve heads of every seed."""
    levels = {
        "shared": np.linspace(0.48, 0.52, 12),
        "own rate": np.array([0.02, 0.5, 0.97, 0.6, 0.1, 0.3, 0.55, 0.9, 0.2, 0.95, 0.7, 0.05]),
        "own rate, decay": np.linspace(0.3, 0.7, 12),
    }
    levels |= {key.replace("_rate_decay", " rate, decay").replace("_", " "): np.array(v) for key, v in ends.items()}
    values = np.full((3, 12, 3, 3), 0.5)
    for place, setting in enumerate(SETTINGS):
        given = np.broadcast_to(levels[setting].T, (3, 12)).T
        values[place, :, :, 1], values[place, :, :, 2] = (0.5 + given) / 2, given
    values[..., 1:] += 1e-10 * np.arange(3)[:, None]
    shaped = values.reshape(3, 3, 4, 3, 3)
    return measurement("gates_path", shaped, setting=SETTINGS, layer=LAYERS, head=HEADS, seed=SEEDS, step=STEPS)


def gate_losses(changed: Levels = UNCHANGED) -> Measurement:
    """Bits per byte of the models whose gates these are."""
    levels = dict.fromkeys(SETTINGS, 2.2) | dict(changed)
    return measurement("gates_loss", [by_seed(v) for v in levels.values()], setting=SETTINGS, seed=SEEDS)


def keys(
    changed: Mapping[str, tuple[Level, Level, Level]] | None = None, short: Mapping[str, Level] | None = None
) -> Measurement:
    """Digits right from start, middle and end at every length; at 1024 bytes real lengths do as well, `short` changes it."""
    levels = RULES | dict(changed or {})
    values = np.stack([np.stack([by_seed(level) for level in depths]) for depths in levels.values()])
    values = values[:, :, None].repeat(len(LENGTHS), 2)
    for rule in ("linear, real lengths", "delta, real lengths"):
        values[list(levels).index(rule), :, 0] = 0.97
    for rule, level in (short or {}).items():
        values[list(levels).index(rule), :, 0] = by_seed(level)
    return measurement("passkey", values, rule=levels, depth=DEPTHS, length=LENGTHS, seed=SEEDS)


def samples(at_a_million: float = 16) -> Measurement:
    """Texts of a cell."""
    return measurement("passkey_samples", [16.0] * (len(LENGTHS) - 1) + [at_a_million], length=LENGTHS)


def comparators(start: Level = 0.1, end: Level = 1.0) -> Measurement:
    """Digits right of other layers; the window's are given."""
    values = np.full((len(COMPARATORS), 3, 4, len(SEEDS)), 1.0)
    for place, level in enumerate(COMPARATORS.values()):
        values[place, :2] = level
    values[0, 0], values[0, 2] = by_seed(start), by_seed(end)
    return measurement("passkey_comparators", values, model=COMPARATORS, depth=DEPTHS, length=LENGTHS[:4], seed=SEEDS)


def needle(best: Level = 0.97) -> Measurement:
    """One head of the linear rule reads the needle."""
    values = np.full((2, 3, 4, len(LENGTHS), len(SEEDS)), 0.02)
    values[0, 0, 1] = by_seed(best)
    values[1, 0, 1] = 0.3
    rules = ("linear", "linear, real lengths")
    return measurement("needle_share", values, rule=rules, layer=LAYERS, head=HEADS, length=LENGTHS, seed=SEEDS)


def facts(*scores: Level) -> Measurement:
    """F1 by the bytes read; other scores are a little lower."""
    values = np.stack([by_seed(level) for level in scores or (0.2, 0.4, 0.7, 0.9)])
    names = ("f1", "rouge2", "rougeL", "exact")
    return measurement("facts", [values * (1 - 0.1 * i) for i in range(len(names))], score=names, read=READ, seed=SEEDS)


def capacity(more: Sequence[Level] = (0.1, 0.1, 0.1)) -> Measurement:
    """Shares of pairs read rightly, `more` of them by the delta rule at each width; one pair is always read."""
    linear = np.array([1.0, 0.8, 0.5, 0.2])[:, None].repeat(len(SEEDS), 1)
    rows = [linear + np.concatenate([np.zeros((1, 3)), by_seed(lead)[None].repeat(3, 0)]) for lead in more]
    values = np.stack([np.stack([linear] * len(WIDTHS)), np.stack(rows)])
    return measurement("capacity", values, rule=("linear", "delta"), width=WIDTHS, pairs=PAIRS, seed=SEEDS)


def repeats(linear: float = 1.0, delta: float = 0.5, first: float = 1.0, times: Sequence[int] = TIMES) -> Measurement:
    """What is read of a value stored once, and of one stored more often."""
    values = [[1.0] + [linear] * (len(times) - 1), [first] + [delta] * (len(times) - 1)]
    return measurement("repeats", values, rule=("linear", "delta"), times=times)


def update(new: float = 0.999, mean: float = 0.999, crossed: float = 0.7) -> Measurement:
    """Cosines: of delta's reading with the new value, of linear's with the mean."""
    rows = [[crossed, mean, 0.7], [new, crossed, 0.1]]
    return measurement("update", rows, rule=("linear", "delta"), towards=("new", "mean", "old"))


def sums(lost: int = 200, late: int = 0, overflow: Mapping[int, int] | None = None, ours: float = 1e-6) -> Measurement:
    """Errors: a tenth in bfloat16 from `lost` segments on (`late` more at 2048 tokens), infinite in float16."""
    at = {64: 900, 512: 110, 2048: 28} | dict(overflow or {})
    count = np.array(SEGMENTS)
    brain = [np.minimum(0.1 * count / (lost + (late if n == 2048 else 0)), 0.99) for n in SUMS]
    half = [np.where(count >= at[n], np.inf, 1e-3) for n in SUMS]
    values = np.stack([np.stack(brain), np.stack(half), np.full((3, len(count)), ours)])
    formats = ("bfloat16", "float16", "ours")
    return measurement("running_sum", values, format=formats, length=SUMS, segments=SEGMENTS)


def kernels(*ratios: Level) -> Measurement:
    """The match over the average, by width."""
    values = np.stack([by_seed(level) for level in ratios or (1.4, 1.36, 1.34)])
    values += 1e-10 * np.arange(3)
    return measurement("kernel_ratio", values, width=(32, 64, 128), seed=SEEDS)


def sizes(changed: Mapping[str, float] | None = None, segment: float = IN_PROGRESS) -> Measurement:
    """Numbers kept by architectures of the paper's size, and held of a segment."""
    levels = KEPT | dict(changed or {})
    held = {"Infini-Transformer": segment, "full cache, 1M tokens": 0}
    values = [[kept, held.get(model, IN_PROGRESS)] for model, kept in levels.items()]
    return measurement("memory_sizes", values, model=levels, part=("kept", "segment in progress"))


def live(changed: Mapping[str, float] | None = None) -> Measurement:
    """Numbers counted in live models; those changed differ from their formula."""
    values = [[size, (changed or {}).get(model, size)] for model, size in LIVE.items()]
    return measurement("memory_live", values, model=LIVE, count=("formula", "measured"))


def drawn() -> list[Measurement]:
    """What is drawn or tabulated without a claim about it."""
    tokens = [2**power for power in range(7, 15)]
    growth = [
        [size + 768 * min(n, 128) if model != "full" else 768 * n for n in tokens] for model, size in LIVE.items()
    ]
    costs = [[658_000 + i, LIVE.get(model, 0), 1_638_400, 61.5] for i, model in enumerate(BITS)]
    exact = keys()
    return [
        measurement("memory_growth", growth, model=LIVE, tokens=tokens),
        measurement("language_cost", costs, model=BITS, number=("parameters", "kept", "bytes", "seconds")),
        measurement("passkey_exact", exact.values**5, **dict(exact.coords)),
        measurement("passkey_minutes", [[4.0] * 3, [3.5] * 3], stage=("first", "virtual"), seed=SEEDS),
    ]  # fmt: skip


@cache
def _all_that_holds() -> tuple[Measurement, ...]:
    stages = ("first", "virtual", "linear", "delta", "real first", "real", "real delta", "window", "mesa")
    return (
        sizes(), live(), positions(), training("training_language", tuple(BITS)), gate_paths(), gate_losses(),
        keys(), samples(), training("training_passkey", stages), comparators(), needle(),
        facts(), training("training_books", ("facts",)), capacity(), repeats(), update(), sums(), kernels(),
    )  # fmt: skip


def everything(*changed: Measurement, scale: Scale = Scale.LAPTOP) -> Evidence:
    """Numbers of every study on which every claim holds, but for those that are given; nobody writes into them."""
    return Evidence({one.name: one for one in (*_all_that_holds(), *changed)}, scale)
