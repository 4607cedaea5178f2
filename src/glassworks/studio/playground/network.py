"""A fully connected network over one flat row of numbers, its passes written into memory that is kept between calls.

Points stand in columns. A layer's matrix is (out, in + 1): its last column holds the biases, and the last row of what it
reads is ones, so that weights and biases take one product forward and one backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.studio.playground.activations import ACTIVATIONS, Apply, Slope
from glassworks.studio.playground.settings import PlaygroundSettings

NUMBER = torch.float64


@dataclass(frozen=True)
class Layout:
    """Where each layer's matrix lies in the flat row."""

    sizes: tuple[int, ...]
    activations: tuple[str, ...]
    """By layer, the output's last."""
    softmax: bool

    @classmethod
    def of(cls, settings: PlaygroundSettings) -> Layout:
        """The layout of a network: outputs are tanh for two classes, linear for numbers, softmax for more classes."""
        softmax = settings.outputs > 1
        last = "linear" if softmax or settings.problem == "regression" else "tanh"
        return cls(settings.sizes, (*settings.hidden, last), softmax)

    @property
    def count(self) -> int:
        """Weights and biases."""
        return sum(out * (into + 1) for into, out in pairwise(self.sizes))

    @property
    def nodes(self) -> int:
        """Neurons, hidden and output."""
        return sum(self.sizes[1:])

    def matrices(self, flat: Float[Tensor, " numbers"]) -> list[Tensor]:
        """Views (out, in + 1) by layer into a flat row."""
        found: list[Tensor] = []
        start = 0
        for into, out in pairwise(self.sizes):
            found.append(flat[start : start + out * (into + 1)].view(out, into + 1))
            start += out * (into + 1)
        return found

    def are_weights(self) -> Float[Tensor, " numbers"]:
        """1 where the flat row holds a weight, 0 where it holds a bias."""
        marks = torch.ones(self.count, dtype=NUMBER)
        for matrix in self.matrices(marks):
            matrix[:, -1] = 0
        return marks


@dataclass(frozen=True)
class Batch:
    """Points that are read together."""

    inputs: Float[Tensor, "inputs points"]
    """Features, and a last row of ones."""
    transposed: Float[Tensor, "points inputs"]
    targets: Float[Tensor, "outputs points"]
    count: int
    """How many points."""

    @classmethod
    def of(cls, inputs: Float[Tensor, "inputs points"], targets: Float[Tensor, "outputs points"]) -> Batch:
        """The batch of some points."""
        return cls(inputs, inputs.t(), targets, inputs.shape[1])


@dataclass(frozen=True)
class _Layer:
    matrix: Tensor
    backward: Tensor
    apply: Apply
    slope: Slope
    sums: Tensor
    outputs: Tensor
    augmented: Tensor
    augmented_transposed: Tensor
    slopes: Tensor
    delta: Tensor


@dataclass(frozen=True)
class _Group:
    """Neighbouring layers of one activation: their slopes take one call."""

    slope: Slope
    sums: Tensor
    outputs: Tensor
    slopes: Tensor


class Pass:
    """The memory of passes over a fixed number of points, and the passes themselves."""

    def __init__(self, layout: Layout, flat: Float[Tensor, " numbers"], count: int, *, learns: bool = True) -> None:
        """Memory for `count` points; one that does not learn has none for gradients."""
        self._softmax = layout.softmax
        rows = sum(size + 1 for size in layout.sizes[1:])
        outputs = torch.ones(rows, count, dtype=NUMBER)
        keeps = any(ACTIVATIONS[name].keeps_sums for name in layout.activations)
        sums = torch.ones(rows, count, dtype=NUMBER) if keeps else outputs
        slopes, deltas = torch.ones(2, rows, count if learns else 0, dtype=NUMBER)
        self._layers: list[_Layer] = []
        self._groups: list[_Group] = []
        start = begun = 0
        for place, (matrix, name) in enumerate(zip(layout.matrices(flat), layout.activations, strict=True)):
            own, wide = slice(start, start + matrix.shape[0]), slice(start, start + matrix.shape[0] + 1)
            here = ACTIVATIONS[name]
            self._layers.append(
                _Layer(
                    matrix, matrix[:, :-1].t(), here.apply, here.slope, sums[own], outputs[own], outputs[wide],
                    outputs[wide].t(), slopes[own], deltas[own],
                )
            )  # fmt: skip
            start = wide.stop
            following = layout.activations[place + 1] if place + 1 < len(layout.activations) else None
            if following != name:
                if name != "linear":
                    part = slice(begun, start)
                    self._groups.append(_Group(here.slope, sums[part], outputs[part], slopes[part]))
                begun = start

    def forward(self, inputs: Float[Tensor, "inputs points"]) -> Float[Tensor, "outputs points"]:
        """What the network says; of a softmax what goes into it. The memory is written anew by the next call."""
        source = inputs
        for layer in self._layers:
            torch.mm(layer.matrix, source, out=layer.sums)
            layer.apply(layer.sums, layer.outputs)
            source = layer.augmented
        return self._layers[-1].outputs

    def outputs(self) -> list[Float[Tensor, "neurons points"]]:
        """What each layer said at the last pass."""
        return [layer.outputs for layer in self._layers]

    def gradient(self, batch: Batch, into: Sequence[Tensor], kept: Sequence[Tensor] | None = None) -> None:
        """Writes the summed loss's gradient into matrices like the layers'.

        `kept` drops hidden outputs: by hidden layer, (neurons, points), 0 or the factor that makes up for the dropped.
        """
        if kept is None:
            self.forward(batch.inputs)
            for group in self._groups:
                group.slope(group.sums, group.outputs, group.slopes)
        else:
            self._forward_dropping(batch.inputs, kept)
        last = self._layers[-1]
        if self._softmax:
            torch.softmax(last.outputs, 0, out=last.delta)
            last.delta.sub_(batch.targets)
        else:
            torch.sub(last.outputs, batch.targets, out=last.delta)
            last.delta.mul_(last.slopes)
        for place in range(len(self._layers) - 1, 0, -1):
            layer, before = self._layers[place], self._layers[place - 1]
            torch.mm(layer.delta, before.augmented_transposed, out=into[place])
            torch.mm(layer.backward, layer.delta, out=before.delta)
            before.delta.mul_(before.slopes)
        torch.mm(self._layers[0].delta, batch.transposed, out=into[0])

    def _forward_dropping(self, inputs: Tensor, kept: Sequence[Tensor]) -> None:
        source = inputs
        for layer, mask in zip(self._layers, [*kept, None], strict=True):
            torch.mm(layer.matrix, source, out=layer.sums)
            layer.apply(layer.sums, layer.outputs)
            layer.slope(layer.sums, layer.outputs, layer.slopes)
            if mask is not None:
                layer.outputs.mul_(mask)
                layer.slopes.mul_(mask)
            source = layer.augmented


def traced(layout: Layout, flat: Tensor, inputs: Float[Tensor, "inputs points"]) -> list[tuple[Tensor, Tensor]]:
    """Sums and outputs of every layer, (neurons, points) each, written plainly; a softmax's outputs are probabilities."""
    found: list[tuple[Tensor, Tensor]] = []
    source = inputs
    for matrix, name in zip(layout.matrices(flat), layout.activations, strict=True):
        sums = matrix @ source
        outputs = torch.empty_like(sums)
        ACTIVATIONS[name].apply(sums, outputs)
        found.append((sums, outputs))
        source = torch.cat([outputs, torch.ones_like(outputs[:1])])
    if layout.softmax:
        found[-1] = (found[-1][0], torch.softmax(found[-1][0], 0))
    return found
