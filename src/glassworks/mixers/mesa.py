"""The mesa layer: every token reads the ridge regression from keys to values of the tokens up to it."""

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from glassworks.core.errors import InvalidInput
from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.mixers.base import (
    GateName,
    Gates,
    Heads,
    Memory,
    Mixed,
    Mixer,
    MixerSpec,
    foreign_memory,
    refuse_sight,
    refuse_starts,
    unasked_gates,
)
from glassworks.mixers.chunks import Part, chunk_length, cut, joined, precise_kind
from glassworks.mixers.mesa_conjugate import conjugate
from glassworks.mixers.mesa_exact import CONDITION_LIMIT, exact, too_ill_conditioned
from glassworks.mixers.mesa_reference import regressions

# Within a chunk of the exact form, old pairs weigh 1 / (what is kept) against new ones: float32 bears a thousand.
LEAST_KEPT = 1e-3
# Shorter chunks would only repeat the factorisation; float64 takes over where these still forget too much.
SHORTEST_CHUNK = 4
# Of a compiled model, which may not ask the gates how much they forget.
COMPILED_CHUNK = 16
# The ridge 1 / lambda of a strength that training has driven to zero stays a number.
LEAST_STRENGTH = 1e-20


@dataclass(frozen=True)
class NormalEquations(Memory):
    """The memory of a mesa layer, of one size however many tokens it has seen; in float64 where the device has it.

    So the numbers do not depend on where the tokens are cut.
    """

    normal: Float[Tensor, "batch kv_head head_width head_width"]
    """sum_j k_j k_j^T under the gates, with what is left of the regulariser unless it is constant (`data_only`)."""
    cross: Float[Tensor, "batch kv_head head_width value_width"]
    """sum_j k_j v_j^T under the gates."""


@dataclass(frozen=True)
class Solve:
    """How the last solve by conjugate gradient went, over all tokens.

    Once a gradient was taken, the worse of the forward solve and that of the gradient, number by number; of a compiled
    layer always the forward solve alone.
    """

    iterations: int
    residual: float
    """|b - A x| / |b| of the worst token, in the number format that the layer works in; NaN where numbers are not finite.

    b is the query, or in the gradient what the query's gradient is solved from.
    """
    converged: bool
    """Whether every token's residual fell to `tolerance` times that of the start, or into rounding."""


