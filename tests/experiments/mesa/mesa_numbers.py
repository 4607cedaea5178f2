"""Invented numbers of the mesa study on which every claim holds; a test changes what its claim is about."""

from collections.abc import Mapping, Sequence

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.judging_linear import RATE_TERM

# One level for all seeds, or one for each; levels by label, for what differs from the numbers below.
Level = float | Sequence[float]
Levels = Mapping[str, Level]
UNCHANGED: Levels = {}

SEEDS, POSITIONS = (0, 1, 2), tuple(range(1, 51))
ZERO = 1.675
TERMS = (RATE_TERM, *(f"another term, {i}" for i in range(1, 8)))
STEPS = tuple(range(0, 900, 100))
LAYERS = tuple(range(7))
HEADS = tuple(range(4))
PAIRS = 40
ONE = {
    "LSA-1": 1.0, "one step, best rate": 1.0, "construction": 1.0, "compressed LSA-1": 1.0,
    "Mesa-1": 0.15, "compressed Mesa-1": 0.15, "ridge": 0.15, "zero": ZERO,
}  # fmt: skip
DEEP = {
    "LSA-2": 0.6, "LSA-4": 0.35, "LSA-6": 0.22, "compressed LSA-6": 0.22, "constructed network, 6 steps": 0.22,
    "Prop. 2, 2 steps, one late": 0.6, "Prop. 2, 4 steps, one late": 0.35, "Prop. 2, 6 steps, one late": 0.22,
    "Prop. 2, 2 steps, all pairs": 0.5, "Prop. 2, 4 steps, all pairs": 0.28, "Prop. 2, 6 steps, all pairs": 0.17,
    "zero": ZERO,
}  # fmt: skip
RAW = {
    "Softmax-3": 0.6, "Softmax-7": 0.22, "Hybrid-mesa": 0.2, "zero": ZERO,
    "Prop. 2, 2 steps, one late": 0.6, "Prop. 2, 6 steps, one late": 0.22,
    "Prop. 2, 2 steps, all pairs": 0.5, "Prop. 2, 6 steps, all pairs": 0.17,
}  # fmt: skip
PROMPTS = {
    "plain": (1.7, 2.0, 1.0), "separator": (1.7, 1.0, 0.5), "prefix": (1.6, 0.9, 0.5),
    "ridge on transitions": (1.7, 9.0, 1.0), "ridge on pairs": (1.7, 1.0, 0.02),
}  # fmt: skip
SENSITIVITY = {"Softmax-7": 0.01, "Hybrid-mesa": 0.01, "Full-mesa": 0.3}


def measurement(name: str, values: object, **coords: Sequence[object]) -> Measurement:
    """Numbers with labels."""
    labels = {dim: tuple(c) for dim, c in coords.items()}
    return Measurement(name, say("numbers"), np.asarray(values, dtype=float), tuple(labels), labels, "share")


def by_seed(level: Level) -> np.ndarray:
    """One number for each seed."""
    return np.broadcast_to(np.asarray(level, dtype=float), (len(SEEDS),)).copy()


def losses(name: str, levels: Levels, changed: Levels) -> Measurement:
    """The same loss at every position."""
    assert set(changed) <= set(levels), f"{name} has no {set(changed) - set(levels)}"
    values = np.stack([by_seed(level) for level in (dict(levels) | dict(changed)).values()])
    return measurement(name, values[:, :, None].repeat(len(POSITIONS), 2), model=levels, seed=SEEDS, position=POSITIONS)


def one_layer(changed: Levels = UNCHANGED) -> Measurement:
    """Losses of one layer and of what it is compared with."""
    return losses("one_layer_loss", ONE, changed)


def deep(changed: Levels = UNCHANGED) -> Measurement:
    """Losses of two, four and six linear layers and of solvers."""
    return losses("deep_loss", DEEP, changed)


def raw(changed: Levels = UNCHANGED, name: str = "softmax_loss") -> Measurement:
    """Losses of models of raw tokens, in the linear world or another."""
    return losses(name, RAW, changed)


def control(name: str, changed: Levels = UNCHANGED) -> Measurement:
    """Losses in the contracting world and under the fixed teacher."""
    return losses(name, {"LSA-1": 1.0, "LSA-4": 0.5, "Mesa-1": 0.3, "one step, best rate": 1.0, "zero": 4.0}, changed)


def coefficients(rate: Level = 0.0335, other: Level = 0.001) -> Measurement:
    """The rate, and seven other coefficients of which the last is the largest."""
    values = np.stack([by_seed(rate), *[by_seed(other) / 2] * 6, -by_seed(other)])
    return measurement("one_layer_coefficients", values, term=TERMS, seed=SEEDS)


