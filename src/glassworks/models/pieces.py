"""A long sequence read piece by piece: the memories are handed on, gradients flow back through them."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed
from transformers import DynamicCache

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers import Memory
from glassworks.models.cache import MemoryLayer
from glassworks.models.hub import GlassworksForCausalLM

Memories = tuple[Memory | None, ...]
PieceLoss = Callable[[Tensor, slice], Tensor]


def pieces_loss(
    model: GlassworksForCausalLM,
    inputs: Int[Tensor, "batch position"],
    piece: int,
    loss: PieceLoss,
    *,
    checkpoint: bool = True,
    truncate_after: int | None = None,
    written: Float[Tensor, "batch position"] | None = None,
    backward: bool = True,
) -> Float[Tensor, ""]:
    """The sum of `loss(logits of a piece, its positions)` over all pieces, detached; its gradients are added to the weights.

    Gradients flow through the memories over all pieces, or over `truncate_after` of them at a time. With `checkpoint` the
    activations of a piece are computed again on the way back, so that memory is bounded by one piece and the memories between
    pieces. Raises InvalidInput for a model with a layer that keeps all keys.
    """
    memories: Memories = (None,) * model.config.spec.depth
    total = torch.zeros((), device=inputs.device)
    pending = torch.zeros((), device=inputs.device)
    for number, start in enumerate(range(0, inputs.shape[1], piece)):
        positions = slice(start, min(start + piece, inputs.shape[1]))

        def read(*before: Memory | None, positions: slice = positions) -> tuple[Tensor, *Memories]:
            strength = None if written is None else written[:, positions]
            logits, after = read_piece(model, inputs[:, positions], before, positions.start, strength)
            return loss(logits, positions), *after

        if checkpoint and backward:
            share, *after = recomputed(read, *memories, use_reentrant=False)
        else:
            share, *after = read(*memories)
        memories = tuple(after)
        total = total + share.detach()
        pending = pending + share
        is_end = positions.stop == inputs.shape[1]
        if is_end or (truncate_after is not None and (number + 1) % truncate_after == 0):
            if backward and pending.requires_grad:
                pending.backward()
            pending = torch.zeros_like(total)
            memories = tuple(None if m is None else m.mapped(torch.Tensor.detach) for m in memories)
    return total


def read_piece(
    model: GlassworksForCausalLM,
    inputs: Int[Tensor, "batch position"],
    memories: Memories,
    seen: int,
    written: Float[Tensor, "batch position"] | None = None,
) -> tuple[Float[Tensor, "batch position token"], Memories]:
    """The logits of a piece that follows `seen` tokens, and the memory of each layer after it."""
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
    logits = model(input_ids=inputs, past_key_values=cache, use_cache=True, **extra).logits
    return logits, tuple(place.memory for place in places)
