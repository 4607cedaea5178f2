"""Ridge regression by preconditioned inputs: k matrix products, then one gradient step (Proposition 2; mesa.md 4).

The ridge prediction is Y X^T applied to (X X^T + ridge I)^-1 x_t. The inverse is approached by an iteration whose steps a
linear attention layer can take: each needs only products of X X^T with the vector that position t carries.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.tasks.dynamics import Dynamics
from glassworks.tasks.solvers import Pairs, correlate, half_squared_error, solve_ridge
from glassworks.tensors.seeds import Seed


@dataclass(frozen=True)
class Preconditioner:
    """An iteration towards (X X^T + ridge I)^-1 x, with one step size and one momentum per step.

    Ā is the matrix over its Frobenius norm, which is also what the result is divided by. "released" is what the paper's
    code runs: z <- (I - alpha Ā) z and x <- x + z + beta (x - x_before), from z = x. "residual" is the second-order
    Richardson iteration of the paper's theory, x <- x + alpha (x_0 - Ā x) + beta (x - x_before); its printed equation 9
    has inconsistent signs. With alpha 1 and beta 0 throughout both are the Neumann series, Richardson's iteration.
    """

    alphas: tuple[float, ...]
    betas: tuple[float, ...]
    ridge: float = 0.001
    form: Literal["released", "residual"] = "released"

    def __post_init__(self) -> None:
        if len(self.alphas) != len(self.betas) or not self.alphas or self.ridge < 0:
            raise InvalidInput(
                say("a preconditioner needs as many momenta as step sizes, at least one, and no negative ridge"),
                given=say(
                    "{alphas} step sizes, {betas} momenta, ridge {ridge}",
                    alphas=len(self.alphas),
                    betas=len(self.betas),
                    ridge=self.ridge,
                ),
            )

    @property
    def steps(self) -> int:
        """Products with the matrix; a network takes as many layers and one more for the gradient step."""
        return len(self.alphas)

    @classmethod
    def neumann(cls, steps: int, ridge: float = 0.001) -> "Preconditioner":
        """The plain series I + (I - Ā) + (I - Ā)^2 + ... with `steps` powers."""
        return cls((1.0,) * steps, (0.0,) * steps, ridge)

    def inputs(
        self,
        observations: Float[Tensor, "batch time observed"],
        lag: int = 0,
        features: Float[Tensor, "batch time key"] | None = None,
    ) -> Float[Tensor, "batch position key"]:
        """The preconditioned input of every position: what probes look for in the layers of a trained model.

        Like all of `solvers`: `lag=1` leaves out the newest pair, `features` replaces the observations as inputs.
        """
        pairs = Pairs.of(observations, lag, features)
        return torch.cat([self.apply(part) for part in pairs.parts()]).to(observations.dtype)

    def predictions(
        self,
        observations: Float[Tensor, "batch time observed"],
        lag: int = 0,
        features: Float[Tensor, "batch time key"] | None = None,
    ) -> Float[Tensor, "batch position observed"]:
        """One gradient step from zero, with the preconditioned inputs in the place of the plain ones."""
        pairs = Pairs.of(observations, lag, features)
        parts = [correlate(part, self.apply(part)) for part in pairs.parts()]
        return torch.cat(parts).to(observations.dtype)

    def apply(self, pairs: Pairs) -> Float[Tensor, "batch position key"]:
        """The iteration on the queries of these pairs."""
        kind = pairs.queries
        alphas, betas = (torch.tensor(part, dtype=kind.dtype, device=kind.device) for part in (self.alphas, self.betas))
        return iterate(pairs, alphas, betas, self.ridge, self.form)


_PARTIAL = (1.0931, 3.1099, 3.1626, 3.0759, 1.9026, 0.2224), (0.0, 0.7379, 0.1828, 0.7572, 1.2498, 2.2920)

# Step sizes and momenta of the paper's released runs, learned there by minimising the loss of the next observation; all
# were used one pair late (lag 1). The names are those of the worlds. "partial" belongs to 16 stacked observations, and
# its recorded curve comes out with ridge 0.001 (1.034 recorded, 1.035 here, 0.995 with ridge 10), although the settings
# list 10; the recorded probes of "partial/probe", on 5 stacked observations, do come out with 10. "nonlinear" is for
# features of length 1.
PUBLISHED: Mapping[str, Preconditioner] = {
    "linear": Preconditioner(
        (1.0292, 3.8551, 3.7469, 3.3828, 2.9882, 2.0934), (0.0, 0.6402, 0.4798, 0.8144, 1.6680, 2.4196)
    ),
    "linear/2": Preconditioner((1.2316, 8.1996), (0.0, 4.9499)),
    "constructed": Preconditioner(
        (1.0258, 3.2508, 3.2584, 3.2123, 2.6944, 1.2727), (0.0, 0.6788, 0.3075, 0.7447, 1.8360, 2.3438)
    ),
    "partial": Preconditioner(*_PARTIAL),
    "partial/probe": Preconditioner(*_PARTIAL, ridge=10.0),
    "nonlinear": Preconditioner(
        (1.0031, 4.0158, 3.8662, 3.3217, 2.7571, 2.1693), (0.0, 0.5630, 0.5661, 0.9348, 1.5603, 2.4258)
    ),
    "contracting": Preconditioner(
        (1.0062, 3.071, 3.4642, 2.7946, 1.8724, 0.8222), (0.0, 0.2959, 0.316, 0.9746, 1.511, 1.8157), ridge=1.33339
    ),
    "fixed_teacher": Preconditioner(
        (1.0406, 4.1751, 4.0838, 3.6817, 3.2784, 2.37), (0.0, 0.6201, 0.5153, 0.8791, 1.7479, 2.5256)
    ),
}


def exact_inputs(
    observations: Float[Tensor, "batch time observed"],
    ridge: float,
    lag: int = 0,
    features: Float[Tensor, "batch time key"] | None = None,
) -> Float[Tensor, "batch position key"]:
    """(X X^T + ridge I)^-1 x_t at every position, X the inputs of the pairs known there: what the iterations approach."""
    if not ridge > 0:
        raise InvalidInput(say("a ridge regression needs a positive ridge"), given=ridge)
    pairs = Pairs.of(observations, lag, features)
    # (H + r I)^-1 x = (x - H (H + r I)^-1 x) / r, and the last product is the ridge prediction of inputs from inputs.
    alike = (part._replace(values=part.keys) for part in pairs.parts())
    explained = torch.cat([solve_ridge(part, ridge) for part in alike])
    return ((pairs.queries - explained) / ridge).to(observations.dtype)


def iterate(
    pairs: Pairs,
    alphas: Float[Tensor, " step"],
    betas: Float[Tensor, " step"],
    ridge: float,
    form: Literal["released", "residual"],
) -> Float[Tensor, "batch position key"]:
    """The iteration of a Preconditioner for all positions at once; gradients flow to step sizes and momenta."""
    keys, start = pairs.keys, pairs.queries
    size = _frobenius(keys, ridge)

    def product(vectors: Tensor) -> Tensor:
        return ((vectors @ keys.mT).tril() @ keys + ridge * vectors) / size

    found, before, power = start, start, start
    for alpha, beta in zip(alphas, betas, strict=True):
        if form == "released":
            power = power - alpha * product(power)
            step = power
        else:
            step = alpha * (start - product(found))
        found, before = found + step + beta * (found - before), found
    return found / size


def _frobenius(keys: Float[Tensor, "batch position key"], ridge: float) -> Float[Tensor, "batch position 1"]:
    """The Frobenius norm of X_t X_t^T + ridge I at every position, from the products of the inputs with each other."""
    overlaps = (keys @ keys.mT).square().cumsum(1).cumsum(2).diagonal(dim1=1, dim2=2)
    lengths = keys.square().sum(-1).cumsum(1)
    squared = overlaps + 2 * ridge * lengths + ridge**2 * keys.shape[-1]
    # Without any pair and without a ridge there is nothing to divide by, and the prediction is zero whatever comes out.
    return torch.where(squared > 0, squared, 1.0).sqrt()[..., None]


@dataclass(frozen=True)
class Fit:
    """How step sizes and momenta are learned; the defaults are the published ones (mesa.md 4).

    The paper took 80 000 updates for two steps. `Fit.quick()` comes within one percent of the published losses in seconds.
    """

    updates: int = 20_000
    """Batches."""
    peak: float = 3e-4
    """The largest rate, reached linearly after `warm_up` updates."""
    warm_up: int = 500
    horizon: int = 40_000
    """Updates after which the cosine would reach zero."""
    weight_decay: float = 0.05
    batch: int = 256
    """Sequences per update."""
    lag: int = 1
    """Positions by which pairs come late: 1 as published."""
    ridge: float | None = None
    """The ridge constant; None takes the task's."""

    @classmethod
    def quick(cls, lag: int = 0) -> "Fit":
        """300 small batches at a large rate, without weight decay."""
        return cls(updates=300, peak=0.05, warm_up=20, horizon=300, weight_decay=0.0, batch=64, lag=lag)

    def rate(self, update: int) -> float:
        """The rate of an update, from 0."""
        if update < self.warm_up:
            return self.peak * (update + 1) / self.warm_up
        past = (update - self.warm_up) / max(1, self.horizon - self.warm_up)
        return 0.5 * self.peak * (1 + math.cos(math.pi * min(1.0, past)))


def fit_accelerated(
    task: Dynamics,
    steps: int,
    seed: Seed,
    fit: Fit | None = None,
    form: Literal["released", "residual"] = "released",
) -> Preconditioner:
    """Learns step sizes and momenta by AdamW on the loss of the next observation, from alpha 1 and beta 0.

    Every update draws new sequences; equal arguments give equal results. Raises InvalidInput without any step.
    """
    fit = fit or Fit()
    ridge = task.ridge if fit.ridge is None else fit.ridge
    start = Preconditioner((1.0,) * steps, (0.0,) * steps, ridge, form)
    alphas, betas = (
        torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in (start.alphas, start.betas)
    )
    optimiser = torch.optim.AdamW([alphas, betas], lr=fit.peak, weight_decay=fit.weight_decay)
    for update in range(fit.updates):
        batch = task.sample(fit.batch, seed.child("fit", update))
        pairs = Pairs.of(batch.observations, fit.lag, task.regressors(batch.observations))
        predicted = correlate(pairs, iterate(pairs, alphas, betas, ridge, form))
        loss = half_squared_error(predicted, batch.targets.double()).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = fit.rate(update)
        optimiser.step()
    return Preconditioner(tuple(alphas.tolist()), tuple(betas.tolist()), ridge, form)
