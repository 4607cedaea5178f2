"""Invented numbers for every study of Painters, of the shapes that the studies give them."""

from collections.abc import Mapping, Sequence

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.painters.tables import RANKING

LAYERS, PARTS, SEEDS = 30, 8, (0, 1, 2)
MIDDLES = tuple(range(1, LAYERS, 2))
FIXED = tuple(name for name in RANKING if name != "random")


def measurement(name: str, values: object, **coords: Sequence[object]) -> Measurement:
    """Numbers with labels."""
    labels = {dim: tuple(c) for dim, c in coords.items()}
    return Measurement(name, say("numbers"), np.asarray(values, dtype=float), tuple(labels), labels, "share")


def table(
    name: str, scores: object, spread: float = 0.0, layers: int = LAYERS, **coords: Sequence[object]
) -> list[Measurement]:
    """A table whose parts sum to the scores; with a spread, documents disagree, differently for each plan."""
    scores = np.asarray(scores, dtype=float)
    noise = np.random.default_rng(0).normal(size=(*scores.shape, PARTS)) * spread
    parts = (scores[..., None] + noise - noise.mean(-1, keepdims=True)) / PARTS
    scale = {"full": 3.0, "chance": 10.0, "documents": PARTS, "targets": 100, "layers": layers}
    return [
        measurement(name, parts, **coords, part=range(PARTS)),
        measurement(f"{name}_full", np.full(PARTS, 1 / PARTS), part=range(PARTS)),
        measurement(f"{name}_scale", list(scale.values()), quantity=scale),
    ]


def strategies(
    areas: Mapping[str, float], name: str = "strategies", spread: float = 0.0, layers: int = LAYERS
) -> list[Measurement]:
    """Every strategy with the same score at each start; random orders differ a little by seed."""
    middles = tuple(range(1, layers, 2))
    fixed = {key: value for key, value in areas.items() if key != "random"}
    values = [[value] * len(middles) for value in fixed.values()]
    made = table(name, values, spread, layers, strategy=fixed, affected=middles)
    shuffled = [[areas["random"] + shift] * len(middles) for shift in (-0.01, 0.0, 0.01)]
    return made + table(f"{name}_random", shuffled, spread, layers, seed=SEEDS, affected=middles)


def six(**changed: float) -> dict[str, float]:
    """Areas in the published order, some of them changed."""
    return dict(zip(RANKING, (0.9, 0.8, 0.7, 0.6, 0.5, 0.1), strict=True)) | changed


def everything() -> Evidence:
    """Numbers for every study at once."""
    found = [
        *strategies(six(sum=0.5, middle_repeat_scaled=0.4)), *strategies(six(skip=0.8), "protected"),
        *strategies(six(skip=0.6), "control"), *strategies(six(), "encoder", 0.1, 6),
        *strategies(six(), "stack_encoder", 0.0, 8), *strategies(six(), "stack_decoder", 0.0, 8),
        *(one for task in ("lambada_openai", "arc_easy", "winogrande") for one in strategies(six(), f"tasks_{task}")),
        *table("single", [[0.1, *[0.97] * 29], [0.9] * 30], strategy=("skip_one", "switch"), layer=range(30)),
        *table("loops", _peaks(), affected=(3, 5, 7), loops=(1, 2, 3)),
        *table("scaled", np.full((3, 2), 0.5), affected=(3, 5, 7), gain=(2.0, 4.0)),
        *table("order", 1 - _counts() / 50, affected=(7, 9), share=(0.1, 0.5, 0.9), seed=SEEDS),
        *table("dropped", _blocks(15), first=range(30), last=range(30)),
        *table("repeated", _blocks(30), first=range(30), last=range(30)),
        *table("encoder_loops", np.full((3, 2), 0.5), layers=6, affected=(1, 3, 5), loops=(1, 2)),
        measurement("inversions", _counts(), affected=(7, 9), share=(0.1, 0.5, 0.9), seed=SEEDS),
        measurement("kept", np.eye(3, 30), role=("writes", "erases", "control"), layer=range(30)),
        *_inside(), *_others(),
    ]  # fmt: skip
    return Evidence({one.name: one for one in found}, Scale.LAPTOP)


def _peaks() -> np.ndarray:
    return 0.9 - 0.1 * np.abs(np.subtract.outer(np.arange(3), np.arange(3)))


def _counts() -> np.ndarray:
    return np.broadcast_to(np.array([2, 10, 18])[None, :, None], (2, 3, 3)).astype(float)


def _blocks(longest: int) -> np.ndarray:
    first, last = np.meshgrid(range(30), range(30), indexing="ij")
    size = last - first + 1
    return np.where((size >= 1) & (size <= longest), 1 - 0.03 * size - 0.01 * np.abs(first + last - 25), np.nan)


def _inside() -> list[Measurement]:
    """Similarity and sinks."""
    states = range(-1, LAYERS)
    distance = np.abs(np.subtract.outer(np.array(states), np.array(states)))
    definitions = ("flat", "per_token", "per_token_no_sinks", "cka", "cka_no_sinks", "angular_distance")
    quantities = ("sink norm", "median norm of the others", "ratio", "share written", "share erased")
    lengths = np.ones((5, LAYERS + 1))
    lengths[3, [12, 13]] = lengths[4, 29] = 1.0
    return [
        measurement("similarity", [np.exp(-distance / 9)] * 6, definition=definitions, state=states, other=states),
        measurement("sinks", lengths, quantity=quantities, state=states),
    ]


def _others() -> list[Measurement]:
    """Cache, classifiers, healing."""
    modes = {"strategy": ("parallel", "looped"), "affected": (3, 5), "mode": ("uncached", "exact", "mean")}
    tasks, seeds = ("cola", "rte"), SEEDS
    return [
        measurement("cache", np.full((2, 2, 3, 4), 4.0), **modes, part=range(4)),
        measurement("cache_full", np.full(4, 3.5), part=range(4)),
        measurement("classifier", np.full((2, 7, 3), 0.7), task=tasks, strategy=("full", *RANKING), seed=seeds),
        measurement("classifier_chance", [0.0, 0.5], task=tasks),
        measurement("healing", np.full((4, 3), 4.0), state=("whole", "cut", "healed", "control"), seed=seeds),
    ]
