"""What the page draws of a network: weights, maps of all neurons over the plane, one of them large, a point's way through it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor

from glassworks.core.text import Text
from glassworks.studio.playground.activations import features_of
from glassworks.studio.playground.data import EDGE
from glassworks.studio.playground.history import Moment
from glassworks.studio.playground.network import NUMBER, Layout, traced
from glassworks.studio.playground.trainer import Trainer

LARGE = 100
SMALL, SMALLER = 20, 10
# Above so many neurons each is drawn so small that a coarser map looks the same.
MANY_NODES = 64


@cache
def grid(side: int) -> Float[Tensor, "points 2"]:
    """The middles of side x side cells of the plane, row by row from the upper left corner."""
    middles = (torch.arange(side, dtype=NUMBER) + 0.5) / side * (2 * EDGE) - EDGE
    return torch.stack([middles.repeat(side), -middles.repeat_interleave(side)], 1)


@lru_cache(maxsize=16)
def _inputs(side: int, features: tuple[str, ...]) -> Tensor:
    return features_of(grid(side), features)


def weights_of(layout: Layout, flat: Tensor, alive: Tensor | None) -> dict[str, Any]:
    """Weights, biases and which weights are frozen, by layer, as copies."""
    matrices = [matrix.numpy().copy() for matrix in layout.matrices(flat)]
    dead = None
    if alive is not None:
        dead = [(matrix[:, :-1] == 0).to(torch.uint8).numpy() for matrix in layout.matrices(alive)]
    return {"weights": [one[:, :-1] for one in matrices], "biases": [one[:, -1] for one in matrices], "dead": dead}


def maps_of(layout: Layout, flat: Tensor, features: tuple[str, ...]) -> Int8[np.ndarray, "nodes side side"]:
    """By neuron, a map: outputs times 127, cut at -1 and 1; of a softmax 2p - 1."""
    side = SMALLER if layout.nodes > MANY_NODES else SMALL
    found = traced(layout, flat, _inputs(side, features))
    outputs = [outputs for _, outputs in found]
    if layout.softmax:
        outputs[-1] = 2 * outputs[-1] - 1
    scaled = (torch.cat(outputs).nan_to_num(0.0).clamp_(-1, 1) * 127).round_()
    return scaled.to(torch.int8).numpy().reshape(-1, side, side)


def large_of(layout: Layout, flat: Tensor, features: tuple[str, ...], node: int | None) -> dict[str, Any]:
    """float32 (100, 100) of a neuron or the output; (classes, 100, 100) of a softmax as a whole."""
    whole = node is None and layout.softmax
    layer, place = _place(layout, layout.nodes - 1 if node is None else node)
    # Single precision, in parts that stay in the processor's cache: half of the time, and colours are coarser than both.
    flat = flat.to(torch.float32)
    size = LARGE * LARGE if layout.nodes <= MANY_NODES else 1000
    parts = [traced(layout, flat, part)[layer][1] for part in _inputs_in_single(features).split(size, 1)]
    found = torch.cat([part if whole else part[place] for part in parts], -1).nan_to_num_(0.0).numpy()
    return {"node": node, "map": found.reshape(-1, LARGE, LARGE) if whole else found.reshape(LARGE, LARGE)}


@lru_cache(maxsize=16)
def _inputs_in_single(features: tuple[str, ...]) -> Tensor:
    return _inputs(LARGE, features).to(torch.float32)


def probe_of(layout: Layout, flat: Tensor, features: tuple[str, ...], point: tuple[float, float]) -> dict[str, Any]:
    """Inputs, sums and outputs of every neuron at one point."""
    inputs = features_of(torch.tensor([point], dtype=NUMBER), features)
    found = traced(layout, flat, inputs)
    return {
        "inputs": inputs[:-1, 0].numpy(),
        "sums": torch.cat([sums[:, 0] for sums, _ in found]).numpy(),
        "outputs": torch.cat([outputs[:, 0] for _, outputs in found]).numpy(),
    }


def _place(layout: Layout, node: int) -> tuple[int, int]:
    """Layer of a neuron's number, and its place there."""
    for layer, (_, size) in enumerate(pairwise(layout.sizes)):
        if node < size:
            return layer, node
        node -= size
    raise AssertionError("a neuron's number is checked where it arrives")


def side_of(
    trainer: Trainer, moment: Moment | None, node: int | None, point: tuple[float, float] | None
) -> dict[str, Any]:
    """One network as a frame shows it: now, or at an earlier moment."""
    layout, features, state = trainer.layout, trainer.settings.features, trainer.state
    table = state.table if moment is None else moment.table
    flat = table[state.names.index("weights")]
    alive = table[state.names.index("alive")] if "alive" in state.names else None
    losses = trainer.losses(flat)
    begin, rows = trainer.curve.unsent()
    return {
        "epoch": trainer.epoch if moment is None else moment.epoch,
        "sample": trainer.sample if moment is None else 0,
        "updates": trainer.updates if moment is None else moment.updates,
        "train": losses.train,
        "test": losses.test,
        "train_accuracy": losses.train_accuracy,
        "test_accuracy": losses.test_accuracy,
        "curve": {"from": begin, "rows": rows},
        **weights_of(layout, flat, alive),
        "maps": maps_of(layout, flat, features),
        "large": large_of(layout, flat, features, node),
        "probe": None if point is None else probe_of(layout, flat, features, point),
        "kept": {"first": trainer.history.first, "last": trainer.history.last, "every": trainer.history.every},
        "trouble": None if trainer.trouble is None else trainer.trouble.to_json(),
    }


def made_of(trainers: Mapping[Literal["a", "b"], Trainer], notes: tuple[Text, ...]) -> dict[str, Any]:
    """What changes with the settings only: they themselves, and the points."""
    first = trainers["a"]
    settings = first.settings
    data = first.data
    return {
        "a": settings.to_json(),
        "b": trainers["b"].settings.to_json() if "b" in trainers else None,
        "notes": list(notes),
        "classes": settings.outputs if settings.outputs > 1 else (1 if settings.problem == "regression" else 2),
        "loss": "cross-entropy" if first.layout.softmax else "squared error",
        "train": {"points": data.train[:, :2], "labels": data.train[:, 2]},
        "test": {"points": data.test[:, :2], "labels": data.test[:, 2]},
    }
