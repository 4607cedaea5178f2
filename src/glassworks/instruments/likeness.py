"""How alike two models are inside, layer by layer, and where their weights differ; for `compare`."""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from glassworks.anatomy.offloaded import weight_at
from glassworks.anatomy.places import Anatomy
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Axes, ColourScale, Figure, Heading, Matrix, Series, curves, heatmap, heatmaps
from glassworks.figures.labels import with_note
from glassworks.instruments.base import Reading
from glassworks.instruments.pair import MODELS, Pair, States
from glassworks.instruments.similarity import FEWEST_ROWS, unbiased_hsic
from glassworks.instruments.sinks import STANDS_OUT

MINIBATCH = 256
TOKENS = ("all tokens", "no sinks")
ATTENTION, FEEDFORWARD, OTHER, WHOLE = GROUPS = ("attention", "feed-forward", "norms and other", "whole")
CHANGES = ("relative change", "largest change", "parameters")


def alikeness(states: States, name: str = "likeness") -> Reading:
    """CKA of every state of A with every state of B, at the matched places, with and without attention sinks.

    The unbiased estimator of HSIC, summed over minibatches of 256 places before the quotient is taken (Nguyen,
    Raghu, Kornblith 2021). Equal states give exactly 1. InvalidInput for fewer than four places.
    """
    first, second = (states.of(side) for side in (0, 1))
    if first.shape[1] < FEWEST_ROWS:
        raise InvalidInput(
            say("CKA needs at least {count} places", count=FEWEST_ROWS),
            given=first.shape[1],
            right=say("a longer text"),
        )
    plain = states.plain
    values = np.stack([_cka(first[:, kept], second[:, kept]) for kept in (torch.ones_like(plain), plain)])
    own, others = (tuple(range(-1, len(found) - 1)) for found in (first, second))
    measurement = Measurement(
        name=name,
        says=say("unbiased CKA between every layer of A and every layer of B, over {count} places", count=first.shape[1]),
        values=values,
        dims=("tokens", "state of A", "state of B"),
        coords={"tokens": TOKENS, "state of A": own, "state of B": others},
        unit="CKA",
        caveats=(say("CKA does not see rotations: 1 means equal up to a rotation and a common scale."),),
        columns={"state of A": "after this layer; -1 is the embedding", "tokens": f"no sinks: without tokens {STANDS_OUT:g} times as long as the others"},
    )  # fmt: skip
    return Reading(measurement, _likeness_figure(states.pair, measurement, plain))


def _likeness_figure(pair: Pair, measurement: Measurement, plain: Bool[Tensor, " place"]) -> Figure:
    """Two square maps where sinks make a difference; else one, the shallower model downwards."""
    heading = Heading(
        measurement.name.replace("_", "-"),
        say("How alike the layers of both encoders are")
        if pair.stack
        else say("How alike the layers of both models are"),
        say(
            "Unbiased CKA of the stream after each layer (−1: the embedding). A few tokens of great length, on which models park attention, can decide it; “without sinks” leaves them out ({sinks} of {count} places).",
            sinks=int((~plain).sum()),
            count=len(plain),
        ),
    )
    scale = ColourScale("CKA", low=0.0, high=1.0)
    rows, columns = (tuple(map(str, measurement.coords[f"state of {model}"])) for model in MODELS)
    titles = say("A: after layer"), say("B: after layer")
    names = {"all tokens": say("all tokens"), "no sinks": say("without sinks")}
    known = {name: measurement.at(tokens=name).values for name in TOKENS}
    shown = {name: values for name, values in known.items() if np.isfinite(values).any()}
    if len(rows) == len(columns) and not plain.all():
        plots = [(names[name], Matrix(values, rows, columns, titles[0], titles[1])) for name, values in shown.items()]
        return heatmaps(heading, plots, scale, columns=2)
    # Without sinks both maps are one; maps that are no squares are drawn alone, since beside each other they shrink.
    values = list(shown.values())[-1]
    if len(rows) > len(columns):
        values, rows, columns, titles = values.T, columns, rows, titles[::-1]
    if len(shown) > 1 and not plain.all():
        scale = ColourScale(say("CKA without sinks"), low=0.0, high=1.0)
    heading = replace(heading, caption=with_note(heading.caption, say("Layer 0 is at the bottom.")))
    return heatmap(heading, Matrix(values[::-1], rows[::-1], columns, titles[0], titles[1]), scale)


