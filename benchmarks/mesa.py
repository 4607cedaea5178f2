"""The mesa layer beside the recursion, the paper's own algorithm, chunkwise conjugate gradient and linear attention.

One thread, forward and backward, float32, 8 sequences of 4 heads. Times are of the processor (CPU seconds): other work
on the machine does not count. flash-linear-attention itself is compared with in its own environment (peers.py).
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks import mesa_reference
from benchmarks.measure import Ratio, alternate, row
from glassworks.mixers import Heads, Linear, Memory, Mesa, MixerSpec

BATCH, HEADS = 8, 4
# Tokens, width of a head.
SHAPES = [(256, 32), (256, 64), (512, 32), (512, 64), (1024, 32), (1024, 64)]
LONGEST = SHAPES[-2:]
Work = Callable[[Tensor, Tensor, Tensor], Tensor]


def ours(spec: MixerSpec, width: int) -> Work:
    """One of our mixers as a plain function of q, k, v."""
    mixer = spec.build(Heads(HEADS, HEADS, width, 1.0))
    return lambda q, k, v: mixer(q, k, v, remember=False).out


def flat(work: Callable[[Tensor, Tensor, Tensor, float], Tensor]) -> Work:
    """A reference, which knows rows only."""
    return lambda q, k, v: work(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), 1.0).view_as(q)


def quadratic(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention as one masked product."""
    return torch.tril(q @ k.mT) @ v


def drawn(tokens: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys of length 1, and values, that want gradients."""
    chance = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(BATCH, HEADS, tokens, width, generator=chance) for _ in range(3))
    q, k = (torch.nn.functional.normalize(x, dim=-1) for x in (q, k))
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def both_ways(work: Work, qkv: tuple[Tensor, Tensor, Tensor]) -> Callable[[], Any]:
    """Forward and backward."""
    towards = torch.randn(qkv[0].shape, generator=torch.Generator().manual_seed(1))
    return lambda: torch.autograd.grad(work(*qkv), qkv, towards)


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread, put back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def beside(
    spec: MixerSpec, other: tuple[str, Work], target: tuple[str, float], shape: tuple[int, int], runs: int
) -> Ratio:
    """One of our mixers beside another computation of the same numbers."""
    tokens, width = shape
    qkv = drawn(tokens, width)
    name, theirs = other
    mine = ours(spec, width)
    times = alternate(both_ways(mine, qkv), both_ways(theirs, qkv), runs, clock=time.process_time)
    with torch.no_grad():
        facts: dict[str, Any] = {}
        if not isinstance(spec, Mesa) or "linear" not in name:
            found, wanted = mine(*qkv), theirs(*qkv)
            facts["largest difference"] = f"{float((found - wanted).abs().max() / wanted.abs().max()):.1e}"
    return row(f"{spec.kind}, {tokens} tokens, width {width}", name, target, times, facts)


def growth(runs: int, width: int) -> Ratio:
    """Time for each token at 4096 tokens beside 256."""
    work = ours(Mesa(), width)
    short, long = drawn(256, width), drawn(4096, width)
    # As many tokens on both sides.
    many = both_ways(work, short)
    times = alternate(both_ways(work, long), lambda: [many() for _ in range(16)], runs, clock=time.process_time)
    return row(f"mesa, 4096 tokens, width {width}", "16 times 256 tokens", ("<= 1.15x its time", 1 / 1.15), times, {})


def peak_memory(shape: tuple[int, int]) -> Ratio:
    """Megabytes that forward and backward add at their peak, each side in a process of its own."""
    found = {
        side: [peak_in_process(side, shape) for _ in range(2)] for side in ("mesa", "recursion", "reversing", "linear")
    }
    inputs = 3 * BATCH * HEADS * shape[0] * shape[1] * 4 / 2**20
    facts = {"unit": "MB", "q, k, v": round(inputs)} | {
        side: round(statistics.median(found[side])) for side in ("reversing", "linear")
    }
    sides = found["mesa"], found["recursion"]
    what = f"peak memory of mesa, {shape[0]} tokens, width {shape[1]}"
    return row(what, "recursion with autograd", ("<= 1/8", 8.0), sides, facts)


def peak_in_process(side: str, shape: tuple[int, int]) -> float:
    """Megabytes of one run, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.mesa", side, *map(str, shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measured_here(side: str, shape: tuple[int, int]) -> float:
    """What the process's peak grows by; a short run before it loads the libraries."""
    tokens, width = shape
    work = {
        "mesa": ours(Mesa(), width),
        "linear": ours(Linear(), width),
        "recursion": flat(mesa_reference.recursion),
        "reversing": flat(mesa_reference.reversing),
    }[side]
    with one_thread():
        both_ways(work, drawn(32, width))()
        run = both_ways(work, drawn(tokens, width))
        before = _status("VmRSS")
        run()
        return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name))


