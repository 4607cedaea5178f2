"""A playground as JSON: settings, weights and averages, from which training goes on to the same numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.studio.playground.data import make_data
from glassworks.studio.playground.network import NUMBER
from glassworks.studio.playground.settings import PlaygroundSettings
from glassworks.studio.playground.trainer import Trainer

KIND, VERSION = "glassworks playground", 1
Which = Literal["a", "b"]


def saved(trainers: Mapping[Which, Trainer]) -> dict[str, Any]:
    """Plain data of both networks; `weights` by layer is for readers, the training goes on from `state`."""
    return {"kind": KIND, "version": VERSION} | {which: _of(trainer) for which, trainer in trainers.items()}


def _of(trainer: Trainer) -> dict[str, Any]:
    matrices = trainer.layout.matrices(trainer.weights)
    state = {name: trainer.state.row(name).tolist() for name in trainer.state.names if name != "weights"}
    losses = trainer.losses()
    return {
        "settings": trainer.settings.to_json(),
        "epoch": trainer.epoch,
        "sample": trainer.sample,
        "updates": trainer.updates,
        "carried": trainer.state.carried,
        "as_trained": trainer.is_as_trained,
        "loss": {"train": losses.train, "test": losses.test},
        "layers": [
            {"activation": name, "weights": matrix[:, :-1].tolist(), "biases": matrix[:, -1].tolist()}
            for name, matrix in zip(trainer.layout.activations, matrices, strict=True)
        ],
        "state": {name: row for name, row in state.items() if any(row)},
        "first": trainer.first.tolist(),
    }


def restored(found: object) -> dict[Which, Trainer]:
    """The networks of an export; InvalidInput says what is wrong with a foreign or damaged one."""
    table = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    if table.get("kind") != KIND or table.get("version") != VERSION:
        raise InvalidInput(
            say("this is no saved playground"), given=table.get("kind"), right=say("the JSON that this page exports")
        )
    made: dict[Which, Trainer] = {}
    for which in ("a", "b"):
        if table.get(which) is not None:
            made[which] = _trainer(table[which], made.get("a"))
    if "a" not in made:
        raise InvalidInput(say("this saved playground holds no network"))
    return made


def _trainer(found: Any, beside: Trainer | None) -> Trainer:
    if not isinstance(found, dict):
        raise InvalidInput(say("this saved playground holds no network"))
    table = cast(dict[str, Any], found)
    settings = PlaygroundSettings.parse(table.get("settings"))
    if beside is not None:
        mine, theirs = settings.to_json(), beside.settings.to_json()
        settings = PlaygroundSettings.parse(mine | {name: theirs[name] for name in PlaygroundSettings.of_data})
    data = make_data(settings) if beside is None else beside.data
    made = Trainer(settings, data, _row(table.get("first"), settings))
    layers: Any = table.get("layers")
    flat: list[Any] = []
    try:
        for layer in layers:
            for row, bias in zip(layer["weights"], layer["biases"], strict=True):
                flat += [*row, bias]
    except (TypeError, KeyError, ValueError):
        raise InvalidInput(say("the weights of this saved playground cannot be read")) from None
    rows = {"weights": flat, **_table(table.get("state"))}
    made.restore(
        {name: _numbers(row, made.layout.count) for name, row in rows.items() if name in made.state.names},
        *(_count(table.get(name)) for name in ("epoch", "sample", "updates", "carried")),
    )
    made.is_as_trained = table.get("as_trained") is True
    return made


def _table(found: Any) -> dict[str, Any]:
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _row(found: Any, settings: PlaygroundSettings) -> Tensor | None:
    if found is None:
        return None
    sizes = settings.sizes
    return _numbers(found, sum(out * (into + 1) for into, out in itertools.pairwise(sizes)))


def _numbers(found: Any, count: int) -> Tensor:
    values = cast(list[Any], found) if isinstance(found, list) else []
    if len(values) != count or not all(isinstance(one, int | float) and math.isfinite(one) for one in values):
        raise InvalidInput(
            say("the weights of this saved playground do not fit its network"),
            given=len(values),
            right=say("{count} numbers", count=count),
        )
    return torch.tensor(values, dtype=NUMBER)


def _count(found: Any) -> int:
    if not isinstance(found, int) or not 0 <= found < 10**9:
        raise InvalidInput(say("the epochs of this saved playground cannot be read"), given=found)
    return found
