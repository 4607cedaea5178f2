"""How the first layer binds neighbouring tokens: decoding, attention and sensitivity (mesa.md 5)."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassworks.experiments.mesa.losses import PIECE
from glassworks.experiments.mesa.probing import read_out
from glassworks.models.hub import VectorTransformer

# The tokens told apart: the last one and those up to seven before it in decoding, up to three before it in attention.
DECODED, ATTENDED = 8, 4
# Attention is averaged over queries with at least this many tokens (mesa.md 5).
FIRST_QUERY = 6
# Sensitivity to tokens up to this many before the last, then to the mean of all older ones.
FELT = 6
SHOWN = 24  # positions of an attention map
TOGETHER = 8  # sequences whose gradients are taken at once: with a copy per channel they still fit a cache


def decode_earlier(model: VectorTransformer, inputs: Float[Tensor, "batch position channel"]) -> Float[Tensor, " back"]:
    """Mean squared error per number of reading the token 0, 1, .. 7 places before the last from the first layer's output.

    At the last position; a linear map fitted on one half of the sequences, scored on the other. NaN before the first token.
    """
    device, tokens = next(model.parameters()).device, inputs.shape[1]
    with torch.no_grad():
        last = torch.cat([_after_first(model, piece.to(device))[:, -1:].cpu() for piece in inputs.split(PIECE)])
    found = torch.full((DECODED,), torch.nan, dtype=torch.float64)
    for back in range(min(DECODED, tokens)):
        token = inputs[:, tokens - 1 - back][:, None]
        # Half a squared error summed over the numbers, to one error per number.
        found[back] = 2 * read_out(last[None], token).error[0, 0] / token.shape[-1]
    return found


@torch.no_grad()
def first_attention(
    model: nn.Module, inputs: Float[Tensor, "batch position channel"]
) -> Float[Tensor, "head query key"]:
    """The attention maps of the first layer, averaged over sequences."""
    device = next(model.parameters()).device
    total: Tensor | None = None
    for piece in inputs.split(PIECE):
        maps = model(inputs_embeds=piece.to(device), use_cache=False, output_attentions=True).attentions[0]
        summed = maps.double().sum(0).cpu()
        total = summed if total is None else total + summed
    assert total is not None, "at least one sequence"
    return total / len(inputs)


def attention_mass(maps: Float[Tensor, "head query key"]) -> Float[Tensor, "head back"]:
    """Mean mass on the tokens 0, 1, 2, 3 places before the query, and on all others, over queries from the sixth on."""
    length = maps.shape[-1]
    queries = torch.arange(min(FIRST_QUERY, length) - 1, length)
    near = torch.stack(
        [
            torch.where(queries >= back, maps[:, queries, (queries - back).clamp_min(0)], 0.0).mean(-1)
            for back in range(ATTENDED)
        ],
        -1,
    )
    others = maps[:, queries].sum(-1).mean(-1) - near.sum(-1)
    return torch.cat([near, others[:, None]], -1)


def sensitivity(
    model: VectorTransformer, inputs: Float[Tensor, "batch position channel"]
) -> Float[Tensor, " position"]:
    """How much each token moves the first layer's output at the last position.

    The length of the gradient of one channel by one token, averaged over channels and sequences.
    """
    device = next(model.parameters()).device
    found = [_lengths(model, piece.to(device)) for piece in inputs.split(TOGETHER)]
    return torch.cat(found).double().mean(0).cpu()


def _lengths(
    model: VectorTransformer, inputs: Float[Tensor, "batch position channel"]
) -> Float[Tensor, "copy position"]:
    """The lengths of the gradients of all channels for all sequences."""
    width, size = model.model.spec.width, len(inputs)
    # One copy of the sequences per channel: one backward pass gives the gradients of all channels.
    copies = inputs.repeat(width, 1, 1).requires_grad_(True)
    last = _after_first(model, copies)[:, -1]
    channels = torch.arange(width, device=inputs.device).repeat_interleave(size)
    (gradient,) = torch.autograd.grad(last.gather(1, channels[:, None]).sum(), copies)
    return gradient.norm(dim=-1)


def _after_first(model: VectorTransformer, inputs: Tensor) -> Tensor:
    """The stream after the first layer alone."""
    decoder = model.model
    stream = cast(Tensor, decoder.embed_tokens(inputs))
    code = decoder.position_vectors(inputs.shape[1])[None] if decoder.embed_positions is not None else None
    if code is not None and not decoder.block(0).self_attn.reads_code:
        stream, code = stream + code, None
    return decoder.block(0)(stream, code=code)


def felt(gradient: Float[Tensor, " position"]) -> Float[Tensor, " back"]:
    """Sensitivity to the tokens 0 .. 5 places before the last, then the mean of all older ones; NaN where there is none."""
    backwards = gradient.flip(0)
    near = torch.full((FELT,), torch.nan, dtype=gradient.dtype)
    near[: len(backwards[:FELT])] = backwards[:FELT]
    older = backwards[FELT:].mean() if len(backwards) > FELT else torch.tensor(torch.nan, dtype=gradient.dtype)
    return torch.cat([near, older[None]])