def streaming(runs: int, tokens: int = 1024, width: int = 64) -> Ratio:
    """Token by token: the time of the last tokens beside the first, and the difference from all at once."""
    mixer = Mesa().build(Heads(HEADS, HEADS, width, 1.0))
    qkv = [x.detach() for x in drawn(tokens, width)]
    early: list[float] = []
    late: list[float] = []
    sizes: set[int] = set()
    outs: list[Tensor] = []
    with torch.no_grad():
        for _ in range(max(1, min(runs, 3))):
            memory: Memory | None = None
            outs.clear()
            seconds: list[float] = []
            for t in range(tokens):
                started = time.process_time()
                mixed = mixer(*(x[:, :, t : t + 1] for x in qkv), memory)
                seconds.append(time.process_time() - started)
                memory = mixed.memory
                assert memory is not None
                sizes.add(sum(x.numel() * x.element_size() for x in memory.__dict__.values()))
                outs.append(mixed.out)
            early.append(statistics.median(seconds[1 : tokens // 4]))
            late.append(statistics.median(seconds[-tokens // 4 :]))
        difference = (torch.cat(outs, 2) - mixer(*qkv).out).abs().max() / torch.cat(outs, 2).abs().max()
    facts = {"bytes of memory, all sizes seen": sorted(sizes), "largest difference": f"{float(difference):.1e}"}
    return row("mesa, one token at a time, late tokens", "early tokens", ("<= 1.15x", 1 / 1.15), (late, early), facts)


def rows(runs: int, quick: bool) -> list[Ratio]:
    """Every row of this page; the data that feeds the study is measured beside its tasks."""
    few = max(1, min(runs, 3))
    recursion = "recursion with autograd", flat(mesa_reference.recursion)
    reversing = "the paper's reversed recursion", flat(mesa_reference.reversing)
    unrolled = "chunkwise conjugate gradient unrolled", flat(mesa_reference.unrolled_conjugate_gradient)
    found: list[Ratio] = []
    with one_thread():
        for shape in SHAPES[3:4] if quick else SHAPES:
            linear = "our linear attention", ours(Linear(), shape[1])
            found += [
                beside(Mesa(), recursion, (">= 20x", 20.0), shape, few),
                beside(Mesa(), reversing, (">= 7x", 7.0), shape, few),
                beside(Mesa(), unrolled, (">= 10x", 10.0), shape, few),
                beside(Mesa(), linear, ("<= 3x its time", 1 / 3), shape, runs),
                beside(Linear(), ("masked product of all tokens", quadratic), ("> 1x", 1.0), shape, runs),
            ]
        found += [growth(few, width) for width in ((64,) if quick else (32, 64))]
        found.append(streaming(runs))
    return found + [peak_memory(shape) for shape in LONGEST[: 1 if quick else 2]]


if __name__ == "__main__":
    print(json.dumps(measured_here(sys.argv[1], (int(sys.argv[2]), int(sys.argv[3])))))
