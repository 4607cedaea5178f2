"""A stage over several processes: who takes which part of an update, and the one order of data that all go through.

What a spec says (batch, accumulate, answers) is of the whole update, whoever takes part in it. Each pass over the data takes
the next `rows` sequences of one order for each process in turn, so an update holds the same sequences on one process as on
eight, and where the passes can be shared out whole, even the same passes.
"""

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.base import LearningSpec


@dataclass(frozen=True)
class Share:
    """What one process does of an update."""

    rows: int
    """Sequences of a forward and backward pass."""
    passes: int


def share_of(batch: int, accumulate: int, size: int) -> Share:
    """The share of each of `size` processes in `accumulate` passes of `batch` sequences: whole passes where that comes out.

    Raises InvalidInput where the sequences cannot be shared evenly.
    """
    common = math.gcd(accumulate, size)
    parts = size // common
    if batch % parts:
        raise InvalidInput(
            say(
                "{size} processes cannot share the {count} sequences of an update evenly",
                size=size,
                count=batch * accumulate,
            ),
            given=f"batch={batch}, accumulate={accumulate}",
            right=say(
                "batch={batch}, accumulate={accumulate}, or {count} processes",
                batch=math.ceil(batch / parts) * parts,
                accumulate=accumulate * parts,
                count=most_processes(batch, accumulate, size),
            ),
        )
    return Share(batch // parts, accumulate // common)


def most_processes(batch: int, accumulate: int, size: int) -> int:
    """The largest number up to `size` of processes that can share an update."""
    return next(count for count in range(size, 0, -1) if batch % (count // math.gcd(accumulate, count)) == 0)


def order_of(rows: int, count: int, seed: Seed) -> NDArray[np.int64]:
    """`count` places among `rows`: all of them in a random order, then all in another, with no gap between."""

    def epochs() -> Generator[NDArray[np.int64]]:
        for epoch in range(math.ceil(count / rows)):
            yield seed.child("epoch", epoch).numpy().permutation(rows)

    return np.concatenate(list(epochs()))[:count]


def in_order(trainer: Any, spec: LearningSpec) -> Any:
    """The trainer, its data as one order of all updates; every update is full, and the same on any number of processes."""
    count = spec.steps * spec.batch * spec.accumulate
    data = trainer.train_dataset
    trainer.train_dataset = data.select(order_of(len(data), count, Seed(spec.seed).child("order")))
    trainer.args.train_sampling_strategy = "sequential"
    return trainer


def settled(kind: type[Any], choices: dict[str, Any]) -> Any:
    """A trainer's arguments of a kind; one process uses one device, however many the machine has."""
    settings: Any = kind(**choices)
    # The library would else spread a process over all devices of a machine and multiply the batch by their number.
    settings._n_gpu = min(1, settings.n_gpu)
    return settings
