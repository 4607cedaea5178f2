"""Least squares with a constant regulariser under forgetting: conjugate gradient, all tokens of all chunks at once.

For token t of a chunk that starts with the sums S and G, with the decay a since then and D_ti = a_t / a_i write_i
(i <= t), one product with the matrix of token t is a gated linear attention whose values are its keys (mesa.md 3):

    rows of A X = (a X) S + ((X K^T) * D) K + X diag(shift),    out = (a X) G + ((X K^T) * D) V
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, library

from glassworks.mixers.chunks import Due, Gradient, Part, full_precision, gate_gradients, masked, scan, scan_back

# A residual below this many units in the last place of the right side counts as solved: rounding goes no further.
ROUNDING = 8


@dataclass(frozen=True)
class Setting:
    """A part whose chunks know their starting sums, ready to be multiplied with any rows."""

    part: Part
    starts: Tensor
    """any head_width head_width, where `any` counts row*chunk"""
    crosses: Tensor
    """any head_width value_width"""
    since: Tensor | None
    """any group*token 1: what is left of the chunk's start"""
    between: Tensor | None
    """any token token: what is left at one token of what another wrote, 0 where that is later"""
    shift: Tensor
    """any 1 head_width"""
    final: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, part: Part, shift: Tensor) -> "Setting":
        """Runs the sums over the chunks."""
        shape = part.k.shape[:2]
        k, v, decay = part.k, part.v, part.decay()
        last = since = between = None
        factor = None if part.write is None else part.write.sqrt()
        if decay is not None:
            last = decay[..., -1]
            survives = ((decay[..., -1:] - decay) / 2).exp()
            factor = survives if factor is None else factor * survives
            since = decay.exp().flatten(0, 1)[..., None].repeat(1, part.q.shape[2] // k.shape[2], 1)
            # Differences first: a quotient of two decays could be 0/0.
            between = (decay[..., :, None] - decay[..., None, :]).clamp_(max=0).exp_().tril_().flatten(0, 1)
        if factor is not None:
            k, v = k * factor[..., None], v * factor[..., None]
        k, v = k.flatten(0, 1), v.flatten(0, 1)
        starts, normal = scan(part.normal, torch.bmm(k.mT, k).unflatten(0, shape), last)
        crosses, cross = scan(part.cross, torch.bmm(k.mT, v).unflatten(0, shape), last)
        shift = shift[:, None].expand(*shape, -1).flatten(0, 1)[:, None]
        return cls(part, starts.flatten(0, 1), crosses.flatten(0, 1), since, between, shift, (normal, cross))

    def kept(self, rows: Tensor) -> Tensor:
        """Rows (any group*token width) times what is left of their chunk's start."""
        return rows if self.since is None else rows * self.since

    def seen(self, rows: Tensor, others: Tensor, written: bool = True) -> Tensor:
        """Products of rows with the earlier tokens' `others`, decayed, times the strengths of these if `written`."""
        scores = torch.bmm(rows, others.mT)
        tokens = scores.shape[-1]
        apart = scores.view(scores.shape[0], -1, tokens, tokens)
        if self.between is None:
            masked(scores)
        else:
            apart *= self.between[:, None]
        if written and self.part.write is not None:
            apart *= self.part.write.flatten(0, 1)[:, None, None]
        return scores

    def times(self, rows: Tensor) -> Tensor:
        """Each row times the regularised matrix of its token."""
        keys = self.part.k.flatten(0, 1)
        out = torch.baddbmm(rows * self.shift, self.kept(rows), self.starts)
        return torch.baddbmm(out, self.seen(rows, keys), keys, out=out)

    def diagonal(self) -> Tensor:
        """The diagonal of each token's matrix: any group*token head_width."""
        keys = self.part.k.flatten(0, 1).square()
        weights = torch.ones(*keys.shape[:2], keys.shape[1], dtype=keys.dtype, device=keys.device).tril_()
        weights = weights if self.between is None else self.between
        if self.part.write is not None:
            weights = weights * self.part.write.flatten(0, 1)[:, None]
        group = self.part.q.shape[2] // keys.shape[1]
        start = self.starts.diagonal(dim1=-2, dim2=-1)[:, None]
        own = torch.bmm(weights, keys).repeat(1, group, 1) + self.shift
        return own + (start if self.since is None else start * self.since)


def conjugate_gradient(
    times: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, iterations: int, tolerance: float
) -> tuple[Tensor, int, bool]:
    """Solves A x = right for every row at once: solutions, iterations done, and whether all rows came to rest.

    A row rests when its residual is at most `tolerance` of that of the start, or lost in rounding.
    """
    x = start.clone()
    rest = right - times(x)
    norm = rest.square().sum(-1, keepdim=True)
    floor = ROUNDING * torch.finfo(right.dtype).eps * right.norm(dim=-1, keepdim=True)
    limit = torch.maximum(tolerance * norm.sqrt(), floor).square()
    direction = rest.clone()
    for done in range(iterations):
        if bool((norm <= limit).all()):
            return x, done, True
        image = times(direction)
        curvature = (direction * image).sum(-1, keepdim=True)
        # A row that is solved to the last digit has no direction left.
        step = torch.where(curvature > 0, norm / curvature, 0)
        x.addcmul_(direction, step)
        rest.addcmul_(image, step, value=-1)
        following = rest.square().sum(-1, keepdim=True)
        direction.mul_(torch.where(norm > 0, following / norm, 0)).add_(rest)
        norm = following
    return x, iterations, bool((norm <= limit).all())


def _solve(setting: Setting, right: Tensor, iterations: int, tolerance: float, report: Tensor) -> Tensor:
    """Solutions; how the solve went is kept in `report` where it is worse than what that holds already."""
    x, done, rested = conjugate_gradient(setting.times, right, right / setting.diagonal(), iterations, tolerance)
    size = right.norm(dim=-1)
    # A right side of zero has a residual of zero; one that is not finite, or meets what is not, has NaN.
    residual = (right - setting.times(x)).norm(dim=-1) / torch.where(size > 0, size, 1)
    _keep_worse(report, torch.stack([report.new_tensor(done), residual.amax(), report.new_tensor(not rested)]))
    return x


def _keep_worse(report: Tensor, other: Tensor) -> None:
    """Iterations, residual and whether some row did not rest: the larger of each; NaN stays."""
    torch.maximum(report, other, out=report)


# A custom operation: when to stop depends on the data, which the compiler of torch cannot trace through.
@library.custom_op("mesa::conjugate", mutates_args=())
def _forward(given: list[Tensor], shift: Tensor, iterations: int, tolerance: float) -> list[Tensor]:
    part = Part.of(given)
    found = [torch.empty_like(x) for x in _shapes(part)]
    out, normal, cross, solution, report = found
    report.zero_()
    with full_precision(part.k.device):
        for rows in part.groups():
            setting = Setting.of(part.rows(rows, part.k.dtype), shift[rows])
            normal[rows], cross[rows] = setting.final
            q = setting.part.q.flatten(0, 1)
            x = _solve(setting, q, iterations, tolerance, report)
            solution[rows] = x.view_as(solution[rows])
            mixed = torch.bmm(setting.seen(x, setting.part.k.flatten(0, 1)), setting.part.v.flatten(0, 1))
            out[rows] = torch.baddbmm(mixed, setting.kept(x), setting.crosses).view_as(out[rows])
    return found


def _shapes(part: Part) -> list[Tensor]:
    """Tensors like the results: outputs, final sums, solutions, and the report."""
    out = part.v.new_empty(*part.q.shape[:3], part.v.shape[-1])
    return [out, part.normal, part.cross, part.q, part.q.new_empty(3)]


@_forward.register_fake
def _forward_shapes(given: list[Tensor], shift: Tensor, iterations: int, tolerance: float) -> list[Tensor]:
    return [torch.empty_like(x) for x in _shapes(Part.of(given))]


def _owed(setting: Setting, d_out: Tensor) -> Tensor:
    """Rows G_t d_t: what the gradient of the queries is solved from (mesa-layer.md 3)."""
    k, v = setting.part.k.flatten(0, 1), setting.part.v.flatten(0, 1)
    return torch.baddbmm(torch.bmm(setting.seen(d_out, v), k), setting.kept(d_out), setting.crosses.mT)


def _adjoint(setting: Setting, x: Tensor, adjoint: Tensor, due: Due) -> tuple[Gradient, Tensor]:
    """The gradient from the two solves with the same matrices, and that of the shift (row head_width).

    Exact where both solves are: the iterations themselves are not differentiated.
    """
    part, shape = setting.part, setting.part.k.shape[:2]
    k, v, d_out = part.k.flatten(0, 1), part.v.flatten(0, 1), due.out.flatten(0, 1)
    x_kept = setting.kept(x)
    cross = torch.bmm(x_kept.mT, d_out).unflatten(0, shape)
    normal = torch.bmm(x_kept.mT, adjoint)
    # Twice the symmetric gradient of the normal sums.
    normal = (normal + normal.mT).neg_().unflatten(0, shape)
    decay = part.decay()
    last = None if decay is None else decay[..., -1]
    normal, first = scan_back(due.normal + due.normal.mT, normal, last)
    cross, first_cross = scan_back(due.cross, cross, last)
    normal, cross = normal.flatten(0, 1), cross.flatten(0, 1)
    k_unit, v_unit = torch.baddbmm(torch.bmm(v, cross.mT), k, normal), torch.bmm(k, cross)
    if decay is not None:
        survives = (decay[..., -1:] - decay).exp().flatten(0, 1)[..., None]
        k_unit, v_unit = k_unit * survives, v_unit * survives
    seen = setting.seen(x, k, written=False)
    v_unit = torch.baddbmm(v_unit, seen.mT, d_out).view_as(part.v)
    k_unit = torch.baddbmm(k_unit, seen.mT, adjoint, alpha=-1)
    blamed = setting.seen(d_out, v, written=False) - setting.seen(adjoint, k, written=False)
    k_unit = torch.baddbmm(k_unit, blamed.mT, x).view_as(part.k)
    both = x * adjoint
    ends = shifted = None
    if decay is not None:
        ends = (due.normal * setting.final[0]).sum((1, 2)) + (due.cross * setting.final[1]).sum((1, 2))
        shifted = (both * setting.shift).sum(-1).view(*shape, -1, k.shape[1]).sum(2)
    d_k, d_v, d_keep, d_write = gate_gradients(part, k_unit, v_unit, ends, shifted)
    d_shift = -both.sum(1).unflatten(0, shape).sum(1)
    return Gradient(adjoint.view_as(part.q), d_k, d_v, d_keep, d_write, first / 2, first_cross), d_shift


@library.custom_op("mesa::conjugate_backward", mutates_args=())
def _backward(
    given: list[Tensor], solved: list[Tensor], owed: list[Tensor], iterations: int, tolerance: float
) -> list[Tensor]:
    (shift, solution), part, due = solved, Part.of(given), Due(*owed)
    found, d_shift, report = Gradient.empty(part), torch.empty_like(shift), part.q.new_zeros(3)
    with full_precision(part.k.device):
        for rows in part.groups():
            setting = Setting.of(part.rows(rows, part.k.dtype), shift[rows])
            x = solution[rows].flatten(0, 1)
            there = due.rows(rows, part.k.dtype)
            right = _owed(setting, there.out.flatten(0, 1))
            adjoint = _solve(setting, right, iterations, tolerance, report)
            gradient, d_shift[rows] = _adjoint(setting, x, adjoint, there)
            found.rows(rows).fill(gradient)
    return [*found.tensors(), d_shift, report]


@_backward.register_fake
def _backward_shapes(
    given: list[Tensor], solved: list[Tensor], owed: list[Tensor], iterations: int, tolerance: float
) -> list[Tensor]:
    part = Part.of(given)
    return [*Gradient.empty(part).tensors(), torch.empty_like(solved[0]), part.q.new_empty(3)]


def _remember(ctx: Any, inputs: tuple[list[Tensor], Tensor, int, float], output: list[Tensor]) -> None:
    given, shift, ctx.iterations, ctx.tolerance = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[3:])
    ctx.shape, ctx.report = output[0].shape, output[4]
    ctx.save_for_backward(*given, shift, output[3])


