"""One network in training: epochs in slices, single steps, going back, edits. The page's pictures are made elsewhere."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.studio.playground.activations import features_of
from glassworks.studio.playground.chance import TextChance
from glassworks.studio.playground.data import Data, Numbers
from glassworks.studio.playground.history import Curve, History, Moment
from glassworks.studio.playground.network import NUMBER, Batch, Layout, Pass, traced
from glassworks.studio.playground.settings import PlaygroundSettings
from glassworks.studio.playground.trouble import Trouble, explained, is_lost
from glassworks.studio.playground.updating import State, Updating

Unit = Literal["sample", "batch", "epoch"]
# Networks to skip are drawn one by one up to this many weights; beyond, a text of their own is quicker than waiting.
MOST_SKIPPED = 200_000


@dataclass(frozen=True)
class Losses:
    """Means over points; None where there are none. Accuracies also in regression None."""

    train: float | None
    test: float | None
    train_accuracy: float | None = None
    test_accuracy: float | None = None


class Trainer:
    """A network, its data and where its training stands."""

    def __init__(
        self, settings: PlaygroundSettings, data: Data, first: Float[Tensor, " numbers"] | None = None
    ) -> None:
        """Begins at epoch 0 with the weights `first`, or those that the data's chance gives."""
        self.settings = settings
        self.layout = Layout.of(settings)
        self.chance = data.chance.copy()
        """What the seed's text still has to give."""
        self.first = first_weights(self.layout, settings, self.chance) if first is None else first.clone()
        self.state = State(self.layout, settings)
        self.weights = self.state.row("weights")
        self.weights.copy_(self.first)
        self._updating = Updating(self.layout, self.state, settings)
        self._gradient = torch.zeros(self.layout.count, dtype=NUMBER)
        self._gradients = self.layout.matrices(self._gradient)
        self._chance = torch.Generator().manual_seed(
            zlib.crc32(f"{settings.seed}/{settings.draw}".encode("utf-8", "replace"))
        )
        self.epoch = self.sample = 0
        self.history = History.of_size(self.state.table.nbytes)
        self.curve = Curve()
        self.trouble: Trouble | None = None
        self.is_as_trained = True
        """Whether the weights follow from the first ones and the settings alone: no edit, no changed rate, no new points."""
        self._largest_edit = 0.0
        self.take(data)
        self.remember()

    @property
    def updates(self) -> int:
        """Updates since the reset."""
        return self.state.updates

    def take(self, data: Data) -> None:
        """Learns from these points from now on; weights and epoch stay."""
        self.is_as_trained &= not self.updates
        self.data = data
        self._count = len(data.train)
        self._train = self._read(data.train)
        everything = torch.from_numpy(_stacked(data))
        self._all = Batch.of(*_columns(everything, self.settings, self.layout))
        size = min(self.settings.batch_size, max(self._count, 1))
        self._size = size
        self._batches = [self._part(start, min(start + size, self._count)) for start in range(0, self._count, size)]
        self._passes: dict[int, Pass] = {}
        for count in {batch.count for batch in self._batches} | {1}:
            self._passes[count] = Pass(self.layout, self.weights, count)
        self._overall = Pass(self.layout, self.weights, self._all.count, learns=False)
        shares = torch.zeros(self._all.count, 2, dtype=NUMBER)
        shares[: self._count, 0] = 1 / max(self._count, 1)
        shares[self._count :, 1] = 1 / max(len(data.test), 1)
        self._shares = shares
        self.sample = 0

    def _read(self, rows: Numbers) -> Batch:
        return Batch.of(*_columns(torch.from_numpy(rows), self.settings, self.layout))

    def _part(self, start: int, stop: int) -> Batch:
        part = slice(start, stop)
        return Batch.of(self._train.inputs[:, part].contiguous(), self._train.targets[:, part].contiguous())

    def use(self, settings: PlaygroundSettings) -> None:
        """Takes over what a running network can take: its rates."""
        self.is_as_trained &= settings == self.settings or not self.updates
        self.settings = settings
        self._updating.use(settings)
        self.trouble = None

    # -- training

    def train(self, until_epoch: int, deadline: float) -> bool:
        """Goes on to this epoch, or to the deadline (of time.perf_counter); whether the epoch was reached."""
        if self._count == 0:
            raise InvalidInput(say("there are no points to learn from"), right=say("paint some, or choose a set"))
        if self.epoch < until_epoch:
            self.trouble = None
        while self.epoch < until_epoch and self.trouble is None:
            self._finish_batch()
            while self.sample < self._count:
                batch = self._batches[self.sample // self._size]
                self._learn(batch, self._passes[batch.count])
                if time.perf_counter() > deadline and self.sample < self._count:
                    return False
            self._end_epoch()
            if time.perf_counter() > deadline:
                break
        return self.epoch >= until_epoch or self.trouble is not None

    def step(self, unit: Unit) -> None:
        """One sample, one batch (to its update), or to the end of the epoch."""
        if unit == "epoch" or self._count == 0:
            self.train(self.epoch + 1, float("inf"))
            return
        self.trouble = None
        if unit == "sample":
            self._learn(self._part(self.sample, self.sample + 1), self._passes[1])
        elif not self._finish_batch():
            batch = self._batches[self.sample // self._size]
            self._learn(batch, self._passes[batch.count])
        if self.sample == self._count:
            self._end_epoch()
        else:
            losses = self._all_losses()
            if is_lost(*losses, float(self.weights @ self.weights)):
                self._stop()

    def _finish_batch(self) -> bool:
        """Learns what is left of a batch that single samples began; whether there was something left."""
        if self.sample % self._size == 0:
            return False
        stop = min(self.sample - self.sample % self._size + self._size, self._count)
        batch = self._part(self.sample, stop)
        self._learn(batch, Pass(self.layout, self.weights, batch.count))
        return True

    def _learn(self, batch: Batch, passing: Pass) -> None:
        # Samples after the last full batch carry their gradient into the next epoch, as in the original.
        passing.gradient(batch, self._gradients, self._kept(batch.count) if self.settings.dropout else None)
        self.sample += batch.count
        if self.sample % self._size:
            self._updating.carry(self._gradient, batch.count)
        else:
            self._updating.update(self._gradient, batch.count)

    def _kept(self, count: int) -> list[Tensor]:
        share = 1 - self.settings.dropout
        return [
            torch.empty(size, count, dtype=NUMBER).bernoulli_(share, generator=self._chance).div_(share)
            for size in self.layout.sizes[1:-1]
        ]

    def _end_epoch(self) -> None:
        self.epoch += 1
        self.sample = 0
        losses = self._all_losses()
        if is_lost(*losses, float(self.weights @ self.weights)):
            self._stop()
            return
        self._remember(losses)

    def _stop(self) -> None:
        """Names the cause and returns to the last moment at which all was finite, so that there is something to see."""
        largest = float(self._train.inputs.abs().max())
        trouble = explained(self.settings, largest, self._largest_edit, self.epoch)
        self.back_to(self.history.last)
        self.trouble = trouble

    # -- losses

    def _all_losses(self) -> tuple[float, float]:
        outputs = self._overall.forward(self._all.inputs)
        train, test = (_losses(outputs, self._all.targets, self.layout) @ self._shares)[0].tolist()
        return train, test

    def losses(self, flat: Float[Tensor, " numbers"] | None = None) -> Losses:
        """Losses and accuracies now, or with other weights."""
        sums, outputs = traced(self.layout, self.weights if flat is None else flat, self._all.inputs)[-1]
        plain = sums if self.layout.softmax else outputs
        values: list[float | None] = (_losses(plain, self._all.targets, self.layout) @ self._shares)[0].tolist()
        right: list[float | None] = [None, None]
        if self.settings.problem == "classification":
            right = (_right(outputs, self._all.targets) @ self._shares)[0].tolist()
        for place, empty in enumerate((self._count == 0, len(self.data.test) == 0)):
            if empty:
                values[place] = right[place] = None
        return Losses(*values, *right)

    # -- going back and editing

    def remember(self) -> None:
        """Keeps this moment and its losses, where it is the end of an epoch."""
        if self.sample == 0:
            self._remember(self._all_losses())

    def _remember(self, losses: tuple[float, float]) -> None:
        self.history.keep(Moment(self.epoch, self.state.table.clone(), self.state.updates, self.state.carried))
        self.curve.add(self.epoch, *losses)

    def back_to(self, epoch: int) -> None:
        """Returns to the latest kept moment that is not after this epoch; what came after it is forgotten."""
        moment = self.history.at(epoch)
        if moment is None:
            return
        self.state.table.copy_(moment.table)
        self.state.updates, self.state.carried = moment.updates, moment.carried
        self.epoch, self.sample, self.trouble = moment.epoch, 0, None
        self.history.forget_after(moment.epoch)
        self.curve.forget_after(moment.epoch)

    def restore(self, rows: Mapping[str, Tensor], epoch: int, sample: int, updates: int, carried: int) -> None:
        """Goes on from rows that another state held; what came before is not remembered."""
        for name, row in rows.items():
            self.state.row(name).copy_(row)
        self.state.updates, self.state.carried = updates, carried
        self.epoch, self.sample = epoch, min(sample, max(self._count - 1, 0))
        self.history, self.curve = History.of_size(self.state.table.nbytes), Curve()
        self.history.keep(Moment(epoch, self.state.table.clone(), updates, carried))
        self.curve.add(epoch, *self._all_losses())

    def edit(self, layer: int, to: int, from_: int | None, value: float) -> None:
        """Writes a weight, or a bias where `from_` is None. A frozen weight learns again."""
        matrices = self.layout.matrices(self.weights)
        if not (0 <= layer < len(matrices) and 0 <= to < matrices[layer].shape[0]):
            raise InvalidInput(say("there is no such neuron"), given=f"{layer}, {to}")
        place = matrices[layer].shape[1] - 1 if from_ is None else from_
        if not (0 <= place < matrices[layer].shape[1] - (from_ is not None)):
            raise InvalidInput(say("there is no such link"), given=f"{layer}, {to}, {from_}")
        matrices[layer][to, place] = value
        if "alive" in self.state.names:
            self.layout.matrices(self.state.row("alive"))[layer][to, place] = 1
        self.is_as_trained = False
        self.trouble = None
        self._largest_edit = max(self._largest_edit, abs(value))
        if self.sample == 0:
            self.curve.forget_after(self.epoch - 1)
            self.remember()


def first_weights(layout: Layout, settings: PlaygroundSettings, chance: TextChance) -> Float[Tensor, " numbers"]:
    """Weights uniform within half a unit of zero, neuron by neuron, from where the data left chance; biases 0.1.

    With `init_zero` all are zero. `draw` networks of the same shape come before this one. Takes from `chance`.
    """
    flat = torch.zeros(layout.count, dtype=NUMBER)
    count = settings.weight_count
    if settings.draw * count <= MOST_SKIPPED:
        for _ in range(settings.draw * count):
            chance.number()
    else:
        chance = TextChance(f"{settings.seed}/{settings.draw}")
    for matrix in layout.matrices(flat):
        rows, columns = matrix.shape
        drawn = [[chance.number() - 0.5 for _ in range(columns - 1)] for _ in range(rows)]
        matrix[:, :-1] = torch.tensor(drawn, dtype=NUMBER).reshape(rows, columns - 1)
        matrix[:, -1] = 0.1
    # The original draws them in this case too, so that what follows from the same text stays the same.
    return flat.zero_() if settings.init_zero else flat


def _stacked(data: Data) -> Numbers:
    import numpy as np

    return np.concatenate([data.train, data.test])


def _columns(rows: Float[Tensor, "points 3"], settings: PlaygroundSettings, layout: Layout) -> tuple[Tensor, Tensor]:
    """What the network reads of points, and what it should say."""
    inputs = features_of(rows[:, :2], settings.features)
    if layout.softmax:
        targets = torch.nn.functional.one_hot(rows[:, 2].long(), layout.sizes[-1]).t().to(NUMBER).contiguous()
    else:
        targets = rows[:, 2][None].contiguous()
    return inputs, targets


def _losses(outputs: Tensor, targets: Tensor, layout: Layout) -> Float[Tensor, "1 points"]:
    """By point: half the squared error, or the cross-entropy (in nats) of what goes into the softmax."""
    if layout.softmax:
        return (torch.logsumexp(outputs, 0) - (outputs * targets).sum(0))[None]
    error = torch.sub(outputs, targets)
    return error.mul_(error).mul_(0.5)


def _right(outputs: Tensor, targets: Tensor) -> Float[Tensor, "1 points"]:
    if outputs.shape[0] > 1:
        return (outputs.argmax(0) == targets.argmax(0)).to(NUMBER)[None]
    return ((outputs >= 0) == (targets >= 0)).to(NUMBER)
