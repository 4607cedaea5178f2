"""Slots: placeholders in the layer stack that hand every call of the model to a director.

While they are in place the model's own code runs untouched: it calls "its layers" one after the other with the
arguments it has for each position (mask, rotary tables, cache). The director notes them and decides what runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from glassworks.anatomy import Anatomy, Subject
from glassworks.anatomy.calls import Arguments, Keywords, hidden_of, stream_of, with_hidden, with_tensor
from glassworks.core.errors import InvalidInput, StrangeModel, UnknownName
from glassworks.core.text import say


@runtime_checkable
class Director(Protocol):
    """Who decides what happens when the model calls a layer."""

    def called(self, number: int, args: Arguments, kwargs: Keywords) -> Any:
        """The model calls layer `number`; returns what the layer would: its output, or something of that form."""
        ...


class Slot(nn.Module):
    """Stands where a layer stood, owns it, and asks the director; unknown attributes are the layer's."""

    def __init__(self, layer: nn.Module, number: int, director: Director) -> None:
        super().__init__()
        self.layer = layer
        self._number = number
        self._director = director
        self.training = layer.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Passes the call on."""
        return self._director.called(self._number, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["layer"], name)


class Slots:
    """Puts slots in the place of a stack's layers for the length of a `with`; afterwards all is as before."""

    def __init__(self, subject: Subject, stack: str, director: Director) -> None:
        self._places = [_parent(subject.model, path) for path in subject.anatomy.stacks[stack]]
        self._director = director
        self.layers: list[nn.Module] = [parent.get_submodule(name) for parent, name in self._places]

    def __enter__(self) -> Slots:
        if any(isinstance(layer, Slot) for layer in self.layers):
            raise InvalidInput(
                say("this stack is under a plan already"), right=say("leave the first plan before entering another")
            )
        for number, (parent, name) in enumerate(self._places):
            setattr(parent, name, Slot(self.layers[number], number, self._director))
        return self

    def __exit__(self, *problem: object) -> None:
        for (parent, name), layer in zip(self._places, self.layers, strict=True):
            setattr(parent, name, layer)


def choose_stack(anatomy: Anatomy, stack: str | None = None) -> str:
    """The stack a plan is for: the named one, otherwise the decoder of two, or the only one."""
    known = tuple(anatomy.stacks)
    if stack is None:
        stack = "decoder" if "decoder" in known else known[0]
    if stack not in known:
        raise UnknownName("stack", stack, known)
    paths = anatomy.stacks[stack]
    if len(set(paths)) < len(paths):
        raise StrangeModel(
            say(
                "this model runs one layer several times (its layers share all weights); there is nothing to rearrange"
            ),
            given=paths[0],
        )
    return stack


class Recorded:
    """What the model passed to each layer at that layer's own position, and how its result is wrapped.

    Every layer is run with the arguments recorded at its own position, so masks, windows and rotary tables that
    differ between layers stay with their layer wherever a plan puts it (painters.md 6).
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = layers
        self.calls: list[tuple[Arguments, Keywords]] = [((), {})] * len(layers)
        self.last_output: Any = None
        self._handed: Tensor | None = None

    def note(self, number: int, args: Arguments, kwargs: Keywords) -> Tensor:
        """Keeps the arguments and returns the stream that came with them.

        Raises StrangeModel where the model changed the stream between two layers: a plan would lose that change.
        """
        self.calls[number] = (args, kwargs)
        stream = hidden_of(args, kwargs)
        if stream is None:
            raise StrangeModel(
                say("layer {number} of this model takes no hidden states", number=number),
                given=type(self.layers[number]).__name__,
            )
        if number > 0 and self._handed is not None and stream is not self._handed and not _alike(stream, self._handed):
            raise StrangeModel(
                say(
                    "this model changes the stream between its layers {left} and {right}", left=number - 1, right=number
                ),
                right=say("a model whose layers follow each other directly; no plan can rearrange these"),
            )
        return stream

    def run(self, number: int, stream: Tensor) -> Tensor:
        """One layer on a stream, with its own recorded arguments."""
        args, kwargs = with_hidden(*self.calls[number], stream)
        self.last_output = self.layers[number](*args, **kwargs)
        found = stream_of(self.last_output)
        if found is None:
            raise StrangeModel(say("layer {number} of this model returns no hidden states", number=number))
        return found

    def wrapped(self, stream: Tensor) -> Any:
        """A stream in the form in which the model's layers return theirs; noted as what the next layer gets."""
        self._handed = stream
        if self.last_output is None or isinstance(self.last_output, Tensor):
            return stream
        return with_tensor(self.last_output, stream)

    @property
    def is_bare(self) -> bool:
        """Whether layers return a tensor and nothing else."""
        return isinstance(self.last_output, Tensor)


def _alike(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and bool((left == right.to(left.device)).all())


def _parent(model: nn.Module, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    return model.get_submodule(parent), name