def interpolation(
    name: str, model: str, late: Level = 1.0, early: float = 3.0, ends: tuple[float, float] = (1.0, 1.0)
) -> Measurement:
    """The mean of both networks costs `early` before 3/8 of the steps and `late` after."""
    steps = np.array(STEPS)
    between = np.where(steps >= 0.375 * steps[-1], by_seed(late)[:, None], early)
    values = np.stack([np.full_like(between, ends[0]), between, np.full_like(between, ends[1])])[None]
    networks = ("trained", "interpolated", "construction")
    return measurement(name, values, model=(model,), network=networks, seed=SEEDS, step=STEPS)


def probe(
    name: str, layers: Sequence[float] | None = None, target: str = "polynomial", best: Level = 0.1
) -> Measurement:
    """Errors or R² of probes: `layers` for the next state, 1 at the input and `best` in the fourth layer for a target."""
    falling = np.array(layers if layers is not None else np.linspace(1.0, 0.2, len(LAYERS)))
    middle = np.ones((len(LAYERS), len(SEEDS)))
    middle[4] = by_seed(best)
    values = np.stack([falling[:, None].repeat(len(SEEDS), axis=1), middle])[..., None].repeat(len(POSITIONS), axis=3)
    return measurement(name, values, target=("next", target), layer=LAYERS, seed=SEEDS, position=POSITIONS)


def inverse(best: Level = 0.9) -> Measurement:
    """R² of the inverse: hardly any, but in the fourth layer."""
    found = probe("deep_probe_r2", target="exact", best=best)
    found.values[1, [0, 1, 2, 3, 5, 6]] = 0.1
    return found


def decode(name: str, softmax: Sequence[Level], hybrid: Sequence[Level]) -> Measurement:
    """Errors of decoding, token by token back from the present one; what is not given is lost."""
    lost: list[Level] = [0.3] * 8
    values = [np.stack([by_seed(v) for v in [*given, *lost[len(given) :]]], axis=1) for given in (softmax, hybrid)]
    return measurement(name, values, model=("Softmax-7", "Hybrid-mesa"), seed=SEEDS, back=range(8))


def attention(*near: float) -> Measurement:
    """Mass on the present and the previous token of Softmax-7's heads, shared equally; Hybrid-mesa has 0.95."""
    mass = np.stack([np.array(near or [0.95] * len(HEADS)), np.full(len(HEADS), 0.95)])
    parts = np.stack([mass / 2, mass / 2, 1 - mass, 0 * mass, 0 * mass], axis=-1)
    values = parts[:, :, None].repeat(len(SEEDS), axis=2)
    backs = ("0", "1", "2", "3", "others")
    return measurement(
        "binding_attention", values, model=("Softmax-7", "Hybrid-mesa"), head=HEADS, seed=SEEDS, back=backs
    )


def sensitivity(changed: Levels = UNCHANGED) -> Measurement:
    """At the last step the present token counts 2, older ones their share of it; at the first all count alike."""
    older = SENSITIVITY | dict(changed)
    backs = (*(str(back) for back in range(6)), "older")
    values = np.ones((len(older), len(SEEDS), 2, len(backs)))
    values[:, :, 1, 0] = 2.0
    values[:, :, 1, -1] = 2.0 * np.stack([by_seed(share) for share in older.values()])
    return measurement("binding_sensitivity", values, model=older, seed=SEEDS, step=(0, 3000), back=backs)


def linear_twins(later: float = 1.02, first: float = 3.0, dimensions: Sequence[int] = (4, 20)) -> Measurement:
    """Costs of replaced layers: the second always costs much, and in the smallest dimension all do."""
    values = np.full((len(dimensions), 7, len(SEEDS)), later)
    values[:, 0], values[:, 1] = first, 9.0
    if dimensions[0] < 20:
        values[0] = 9.0
    return measurement("linearise", values, dimension=dimensions, layer=range(1, 8), seed=SEEDS)


def training(name: str, models: Sequence[str], first: float = 1.7, last: Level = 0.3) -> Measurement:
    """A loss that falls at the second of two logged steps."""
    values = np.stack([np.full(len(SEEDS), first), by_seed(last)], axis=1)
    return measurement(
        name, [values[:, :, None]] * len(models), model=models, seed=SEEDS, step=(0, 100), metric=("loss",)
    )


