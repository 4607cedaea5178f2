"""Absolute figures on a CUDA device: matrix products, attention, training with and without compile, decoding with CUDA graphs.

Every figure is also a share of what was measured on the same device in the same run: the rate of a large matrix product, or the
speed at which memory is read. `python -m benchmarks.gpu --device cpu` runs the same code at a toy size, which checks the code and
says nothing about speed.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure import Ratio
from glassworks.models import TransformerSpec, build_model
from glassworks.tensors.seeds import Seed

AGAINST = "measured on the same device"


@dataclass(frozen=True)
class Size:
    """What is run: GPT-2 small's shape on a GPU, a toy on a processor."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    length: int = 1024
    batch: int = 16
    vocabulary: int = 50304
    product: int = 8192
    read: int = 1 << 30
    """Numbers of the copy that tells how fast memory is."""
    new_tokens: int = 128


TOY = Size(width=64, depth=2, heads=2, length=32, batch=2, vocabulary=128, product=128, read=1 << 16, new_tokens=4)


def rows(runs: int, quick: bool) -> list[Ratio]:
    """Every row, or one that says that there is no device."""
    if not torch.cuda.is_available():
        why = "There is no CUDA device here; nothing was measured."
        return [Ratio("GPU figures", AGAINST, "reported", [], [], None, None, {}, reason=why)]
    return measured(torch.device("cuda"), Size(), runs)


def measured(device: torch.device, size: Size, runs: int) -> list[Ratio]:
    """All rows on a device; those that a device cannot run say why."""
    clock = Clock(device, runs)
    peak = 2 * size.product**3 / statistics.median(clock(_product(device, size.product)))
    bandwidth = 2 * size.read * 2 / statistics.median(clock(_copy(device, size.read)))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor, toy size"
    shared = {"device": name, "torch": torch.__version__, "peak, TFLOP/s": _round(peak / 1e12)}
    jobs: list[tuple[str, Callable[[], Ratio]]] = [
        *(
            (f"attention, {kind}", lambda kind=kind: _attention(kind, device, size, clock, peak))
            for kind in ("math", "efficient", "flash", "ours")
        ),
        *(
            (f"training step, {way}", lambda way=way: _training(way, device, size, clock, peak))
            for way in ("eager", "compile")
        ),
        *(
            (f"decoding, {way}", lambda way=way: _decoding(way, device, size, clock, bandwidth))
            for way in ("eager", "CUDA graph")
        ),
    ]
    found: list[Ratio] = []
    for what, job in jobs:
        try:
            one = job()
        except (RuntimeError, ImportError) as problem:
            one = Ratio(what, AGAINST, "reported", [], [], None, None, {}, reason=str(problem).splitlines()[0][:200])
        one.facts |= shared | {"memory, GB/s": _round(bandwidth / 1e9)}
        found.append(one)
    return found


class Clock:
    """Seconds of each run: by the device's own events on CUDA, by the processor's time elsewhere."""

    def __init__(self, device: torch.device, runs: int) -> None:
        self.device, self.runs = device, runs

    def __call__(self, work: Callable[[], object], warm: int = 3) -> list[float]:
        """After `warm` runs that are not counted."""
        for _ in range(warm):
            work()
        return [self._once(work) for _ in range(max(self.runs, 3))]

    def _once(self, work: Callable[[], object]) -> float:
        if self.device.type != "cuda":
            begun = time.process_time()
            work()
            return max(time.process_time() - begun, 1e-9)
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self.device)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize(self.device)
        return begin.elapsed_time(end) / 1000


def _product(device: torch.device, size: int) -> Callable[[], object]:
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return lambda: a @ b


