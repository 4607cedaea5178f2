"""Decoders of vectors whose weights are set by hand: one gradient step, or k preconditioning steps and one (mesa.md 4).

They need no training and no layer of their own: linear attention on a residual stream is all there is.
"""

from math import comb

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers import Linear
from glassworks.models.hub import VectorTransformer
from glassworks.models.spec import VectorSpec
from glassworks.models.transformer import build_model
from glassworks.tasks.preconditioning import Preconditioner
from glassworks.tasks.solvers import Pairs, correlate
from glassworks.tensors.seeds import Seed

# Channels of a constructed token (0, s_t, s_t, s_{t-1}).
TOKEN_CHANNELS, STATE, BEFORE = 4, 2, 3
# Channels beside the powers of the matrix: the prediction, the state and the state before.
BESIDE = 3


def one_step(
    rate: float, dimension: int, length: int, start: Float[Tensor, "dimension dimension"] | None = None
) -> VectorTransformer:
    """Proposition 1: one head that takes one gradient step of size `rate` on all pairs seen, from the weights `start`.

    Reads constructed tokens of four channels; their second is not used. With `start` = 0 (the default) it predicts
    rate * sum_i s_i (s_{i-1} . s_t); else the embedding writes start s_t into the first channel, the head adds
    rate * sum_i (s_i - start s_{i-1}) (s_{i-1} . s_t).
    """
    width = TOKEN_CHANNELS * dimension
    spec = _spec(width, width, dimension, 1, length, embedded=start is not None)
    model = build_model(spec, Seed(0))
    eye, decoder = torch.eye(dimension), model.model
    with torch.no_grad():
        _clear(model)
        _block(decoder.matrix(0, "query"), 0, STATE, eye)
        _block(decoder.matrix(0, "key"), 0, BEFORE, eye)
        _block(decoder.matrix(0, "value"), 0, STATE, eye)
        _block(decoder.matrix(0, "output"), 0, 0, rate * eye)
        if start is not None:
            embedding = _embedding(model)
            embedding.copy_(torch.eye(width))
            _block(embedding, 0, STATE, start)
            _block(decoder.matrix(0, "value"), 0, BEFORE, -start)
    return model.eval()


def preconditioned(steps: int, dimension: int, length: int, rate: float = 1.0) -> VectorTransformer:
    """Proposition 2: `steps` layers apply a polynomial of degree `steps` in G_t = sum_i s_{i-1} s_{i-1}^T, one more descends.

    Reads the tokens of `preconditioned_tokens`: (0, a_0 s_t, ..., a_steps s_t, s_t, s_{t-1}), where a_m is the coefficient
    of the m-th power. Each layer is one head: the query is the channel of the highest power left, keys and values are
    s_{i-1}, and G_t times that channel is added to the next one (Horner's rule). The residual is the identity that the
    iteration needs, so no head attends to itself. The last layer is Proposition 1 with the sum as its query.

    A stack of linear attention cannot divide, while the published iteration divides by a norm of G_t that differs from
    sequence to sequence. So the coefficients come with the tokens; `with_fixed_coefficients` needs no such help.
    """
    width = (steps + 1 + BESIDE) * dimension
    model = build_model(_spec(width, width, dimension, steps + 1, length), Seed(0))
    with torch.no_grad():
        _clear(model)
        _set_layers(model, steps, rate)
    return model.eval()


def with_fixed_coefficients(coefficients: tuple[float, ...], dimension: int, length: int) -> VectorTransformer:
    """The network of `preconditioned` on constructed tokens, with one polynomial for all sequences and positions.

    The embedding multiplies the state by each coefficient. What is lost by not dividing by a norm is large: the best six
    fixed steps reach 0.31 in the standard world, the iteration with its norm 0.21 (see `best_coefficients`).
    """
    steps = len(coefficients) - 1
    width = (steps + 1 + BESIDE) * dimension
    spec = _spec(TOKEN_CHANNELS * dimension, width, dimension, steps + 1, length, embedded=True)
    model = build_model(spec, Seed(0))
    eye = torch.eye(dimension)
    with torch.no_grad():
        _clear(model)
        _set_layers(model, steps, 1.0)
        embedding = _embedding(model)
        for power, coefficient in enumerate(coefficients):
            _block(embedding, 1 + power, STATE, coefficient * eye)
        _block(embedding, steps + 2, STATE, eye)
        _block(embedding, steps + 3, BEFORE, eye)
    return model.eval()


def polynomial(solver: Preconditioner) -> tuple[float, ...]:
    """Coefficients of the polynomial p with p(Ā) x the iteration's result before its division by the norm, lowest first."""
    size = solver.steps + 1
    start = torch.zeros(size, dtype=torch.float64)
    start[0] = 1.0

    def product(p: Tensor) -> Tensor:
        return torch.cat([torch.zeros(1, dtype=p.dtype), p[:-1]])

    found, before, power = start, start, start
    for alpha, beta in zip(solver.alphas, solver.betas, strict=True):
        if solver.form == "released":
            power = power - alpha * product(power)
            step = power
        else:
            step = alpha * (start - product(found))
        found, before = found + step + beta * (found - before), found
    return tuple(found.tolist())


