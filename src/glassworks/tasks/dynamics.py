"""Worlds in which the next state is a fixed map of the present one (von Oswald et al. 2023; mesa.md 1, 2).

Each sequence has a map of its own, so predicting the next observation takes a regression on the pairs seen so far. Where
the paper's text and its released runs disagree the released runs are the default: states start uniformly, constructed
tokens have four channels, and the nonlinear map is normalised. The text's start is `start_law="normal"`, its token
`tokens="constructed_three"`.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.tasks.base import Batch, VectorBatch, VectorTask
from glassworks.tasks.solvers import delayed, half_squared_error, ridge_predictions
from glassworks.tensors.seeds import Seed

# mesa.md 1: the eigenvalues of a contracting law; one of them is the largest, so that no sequence dies at once.
SMALLEST_EIGENVALUE, LARGEST_EIGENVALUE = 0.3, 0.9
# mesa.md 1: width of the hidden layer of the feature map over that of the state.
FEATURE_WIDENING = 4


@dataclass(frozen=True, eq=False)
class DynamicsBatch(VectorBatch):
    """Sequences of observations with what lies behind them.

    `law[b]` maps a state (its features in a nonlinear world) to the next: s_{t+1} = law @ s_t + noise. `emission[b]`
    maps a state to what is seen of it, None where all is seen. `states` are the states without observation noise.
    """

    law: Float[Tensor, "batch hidden hidden"]
    emission: Float[Tensor, "batch observed hidden"] | None
    states: Float[Tensor, "batch time hidden"]


class Dynamics(VectorTask):
    """States that follow one map per sequence, s_{t+1} = W s_t + noise, observed one after the other."""

    kind: Literal["dynamics"] = "dynamics"
    hidden: int = Field(default=10, ge=1)
    """Numbers in the state (n_h)."""
    observed: int | None = Field(default=None, ge=1)
    """Numbers seen of the state at each step (n_s), through a Gaussian map per sequence; None shows the state itself."""
    observed_scale: float = Field(default=0.5, gt=0)
    """Standard deviation of the entries of that Gaussian map (C*); unused where the state itself is shown."""
    length: int = Field(default=50, ge=1)
    """Predictions per sequence (T); one observation more is made."""
    law: Literal["orthogonal", "contracting", "fixed_orthogonal"] = "orthogonal"
    """W: uniformly drawn orthogonal per sequence, real eigenvalues in 0.3 to 0.9 per sequence, or one for all."""
    teacher_seed: int = 42
    """Where the one orthogonal law of "fixed_orthogonal" comes from."""
    nonlinear: bool = False
    """Whether W acts on a random two-layer feature map of the state, scaled to length 1, instead of on the state."""
    feature_seed: int = 421
    """Where the feature map comes from; it is the same for all sequences."""
    feature_scale: float = Field(default=1.1, gt=0)
    """Standard deviation of the entries of the feature map's two matrices."""
    noise: float = Field(default=0.01, ge=0)
    """Standard deviation of what is added to each number of the state at each step."""
    observation_noise: float = Field(default=0.01, ge=0)
    """Standard deviation of what is added to each observation; unused where the state itself is shown."""
    start: float = Field(default=1.0, gt=0)
    """Scale of the first state: the bound of the uniform law, the standard deviation of the normal one."""
    start_law: Literal["uniform", "normal"] = "uniform"
    """The law of the first state's numbers."""
    limit: float | None = Field(default=10.0, gt=0)
    """Bound at which the numbers of a state are cut, or None."""
    tokens: Literal["raw", "constructed", "constructed_three"] = "raw"
    """What a model reads: s_t; (0, s_t, s_t, s_{t-1}); or (0, 0, s_t, s_{t-1}), the same without its second channel."""

    @model_validator(mode="after")
    def _possible(self) -> "Dynamics":
        if self.nonlinear and self.observed is not None:
            raise ImpossibleValue(
                say("a nonlinear world is observed whole"), say("observed=null, or a linear world with nonlinear=false")
            )
        return self

    @classmethod
    def partial(cls, **choices: object) -> "Dynamics":
        """The partially observed world: 15 numbers of which 5 mixtures are seen."""
        return cls.parse({"kind": "dynamics", "hidden": 15, "observed": 5} | choices)

    @classmethod
    def nonlinear_world(cls, **choices: object) -> "Dynamics":
        """The nonlinear world: first states within a quarter, later ones of length 1."""
        return cls.parse({"kind": "dynamics", "nonlinear": True, "start": 0.25} | choices)

    @classmethod
    def contracting(cls, **choices: object) -> "Dynamics":
        """Laws with eigenvalues below 1 in constructed tokens; states are cut at 2, some laws first enlarge them."""
        return cls.parse({"kind": "dynamics", "law": "contracting", "limit": 2.0, "tokens": "constructed"} | choices)

    @classmethod
    def fixed_teacher(cls, **choices: object) -> "Dynamics":
        """The control in which nothing has to be learned in context: one law for all, constructed tokens."""
        return cls.parse({"kind": "dynamics", "law": "fixed_orthogonal", "tokens": "constructed"} | choices)

    @classmethod
    def of_dimension(cls, hidden: int, **choices: object) -> "Dynamics":
        """The worlds of growing dimension: 4 predictions per dimension, states not cut."""
        return cls.parse({"kind": "dynamics", "hidden": hidden, "length": 4 * hidden, "limit": None} | choices)

    @property
    def seen(self) -> int:
        """Numbers per observation (n_s)."""
        return self.observed or self.hidden

    @property
    def inputs(self) -> int:
        """Channels of a token."""
        return self.seen * (1 if self.tokens == "raw" else 4)

    @property
    def outputs(self) -> int:
        """Numbers predicted per position: those of the next observation."""
        return self.seen

    @property
    def longest(self) -> int:
        """Positions a model needs."""
        return self.length

    @property
    def ridge(self) -> float:
        """The ridge constant of `ideal`, as the published settings list it (mesa.md 4).

        10 partial, where it also has the smallest mean loss of 0.001 to 10, 1.33339 contracting, 0.001 else.
        """
        if self.observed is not None:
            return 10.0
        return 1.33339 if self.law == "contracting" else 0.001

    @property
    def memory(self) -> int:
        """Observations stacked for a linear prediction (mesa.md 4): 1 where the state is seen, else 16."""
        return 1 if self.observed is None else 16

    @cached_property
    def teacher(self) -> Float[Tensor, "hidden hidden"] | None:
        """The law of all sequences in float64 on the processor, or None where each has its own."""
        if self.law != "fixed_orthogonal":
            return None
        generator = Seed(self.teacher_seed).child("teacher", self.hidden).generator()
        # What is kept must serve gradients later, whoever asks for it first.
        with torch.inference_mode(False):
            return haar(torch.randn(1, self.hidden, self.hidden, generator=generator, dtype=torch.float64))[0]

    def sample(self, size: int, seed: Seed, device: str = "cpu") -> DynamicsBatch:
        """`size` sequences in float32; all advance together, one multiplication per step."""
        generator = seed.generator(device)
        # Out of autograd's way a step is little more than its calls.
        with torch.inference_mode():
            law = self._draw_law(size, generator)
            states = self._walk(law, generator)
            emission = self._draw_emission(size, generator)
            observations = states if emission is None else self._observe(states, emission, generator)
        # Tensors of inference mode could not serve training; their copies can. Sequences come first again.
        law, emission = law.clone(), None if emission is None else emission.clone()
        states = _sequences_first(states)
        observations = states if emission is None else _sequences_first(observations)
        shown = observations[:, :-1]
        everywhere = torch.ones(shown.shape[:2], dtype=torch.bool, device=device)
        return DynamicsBatch(
            self.tokens_of(shown), observations[:, 1:], {"all": everywhere}, observations, law, emission, states
        )

    def ideal(self, batch: Batch | VectorBatch) -> Float[Tensor, "batch position"]:
        """Half the squared error on this batch of the best predictor in closed form that the world has.

        Exact ridge regression on all pairs seen, each with its own ridge: on states, features or stacked observations.
        It is a reference rather than a bound: it does not know that laws are orthogonal. With one law for all, the law
        itself predicts, and only noise is lost.
        """
        assert isinstance(batch, DynamicsBatch)
        teacher, seen = self.teacher, batch.observations
        if teacher is not None and batch.emission is None:
            read = self.features(seen[:, :-1]) if self.nonlinear else seen[:, :-1]
            return half_squared_error(read @ teacher.to(read).mT, batch.targets)
        found = ridge_predictions(seen, self.ridge, features=self.regressors(seen))
        return half_squared_error(found, batch.targets)

    def regressors(self, observations: Float[Tensor, "batch time seen"]) -> Float[Tensor, "batch time key"]:
        """What the next observation is linear in: the state, its features, or the last observations stacked."""
        if self.nonlinear:
            return self.features(observations)
        return stacked(observations, self.memory)

    def tokens_of(self, shown: Float[Tensor, "batch position seen"]) -> Float[Tensor, "batch position channel"]:
        """The tokens a model reads for observations s_1 .. s_T (mesa.md 2); before the first comes s_0 = 0."""
        if self.tokens == "raw":
            return shown
        nothing, before = torch.zeros_like(shown), delayed(shown, 1)
        second = shown if self.tokens == "constructed" else nothing
        return torch.cat([nothing, second, shown, before], -1)

    def features(self, states: Float[Tensor, "*any hidden"], *, unit: bool = True) -> Float[Tensor, "*any hidden"]:
        """f(s) = gelu(s A) B of the nonlinear world, scaled to length 1 as the law reads it unless `unit` is False.

        The GELU is its tanh approximation. The paper's text leaves out the scaling, the released generator has it.
        """
        widen, narrow = (part.to(states) for part in self._feature_maps)
        raised = torch.nn.functional.gelu(states @ widen, approximate="tanh") @ narrow
        return torch.nn.functional.normalize(raised, dim=-1) if unit else raised

    @cached_property
    def _feature_maps(self) -> tuple[Float[Tensor, "hidden wide"], Float[Tensor, "wide hidden"]]:
        seed, wide = Seed(self.feature_seed), FEATURE_WIDENING * self.hidden
        # As for the teacher.
        with torch.inference_mode(False):
            first = torch.randn(self.hidden, wide, generator=seed.child("widen", self.hidden).generator())
            second = torch.randn(wide, self.hidden, generator=seed.child("narrow", self.hidden).generator())
            return self.feature_scale * first, self.feature_scale * second

    def _draw_law(self, size: int, generator: torch.Generator) -> Float[Tensor, "batch hidden hidden"]:
        shape, device = (size, self.hidden, self.hidden), generator.device
        teacher = self.teacher
        if teacher is not None:
            return teacher.to(device, torch.float32).expand(shape)
        if self.law == "orthogonal":
            return haar(torch.randn(shape, generator=generator, device=device))
        # Directions of eigenvectors may nearly coincide: float64 keeps the law's eigenvalues what they should be.
        directions = torch.randn(shape, generator=generator, device=device, dtype=torch.float64)
        span = LARGEST_EIGENVALUE - SMALLEST_EIGENVALUE
        values = torch.rand(size, self.hidden, generator=generator, device=device, dtype=torch.float64)
        values = values.mul_(span).add_(SMALLEST_EIGENVALUE)
        # The released code shuffles the eigenvalues; exchangeable directions make that the same law.
        values[:, 0] = LARGEST_EIGENVALUE
        return torch.linalg.solve(directions, directions * values[:, None, :], left=False).float()

    def _draw_emission(self, size: int, generator: torch.Generator) -> Float[Tensor, "batch observed hidden"] | None:
        if self.observed is None:
            return None
        shape = (size, self.observed, self.hidden)
        return self.observed_scale * torch.randn(shape, generator=generator, device=generator.device)

    def _observe(
        self,
        states: Float[Tensor, "time hidden batch"],
        emission: Float[Tensor, "batch observed hidden"],
        generator: torch.Generator,
    ) -> Float[Tensor, "time observed batch"]:
        exact = (emission @ states.permute(2, 1, 0)).permute(2, 1, 0)
        return exact + self.observation_noise * torch.randn(exact.shape, generator=generator, device=exact.device)

    def _walk(
        self, law: Float[Tensor, "batch hidden hidden"], generator: torch.Generator
    ) -> Float[Tensor, "time hidden batch"]:
        """s_1 .. s_{T+1}. Sequences stand last: then a step is one product of whole rows and a sum of ten of them."""
        size, device = law.shape[0], law.device
        law, features, limit = law.permute(1, 2, 0).contiguous(), self.features, self.limit
        # Noise is drawn into the place of the states, to each of which the mapped one before is then added.
        states = torch.empty(self.length + 1, self.hidden, size, device=device)
        states[1:].normal_(0.0, self.noise, generator=generator)
        if self.start_law == "normal":
            states[0].normal_(0.0, self.start, generator=generator)
        else:
            states[0].uniform_(-self.start, self.start, generator=generator)
        rows, products, mapped = states.unbind(), torch.empty_like(law), torch.empty_like(states[0])
        nonlinear = self.nonlinear
        for state, following in pairwise(rows):
            read = features(state.t()).t() if nonlinear else state
            torch.sum(torch.mul(law, read, out=products), 1, out=mapped)
            following.add_(mapped)
            if limit is not None:
                following.clamp_(-limit, limit)
        return states