def _copy(device: torch.device, numbers: int) -> Callable[[], object]:
    """Reads and writes each number of two bytes once."""
    source = torch.ones(numbers, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _attention(kind: str, device: torch.device, size: Size, clock: Clock, peak: float) -> Ratio:
    """Causal attention forward and backward in bfloat16; operations of the lower triangle are counted once."""
    shape = size.batch, size.heads, size.length, size.width // size.heads
    q, k, v, above = (torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    backend = {
        "math": SDPBackend.MATH, "efficient": SDPBackend.EFFICIENT_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION,
    }.get(kind)  # fmt: skip
    mixer = _own_attention(size).to(device)

    def work() -> object:
        if backend is None:
            out = mixer(q, k, v, remember=False).out
        else:
            with sdpa_kernel(backend):
                out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return torch.autograd.grad(out, inputs, above)

    # Two products forward, five backward, half of each masked away.
    operations = 7 * 2 * math.prod(shape) * size.length / 2
    what = f"attention, {kind}, {size.batch} x {size.length}, {size.heads} heads of {shape[-1]}, bfloat16"
    return _absolute(what, clock(work), operations, peak, "TFLOP/s", 1e12)


def _own_attention(size: Size) -> Any:
    from glassworks.mixers import Heads, Softmax

    width = size.width // size.heads
    return Softmax().build(Heads(size.heads, size.heads, width, width**-0.5))


def _training(way: str, device: torch.device, size: Size, clock: Clock, peak: float) -> Ratio:
    """One update of a decoder: bfloat16 products, float32 weights, fused AdamW."""
    model = _model(size).to(device)
    forward: Any = torch.compile(model) if way == "compile" else model
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")
    ids = torch.randint(0, size.vocabulary, (size.batch, size.length), device=device)

    def work() -> object:
        with torch.autocast(device.type, torch.bfloat16):
            logits = forward(input_ids=ids, use_cache=False).logits
        loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        return optimiser.step()

    numbers = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    tokens = size.batch * size.length
    # Three passes of two operations a weight; causal attention: 6 for each pair that is seen, of which half are.
    operations = 6.0 * numbers * tokens + 6.0 * size.depth * tokens * size.length * size.width
    what = f"training step, {way}, {size.depth} layers of {size.width}, {size.batch} x {size.length}, bfloat16 products"
    found = _absolute(what, clock(work), operations, peak, "TFLOP/s", 1e12)
    found.facts["tokens/s"] = round(tokens / statistics.median(found.ours))
    return found


def _decoding(way: str, device: torch.device, size: Size, clock: Clock, bandwidth: float) -> Ratio:
    """Tokens of one text from the library's generate with a cache of fixed size; on CUDA its compiled step is a CUDA graph."""
    from transformers import GPT2Config, GPT2LMHeadModel

    if way != "eager" and device.type != "cuda":
        raise RuntimeError("CUDA graphs need a CUDA device")
    config = GPT2Config(
        vocab_size=size.vocabulary, n_embd=size.width, n_layer=size.depth, n_head=size.heads, n_positions=size.length,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model: Any = GPT2LMHeadModel(config).eval().to(device, torch.bfloat16)
    ids = torch.randint(0, size.vocabulary, (1, 8), device=device)
    own = {} if way == "eager" else {"cache_implementation": "static"}

    def work() -> object:
        with torch.no_grad():
            return model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=size.new_tokens,
                min_new_tokens=size.new_tokens, do_sample=False, pad_token_id=0, **own,
            )  # fmt: skip

    seconds = clock(work)
    # Every token reads every weight once; the positions' table is looked up.
    read = size.new_tokens * sum(p.numel() * p.element_size() for p in model.parameters())
    what = f"decoding, {way}, {size.depth} layers of {size.width}, {size.new_tokens} tokens, bfloat16"
    found = _absolute(what, seconds, read, bandwidth, "GB/s of weights", 1e9)
    found.facts["tokens/s"] = round(size.new_tokens / statistics.median(seconds), 1)
    return found


def _model(size: Size) -> Any:
    spec = TransformerSpec(
        vocabulary=size.vocabulary, width=size.width, depth=size.depth, heads=size.heads, feedforward=("gelu",),
        positions="rotary", context=size.length, tie_output=True,
    )  # fmt: skip
    return build_model(spec, Seed(0))


def _absolute(what: str, seconds: list[float], amount: float, limit: float, unit: str, scale: float) -> Ratio:
    """A row whose other side is the time at the measured limit; the ratio is the share of it that is reached."""
    rate = amount / statistics.median(seconds)
    facts = {unit: _round(rate / scale), "share of the measured peak": f"{rate / limit:.0%}"}
    return Ratio(what, AGAINST, "reported", seconds, [amount / limit], rate / limit, True, facts)


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def main() -> None:
    """Prints the rows as JSON; `--device cpu` is a check of the code at a toy size."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=main.__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--runs", type=int, default=7)
    given = parser.parse_args()
    found = measured(torch.device("cpu"), TOY, given.runs) if given.device == "cpu" else rows(given.runs, quick=False)
    for one in found:
        print(json.dumps({"what": one.what, "share": one.ratio, "facts": one.facts, "reason": one.reason}))


if __name__ == "__main__":
    main()