def preconditioned_tokens(
    observations: Float[Tensor, "batch time observed"], solver: Preconditioner
) -> Float[Tensor, "batch position channel"]:
    """Tokens with which `preconditioned` runs a solver on s_1 .. s_{T+1}, all pairs: T rows, in the precision given.

    With r the ridge and k_t = 1 / |G_t + r I|_F the coefficient of G_t^m is k_t^(m+1) sum_j p_j C(j, m) (r k_t)^(j-m).
    """
    pairs = Pairs.of(observations)
    scale = 1.0 / _norms(pairs.keys, solver.ridge)
    p, ridge = polynomial(solver), solver.ridge * scale
    channels = [torch.zeros_like(pairs.queries)]
    for m in range(len(p)):
        mixed = sum((p[j] * comb(j, m) * ridge ** (j - m) for j in range(m, len(p))), torch.zeros_like(scale))
        channels.append((scale ** (m + 1) * mixed)[..., None] * pairs.queries)
    return torch.cat([*channels, pairs.queries, pairs.keys], -1).to(observations.dtype)


def best_coefficients(observations: Float[Tensor, "batch time observed"], steps: int) -> tuple[float, ...]:
    """The fixed polynomial with the smallest mean loss on these sequences, exactly: the loss is quadratic in it."""
    pairs = Pairs.of(observations)
    powers, found = pairs.queries, list[Tensor]()
    squares = Pairs(pairs.keys, pairs.keys, pairs.queries)
    for _ in range(steps + 1):
        found.append(correlate(pairs, powers).flatten())
        powers = correlate(squares, powers)
    features = torch.stack(found, -1)
    # Powers of one matrix grow by orders of magnitude: without a common scale the solution would be noise.
    size = features.square().mean(0).sqrt().clamp_min(torch.finfo(features.dtype).tiny)
    targets = observations[:, 1:].double().flatten()[:, None]
    solution = torch.linalg.lstsq(features / size, targets, driver="gelsd").solution[:, 0]
    return tuple((solution / size).tolist())


def _norms(keys: Float[Tensor, "batch position key"], ridge: float) -> Float[Tensor, "batch position"]:
    """|G_t + r I|_F at every position; 1 where the matrix is zero, for then nothing is multiplied by it."""
    gram = (keys[..., :, None] * keys[..., None, :]).cumsum(1)
    gram = gram + ridge * torch.eye(keys.shape[-1], dtype=keys.dtype, device=keys.device)
    norms = gram.flatten(2).norm(dim=-1)
    return torch.where(norms > 0, norms, 1.0)


def _spec(inputs: int, width: int, dimension: int, depth: int, length: int, *, embedded: bool = False) -> VectorSpec:
    if dimension < 1 or depth < 1:
        raise InvalidInput(
            say("a network set by hand needs a positive dimension and no negative number of steps"),
            given=say("dimension {dimension}, {steps} steps", dimension=dimension, steps=depth - 1),
        )
    return VectorSpec(
        inputs=inputs, outputs=dimension, width=width, depth=depth, heads=1, head_width=dimension, mixers=(Linear(),),
        norm="none", feedforward=("none",), positions="none", embedding="linear" if embedded else "none",
        readout="first", score_scale="none", context=length,
    )  # fmt: skip


def _set_layers(model: VectorTransformer, steps: int, rate: float) -> None:
    """Horner's rule from the highest power down, then one step of descent."""
    decoder = model.model
    dimension = decoder.spec.width_of_head
    eye = torch.eye(dimension)
    state, before = steps + 2, steps + 3
    for layer in range(steps + 1):
        is_last = layer == steps
        _block(decoder.matrix(layer, "query"), 0, 1 + steps - layer, eye)
        _block(decoder.matrix(layer, "key"), 0, before, eye)
        _block(decoder.matrix(layer, "value"), 0, state if is_last else before, eye)
        _block(decoder.matrix(layer, "output"), steps - layer, 0, rate * eye if is_last else eye)


def _clear(model: VectorTransformer) -> None:
    for parameter in model.parameters():
        parameter.zero_()


def _embedding(model: VectorTransformer) -> Tensor:
    embedding = model.model.embed_tokens
    assert isinstance(embedding, torch.nn.Linear), "the spec asks for a linear embedding"
    return embedding.weight


def _block(matrix: Tensor, row: int, column: int, block: Tensor) -> None:
    """Writes a square block at a place counted in blocks."""
    size = block.shape[0]
    matrix[row * size : (row + 1) * size, column * size : (column + 1) * size] = block