class Mesa(MixerSpec):
    """Mesa layer: out_t = scale G_t^T (H_t + regulariser)^-1 q_t, the ridge regression of values on keys up to t.

    H_t = keep_t H_{t-1} + write_t k_t k_t^T and G_t = keep_t G_{t-1} + write_t k_t v_t^T, the own pair included. Both
    published forms (mesa.md 3) are settings of this spec. The original: `scalar`, without gates (its released
    code has none) or with keep="with_regulariser". MesaNet: `diagonal`, floor=0.25, keep="data_only", write=True.

    The released code learns lambda without keeping it positive. Here lambda is softplus of what is learned, whose
    derivative is 0.6 to 1 over the published values (1 to 5), so that a step is nearly the same.
    """

    kind: Literal["mesa"] = "mesa"
    regulariser: Literal["scalar", "diagonal"] = "scalar"
    """Learned for each key-value head: one lambda, whose inverse is added (R_0 = lambda I), or a diagonal to add."""
    strength: Annotated[float, Field(gt=0)] = 1.0
    """Where training starts: lambda of the scalar, every entry of the diagonal."""
    floor: Annotated[float, Field(ge=0)] = 0.0
    """The least value of the diagonal."""
    keep: Literal["none", "with_regulariser", "data_only"] = "none"
    """No forgetting; the regulariser fades with the data (recursive least squares); or it stays (MesaNet)."""
    write: bool = False
    """Whether a gate says how strongly each pair is written."""
    solver: Literal["auto", "exact", "conjugate_gradient"] = "auto"
    """Block Cholesky in chunks wherever that holds (auto, exact), or conjugate gradient."""
    iterations: Annotated[int, Field(ge=1)] = 30
    """Conjugate gradient stops here at the latest."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-4
    """Conjugate gradient stops when every residual is at most this share of the first one."""

    @model_validator(mode="after")
    def _possible(self) -> "Mesa":
        if self.keep == "data_only" and self.solver == "exact":
            raise ImpossibleValue(
                say("no exact form is known for forgetting under a constant regulariser"),
                right=say("keep=with_regulariser, or solver=conjugate_gradient"),
            )
        if self.floor and (self.regulariser == "scalar" or self.floor >= self.strength):
            raise ImpossibleValue(
                say("a floor holds a diagonal regulariser only, and lies below its start, the strength"),
                right=say("regulariser=diagonal and floor < strength, or floor=0"),
            )
        return self

    @property
    def gate_names(self) -> tuple[GateName, ...]:
        """Which gates the model must compute."""
        keep: tuple[GateName, ...] = () if self.keep == "none" else ("keep",)
        return (*keep, "write") if self.write else keep

    def build(self, heads: Heads) -> Mixer:
        """The module for these sizes, with its regulariser at the start."""
        return MesaMixer(heads, self)

    def reference(
        self,
        q: Float[Tensor, "batch head position head_width"],
        k: Float[Tensor, "batch kv_head position head_width"],
        v: Float[Tensor, "batch kv_head position value_width"],
        scale: float | None = None,
        gates: Gates | None = None,
        regulariser: Float[Tensor, "kv_head head_width"] | None = None,
    ) -> Float[Tensor, "batch head position value_width"]:
        """Token by token in float64: rank-one updates of the inverse, or a solve where the regulariser is constant.

        `regulariser` is what is added to the diagonal, as `MesaMixer.regulariser()` gives it; that of a mixer just
        built unless given.
        """
        if regulariser is None:
            heads = Heads(q.shape[1], k.shape[1], q.shape[3], 1.0)
            regulariser = MesaMixer(heads, self).regulariser().detach().to(q.device)
        scale = float(q.shape[-1] ** -0.5) if scale is None else scale
        q = scale * q.double()
        return regressions((q, k.double(), v.double()), gates, regulariser.double(), self.keep == "data_only")


class MesaMixer(Mixer):
    """The mesa layer in chunks: all tokens at once, in time that grows with their number and a memory that does not.

    Works in float32 (float64 for float64 inputs) whatever autocast says; where float32 is too coarse for a sequence, its
    exact form is redone in float64, and where that is too coarse too, InvalidInput says so. NaN or infinity among the
    inputs of a sequence makes its outputs NaN, earlier tokens possibly included; other sequences are untouched. Gates
    outside their range are refused, except while torch compiles: a compiled model may not look at its numbers.
    """

    def __init__(self, heads: Heads, spec: Mesa) -> None:
        super().__init__(heads)
        self.spec = spec
        width = 1 if spec.regulariser == "scalar" else heads.head_width
        self.root = nn.Parameter(torch.empty(heads.kv_heads, width))
        self._report: Tensor | None = None
        self.start()

    def start(self) -> None:
        """Sets what is learned to its start; nothing is drawn."""
        start = self.spec.strength - self.spec.floor
        with torch.no_grad():
            # The inverse of softplus, in the form that does not overflow.
            self.root.fill_(start + math.log(-math.expm1(-start)))

    def regulariser(self) -> Float[Tensor, "kv_head head_width"]:
        """What is added to the diagonal of the sum of k k^T: 1/lambda of each head, or its diagonal."""
        found = F.softplus(self.root.to(precise_kind(self.root.device)))
        if self.spec.regulariser == "scalar":
            found = 1 / found.clamp(min=LEAST_STRENGTH)
        return (found + self.spec.floor).expand(-1, self.heads.head_width)

    @property
    def last_solve(self) -> Solve | None:
        """How conjugate gradient went in the last pass, its gradient included; None where the solution was exact."""
        if self._report is None:
            return None
        iterations, residual, unrested = self._report.tolist()
        return Solve(iterations=int(iterations), residual=residual, converged=not unrested)

    def mix(
        self,
        q: Float[Tensor, "batch head query head_width"],
        k: Float[Tensor, "batch kv_head key head_width"],
        v: Float[Tensor, "batch kv_head key value_width"],
        memory: Memory | None = None,
        gates: Gates | None = None,
        remember: bool = True,
    ) -> Mixed:
        """Solves for the tokens of the queries, each on the sums up to it; one query alone is solved directly."""
        kind = q.dtype
        with torch.autocast(q.device.type, enabled=False):
            work = torch.float64 if kind == torch.float64 else torch.float32
            gates = self._checked(gates)
            k, v, gates = _without_padding(k.to(work), v.to(work), gates)
            sums = self._before(memory, k, v)
            earlier = k.shape[2] - q.shape[2]
            if earlier > 0:
                sums = _written(sums, k[:, :, :earlier], v[:, :, :earlier], gates.first(earlier))
                k, v, gates = k[:, :, earlier:], v[:, :, earlier:], gates.last(q.shape[2])
            solve = self._one if q.shape[2] == 1 and self.spec.solver != "conjugate_gradient" else self._many
            q = q.to(work) if self.heads.scale == 1 else q.to(work) * self.heads.scale
            out, sums = solve(q, k, v, sums, gates)
            return Mixed(out=out.to(kind), memory=sums if remember else None)

    def _checked(self, gates: Gates | None) -> Gates:
        gates = Gates() if gates is None else gates
        refuse_sight(self, gates)
        refuse_starts(self, gates)
        known = self.spec.gate_names
        if gates.keep is not None and "keep" not in known:
            raise unasked_gates(self, "keep", known)
        if gates.write is not None and "write" not in known:
            raise unasked_gates(self, "write", known)
        if torch.compiler.is_compiling():
            return gates
        # NaN is in no range and in no complement: it goes through, and shows in the outputs.
        if gates.keep is not None and bool(((gates.keep <= 0) | (gates.keep > 1)).any()):
            raise InvalidInput(
                say("a keep gate outside (0, 1]"),
                given=f"{float(gates.keep.min()):.6g} .. {float(gates.keep.max()):.6g}",
                right=say("above 0 (nothing is forgotten at once) and at most 1 (all is kept)"),
            )
        if gates.write is not None and bool(((gates.write < 0) | (gates.write > 1)).any()):
            raise InvalidInput(
                say("a write gate outside [0, 1]"),
                given=f"{float(gates.write.min()):.6g} .. {float(gates.write.max()):.6g}",
                right=say("from 0 (not written) to 1 (written in full)"),
            )
        return gates

    def _before(self, memory: Memory | None, k: Tensor, v: Tensor) -> NormalEquations:
        if memory is None:
            kind = precise_kind(k.device)
            batch, kv_heads, _, width = k.shape
            cross = torch.zeros(batch, kv_heads, width, v.shape[3], dtype=kind, device=k.device)
            if self.spec.keep == "data_only":
                return NormalEquations(cross.new_zeros(batch, kv_heads, width, width), cross)
            first = torch.diag_embed(self.regulariser().to(kind))
            return NormalEquations(first.expand(batch, -1, -1, -1), cross)
        if not isinstance(memory, NormalEquations):
            raise foreign_memory(self, memory)
        return memory

    def _one(
        self, q: Tensor, k: Tensor, v: Tensor, sums: NormalEquations, gates: Gates
    ) -> tuple[Tensor, NormalEquations]:
        self._report = None
        sums = _written(sums, k, v, gates)
        matrix = sums.normal
        if self.spec.keep == "data_only":
            matrix = matrix + torch.diag_embed(self.regulariser().to(matrix.dtype))
        factor, failed = torch.linalg.cholesky_ex(matrix)
        # NaN fails the comparison, and shows in its own sequence only.
        unsolved = (failed > 0) | ~(_condition(matrix, factor) < CONDITION_LIMIT[matrix.dtype])
        if not torch.compiler.is_compiling() and bool((unsolved & matrix.isfinite().all((-2, -1))).any()):
            raise too_ill_conditioned()
        columns = q.to(matrix.dtype).unflatten(1, (self.heads.kv_heads, -1)).squeeze(3).mT
        read = torch.cholesky_solve(columns, factor).mT @ sums.cross
        return read.masked_fill(unsolved[..., None, None], torch.nan).flatten(1, 2).unsqueeze(2).to(q.dtype), sums

    def _many(
        self, q: Tensor, k: Tensor, v: Tensor, sums: NormalEquations, gates: Gates
    ) -> tuple[Tensor, NormalEquations]:
        batch, kv_heads, tokens, width = k.shape
        rows = batch * kv_heads
        iterates = self.spec.keep == "data_only" or self.spec.solver == "conjugate_gradient"
        length = chunk_length(tokens, width) if iterates else _exact_length(tokens, width, gates.keep)
        part = Part(
            q=cut(q, rows, length),
            k=cut(k, rows, length),
            v=cut(v, rows, length),
            keep=None if gates.keep is None else cut(gates.keep.to(k.dtype), rows, length, filler=1.0),
            write=None if gates.write is None else cut(gates.write.to(k.dtype), rows, length, filler=1.0),
            normal=sums.normal.flatten(0, 1),
            cross=sums.cross.flatten(0, 1),
        )
        if iterates:
            shift = torch.zeros(rows, width, dtype=k.dtype, device=k.device)
            if self.spec.keep == "data_only":
                shift = self.regulariser().to(k.dtype).expand(batch, -1, -1).flatten(0, 1)
            out, normal, cross, self._report = conjugate(part, shift, self.spec.iterations, self.spec.tolerance)
        else:
            out, normal, cross = exact(part)
            self._report = None
        whole = NormalEquations(normal.unflatten(0, (batch, -1)), cross.unflatten(0, (batch, -1)))
        return joined(out, batch, length, tokens), whole


@torch.no_grad()
def _condition(matrix: Tensor, factor: Tensor) -> Tensor:
    """Of each matrix S = L L^T: max diag(S^-1) * max diag(S), the measure that the chunk form takes of a whole chunk."""
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    whitener = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
    return whitener.square().sum(-2).amax(-1) * matrix.diagonal(dim1=-2, dim2=-1).amax(-1)


def _exact_length(tokens: int, width: int, keep: Tensor | None) -> int:
    """Tokens of one chunk, so few that even the most forgetful chunk keeps a little of its start."""
    length = chunk_length(tokens, width)
    if keep is None:
        return length
    if torch.compiler.is_compiling():
        return min(length, COMPILED_CHUNK)
    # A sequence that is not finite has no part in it: what the others may forget is theirs to say.
    decay = keep.detach().log().nan_to_num(nan=0.0)
    while length > SHORTEST_CHUNK:
        lowest = cut(decay, decay.shape[0] * decay.shape[1], length).sum(-1).amin()
        if bool(lowest >= math.log(LEAST_KEPT)):
            break
        length = max(length // 2, SHORTEST_CHUNK)
    return length


def _without_padding(k: Tensor, v: Tensor, gates: Gates) -> tuple[Tensor, Tensor, Gates]:
    """Padding writes zeros and keeps all, which nobody notices."""
    if gates.real is None:
        return k, v, gates
    absent = ~gates.real[:, None, :]
    k, v = k.masked_fill(absent[..., None], 0), v.masked_fill(absent[..., None], 0)
    return k, v, replace(gates, keep=None if gates.keep is None else gates.keep.masked_fill(absent, 1))


def _written(sums: NormalEquations, k: Tensor, v: Tensor, gates: Gates) -> NormalEquations:
    """The sums after these tokens."""
    kind = sums.normal.dtype
    k, v = k.to(kind), v.to(kind)
    weights = None if gates.write is None else gates.write.to(kind)
    normal, cross = sums.normal, sums.cross
    if gates.keep is not None:
        # What is left at the end of what each token writes, and of the start.
        decay = gates.keep.to(kind).log().cumsum(2)
        left = (decay[:, :, -1:] - decay).exp()
        weights = left if weights is None else weights * left
        start = decay[:, :, -1, None, None].exp()
        normal, cross = normal * start, cross * start
    weighted = k if weights is None else k * weights[..., None]
    return NormalEquations(normal + weighted.mT @ k, cross + weighted.mT @ v)
