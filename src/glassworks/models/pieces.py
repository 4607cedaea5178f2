"""A long sequence read piece by piece: the memories are handed on, gradients flow back through them."""

from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers import Memory
from glassworks.models.cache import MemoryLayer
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.tensors.seeds import Seed

Memories = tuple[Memory | None, ...]
PieceLoss = Callable[[Tensor, slice], Tensor]


@dataclass(frozen=True)
class Piece:
    """What a model says to some positions of a sequence, and what it remembers of all up to them."""

    positions: slice
    logits: Float[Tensor, "batch position token"]
    memories: Memories
    """One for each layer."""


def read_in_pieces(
    model: GlassworksForCausalLM,
    inputs: Int[Tensor, "batch position"],
    piece: int,
    before: Memories | None = None,
    seen: int = 0,
) -> Generator[Piece]:
    """Reads a sequence of any length in memory for one piece: equal to one pass up to rounding.

    `before` and `seen` are the memories and the number of tokens read earlier, if any. Wrap it in torch.no_grad() unless
    gradients are wanted. Raises InvalidInput for a model with a layer that keeps all keys.
    """
    memories = (None,) * model.config.spec.depth if before is None else before
    for positions in _cut(inputs.shape[1], piece):
        logits, memories = read_piece(model, inputs[:, positions], memories, seen + positions.start)
        yield Piece(positions, logits, memories)


@dataclass(frozen=True)
class Reading:
    """How a sequence is cut for its gradients."""

    piece: int
    """Tokens that pass through all layers at a time."""
    checkpoint: bool = True
    """A first pass keeps nothing but the memories between pieces, and each piece is read again on the way back, the last
    one first: memory is bounded by one piece and those memories. Else all activations are kept."""
    truncate_after: int | None = None
    """Gradients flow through the memories over so many pieces at a time; over all of them unless given."""


def pieces_loss(
    model: GlassworksForCausalLM,
    inputs: Int[Tensor, "batch position"],
    reading: Reading,
    loss: PieceLoss,
    written: Float[Tensor, "batch position"] | None = None,
    backward: bool = True,
) -> Float[Tensor, ""]:
    """The sum of `loss(logits of a piece, its positions)` over all pieces, detached; its gradients are added to the weights.

    `loss` is asked once for each piece, the last one first where pieces are read twice. Raises InvalidInput for a model
    with a layer that keeps all keys.
    """
    chance = None
    if model.training and model.config.spec.dropout:
        # One number of torch's own stream, from which each piece's dropout follows: it is the same when read again.
        chance = Seed(int(torch.randint(2**62, ())))
    source = _Source(model, inputs, written, loss, chance)
    positions = _cut(inputs.shape[1], reading.piece)
    if not positions:
        raise InvalidInput(say("no tokens to read"), right=say("at least one token"))
    span = len(positions) if reading.truncate_after is None else reading.truncate_after
    if span < 1:
        raise InvalidInput(
            say("gradients through {pieces} pieces at a time", pieces=span),
            right=say("at least one piece, or none for all of them"),
        )
    memories: Memories = (None,) * model.config.spec.depth
    total = torch.zeros((), device=inputs.device)
    for first in range(0, len(positions), span):
        group = positions[first : first + span]
        if backward and reading.checkpoint:
            share, memories = source.read_twice(group, memories)
        else:
            share, memories = source.read_once(group, memories, backward)
        total = total + share
    return total


def read_piece(
    model: GlassworksForCausalLM,
    inputs: Int[Tensor, "batch position"],
    memories: Memories,
    seen: int,
    written: Float[Tensor, "batch position"] | None = None,
    logits_to_keep: int = 0,
) -> tuple[Float[Tensor, "batch kept token"], Memories]:
    """The logits of a piece that follows `seen` tokens (of its last positions, or 0: all), and each layer's memory after it."""
    cache = DynamicCache(config=model.config)
    places = [layer for layer in cache.layers if isinstance(layer, MemoryLayer)]
    if len(places) != len(memories):
        raise InvalidInput(
            say("a layer of this model keeps every key; it cannot be read in pieces of bounded memory"),
            right=say("mixers whose memory is bounded, such as infini; or no piece"),
        )
    for place, memory in zip(places, memories, strict=True):
        place.remember(memory, seen)
    extra = {} if written is None else {"written": written}
    found = model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=logits_to_keep, **extra)
    return found.logits, tuple(place.memory for place in places)


