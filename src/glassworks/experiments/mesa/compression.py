"""Networks rebuilt from products: block scalars only, or the mean of two networks (mesa.md 5).

The paper quotes 16 scalars per head for the compressed form; two products of 4 x 4 blocks are 32.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.experiments.mesa.products import (
    LayerProducts,
    Products,
    block_means,
    from_block_means,
    products_of,
)
from glassworks.mixers import Linear
from glassworks.models.hub import VectorTransformer
from glassworks.models.spec import VectorSpec
from glassworks.models.transformer import build_model
from glassworks.tensors.seeds import Seed

# Directions of the keys below this share of the strongest are rounding of the factorisation, not keys.
KEY_RANK = 1e-10


def compressed_products(products: Products, size: int) -> Products:
    """Every size x size block replaced by the mean of its diagonal times the identity."""

    def flat(matrix: Float[Tensor, "head width width"]) -> Float[Tensor, "head width width"]:
        return from_block_means(block_means(matrix, size), size)

    return tuple(LayerProducts(flat(p.query_key), flat(p.value_output), flat(p.key_key)) for p in products)


def compressed(model: VectorTransformer, size: int | None = None) -> VectorTransformer:
    """The network of a trained network's block scalars; blocks are as wide as a prediction unless `size` is given."""
    spec = model.model.spec
    assert isinstance(spec, VectorSpec), "a decoder of vectors has the spec of one"
    return network(spec, compressed_products(products_of(model), size or spec.outputs))


def interpolated_products(first: Products, second: Products, share: float = 0.5) -> Products:
    """The mean of the products of two networks of one shape; heads are paired by their order.

    Their logits are (q . k + q' . k') / 2 and their outputs (A v P + A v' P') / 2. Matrices are not averaged: two
    networks that compute the same may differ in all of them.
    """
    shapes = [[layer.query_key.shape for layer in products] for products in (first, second)]
    if shapes[0] != shapes[1]:
        raise InvalidInput(
            say("only networks of equal layers, heads and width have a mean"),
            given=say("{first} and {second} layers", first=len(first), second=len(second)),
        )
    return tuple(mine.blended(other, share) for mine, other in zip(first, second, strict=True))


def network(spec: VectorSpec, products: Products) -> VectorTransformer:
    """A network whose layers have these products; its heads are as wide as the stream.

    Linear layers take W_q W_k^T as their query map and read the stream itself as keys. Mesa layers take the root of
    W_k W_k^T as their key map, lambda is 1. What lies around the layers (embedding, readout, limit) is that of the spec;
    a linear embedding or readout is refused, for products say nothing of it.
    """
    if spec.embedding != "none" or spec.readout != "first":
        raise InvalidInput(
            say("products say nothing of a linear embedding or readout"),
            right=say("a network of constructed tokens: embedding=none, readout=first"),
        )
    heads, width = products[0].query_key.shape[:2]
    rebuilt = spec.replaced_all({"head_width": width, "heads": heads, "kv_heads": None, "score_scale": "none"})
    model = build_model(rebuilt, Seed(0))
    decoder, eye = model.model, torch.eye(width, dtype=torch.float64)
    with torch.no_grad():
        for layer, product in enumerate(products):
            keys = eye.expand(heads, width, width)
            queries = product.query_key
            if not isinstance(spec.mixer(layer), Linear):
                keys, queries = _factored(product)
            decoder.matrix(layer, "query").copy_(queries.mT.flatten(0, 1))
            decoder.matrix(layer, "key").copy_(keys.flatten(0, 1))
            decoder.matrix(layer, "value").copy_(product.value_output.mT.flatten(0, 1))
            decoder.matrix(layer, "output").copy_(eye.repeat(1, heads))
    return model.eval()


def _factored(product: LayerProducts) -> tuple[Float[Tensor, "head width width"], Float[Tensor, "head width width"]]:
    """The symmetric root S of W_k W_k^T, and queries Q with Q S = W_q W_k^T; what no key can answer is left out."""
    values, vectors = torch.linalg.eigh(product.key_key)
    is_key = values > KEY_RANK * values.amax(-1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
    roots = torch.where(is_key, values, 0.0).sqrt()
    inverse = torch.where(is_key, 1.0 / torch.where(is_key, roots, 1.0), 0.0)
    keys = vectors * roots[:, None, :] @ vectors.mT
    return keys, product.query_key @ (vectors * inverse[:, None, :] @ vectors.mT)