def _sequences_first(rows: Float[Tensor, "time number batch"]) -> Float[Tensor, "batch time number"]:
    # One transposition of a plain matrix takes half the time of permuting three dimensions.
    return rows.flatten(0, 1).t().clone(memory_format=torch.contiguous_format).unflatten(1, rows.shape[:2])


def haar(gaussian: Float[Tensor, "batch size size"]) -> Float[Tensor, "batch size size"]:
    """Uniformly distributed orthogonal matrices from the lower triangles of Gaussian ones (Stewart 1980).

    Column k gives the reflection that maps it to an axis; their product is the Q of a QR factorisation whose R has a
    positive diagonal, in half the time. It is taken at once: I - V S^-1 V^T, where S is the upper triangle of V^T V with
    half its diagonal.
    """
    size, signs = gaussian.shape[-1], torch.where(gaussian.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(gaussian)
    mirrors = gaussian * torch.ones(size, size, dtype=gaussian.dtype, device=gaussian.device).tril_()
    length = mirrors.square().sum(-2).sqrt_()
    # A float32 normal is exactly zero once in some ten millions: then the axis itself serves.
    length = torch.where(length == 0, 1.0, length)
    mirrors.diagonal(dim1=-2, dim2=-1).addcmul_(signs, length)
    overlaps = mirrors.mT @ mirrors
    overlaps.diagonal(dim1=-2, dim2=-1).mul_(0.5)
    moved = (mirrors @ torch.linalg.solve_triangular(overlaps, mirrors.mT, upper=True)).neg_()
    moved.diagonal(dim1=-2, dim2=-1).add_(1.0)
    # Without the signs Q would prefer one side of each axis (Mezzadri 2007).
    return moved * -signs[..., None, :]


def stacked(observations: Float[Tensor, "batch time observed"], count: int) -> Float[Tensor, "batch time channel"]:
    """z_t = (s_t, s_{t-1}, ..., s_{t-count+1}), zeros before the first: what a linear prediction needs of the past."""
    return torch.cat([delayed(observations, back) for back in range(count)], -1)
