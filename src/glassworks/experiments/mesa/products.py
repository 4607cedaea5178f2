"""What the heads of a trained layer compute: products of their matrices, block means, effective coefficients.

A head's four matrices are not unique, their products are (mesa.md 5, 5.2). All maps act on rows: a token x (a row)
gives the query x W_q, so W_q W_k^T has the query's channels in its rows and the key's in its columns, and W_v P the
channels read in its rows and those written in its columns.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers import Linear, Mesa
from glassworks.mixers.mesa import MesaMixer
from glassworks.models.hub import VectorTransformer
from glassworks.models.planted_descent import BEFORE, STATE
from glassworks.models.spec import VectorSpec

PRODUCTS = ("query-key", "value-output")
# Constructed tokens are (0, s_t, s_t, s_{t-1}); a network predicts in their first channel (mesa.md 2).
CHANNELS = ("prediction", "s_t again", "s_t", "s_t-1")
# value (key . query) of the update that a head of linear attention writes: which of the last two channels each reads.
TERMS = tuple(
    f"{value} ({key} . {query})" for value in ("s_i", "s_i-1") for key in ("s_i", "s_i-1") for query in ("s_t", "s_t-1")
)


@dataclass(frozen=True, eq=False)
class LayerProducts:
    """The products of one layer, in float64: together they fix what a linear or mesa layer without extras computes."""

    query_key: Float[Tensor, "head width width"]
    """W_q W_k^T, times the factor on query-key products; times lambda in a mesa layer."""
    value_output: Float[Tensor, "head width width"]
    """W_v P."""
    key_key: Float[Tensor, "head width width"]
    """W_k W_k^T, what a mesa layer whitens by, times its lambda; linear layers do without."""

    def blended(self, other: "LayerProducts", share: float) -> "LayerProducts":
        """The mean of two layers' products, `share` of it from the other."""
        mine = 1.0 - share
        return LayerProducts(
            mine * self.query_key + share * other.query_key,
            mine * self.value_output + share * other.value_output,
            mine * self.key_key + share * other.key_key,
        )


Products = tuple[LayerProducts, ...]


def products_of(model: VectorTransformer) -> Products:
    """The products of all layers; InvalidInput where they do not say all that a layer does."""
    spec = model.model.spec
    assert isinstance(spec, VectorSpec), "a decoder of vectors has the spec of one"
    _check(spec)
    return tuple(_of_layer(model, spec, layer) for layer in range(spec.depth))


@torch.no_grad()
def _of_layer(model: VectorTransformer, spec: VectorSpec, layer: int) -> LayerProducts:
    decoder, sizes = model.model, spec.sizes_of(layer)

    def by_head(name: Literal["query", "key", "value"], heads: int) -> Float[Tensor, "head inner width"]:
        found = decoder.matrix(layer, name).detach().double().cpu().unflatten(0, (heads, sizes.head_width))
        return found.repeat_interleave(sizes.query_heads // heads, 0)

    query, key = by_head("query", sizes.query_heads), by_head("key", sizes.kv_heads)
    value = by_head("value", sizes.kv_heads)
    output = decoder.matrix(layer, "output").detach().double().cpu()
    output = output.unflatten(1, (sizes.query_heads, sizes.head_width)).permute(1, 2, 0)
    strength = _strength(decoder.block(layer).self_attn.mixer, sizes.group)
    return LayerProducts(
        sizes.scale * strength * query.mT @ key,
        value.mT @ output,
        strength * key.mT @ key,
    )


def _strength(mixer: nn.Module, group: int) -> Float[Tensor, "head 1 1"]:
    """Lambda of each query head: scaling keys and queries by its root leaves a mesa layer with lambda 1."""
    if not isinstance(mixer, MesaMixer):
        return torch.ones(1, 1, 1, dtype=torch.float64)
    strength = 1.0 / mixer.regulariser().detach().double().cpu()[:, :1, None]
    return strength.repeat_interleave(group, 0)


def _check(spec: VectorSpec) -> None:
    """Refuses what products cannot say: softmax, gates, norms, biases, feed-forwards, a position code."""
    plain = all(isinstance(mixer, Linear) or mixer == Mesa() for mixer in spec.mixers)
    extras = spec.bias or spec.head_norm or spec.norm != "none" or spec.query_key_norm != "none"
    if not plain or extras or spec.positions != "none" or any(kind != "none" for kind in spec.feedforward):
        raise InvalidInput(
            say("products of matrices do not say all that these layers do"),
            right=say("linear or mesa layers without gates, norms, biases, positions and feed-forward"),
        )


def block_means(matrix: Float[Tensor, "*head width width"], size: int) -> Float[Tensor, "*head channel channel"]:
    """The mean of the diagonal of each size x size block."""
    return _blocks(matrix, size).diagonal(dim1=-2, dim2=-1).mean(-1)


def off_diagonal(matrix: Float[Tensor, "*head width width"], size: int) -> float:
    """Mean absolute entry outside the blocks' diagonals over the mean absolute block mean; 0 of 0 is 0."""
    blocks = _blocks(matrix, size)
    outside = ~torch.eye(size, dtype=torch.bool)
    if size == 1:
        return 0.0
    rest, means = blocks[..., outside].abs().mean(), block_means(matrix, size).abs().mean()
    return float(rest / means) if means > 0 else 0.0


def from_block_means(means: Float[Tensor, "*head channel channel"], size: int) -> Float[Tensor, "*head width width"]:
    """Blocks that are multiples of the identity."""
    eye = torch.eye(size, dtype=means.dtype)
    spread = means[..., :, None, :, None] * eye[:, None, :]
    return spread.flatten(-4, -3).flatten(-2)


def _blocks(
    matrix: Float[Tensor, "*head width width"], size: int
) -> Float[Tensor, "*head channel channel inner inner"]:
    width = matrix.shape[-1]
    if width % size:
        raise InvalidInput(say("blocks of {size} do not divide a width of {width}", size=size, width=width))
    count = width // size
    return matrix.unflatten(-1, (count, size)).unflatten(-3, (count, size)).transpose(-3, -2)


def coefficients(layer: LayerProducts, size: int) -> Float[Tensor, " term"]:
    """The coefficients of TERMS in what a linear layer adds to the prediction, summed over heads (mesa.md 5).

    The channel "s_t again" is not counted: in the tokens of one-layer networks it is zero.
    """
    query_key, value_output = block_means(layer.query_key, size), block_means(layer.value_output, size)
    places = (STATE, BEFORE)
    found = [
        (value_output[:, value, 0] * query_key[:, query, key]).sum()
        for value in places
        for key in places
        for query in places
    ]
    return torch.stack(found)
