"""Infini-attention beside the published re-implementation, full attention and attention inside segments alone.

One thread, one sequence of bytes, width 256, 4 heads, 2 layers, segments of 512. Times are of the processor (CPU seconds):
other work on the machine does not count. The peer is infini-transformer-pytorch 0.2.1, whose forward pass is right
(infini.md 6), at equal multiply-adds (its feed-forward is gated and 682 wide, ours 1024); where it is not installed
(`pip install infini-transformer-pytorch==0.2.1`), its rows say so. Memory is what a fresh process takes at its peak.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Ratio, alternate, row
from benchmarks.mesa import one_thread
from glassworks.mixers import Infini, Local, MixerSpec, Softmax
from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.models.pieces import Reading, pieces_loss, read_in_pieces
from glassworks.tensors.seeds import Seed

SEGMENT, WIDTH, HEADS, DEPTH = 512, 256, 4, 2
LENGTHS = (4096, 16384, 65536)
LONGEST = LENGTHS[-1]
# Segments that pass through all layers together: few enough for the cache, many enough for the products.
PIECE, SMALL_PIECE = 4096, 1024
MILLION = 1 << 20
PEER = "infini-transformer-pytorch 0.2.1"
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


def forward_of(mixer: MixerSpec, bfloat16: bool = False, piece: int | None = PIECE) -> Work:
    """The mean loss of a text, piece by piece through all layers, or at once."""
    model = model_of(mixer)

    def work(ids: Tensor) -> float:
        targets, total = ids.roll(-1, 1), 0.0
        with torch.no_grad(), _products(bfloat16):
            if piece is None:
                return float(F.cross_entropy(model(ids, use_cache=False).logits[0].float(), targets[0]))
            for read in read_in_pieces(model, ids, piece):
                total += float(_loss(read.logits, targets[:, read.positions]))
        return total / ids.shape[1]

    return work


def training_of(mixer: MixerSpec, bfloat16: bool = False, recompute: bool = False) -> Work:
    """Forward and backward through all segments; nothing is detached."""
    model = model_of(mixer)

    def work(ids: Tensor) -> float:
        targets = ids.roll(-1, 1)
        piece = SMALL_PIECE if recompute else PIECE
        with _products(bfloat16):
            total = pieces_loss(model, ids, Reading(piece, recompute), lambda x, at: _loss(x, targets[:, at]))
        model.zero_grad()
        return float(total) / ids.shape[1]

    return work


def peer_of(rule: str, trains: bool) -> Work | None:
    """The same of the re-implementation; None where it is not installed."""
    try:
        from infini_transformer_pytorch import InfiniTransformer
    except ImportError:
        return None
    torch.manual_seed(0)
    model: nn.Module = InfiniTransformer(
        num_tokens=256,
        dim=WIDTH,
        depth=DEPTH,
        dim_head=WIDTH // HEADS,
        heads=HEADS,
        use_mem_delta_rule=rule == "delta",
    )

    def work(ids: Tensor) -> float:
        targets, memories, total = ids.roll(-1, 1), None, torch.zeros(())
        with nullcontext() if trains else torch.no_grad():
            for segment, wanted in zip(ids.split(SEGMENT, 1), targets.split(SEGMENT, 1), strict=True):
                logits, _, memories = model(segment, past_memories=memories, return_new_memories=True)
                total = total + _loss(logits, wanted)
        if trains:
            total.backward()
            model.zero_grad()
        return float(total.detach()) / ids.shape[1]

    return work


def _products(bfloat16: bool) -> Any:
    return torch.autocast("cpu", torch.bfloat16) if bfloat16 else nullcontext()


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits[0].float(), targets[0], reduction="sum")


def text(tokens: int) -> Tensor:
    """Random bytes."""
    return torch.randint(0, 256, (1, tokens), generator=torch.Generator().manual_seed(0))


def beside_peer(rule: str, tokens: int, trains: bool, bfloat16: bool, runs: int) -> Ratio:
    """Tokens per second of ours beside the peer's."""
    mixer = Infini(segment=SEGMENT, write="delta" if rule == "delta" else "linear")
    recompute = trains and tokens == LONGEST
    mine = training_of(mixer, bfloat16, recompute) if trains else forward_of(mixer, bfloat16)
    what = f"infini {rule}, {'forward and backward' if trains else 'forward'}, {tokens} tokens"
    what += ", bfloat16 products" if bfloat16 else ""
    target = (">= 2x", 2.0) if bfloat16 else (">= 1.25x", 1.25)
    theirs, ids = peer_of(rule, trains), text(tokens)
    if theirs is None:
        seconds = alternate(lambda: mine(ids), lambda: None, runs, clock=time.process_time)[0]
        facts = {"peer": "not installed", "tokens/s": _rate(tokens, seconds)}
        return Ratio(what, PEER, target[0], seconds, [], 0.0, False, facts)
    times = alternate(lambda: mine(ids), lambda: theirs(ids), runs, clock=time.process_time)
    facts = {"tokens/s": _rate(tokens, times[0]), "peer's tokens/s": _rate(tokens, times[1])}
    if recompute:
        facts["activations"] = "ours computed again, the peer's kept"
    return row(what, PEER, target, times, facts)


def _rate(tokens: int, seconds: list[float]) -> int:
    return round(tokens / statistics.median(seconds))


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


def memory_row(what: str, sides: tuple[str, str], target: tuple[str, float], names: str, whole: bool) -> Ratio:
    """Megabytes of two sides at their peak: of the whole process, or of what the work adds to it."""
    found = [in_process(side) for side in sides]
    if any("missing" in one for one in found):
        return Ratio(what, names, target[0], [found[0]["whole"]], [], 0.0, False, {"peer": "not installed"})
    name, other = ("whole", "added") if whole else ("added", "whole")
    facts = {"unit": "MB", "ours": round(found[0][name]), "theirs": round(found[1][name])}
    facts |= {f"{'whole process' if other == 'whole' else 'added'}": [round(one[other]) for one in found]}
    return row(what, names, target, ([found[0][name]], [found[1][name]]), facts)


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
    work = {
        "training": lambda: training_of(mixer, recompute=True),
        "peer training": lambda: peer_of("linear", trains=True),
        "forward": lambda: forward_of(mixer, piece=SMALL_PIECE),
        "full forward": lambda: forward_of(Softmax(), piece=None),
    }[side]()
    if work is None:
        return {"missing": 1}
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


def rows(runs: int) -> list[Ratio]:
    """Every row of this page."""
    found: list[Ratio] = []
    with one_thread():
        for tokens in LENGTHS:
            few = min(runs, {4096: 7, 16384: 3}.get(tokens, 1))
            for bfloat16 in (False, True):
                for trains in (False, True):
                    found.append(beside_peer("linear", tokens, trains, bfloat16, few))
        found += [beside_peer("delta", LENGTHS[0], trains, False, runs) for trains in (False, True)]
        found += [overhead(rule, LENGTHS[0], trains, runs) for rule in ("linear", "delta") for trains in (False, True)]
        found.append(beside_full_attention(1))
    training = f"peak memory of training, infini linear, {LONGEST} tokens"
    forward = f"peak memory of the forward pass, infini linear, {LONGEST} tokens"
    found.append(memory_row(training, ("training", "peer training"), ("<= 1/6", 6.0), PEER, whole=True))
    full = ("<= 1/10", 10.0)
    found.append(memory_row(forward, ("forward", "full forward"), full, "full causal attention", whole=False))
    return found + streaming()


if __name__ == "__main__":
    with one_thread():
        print(json.dumps(measured_here(sys.argv[1])))
