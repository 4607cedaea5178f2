"""Sequences cut into chunks: running sums at every chunk's start, and the gradients of gates, for any solver."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Bytes of one array of a group of rows on a CPU: the dozen arrays in use should stay in its second-level cache.
GROUP_BYTES = 1 << 20
# Chunks whose sums are formed by one product.
BLOCK = 16


@dataclass(frozen=True)
class Part:
    """Some rows (one key-value head of one sequence each) cut into chunks, with the sums before the first."""

    q: Tensor
    """row chunk group*token head_width; the query heads of a group one after the other"""
    k: Tensor
    """row chunk token head_width"""
    v: Tensor
    """row chunk token value_width"""
    keep: Tensor | None
    """row chunk token"""
    write: Tensor | None
    """row chunk token"""
    normal: Tensor
    """row head_width head_width: the sum of k k^T, in float64 where the device has it"""
    cross: Tensor
    """row head_width value_width: the sum of k v^T, in float64 where the device has it"""

    @classmethod
    def of(cls, tensors: list[Tensor]) -> "Part":
        """From a list, in which a gate that is not given is an empty tensor."""
        q, k, v, keep, write, normal, cross = tensors
        return cls(q, k, v, keep if keep.numel() else None, write if write.numel() else None, normal, cross)

    def tensors(self) -> list[Tensor]:
        """The list that `of` reads."""
        empty = self.k.new_empty(0)
        keep, write = (empty if gate is None else gate for gate in (self.keep, self.write))
        return [self.q, self.k, self.v, keep, write, self.normal, self.cross]

    def rows(self, chosen: slice, kind: torch.dtype) -> "Part":
        """These rows in this number format."""
        return Part.of([x[chosen].to(kind) if x.numel() else x for x in self.tensors()])

    def groups(self) -> list[slice]:
        """Rows to work on together: all on an accelerator, as many as the cache holds on a CPU."""
        rows = self.k.shape[0]
        held = self.k[:1].numel() * self.k.element_size()
        step = max(1, GROUP_BYTES // held) if self.k.device.type == "cpu" else rows
        return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]

    def decay(self) -> Tensor | None:
        """The logarithm of what is kept of a chunk's start after each of its tokens: row chunk token."""
        return None if self.keep is None else self.keep.log().cumsum(-1)


@dataclass(frozen=True)
class Due:
    """The gradient of the loss with respect to a part's results: outputs and final sums."""

    out: Tensor
    normal: Tensor
    cross: Tensor

    @staticmethod
    def of(found: list[Tensor | None], shape: torch.Size, part: Part) -> list[Tensor]:
        """The fields as a list, from what autograd hands on: nothing where a result was not used."""
        out, normal, cross = found[:3]
        return [
            part.v.new_zeros(shape) if out is None else out,
            torch.zeros_like(part.normal) if normal is None else normal,
            torch.zeros_like(part.cross) if cross is None else cross,
        ]

    def rows(self, chosen: slice, kind: torch.dtype) -> "Due":
        """These rows in this number format."""
        return Due(self.out[chosen].to(kind), self.normal[chosen].to(kind), self.cross[chosen].to(kind))


@dataclass(frozen=True)
class Gradient:
    """The gradient of the loss with respect to a `Part`, field by field; empty tensors for gates not given."""

    q: Tensor
    k: Tensor
    v: Tensor
    keep: Tensor
    write: Tensor
    normal: Tensor
    cross: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        """In the order of the fields."""
        return self.q, self.k, self.v, self.keep, self.write, self.normal, self.cross

    @classmethod
    def empty(cls, part: Part) -> "Gradient":
        """Room for the gradient of a part, each tensor like the one it belongs to."""
        return cls(*(torch.empty_like(x) for x in part.tensors()))

    def rows(self, chosen: slice) -> "Gradient":
        """Views of these rows."""
        return Gradient(*(x[chosen] for x in self.tensors()))

    def fill(self, found: "Gradient") -> None:
        """Takes over the numbers of another gradient of the same shapes."""
        for mine, its in zip(self.tensors(), found.tensors(), strict=True):
            mine.copy_(its)


class Scratch:
    """Tensors for what is soon forgotten, handed out again for every group of rows.

    Asking the system for fresh memory in every group took a quarter of the time.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """A tensor of this shape with whatever was last written under this name; zeros at first."""
        found = self._kept.get(name)
        if found is None or found.shape[1:] != shape[1:] or len(found) < shape[0] or found.dtype != like.dtype:
            found = self._kept[name] = like.new_zeros(shape)
        return found[: shape[0]]


def precise_kind(device: torch.device) -> torch.dtype:
    """The most exact number format of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


