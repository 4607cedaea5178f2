"""What Infini-attention reads and writes with: features, products in full precision, recall, and the affine scan.

Each is an operation with its own gradient: autocast and lowered matmul precision reach neither way through it, and
nothing is kept for the way back that can be had from what is kept anyway.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.mixers.chunks import full_precision

# A normaliser read by a query below this is as good as zero: the values it stands for come out as zero.
LEAST_READ = 1e-30


def features(
    x: Float[Tensor, "batch segment head token head_width"], scale: Tensor | float = 1.0
) -> Float[Tensor, "batch segment head token head_width"]:
    """sigma(x) = ELU(x) + 1 times `scale`, in float32 at least; laid out by heads.

    e^x is taken as it is: ELU(x) + 1 would subtract 1 and add it again, and could not fall below 6e-8 in float32.
    """
    return cast(Tensor, _Features.apply(x, scale))


def product(a: Float[Tensor, "*rows a b"], b: Float[Tensor, "*rows b c"]) -> Float[Tensor, "*rows a c"]:
    """The matrix product in the precision of its inputs, whatever autocast says."""
    return cast(Tensor, _Product.apply(a, b))


@dataclass(frozen=True)
class Shares:
    """What part of the output comes from where."""

    local: Float[Tensor, "#batch #segment head 1 1"]
    memory: Float[Tensor, "#batch known head 1 1"]


def recall(
    local: Float[Tensor, "batch segment head query value_width"],
    q: Float[Tensor, "batch segment head query head_width"],
    total: Float[Tensor, "batch known kv_head head_width value_width"],
    normaliser: Float[Tensor, "batch known kv_head head_width"],
    shares: Shares,
) -> Float[Tensor, "batch segment head query value_width"]:
    """shares.local * local + shares.memory * sigma(q) M / (sigma(q) z), in the number format of `local`.

    M (`total`) and z (`normaliser`) are known for the last segments; those before them read nothing.
    """
    return cast(Tensor, _Recall.apply(local, q, total, normaliser, shares.local, shares.memory))


def affine_scan(
    first: Float[Tensor, "row a b"], taken: Float[Tensor, "row step a a"], written: Float[Tensor, "row step a b"]
) -> Float[Tensor, "row states a b"]:
    """The states before each step and after the last of: state <- state - taken state + written."""
    return cast(Tensor, _AffineScan.apply(first, taken, written))


@contextmanager
def _precisely(x: Tensor) -> Generator[None]:
    if torch.compiler.is_compiling():
        yield
        return
    with full_precision(x.device):
        yield


class _Features(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | float) -> Tensor:
        found = _sigma(x)
        if not isinstance(scale, float) or scale != 1.0:
            found *= scale
        ctx.save_for_backward(found)
        ctx.scale, ctx.kind = scale, x.dtype
        return found

    @staticmethod
    def backward(ctx: Any, *due: Tensor) -> tuple[Tensor, None]:
        (found,) = ctx.saved_tensors
        # The slope is 1 above zero and sigma itself below, where it is less than 1.
        slope = torch.minimum(found, ctx.scale) if isinstance(ctx.scale, Tensor) else found.clamp(max=ctx.scale)
        return slope.mul_(due[0]).to(ctx.kind), None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        with _precisely(a):
            return a @ b

    @staticmethod
    def backward(ctx: Any, *due: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        with _precisely(a):
            to_a = due[0] @ b.mT if ctx.needs_input_grad[0] else None
            to_b = a.mT @ due[0] if ctx.needs_input_grad[1] else None
        return to_a, to_b


class _Recall(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> Tensor:
        local, q, total, normaliser, keep, share = given
        silent = q.shape[1] - total.shape[1]
        read = _sigma(q[:, silent:])
        rows = _by_group(read, total)
        with _precisely(read):
            found = (rows @ total).view(*read.shape[:-1], total.shape[-1])
            read_in_all = (rows @ normaliser[..., None]).view(*read.shape[:-1], 1)
        weight = read_in_all.reciprocal().masked_fill_(read_in_all < LEAST_READ, 0)
        ctx.save_for_backward(local, read, total, normaliser, keep, share, weight)
        ctx.kind = q.dtype
        out = local * keep
        out[:, silent:].addcmul_(found, weight * share)
        return out.to(local.dtype)

    @staticmethod
    def backward(ctx: Any, *due: Tensor) -> tuple[Tensor, ...]:
        local, read, total, normaliser, keep, share, weight = ctx.saved_tensors
        to_out = due[0].to(read.dtype)
        to_keep = _summed(to_out * local, keep)
        to_local = (to_out * keep).to(local.dtype)
        silent = local.shape[1] - total.shape[1]
        to_out = to_out[:, silent:]
        with _precisely(read):
            # `to_out` against the values that each entry of the read would bring.
            brought = (_by_group(to_out, total) @ total.mT).view_as(read)
            # That is weight * share * (to_out . values found); the values themselves need not be kept.
            felt = (brought * read).sum(-1, keepdim=True).mul_(weight)
            to_share = _summed(felt, share)
            to_weight = -(felt * weight * share)
            weight = weight * share
            spread = normaliser[:, :, :, None].expand(-1, -1, -1, read.shape[2] // normaliser.shape[2], -1)
            to_read = brought.mul_(weight).addcmul_(to_weight, spread.flatten(2, 3)[..., None, :])
            rows = _by_group(read, total).mT
            to_total = rows @ _by_group(to_out * weight, total)
            to_normaliser = (rows @ _by_group(to_weight, total))[..., 0]
        to_q = to_read.mul_(read.clamp(max=1)).to(ctx.kind)
        if silent:
            to_q = torch.cat([to_q.new_zeros(*local.shape[:1], silent, *to_q.shape[2:]), to_q], 1)
        return to_local, to_q, to_total, to_normaliser, to_keep, to_share


class _AffineScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, first: Tensor, taken: Tensor, written: Tensor) -> Tensor:
        states = first.new_empty(taken.shape[0], taken.shape[1] + 1, *first.shape[1:])
        states[:, 0] = first
        with _precisely(first):
            for step in range(taken.shape[1]):
                before = states[:, step]
                states[:, step + 1] = torch.baddbmm(before + written[:, step], taken[:, step], before, alpha=-1)
        ctx.save_for_backward(states, taken)
        return states

    @staticmethod
    def backward(ctx: Any, *due: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states, taken = ctx.saved_tensors
        to_taken, to_written = torch.empty_like(taken), torch.empty_like(states[:, 1:])
        carried = due[0][:, -1]
        with _precisely(states):
            for step in reversed(range(taken.shape[1])):
                to_written[:, step] = carried
                to_taken[:, step] = torch.bmm(-carried, states[:, step].mT)
                carried = torch.baddbmm(carried + due[0][:, step], taken[:, step].mT, carried, alpha=-1)
        return carried, to_taken, to_written


def _sigma(x: Tensor) -> Tensor:
    found = torch.empty(x.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
    torch.clamp(x.to(found.dtype), max=0, out=found)
    return found.exp_().add_(x.clamp(min=0))


def _by_group(x: Tensor, total: Tensor) -> Tensor:
    """Query heads that read one memory as further rows: batch segment kv_head group*query width."""
    return x.unflatten(2, (total.shape[2], -1)).flatten(3, 4)


def _summed(x: Tensor, like: Tensor) -> Tensor:
    """Added up over the dimensions in which `like` has size 1."""
    return x.sum_to_size(like.shape)