def _cka(
    first: Float[Tensor, "state place width"], second: Float[Tensor, "other place width_b"]
) -> Float[np.ndarray, "state other"]:
    """Unbiased minibatch CKA; NaN where there are too few places."""
    count = first.shape[1]
    if count < FEWEST_ROWS:
        return np.full((len(first), len(second)), math.nan)
    between = torch.zeros(len(first), len(second), dtype=torch.float64)
    own = [torch.zeros(len(first), dtype=torch.float64), torch.zeros(len(second), dtype=torch.float64)]
    for part in _minibatches(count):
        rows = [states[:, part].double() for states in (first, second)]
        grams = [own_rows @ own_rows.mT for own_rows in rows]
        between += unbiased_hsic(grams[0], grams[1])
        for side in (0, 1):
            own[side] += unbiased_hsic(grams[side], grams[side]).diagonal()
    # The root of the product, not the product of roots: of two equal numbers it is exact.
    quotient = between / (own[0][:, None] * own[1][None]).clamp_min(0).sqrt()
    return torch.where(quotient.isinf(), math.nan, quotient).numpy()


def _minibatches(count: int) -> Iterator[slice]:
    """Equal parts of at most 256 places, so that none is left with too few."""
    parts = math.ceil(count / MINIBATCH)
    for part in range(parts):
        yield slice(part * count // parts, (part + 1) * count // parts)


def stream_change(states: States) -> Reading:
    """How far the streams of two models of one shape lie apart after each layer, token by token."""
    first, second = (states.of(side) for side in (0, 1))
    if first.shape != second.shape:
        raise InvalidInput(
            say("the streams have different shapes, so they cannot be subtracted"),
            given=say(
                "{first} and {second} layers, {width} and {other} wide",
                first=len(first) - 1, second=len(second) - 1, width=first.shape[-1], other=second.shape[-1],
            ),
        )  # fmt: skip
    rows: list[tuple[float, float, float]] = []
    for before, after in zip(first, second, strict=True):
        old, new = before.double(), after.double()
        apart = (new - old).norm(dim=-1) / old.norm(dim=-1).clamp_min(1e-300)
        cosine = functional.cosine_similarity(old, new, dim=-1)
        rows.append((float(apart.mean()), float(np.median(apart.numpy())), float(cosine.mean())))
    layers = tuple(range(-1, len(first) - 1))
    measurement = Measurement(
        name="stream_change",
        says=say("how far the stream of B lies from that of A after each layer"),
        values=np.array(rows),
        dims=("state", "quantity"),
        coords={"state": layers, "quantity": ("relative change", "median", "cosine")},
        unit="share of the length, cosine",
        columns={"state": "after this layer; -1 is the embedding", "quantity": "|B - A| / |A| of each token: mean, median; cosine"},
    )  # fmt: skip
    heading = Heading(
        "stream-change",
        say("Where the two models part"),
        say(
            "|B − A| / |A| of the stream of each token after each layer (−1: the embedding), mean and median over tokens."
        ),
    )
    x = np.array(layers, dtype=np.float64)
    series = [Series(say("mean"), x, measurement.values[:, 0]), Series(say("median"), x, measurement.values[:, 1])]
    return Reading(measurement, curves(heading, series, Axes(say("after layer"), say("relative change"))))


def weight_change(pair: Pair) -> Reading:
    """Where the weights differ: |B - A| / |A| of each part of each layer, over parameters of one name and shape."""
    first, second = (dict(subject.model.named_parameters()) for subject in pair.subjects)
    shared = [name for name, weight in first.items() if name in second and second[name].shape == weight.shape]
    if not shared:
        raise InvalidInput(
            say("the models share no parameter of one name and shape, so their weights cannot be compared")
        )
    sums = _Sums(pair.subjects[0].anatomy)
    for name in shared:
        sums.add(name, *(weight_at(subject.model, name) for subject in pair.subjects))
    left = len(first) + len(second) - 2 * len(shared)
    note = say("{count} parameter tensors are in one model only, or of another shape, and left out.", count=left)
    measurement = sums.measurement((note,) if left else ())
    return Reading(measurement, _weight_figure(measurement))


class _Sums:
    """Squares of weights and of their changes, by part and group."""

    def __init__(self, anatomy: Anatomy) -> None:
        self._anatomy = anatomy
        self._sums: dict[tuple[str, str], Float[np.ndarray, " sum"]] = {}

    def add(self, name: str, old: Tensor, new: Tensor) -> None:
        """Takes in one parameter tensor."""
        before = old.detach().cpu().double()
        change = new.detach().cpu().double() - before
        part, group = part_of(name, self._anatomy)
        found = np.array(
            [
                float(change.square().sum()),
                float(before.square().sum()),
                float(change.abs().max()) if old.numel() else 0.0,
                old.numel(),
            ]
        )
        for key in {(part, group), (part, WHOLE), (WHOLE, WHOLE)}:
            known = self._sums.setdefault(key, np.zeros(4))
            known[[0, 1, 3]] += found[[0, 1, 3]]
            known[2] = max(known[2], found[2])

    def measurement(self, caveats: tuple[Text, ...]) -> Measurement:
        """The table; NaN where a part has no such group."""
        parts = tuple(dict.fromkeys(part for part, _ in self._sums if part != WHOLE))
        values = np.full((len(parts) + 1, len(GROUPS), len(CHANGES)), math.nan)
        for row, part in enumerate((*parts, WHOLE)):
            for column, group in enumerate(GROUPS):
                if (part, group) in self._sums:
                    change, size, largest, count = self._sums[part, group]
                    relative = 0.0 if change == 0 else math.sqrt(change / size) if size else math.nan
                    values[row, column] = (relative, largest, count)
        return Measurement(
            name="weight_change",
            says=say("how far the weights of B lie from those of A, part by part"),
            values=values,
            dims=("part", "group", "quantity"),
            coords={"part": (*parts, WHOLE), "group": GROUPS, "quantity": CHANGES},
            unit="share of the norm, weight, count",
            caveats=caveats,
            columns={"quantity": "|B - A| / |A| (Frobenius norm), max |B - A|, number of parameters"},
        )


def part_of(name: str, anatomy: Anatomy) -> tuple[str, str]:
    """The part and group of the model that a parameter belongs to, by where the anatomy found them."""
    for index, layer in enumerate(anatomy.layers):
        if name.startswith(f"{layer.path}."):
            if layer.mixer is not None and name.startswith(f"{layer.mixer}."):
                return f"L{index}", ATTENTION
            is_inner = any(name.startswith(f"{path}.") for path in layer.feedforward)
            return f"L{index}", FEEDFORWARD if is_inner else OTHER
    outer = {
        "embedding": anatomy.embedding, "positions": anatomy.positions, "final norm": anatomy.norm, "head": anatomy.head
    }  # fmt: skip
    return next((part for part, path in outer.items() if path and name.startswith(f"{path}.")), "other"), OTHER


def _weight_figure(measurement: Measurement) -> Figure:
    table = measurement.at(quantity="relative change")
    parts = [str(part) for part in table.coords["part"]]
    # Layer 0 at the bottom, the embedding below it; what follows the layers on top, the whole model above all.
    before = [part for part in parts if part in ("embedding", "positions")]
    rows = [*before, *(part for part in parts if part not in before)][::-1]
    shown = [GROUPS[:3].index(group) for group in GROUPS[:3]]
    values = np.array([[float(table.at(part=part, group=GROUPS[column]).values) for column in shown] for part in rows])
    whole = np.array([float(table.at(part=part, group=WHOLE).values) for part in rows])
    matrix = Matrix(
        np.column_stack([values, whole]),
        tuple(part_name(part) for part in rows),
        (say("attention"), say("feed-forward"), say("norms and other"), say("together")),
    )
    heading = Heading(
        "weight-change",
        say("Where the weights differ"),
        say("Length of the change over length of A's weights, for each part; 0 is equal bit for bit."),
    )
    scale = ColourScale(say("relative change"), low=0.0, format=".2%")
    return heatmap(heading, matrix, scale, numbers=len(rows) <= 48)


def part_name(part: str) -> Text | str:
    """The name of a part of the weights for people."""
    match part:
        case "embedding":
            return say("embedding")
        case "positions":
            return say("positions")
        case "final norm":
            return say("final norm")
        case "head":
            return say("head")
        case "other":
            return say("other")
        case "whole":
            return say("whole model")
        case _:
            return part