@contextmanager
def full_precision(device: torch.device) -> Generator[None]:
    """Products of float32 in float32: neither autocast nor a lowered matmul precision may reach a factorisation."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def masked(scores: Tensor) -> Tensor:
    """Scores (any group*token token) with those of later tokens set to 0, in place."""
    tokens = scores.shape[-1]
    scores.view(scores.shape[0], -1, tokens, tokens).tril_()
    return scores


def scan(first: Tensor, written: Tensor, decay: Tensor | None, into: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What each chunk starts from (row chunk a b), and the final sum, given what each chunk writes.

    `decay` (row chunk) is the logarithm of the share of a chunk's start that survives the chunk: a share may be too
    small for its number format, and what follows it must not be lost with it. A product with a triangle adds up a
    block of chunks; blocks follow each other, so that the work stays proportional to their number.
    """
    flat = written.flatten(2)
    carried = first.flatten(1)[:, None]
    starts = torch.empty_like(flat) if into is None else into.view_as(flat)
    for begin in range(0, flat.shape[1], BLOCK):
        block = slice(begin, begin + BLOCK)
        within, through = _shares(flat[:, block], None if decay is None else decay[:, block])
        size = within.shape[1] - 1
        torch.baddbmm(through[:, :size] * carried, within[:, :size], flat[:, block], out=starts[:, block])
        carried = torch.baddbmm(through[:, size:] * carried, within[:, size:], flat[:, block])
    return starts.view_as(written), carried.view_as(first)


def scan_back(last: Tensor, due: Tensor, decay: Tensor | None, into: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The gradients of `scan`: of what each chunk wrote and of the first sum, given those of what it returned."""
    flat = due.flatten(2)
    carried = last.flatten(1)[:, None]
    written = torch.empty_like(flat) if into is None else into.view_as(flat)
    for begin in reversed(range(0, flat.shape[1], BLOCK)):
        block = slice(begin, begin + BLOCK)
        within, through = _shares(flat[:, block], None if decay is None else decay[:, block])
        size = within.shape[1] - 1
        torch.baddbmm(within[:, size:].mT * carried, within[:, :size].mT, flat[:, block], out=written[:, block])
        carried = torch.baddbmm(through[:, size:] * carried, through[:, :size].mT, flat[:, block])
    return written.view_as(due), carried.view_as(last)


def _shares(block: Tensor, decay: Tensor | None) -> tuple[Tensor, Tensor]:
    """How much is left of what each chunk of a block wrote (row chunk+1 chunk), and of its start (row chunk+1 1).

    Left at the start of each chunk, and in the last row at the end of the block.
    """
    rows, chunks = block.shape[:2]
    if decay is None:
        within = block.new_ones(chunks + 1, chunks).tril_(-1).expand(rows, -1, -1)
        return within, block.new_ones(1, chunks + 1, 1).expand(rows, -1, -1)
    # Differences of long sums: float32 would leave some 1e-5 of a share to rounding.
    decay = F.pad(decay.to(precise_kind(decay.device)).cumsum(1), (1, 0))
    within = (decay[:, :, None] - decay[:, None, 1:]).clamp(max=0).exp().tril(-1)
    return within.to(block.dtype), decay.exp()[..., None].to(block.dtype)


def gate_gradients(
    part: Part, k_unit: Tensor, v_unit: Tensor, ends: Tensor | None, shifted: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of k, v, keep and write from those of k and v at strength 1 (`k_unit`, `v_unit`).

    A pair of strength b adds b k k^T and b k v^T. So half of k . k_unit + v . v_unit is the gradient of b; and scaling
    the whole memory by c at token s is the same as scaling every pair from s on, the last sums and a constant
    regulariser by 1/c, which gives that of keep: `ends` is the product of the last sums with their gradient, by row;
    `shifted` that of the regulariser, by token.
    """
    empty = k_unit.new_empty(0)
    if part.keep is None and part.write is None:
        return k_unit, v_unit, empty, empty
    strength = ((part.k * k_unit).sum(-1) + (part.v * v_unit).sum(-1)) / 2
    pairs, k, v = strength, k_unit, v_unit
    if part.write is not None:
        pairs = strength * part.write
        k, v = k_unit * part.write[..., None], v_unit * part.write[..., None]
    if part.keep is None or ends is None:
        return k, v, empty, strength
    flow = -pairs if shifted is None else shifted - pairs
    # The sum over all later tokens loses digits that a sum in float64 keeps.
    later = flow.flatten(1).to(precise_kind(flow.device)).flip(1).cumsum(1).flip(1) + ends[:, None]
    keep = later.to(flow.dtype).view_as(flow) / part.keep
    return k, v, keep, strength if part.write is not None else empty


def chunk_length(tokens: int, width: int) -> int:
    """Tokens of one chunk: near the width, where the cost of products and factorisations balance."""
    longest = 64 if width > 48 else 32
    count = -(-tokens // longest)
    return -(-tokens // count)


def cut(x: Tensor, rows: int, length: int, filler: float = 0.0) -> Tensor:
    """`batch head token width` as `row chunk group*token width` (no width: `row chunk token`), filled up at the end."""
    trailing = x.dim() == 4
    x = x if trailing else x[..., None]
    missing = -x.shape[2] % length
    if missing:
        x = F.pad(x, (0, 0, 0, missing), value=filler)
    # A group's query heads read one key-value head: (row, group, chunk, token) to (row, chunk, group, token).
    x = x.reshape(rows, -1, x.shape[2] // length, length, x.shape[3]).transpose(1, 2)
    # Of one sequence the above is a mere view, in whose strides the results could not be laid out.
    x = x.reshape(rows, x.shape[1], -1, x.shape[4]).contiguous()
    return x if trailing else x[..., 0]


def joined(out: Tensor, batch: int, length: int, tokens: int) -> Tensor:
    """The way back from `cut`: `batch head token width` without what was filled up."""
    row, chunk, _, width = out.shape
    out = out.reshape(row, chunk, -1, length, width).transpose(1, 2)
    return out.reshape(batch, -1, chunk * length, width)[:, :, :tokens]
