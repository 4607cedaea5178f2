"""Infini-attention beside full attention and attention inside segments alone.

One thread, one sequence of bytes, width 256, 4 heads, 2 layers, segments of 512. Times are of the processor (CPU seconds):
other work on the machine does not count. Memory is what a fresh process takes at its peak. The published re-implementation
is compared with in its own environment (peers.py).
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Ratio, alternate, row
from benchmarks.mesa import one_thread
from glassworks.mixers import Infini, Local, MixerSpec, Softmax
from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.models.pieces import Reading, pieces_loss, read_in_pieces
from glassworks.tensors.seeds import Seed

SEGMENT, WIDTH, HEADS, DEPTH = 512, 256, 4, 2
SHORT, LONGEST = 4096, 65536
# Segments that pass through all layers together: few enough for the cache, many enough for the products.
PIECE, SMALL_PIECE = 4096, 1024
MILLION = 1 << 20
Work = Callable[[Tensor], Any]


def model_of(mixer: MixerSpec) -> GlassworksForCausalLM:
    """A decoder of bytes."""
    spec = TransformerSpec(
        vocabulary=256,
        width=WIDTH,
        depth=DEPTH,
        heads=HEADS,
        mixers=(mixer,),
        positions="rotary",
        feedforward=("gelu",),
    )
    return build_model(spec, Seed(0))


def forward_of(mixer: MixerSpec, piece: int | None = PIECE) -> Work:
    """The mean loss of a text, piece by piece through all layers, or at once."""
    model = model_of(mixer)

    def work(ids: Tensor) -> float:
        targets, total = ids.roll(-1, 1), 0.0
        with torch.no_grad():
            if piece is None:
                return float(F.cross_entropy(model(ids, use_cache=False).logits[0].float(), targets[0]))
            for read in read_in_pieces(model, ids, piece):
                total += float(_loss(read.logits, targets[:, read.positions]))
        return total / ids.shape[1]

    return work


def training_of(mixer: MixerSpec) -> Work:
    """Forward and backward through all segments; nothing is detached."""
    model = model_of(mixer)

    def work(ids: Tensor) -> float:
        targets = ids.roll(-1, 1)
        total = pieces_loss(model, ids, Reading(PIECE, checkpoint=False), lambda x, at: _loss(x, targets[:, at]))
        model.zero_grad()
        return float(total) / ids.shape[1]

    return work


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits[0].float(), targets[0], reduction="sum")


def text(tokens: int) -> Tensor:
    """Random bytes."""
    return torch.randint(0, 256, (1, tokens), generator=torch.Generator().manual_seed(0))


def overhead(rule: str, tokens: int, trains: bool, runs: int) -> Ratio:
    """The memory's share of the time."""
    with_memory = Infini(segment=SEGMENT, write="delta" if rule == "delta" else "linear")
    of = training_of if trains else forward_of
    mine, theirs, ids = of(with_memory), of(Local(segment=SEGMENT)), text(tokens)
    times = alternate(lambda: mine(ids), lambda: theirs(ids), runs, clock=time.process_time)
    what = f"infini {rule}, {'forward and backward' if trains else 'forward'}, {tokens} tokens"
    return row(what, "attention inside segments alone", ("<= 1.35x its time", 1 / 1.35), times, {})


def beside_full_attention(runs: int) -> Ratio:
    """A long text at once, causal attention over all of it beside ours."""
    mine, theirs, ids = forward_of(Infini(segment=SEGMENT)), forward_of(Softmax(), piece=None), text(LONGEST)
    times = alternate(lambda: mine(ids), lambda: theirs(ids), runs, warm=0, clock=time.process_time)
    what = f"infini linear, forward, {LONGEST} tokens"
    return row(what, "full causal attention", ("> 1x", 1.0), times, {})


def memory_row() -> Ratio:
    """Megabytes that a long text adds to a process at its peak, beside full attention."""
    found = [in_process(side) for side in ("forward", "full forward")]
    facts = {"unit": "MB", "whole process": [round(one["whole"]) for one in found]}
    what = f"peak memory of the forward pass, infini linear, {LONGEST} tokens"
    sizes = [found[0]["added"]], [found[1]["added"]]
    return row(what, "full causal attention", ("<= 1/10", 10.0), sizes, facts)


def in_process(side: str) -> dict[str, float]:
    """What one side takes, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.infini", side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measured_here(side: str) -> dict[str, float]:
    """The peak of this process, whole and above what it had when libraries were loaded and a short text was read."""
    if side == "streaming":
        return streamed_here()
    mixer = Infini(segment=SEGMENT)
    work = forward_of(mixer, SMALL_PIECE) if side == "forward" else forward_of(Softmax(), None)
    work(text(SEGMENT))
    before = _status("VmRSS")
    work(text(LONGEST))
    return {"whole": _status("VmHWM"), "added": _status("VmHWM") - before}


def streamed_here() -> dict[str, float]:
    """A million tokens, at least 10000 of which are read before anything is compared."""
    model, ids = model_of(Infini(segment=SEGMENT)), text(MILLION)
    seconds: list[float] = []
    early = 0.0
    with torch.no_grad():
        started = time.process_time()
        for read in read_in_pieces(model, ids, SMALL_PIECE):
            seconds.append(time.process_time() - started)
            if read.positions.stop >= 10000 and not early:
                early = _status("VmHWM")
            started = time.process_time()
    tenth = len(seconds) // 10
    return {
        "early MB": early,
        "late MB": _status("VmHWM"),
        "early": statistics.median(seconds[10 : 10 + tenth]),
        "late": statistics.median(seconds[-tenth:]),
        "all": sum(seconds),
    }


def streaming() -> list[Ratio]:
    """Peak memory and time per token at a million tokens, beside those of the first ones."""
    found = in_process("streaming")
    what = f"infini linear, {MILLION} tokens streamed"
    facts = {"tokens/s": round(MILLION / found["all"])}
    times = [found["late"]], [found["early"]]
    sizes = [found["late MB"]], [found["early MB"]]
    return [
        row(f"{what}: time of the last tenth", "the first tenth", ("<= 1.05x", 1 / 1.05), times, facts),
        row(f"{what}: peak memory", "at 10000 tokens", ("<= 1.05x", 1 / 1.05), sizes, {"unit": "MB"}),
    ]


def _status(name: str) -> float:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def rows(runs: int, quick: bool) -> list[Ratio]:
    """What the memory costs beside attention inside segments alone."""
    rules = ("linear",) if quick else ("linear", "delta")
    with one_thread():
        return [overhead(rule, SHORT, trains, runs) for rule in rules for trains in (False, True)]


def long_rows(runs: int, quick: bool) -> list[Ratio]:
    """Long texts: full attention's time and memory, and a million tokens in a stream; minutes."""
    with one_thread():
        return [beside_full_attention(1), memory_row(), *streaming()]


if __name__ == "__main__":
    with one_thread():
        print(json.dumps(measured_here(sys.argv[1])))
