"""Least squares over every prefix at once: chunks in parallel, one Cholesky factor each, a closed-form gradient.

For a chunk that starts with the sums S and G (keys K, values V, queries Q are its rows; derivation: mesa-layer.md 2):

    A = S^-1, W = A G, P = K A, M = I + P K^T = L L^T, K~ = L^-1 P, V~ = L^-1 (V - K W)
    out = Q W + tril(Q K~^T) V~

Why every row then sees its own prefix, and where the gradient comes from, is derived in `docs/papers/mesa-layer.md`.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, library

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.mixers.cholesky import inverse_cholesky
from glassworks.mixers.chunks import (
    Due,
    Gradient,
    Part,
    Scratch,
    full_precision,
    gate_gradients,
    masked,
    scan,
    scan_back,
)

# Largest max diag(S^-1) * max diag(S) that a number format may keep; beyond it float32 gives way to float64, and
# float64 to an error. Near 2e3 the worst entry of a float32 output is off by 1e-5 of the largest; at 1e4 a key's
# gradient by 2e-3 (table in docs/papers/mesa-layer.md). In float64, 1e14 was seen to cost an output 1e-3.
CONDITION_LIMIT = {torch.float32: 2e3, torch.float64: 1e12}


@dataclass(frozen=True)
class Solved:
    """What the forward pass leaves: results, and what the gradient needs of it."""

    out: Tensor
    """row chunk group*token value_width"""
    normal: Tensor
    """row head_width head_width, after the last token, as `cross` (row head_width value_width)"""
    cross: Tensor
    inverse: Tensor
    """row chunk head_width head_width: A"""
    weights: Tensor
    """row chunk head_width value_width: W, the least-squares weights at the chunk's start"""
    keys: Tensor
    """row chunk token head_width: K~, the whitened keys"""
    values: Tensor
    """row chunk token value_width: V~, what each value adds to what was known"""
    read: Tensor
    """row chunk group*token token: tril(Q K~^T)"""

    @classmethod
    def empty(cls, part: Part) -> "Solved":
        """Room for the solution of a part."""
        row, chunk, _, width = part.k.shape
        value_width = part.v.shape[-1]
        return cls(
            out=part.v.new_empty(*part.q.shape[:3], value_width),
            normal=torch.empty_like(part.normal),
            cross=torch.empty_like(part.cross),
            inverse=part.k.new_empty(row, chunk, width, width),
            weights=part.k.new_empty(row, chunk, width, value_width),
            keys=torch.empty_like(part.k),
            values=torch.empty_like(part.v),
            read=part.k.new_empty(*part.q.shape[:3], part.k.shape[2]),
        )

    def tensors(self) -> tuple[Tensor, ...]:
        """In the order of the fields."""
        return tuple(self.__dict__[f.name] for f in fields(self))

    def rows(self, chosen: slice) -> "Solved":
        """Views of these rows."""
        return Solved(*(x[chosen] for x in self.tensors()))

    def fill(self, other: "Solved") -> None:
        """Takes over the numbers of another solution of the same shapes."""
        for mine, its in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(its)