def _gradients(ctx: Any, gradients: list[Tensor | None]) -> tuple[list[Tensor | None], Tensor, None, None]:
    *given, shift, solution = ctx.saved_tensors
    owed = Due.of(gradients, ctx.shape, Part.of(given))
    *found, d_shift, report = _backward(given, [shift, solution], owed, ctx.iterations, ctx.tolerance)
    # A compiled gradient must not change what the forward pass has handed out.
    if not torch.compiler.is_compiling():
        _keep_worse(ctx.report, report)
    return [g if x.numel() else None for x, g in zip(given, found, strict=True)], d_shift, None, None


_forward.register_autograd(_gradients, setup_context=_remember)


def conjugate(part: Part, shift: Tensor, iterations: int, tolerance: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Outputs, final sums (without `shift`, row head_width), and a report: iterations, residual, unrested.

    The residual is |q - A x| / |q| of the worst token, worked out afresh at the end; `unrested` is 1 where some token
    did not converge. Taking the gradient raises the report, in place, to that of its own solve where that is worse.
    Differentiable once, in the fields of the part and in `shift`, as if the solve were exact. Numbers that are not
    finite give NaN in their row, and in the report a residual of NaN that did not converge.
    """
    out, normal, cross, _, report = _forward(part.tensors(), shift, iterations, tolerance)
    return out, normal, cross, report