@dataclass(frozen=True)
class _Source:
    """What is read, and what is asked of it."""

    model: GlassworksForCausalLM
    inputs: Tensor
    written: Tensor | None
    loss: PieceLoss
    chance: Seed | None = None

    def read(self, positions: slice, memories: Memories, logits_to_keep: int = 0) -> tuple[Tensor, Memories]:
        written = None if self.written is None else self.written[:, positions]
        drawing = nullcontext()
        if self.chance is not None:
            drawing = self.chance.child(positions.start).of_torch(self.inputs.device)
        with drawing:
            return read_piece(self.model, self.inputs[:, positions], memories, positions.start, written, logits_to_keep)

    def read_once(self, group: Sequence[slice], memories: Memories, backward: bool) -> tuple[Tensor, Memories]:
        """The loss of these pieces, its gradients taken at their end with all activations kept."""
        total = torch.zeros((), device=self.inputs.device)
        for positions in group:
            logits, memories = self.read(positions, memories)
            total = total + self.loss(logits, positions)
        if backward:
            _backward([total], [None])
        return total.detach(), tuple(None if m is None else m.mapped(torch.Tensor.detach) for m in memories)

    def read_twice(self, group: Sequence[slice], memories: Memories) -> tuple[Tensor, Memories]:
        """The same with the activations of one piece kept at a time."""
        starts = [memories]
        with torch.no_grad():
            for positions in group[:-1]:
                starts.append(self.read(positions, starts[-1], logits_to_keep=1)[1])
        total = torch.zeros((), device=self.inputs.device)
        end: Memories | None = None
        due: list[dict[str, Tensor]] = [{} for _ in memories]
        for positions, start in zip(reversed(group), reversed(starts), strict=True):
            # Nobody asks for gradients before the group.
            leaves = start if start is starts[0] else tuple(None if m is None else m.mapped(_leaf) for m in start)
            logits, after = self.read(positions, leaves)
            share = self.loss(logits, positions)
            del logits
            total = total + share.detach()
            end = after if end is None else end
            owed = [(_tensors(m)[n], d) for m, each in zip(after, due, strict=True) for n, d in each.items()]
            _backward([share, *[x for x, _ in owed]], [None, *[d for _, d in owed]])
            due = [{n: x.grad for n, x in _tensors(m).items() if x.grad is not None} for m in leaves]
        assert end is not None, "a group has a piece"
        return total, tuple(None if m is None else m.mapped(torch.Tensor.detach) for m in end)


def _cut(length: int, piece: int) -> list[slice]:
    if piece < 1:
        raise InvalidInput(say("a piece of {piece} tokens", piece=piece), right=say("at least one token"))
    return [slice(start, min(start + piece, length)) for start in range(0, length, piece)]


def _leaf(x: Tensor) -> Tensor:
    return x.detach().requires_grad_() if x.is_floating_point() else x


def _tensors(memory: Memory | None) -> dict[str, Tensor]:
    named = {} if memory is None else {f.name: memory.__dict__[f.name] for f in fields(memory)}
    return {name: x for name, x in named.items() if isinstance(x, Tensor)}


def _backward(outputs: list[Tensor], due: list[Tensor | None]) -> None:
    """Adds gradients, outside of autocast, which has no say in them."""
    chosen = [(x, d) for x, d in zip(outputs, due, strict=True) if x.requires_grad]
    if chosen:
        with torch.autocast(outputs[0].device.type, enabled=False):
            torch.autograd.backward([x for x, _ in chosen], [d for _, d in chosen])