def _scaled(part: Part) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys and values times sqrt(write / decay), and the logarithm of what survives of each chunk's start.

    In these the sums at token t are decay_t (S + sum k k^T), and decay_t drops out of the solution.
    """
    decay = part.decay()
    if decay is None and part.write is None:
        return part.k, part.v, None
    factor = torch.ones_like(part.k[..., 0]) if part.write is None else part.write.sqrt()
    if decay is not None:
        factor = factor * (decay / -2).exp()
    last = None if decay is None else decay[..., -1]
    return part.k * factor[..., None], part.v * factor[..., None], last


def _solve(part: Part, into: Solved, room: Scratch) -> bool:
    """Fills `into`; False where a row is not finite or too ill-conditioned for this number format."""
    width, value_width = part.k.shape[-1], part.v.shape[-1]
    k, v, decay = _scaled(part)
    keys, values = k.flatten(0, 1), v.flatten(0, 1)
    count, tokens = keys.shape[:2]
    square, oblong = (count, width, width), (count, width, value_width)
    written = torch.bmm(keys.mT, keys, out=room.take("written", square, k)).unflatten(0, k.shape[:2])
    crosses = torch.bmm(keys.mT, values, out=room.take("written crosses", oblong, k)).unflatten(0, k.shape[:2])
    grown = _largest(written).flatten()
    if decay is not None:
        written *= decay.exp()[..., None, None]
        crosses *= decay.exp()[..., None, None]
    starts, last = scan(part.normal, written, decay, room.take("starts", square, k))
    crosses, last_cross = scan(part.cross, crosses, decay, room.take("crosses", oblong, k))
    into.normal.copy_(last)
    into.cross.copy_(last_cross)
    starts = starts.flatten(0, 1)
    whitener, failed = inverse_cholesky(starts, room.take("outer whitener", square, k))
    a = torch.bmm(whitener.mT, whitener, out=into.inverse.view(-1, width, width))
    w = torch.bmm(a, crosses.flatten(0, 1), out=into.weights.view(-1, width, value_width))
    p = torch.bmm(keys, a, out=room.take("p", (count, tokens, width), k))
    m = torch.bmm(p, keys.mT, out=room.take("m", (count, tokens, tokens), k))
    m.diagonal(dim1=-2, dim2=-1).add_(1)
    whitener, failed_within = inverse_cholesky(m, room.take("inner whitener", (count, tokens, tokens), k))
    condition = _largest(a) * (_largest(starts) + grown)
    # One question to the device; NaN fails every comparison.
    fit = (condition < CONDITION_LIMIT[k.dtype]) & ((failed | failed_within) == 0)
    if not bool(fit.all() & into.normal.isfinite().all()):
        return False
    k_white = torch.bmm(whitener, p, out=into.keys.view_as(keys))
    news = torch.baddbmm(values, keys, w, alpha=-1, out=room.take("news", (count, tokens, value_width), k))
    v_white = torch.bmm(whitener, news, out=into.values.view_as(values))
    q = part.q.flatten(0, 1)
    read = masked(torch.bmm(q, k_white.mT, out=into.read.view(*q.shape[:2], -1)))
    out = torch.bmm(read, v_white, out=into.out.view(*q.shape[:2], value_width))
    torch.baddbmm(out, q, w, out=out)
    return True


def _largest(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1).amax(-1)


def _solved_precisely(part: Part) -> tuple[Part, Solved]:
    """A part in float64 and its solution; rows that are not finite are emptied, and all their numbers NaN."""
    found = [part.k, part.normal] + [x for x in (part.keep, part.write) if x is not None]
    strange = torch.stack([~x.flatten(1).isfinite().all(1) for x in found]).any(0)
    eye = torch.eye(part.k.shape[-1], dtype=part.k.dtype, device=part.k.device)
    sane = replace(
        part,
        k=part.k.masked_fill(strange[:, None, None, None], 0),
        keep=None if part.keep is None else part.keep.masked_fill(strange[:, None, None], 1),
        write=None if part.write is None else part.write.masked_fill(strange[:, None, None], 1),
        normal=torch.where(strange[:, None, None], eye, part.normal),
        cross=part.cross.masked_fill(strange[:, None, None], torch.nan),
    )
    solved = Solved.empty(sane)
    if not _solve(sane, solved, Scratch()):
        raise too_ill_conditioned()
    solved.normal[strange] = torch.nan
    return sane, solved


def too_ill_conditioned() -> InvalidInput:
    """The error where not even float64 can tell the least-squares weights."""
    return InvalidInput(
        say("the tokens do not determine the least-squares weights: the sums are as good as singular even in float64"),
        right=say(
            "a stronger regulariser (a smaller strength where it is scalar, a larger one where it is diagonal);"
            " with a keep gate, keep=data_only, whose regulariser never fades"
        ),
    )


def _adjoint(part: Part, solved: Solved, due: Due, into: Gradient, room: Scratch) -> None:
    """The gradient in closed form: no second solve, for R_t x = A x - K~_t^T K~_t x serves any x."""
    q, d_out = part.q.flatten(0, 1), due.out.flatten(0, 1)
    a, w, k_white, v_white = (x.flatten(0, 1) for x in (solved.inverse, solved.weights, solved.keys, solved.values))
    plain_k, plain_v = part.k.flatten(0, 1), part.v.flatten(0, 1)
    # Rows R_t q_t, and R_t G_t d_out_t, which is also the gradient of q.
    solution = torch.bmm(q, a, out=room.take("solution", tuple(q.shape), q))
    torch.baddbmm(solution, solved.read.flatten(0, 1), k_white, alpha=-1, out=solution)
    read = masked(torch.bmm(d_out, v_white.mT, out=room.take("read", (*q.shape[:2], part.k.shape[2]), q)))
    adjoint = torch.bmm(d_out, w.mT, out=into.q.view_as(q))
    torch.baddbmm(adjoint, read, k_white, out=adjoint)
    square, oblong = (len(q), *a.shape[1:]), (len(q), *w.shape[1:])
    cross = torch.bmm(solution.mT, d_out, out=room.take("cross", oblong, q)).unflatten(0, part.k.shape[:2])
    # Twice the symmetric gradient of the normal sums.
    normal = torch.bmm(solution.mT, adjoint, out=room.take("one side", square, q))
    normal = torch.add(normal, normal.mT, out=room.take("normal", square, q)).neg_().unflatten(0, part.k.shape[:2])
    decay = part.decay()
    last = None if decay is None else decay[..., -1]
    normal, first = scan_back(due.normal + due.normal.mT, normal, last, room.take("one side", square, q))
    cross, first_cross = scan_back(due.cross, cross, last, room.take("later cross", oblong, q))
    into.normal.copy_(first / 2)
    into.cross.copy_(first_cross)
    if last is not None:
        normal, cross = normal * last.exp()[..., None, None], cross * last.exp()[..., None, None]
    normal, cross = normal.flatten(0, 1), cross.flatten(0, 1)
    seen = masked(torch.bmm(solution, plain_k.mT, out=read))
    v_unit = torch.bmm(seen.mT, d_out, out=into.v.view_as(plain_v))
    torch.baddbmm(v_unit, plain_k, cross, out=v_unit)
    k_unit = torch.bmm(seen.mT, adjoint, out=into.k.view_as(plain_k))
    blamed = torch.bmm(d_out, plain_v.mT, out=read)
    blamed = masked(torch.baddbmm(blamed, adjoint, plain_k.mT, alpha=-1, out=blamed))
    torch.baddbmm(k_unit, blamed.mT, solution, beta=-1, out=k_unit)
    torch.baddbmm(k_unit, plain_v, cross.mT, out=k_unit)
    torch.baddbmm(k_unit, plain_k, normal, out=k_unit)
    k_unit, v_unit = k_unit.view_as(part.k), v_unit.view_as(part.v)
    ends = None
    if decay is not None:
        grown = (-decay).exp()[..., None]
        k_unit, v_unit = k_unit * grown, v_unit * grown
        ends = (due.normal * solved.normal).sum((1, 2)) + (due.cross * solved.cross).sum((1, 2))
    found = gate_gradients(part, k_unit, v_unit, ends, None)
    for mine, its in zip((into.k, into.v, into.keep, into.write), found, strict=True):
        if its.data_ptr() != mine.data_ptr():
            mine.copy_(its)


# A custom operation, not an autograd function: it asks the data which number format will do, which the compiler of
# torch cannot trace through, and steps over in one piece this way.
@library.custom_op("mesa::exact", mutates_args=())
def _forward(given: list[Tensor]) -> list[Tensor]:
    part = Part.of(given)
    solved = Solved.empty(part)
    groups = part.groups()
    precise = torch.zeros(len(groups), dtype=torch.bool)
    room = Scratch()
    with full_precision(part.k.device):
        for index, rows in enumerate(groups):
            if not _solve(part.rows(rows, part.k.dtype), solved.rows(rows), room):
                precise[index] = True
                solved.rows(rows).fill(_solved_precisely(part.rows(rows, part.normal.dtype))[1])
    return [*solved.tensors(), precise]


@_forward.register_fake
def _forward_shapes(given: list[Tensor]) -> list[Tensor]:
    part = Part.of(given)
    return [*Solved.empty(part).tensors(), torch.empty(len(part.groups()), dtype=torch.bool)]


@library.custom_op("mesa::exact_backward", mutates_args=())
def _backward(given: list[Tensor], left: list[Tensor], owed: list[Tensor]) -> list[Tensor]:
    part, due = Part.of(given), Due(*owed)
    # The outputs themselves are not needed again; what is owed for them has their shape.
    solved = Solved(owed[0], *left[:-1])
    found, room = Gradient.empty(part), Scratch()
    with full_precision(part.k.device):
        for index, rows in enumerate(part.groups()):
            if left[-1][index]:
                here, there = _solved_precisely(part.rows(rows, part.normal.dtype))
                fine = Gradient.empty(here)
                _adjoint(here, there, due.rows(rows, here.k.dtype), fine, Scratch())
                found.rows(rows).fill(fine)
            else:
                kind = part.k.dtype
                _adjoint(part.rows(rows, kind), solved.rows(rows), due.rows(rows, kind), found.rows(rows), room)
    return list(found.tensors())


@_backward.register_fake
def _backward_shapes(given: list[Tensor], left: list[Tensor], owed: list[Tensor]) -> list[Tensor]:
    return list(Gradient.empty(Part.of(given)).tensors())


def _remember(ctx: Any, inputs: tuple[list[Tensor]], output: list[Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[3:])
    ctx.given = len(inputs[0])
    ctx.save_for_backward(*inputs[0], *output[1:])
    ctx.shape = output[0].shape


def _gradients(ctx: Any, gradients: list[Tensor | None]) -> list[Tensor | None]:
    given, left = list(ctx.saved_tensors[: ctx.given]), list(ctx.saved_tensors[ctx.given :])
    owed = Due.of(gradients, ctx.shape, Part.of(given))
    found = _backward(given, left, owed)
    return [g if x.numel() else None for x, g in zip(given, found, strict=True)]


_forward.register_autograd(_gradients, setup_context=_remember)


def exact(part: Part) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (row chunk group*token value_width) and the sums after the last token; regulariser within `normal`.

    Differentiable once, in every field of the part. Works in float32 or float64, and where float32 is too coarse for a
    group of rows redoes it in float64. Raises InvalidInput where that is too coarse as well. A row with a number that
    is not finite among its keys, gates or sums gives NaN.
    """
    out, normal, cross, *_ = _forward(part.tensors())
    return out, normal, cross
