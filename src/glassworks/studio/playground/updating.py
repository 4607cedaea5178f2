"""What an update does to the weights: the optimizer's step, then the pull of the regularisation.

As in TensorFlow Playground (playground.md 3) the pull is taken at each update, from the weights as they were before it, and
never on biases. With momentum or Adam it stays outside of their averages (decoupled, as in AdamW).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.studio.playground.network import NUMBER, Layout
from glassworks.studio.playground.settings import PlaygroundSettings

MOMENTUM = 0.9
# Adam's defaults, in the paper and in PyTorch.
FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8


class State:
    """All numbers that training goes on from, in one table: copying it is keeping a moment."""

    def __init__(self, layout: Layout, settings: PlaygroundSettings) -> None:
        averages = {"sgd": [], "momentum": ["first"], "adam": ["first", "second"]}[settings.optimizer]
        frozen = ["alive"] if settings.regularization == "L1" else []
        self.names: tuple[str, ...] = ("weights", "carried", *averages, *frozen)
        self.table = torch.zeros(len(self.names), layout.count, dtype=NUMBER)
        self.updates = 0
        """Updates done; Adam's averages are corrected by it."""
        self.carried = 0
        """Points whose gradient waits for the next update."""
        if frozen:
            self.row("alive").fill_(1)

    def row(self, name: str) -> Float[Tensor, " numbers"]:
        """A view of one row."""
        return self.table[self.names.index(name)]


class Updating:
    """Moves a state's weights along a gradient."""

    def __init__(self, layout: Layout, state: State, settings: PlaygroundSettings) -> None:
        self._state = state
        self._weights = state.row("weights")
        self._carried = state.row("carried")
        self._are_weights = layout.are_weights()
        self._before = torch.empty_like(self._weights)
        self._step = torch.empty_like(self._weights)
        self._first = state.row("first") if "first" in state.names else None
        self._second = state.row("second") if "second" in state.names else None
        self._alive = state.row("alive") if "alive" in state.names else None
        self._decays = settings.regularization == "L2"
        self.use(settings)

    def use(self, settings: PlaygroundSettings) -> None:
        """Takes the rates of these settings from the next update on."""
        self._rate = settings.learning_rate
        self._pull = settings.learning_rate * settings.regularization_rate
        self._kept = 1 - self._pull * self._are_weights

    def carry(self, gradient: Float[Tensor, " numbers"], count: int) -> None:
        """Keeps the summed gradient of points after which no update follows yet."""
        self._carried.add_(gradient)
        self._state.carried += count

    def update(self, gradient: Float[Tensor, " numbers"], count: int) -> None:
        """One update with the summed gradient of so many points, and of those that were carried; may write into it."""
        state = self._state
        if state.carried:
            gradient.add_(self._carried)
            self._carried.zero_()
            count += state.carried
            state.carried = 0
        state.updates += 1
        if self._alive is not None:
            self._update_with_l1(gradient, count, self._alive)
            return
        if self._first is None:
            if self._decays:
                self._weights.mul_(self._kept)
            self._weights.add_(gradient, alpha=-self._rate / count)
            return
        step = self._averaged(gradient, count, self._first)
        if self._decays:
            self._weights.mul_(self._kept)
        self._weights.add_(step, alpha=-self._rate)

    def _averaged(self, gradient: Tensor, count: int, first: Tensor) -> Tensor:
        gradient.div_(count)
        if self._second is None:
            return first.mul_(MOMENTUM).add_(gradient)
        first.lerp_(gradient, 1 - FIRST_DECAY)
        self._second.mul_(SECOND_DECAY).addcmul_(gradient, gradient, value=1 - SECOND_DECAY)
        updates = self._state.updates
        torch.sqrt(self._second, out=self._step)
        self._step.div_((1 - SECOND_DECAY**updates) ** 0.5).add_(EPSILON)
        torch.div(first, self._step, out=self._step)
        return self._step.div_(1 - FIRST_DECAY**updates)

    def _update_with_l1(self, gradient: Tensor, count: int, alive: Tensor) -> None:
        """A weight that the pull takes across zero becomes zero and stays it."""
        torch.sign(self._weights, out=self._before)
        self._before.mul_(self._are_weights).mul_(alive)
        step = gradient.div_(count) if self._first is None else self._averaged(gradient, count, self._first)
        self._weights.addcmul_(step, alive, value=-self._rate)
        pulled = torch.add(self._weights, self._before, alpha=-self._pull)
        crossed = torch.mul(self._weights, pulled).mul_(self._are_weights) < 0
        alive.masked_fill_(crossed, 0)
        # Not the other way round: a weight that is no number any more has to stay visible as that.
        self._weights.copy_(pulled.masked_fill_(crossed, 0))
