"""What closed forms and single gradient steps predict in context, for all positions at once (mesa.md 4).

The predictors see pairs (input, next observation) and answer with W_t x_t, where W_t was learned from the pairs seen up
to position t. A pair is known once its second part has been read: at t the newest is (s_{t-1}, s_t). With `lag=1` it
is left out, as the least-squares curves of the paper have it: they train one pair late, its transformers do not. One
gradient step is never late. Everything is computed in float64 and returned in the precision given.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say

# Pairs solved together: one triangular factor serves that many positions, and the Gram matrix of a chunk stays small.
CHUNK = 64
# Sequences worked on together: bounds the memory of the time x time products, 64 MB in float64 for 250 positions.
SEQUENCES = 128


class Pairs(NamedTuple):
    """Causal regression problems: row t of `keys` and `values` is the pair that becomes known at position t, zeros if none.

    Row t of `queries` is the input for which position t predicts.
    """

    keys: Float[Tensor, "batch position key"]
    values: Float[Tensor, "batch position value"]
    queries: Float[Tensor, "batch position key"]

    @classmethod
    def of(
        cls,
        observations: Float[Tensor, "batch time observed"],
        lag: int = 0,
        features: Float[Tensor, "batch time key"] | None = None,
    ) -> "Pairs":
        """The pairs (s_{t-1}, s_t) of sequences s_1 .. s_{T+1}, `lag` positions late.

        `features` replaces the first parts and the queries, e.g. by stacked observations, one row per
        observation. Raises InvalidInput for other lengths, fewer than two observations and negative lags.
        """
        inputs = observations if features is None else features
        time = observations.shape[1]
        if lag < 0 or time < 2 or inputs.shape[:2] != observations.shape[:2]:
            raise InvalidInput(
                say("pairs need two observations, one input for each and a lag of 0 or more"),
                given=say(
                    "{time} observations, {inputs} inputs, lag {lag}", time=time, inputs=inputs.shape[1], lag=lag
                ),
            )
        inputs, observations = inputs.double(), observations.double()
        return cls(delayed(inputs[:, :-1], lag + 1), delayed(observations[:, :-1], lag), inputs[:, :-1])

    def parts(self) -> Iterator["Pairs"]:
        """The same problems, some sequences at a time."""
        for group in zip(*(part.split(SEQUENCES) for part in self), strict=True):
            yield Pairs(*group)


def half_squared_error(
    prediction: Float[Tensor, "batch position observed"], target: Float[Tensor, "batch position observed"]
) -> Float[Tensor, "batch position"]:
    """Half the squared error summed over the numbers of an observation: the loss of all vector worlds."""
    return 0.5 * (prediction - target).square().sum(-1)


def ridge_predictions(
    observations: Float[Tensor, "batch time observed"],
    ridge: float,
    lag: int = 0,
    features: Float[Tensor, "batch time key"] | None = None,
) -> Float[Tensor, "batch position observed"]:
    """Exact ridge regression on all pairs known at each position: Y X^T (X X^T + ridge I)^-1 x_t.

    Before the first pair it predicts zero. Raises InvalidInput unless ridge is positive.
    """
    pairs = Pairs.of(observations, lag, features)
    return torch.cat([solve_ridge(part, ridge) for part in pairs.parts()]).to(observations.dtype)


def pair_predictions(
    inputs: Float[Tensor, "batch pair key"], labels: Float[Tensor, "batch pair value"], ridge: float
) -> Float[Tensor, "batch pair value"]:
    """Exact ridge regression of labels on inputs: at pair n from the pairs before it, e.g. of a few-shot prompt."""
    pairs = Pairs(delayed(inputs.double(), 1), delayed(labels.double(), 1), inputs.double())
    return torch.cat([solve_ridge(part, ridge) for part in pairs.parts()]).to(labels.dtype)


def solve_ridge(pairs: Pairs, ridge: float) -> Float[Tensor, "batch position value"]:
    """The ridge prediction at every position in chunks of positions, without a loop over time.

    With H the Gram matrix before a chunk, L the Cholesky factor of I + K H^-1 K^T and K~ = L^-1 K H^-1, leading blocks of
    L factorise leading blocks of the product, so one triangular solve holds for all positions of the chunk.
    """
    if not ridge > 0:
        raise InvalidInput(
            say("a ridge regression needs a positive ridge"),
            given=ridge,
            right=say("for example {example}", example=0.001),
        )
    batch, _, size = pairs.keys.shape
    eye = torch.eye(size, dtype=pairs.keys.dtype, device=pairs.keys.device)
    gram, cross = ridge * eye.expand(batch, size, size), pairs.values.new_zeros(batch, size, pairs.values.shape[-1])
    predicted: list[Tensor] = []
    for keys, values, queries in zip(*(part.split(CHUNK, 1) for part in pairs), strict=True):
        factor = torch.linalg.cholesky(gram)
        weights, spread = torch.cholesky_solve(cross, factor), torch.cholesky_solve(keys.mT, factor).mT
        inner = spread @ keys.mT
        inner.diagonal(dim1=-2, dim2=-1).add_(1.0)
        lower = torch.linalg.cholesky(inner)
        whitened = torch.linalg.solve_triangular(lower, spread, upper=False)
        surprises = torch.linalg.solve_triangular(lower, values - keys @ weights, upper=False)
        predicted.append(queries @ weights + (queries @ whitened.mT).tril() @ surprises)
        gram, cross = gram + keys.mT @ keys, cross + keys.mT @ values
    return torch.cat(predicted, 1)


def descent_predictions(
    observations: Float[Tensor, "batch time observed"],
    rate: float,
    features: Float[Tensor, "batch time key"] | None = None,
) -> Float[Tensor, "batch position observed"]:
    """One gradient step of size `rate` from zero on the summed squared error of all pairs: rate Y X^T x_t."""
    pairs = Pairs.of(observations, 0, features)
    return torch.cat([rate * correlate(part, part.queries) for part in pairs.parts()]).to(observations.dtype)


def best_rate(
    observations: Float[Tensor, "batch time observed"], features: Float[Tensor, "batch time key"] | None = None
) -> float:
    """The step size with the smallest mean loss over these sequences, exactly: the loss is a parabola in the rate.

    Zero where no pair says anything, e.g. for two observations only.
    """
    step = descent_predictions(observations.double(), 1.0, features)
    length = float(step.square().sum())
    return float((step * observations[:, 1:]).sum()) / length if length > 0 else 0.0


def kernel_regression(
    observations: Float[Tensor, "batch time observed"], beta: float, lag: int = 0
) -> Float[Tensor, "batch position observed"]:
    """Softmax-kernel regression: the mean of the next observations s_{i+1}, weighted by softmax_i(beta s_i . s_t).

    Before the first pair it predicts zero.
    """
    pairs = Pairs.of(observations, lag)
    answers: list[Tensor] = []
    for keys, values, queries in pairs.parts():
        scores = beta * queries @ keys.mT
        positions = torch.arange(scores.shape[1], device=scores.device)
        known = (positions[:, None] >= positions) & (positions > lag)
        # A row without any pair would be a softmax over nothing.
        weights = torch.where(known.any(-1, keepdim=True), scores.masked_fill(~known, -torch.inf), 0.0).softmax(-1)
        answers.append(weights.masked_fill(~known, 0.0) @ values)
    return torch.cat(answers).to(observations.dtype)


def correlate(pairs: Pairs, queries: Float[Tensor, "batch position key"]) -> Float[Tensor, "batch position value"]:
    """Y_t X_t^T x_t at every position, X_t and Y_t the pairs known there: causal linear attention."""
    return (queries @ pairs.keys.mT).tril() @ pairs.values


def delayed(rows: Float[Tensor, "batch position number"], steps: int) -> Float[Tensor, "batch position number"]:
    """Row t holds what stood `steps` rows before, zeros where nothing did."""
    if steps == 0:
        return rows
    nothing = torch.zeros_like(rows[:, :steps])
    return torch.cat([nothing, rows[:, : max(0, rows.shape[1] - steps)]], 1)