def kernels(
    ridge: Sequence[float] = (0.03, 0.02, 0.01, 0.005), kernel: Sequence[float] = (0.03, 0.05, 0.07, 0.09)
) -> Measurement:
    """Errors of ridge and of a softmax kernel in four dimensions."""
    return measurement("kernels", [ridge, kernel], solver=("ridge", "softmax kernel"), dimension=(4, 10, 20, 40))


def curve(first: float, early: float, late: float) -> np.ndarray:
    """The loss after no pair, in the first tenth, and from then on."""
    values = np.full(PAIRS, late)
    values[:6], values[0] = early, first
    return values


def prompts(name: str = "few_shot", **changed: tuple[float, float, float]) -> Measurement:
    """First, early and late losses of both models on each kind of prompt; the same in every seed."""
    found = np.stack([curve(*levels) for levels in (PROMPTS | changed).values()])
    values = np.broadcast_to(found[None, :, None], (2, len(found), len(SEEDS), PAIRS)).copy()
    models = ("Softmax-7", "Hybrid-mesa")
    return measurement(name, values, model=models, prompt=PROMPTS, seed=SEEDS, pairs=range(PAIRS))


def two_tasks(before: float = 0.5, after: float = 2.0, end: float = 0.6, switch: int = 20) -> list[Measurement]:
    """A loss that has fallen before the second task, rises with it, and falls again, in both models."""
    values = np.full(PAIRS, 1.7)
    values[5:switch], values[switch : switch + 5], values[switch + 5 :] = before, after, end
    shape = (2, len(PROMPTS), len(SEEDS), PAIRS)
    coords = {"model": ("Softmax-7", "Hybrid-mesa"), "prompt": PROMPTS, "seed": SEEDS, "pairs": range(PAIRS)}
    return [
        measurement("few_shot_two_tasks", np.broadcast_to(values, shape).copy(), **coords),
        measurement("few_shot_switch", switch),
    ]


def text(changed: Levels = UNCHANGED) -> Measurement:
    """Bits per byte of decoders in two windows, of which one is harder."""
    levels = {"softmax": 2.5, "linear": 2.6, "mesa": 2.5, "gated mesa": 2.5} | dict(changed)
    values = np.stack([by_seed(level) for level in levels.values()])
    windows = np.stack([values - 0.25, values + 0.25], axis=2)
    return measurement("language_loss", windows, model=levels, seed=SEEDS, part=(0, 1))


def context(changed: Levels = UNCHANGED) -> Measurement:
    """What late bytes cost more than early ones."""
    levels = {"linear": -0.2, "mesa": -0.4} | dict(changed)
    values = np.stack([by_seed(level) for level in levels.values()])
    return measurement("language_icl", values, model=levels, seed=SEEDS)


def copying(least: Level = 0.9) -> Measurement:
    """The most local head of mesa has `least` on the last four bytes, that of softmax 0.95; all other heads 0.2."""
    near = np.full((2, len(HEADS), len(SEEDS)), 0.2)
    near[0, 1], near[1, 2] = 0.95, by_seed(least)
    values = np.stack([near / 4] * 4 + [1 - near], axis=-1)
    backs = ("0", "1", "2", "3", "others")
    return measurement("language_copy", values, model=("softmax", "mesa"), head=HEADS, seed=SEEDS, back=backs)


def everything(*changed: Measurement, scale: Scale = Scale.LAPTOP) -> Evidence:
    """Numbers of every study on which every claim holds, but for those that are given."""
    models = ("Softmax-7", "Hybrid-mesa")
    found = [
        one_layer(), deep(), raw(), raw(name="nonlinear_loss"), raw(name="partial_loss"), coefficients(),
        interpolation("one_layer_interpolation", "LSA-1"), interpolation("deep_interpolation", "LSA-6"),
        probe("deep_probe"), probe("softmax_probe", best=0.3), inverse(),
        decode("binding_decode", [0.001, 0.003], [0.001, 0.003]), measurement("binding_variance", 0.33),
        decode("partial_decode", [0.01] * 4, [0.01] * 5), measurement("partial_variance", 0.33),
        attention(), sensitivity(), linear_twins(), kernels(), training("training_linearise", ("4", "20")),
        control("contracting_loss"), control("fixed_teacher_loss", {"LSA-1": 0.1}), probe("fixed_teacher_probe", best=0.9),
        prompts(), *two_tasks(), training("training_few_shot", models),
        measurement("few_shot_separator", np.full((2, 3), 0.01), model=models, seed=SEEDS),
        text(), context(), copying(), *changed,
    ]  # fmt: skip
    return Evidence({one.name: one for one in found}, scale)
