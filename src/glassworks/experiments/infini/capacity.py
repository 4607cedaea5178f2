"""What the memory of Infini-attention keeps, in numbers without any training (infini.md 4.3).

All that is stored goes through the mixer itself; only what a query reads, sigma(q) M / (sigma(q) z), is written out here,
since a mixer would show it behind its gate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini.workbench import sigma
from glassworks.mixers import Heads, Infini
from glassworks.mixers.infini import InfiniMemory
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.experiments.infini.spec import InfiniAttention

RULES = ("linear", "delta")
TIMES = (1, 2, 3, 10, 100, 1000)
TOWARDS = ("new", "mean", "old")
FORMATS = ("bfloat16", "float16", "ours")
# Head widths for which the paper's sizes and the prediction of section 4.3 speak, and keys per draw.
KERNEL_WIDTHS, KERNEL_KEYS = (32, 64, 128), 4096
# Segment lengths of running sums, and after how many segments they are looked at: one by one, then more and more apart.
LENGTHS, MOST_SEGMENTS = (64, 512, 2048), 10_000
COUNTS = (*range(1, 1001), 1200, 1400, 1700, 2000, 2500, 3000, 4000, 5000, 6000, 8000, MOST_SEGMENTS)
# Pairs or segments that one call stores: what the delta rule needs for them is their number times the square of the width.
AT_ONCE = 32
# Tokens of running sums that are drawn at a time.
TOKENS = 1 << 16
_HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def measure(study: InfiniAttention) -> Sequence[Measurement]:
    """Pairs that survive, the same pair again and again, a changed value, long sums, and how untrained keys are told apart."""
    return [capacity(study), repeats(study), update(study), running_sums(study), kernel_ratio(study)]


def store(
    rule: str,
    k: Float[Tensor, "draw pair width"],
    v: Float[Tensor, "draw pair value_width"],
    memory: InfiniMemory | None = None,
    segment: int = 1,
) -> InfiniMemory:
    """The memory of one head after further segments of `segment` pairs each (full ones only)."""
    mixer = Infini.parse({"segment": segment, "write": rule}).build(Heads(1, 1, k.shape[2], 1.0))
    with torch.no_grad():
        for some in range(0, k.shape[1], AT_ONCE * segment):
            keys, values = (x[:, None, some : some + AT_ONCE * segment] for x in (k, v))
            memory = cast(InfiniMemory, mixer.mix(keys, keys, values, memory).memory)
    assert memory is not None, "at least one pair is stored"
    return memory


def reading(memory: InfiniMemory, q: Float[Tensor, "draw query width"]) -> Float[Tensor, "draw query value_width"]:
    """sigma(q) M / (sigma(q) z); the power of two by which both are divided drops out."""
    read = sigma(q)
    return (read @ memory.total[:, 0]) / (read @ memory.normaliser[:, 0, :, None])


def capacity(study: InfiniAttention) -> Measurement:
    """Random pairs, each in a segment of its own: for how many of them is the value read nearest to the right one?"""
    widths = tuple(max(1, study.width // part) for part in (8, 4, 2, 1))
    counts = tuple(2**power for power in range((2 * study.width).bit_length()))
    values = np.array(
        [[_survivors(rule, width, counts, study.draws) for width in widths] for rule in RULES]
    )  # rule width pairs draw
    return Measurement(
        "capacity",
        say("pairs that are read rightly, one pair stored per segment"),
        values,
        ("rule", "width", "pairs", "seed"),
        {"rule": RULES, "width": widths, "pairs": counts, "seed": tuple(range(study.draws))},
        "share of pairs",
        (
            say("keys of independent standard normal numbers, values of length 1; nothing is trained"),
            say("a pair is read rightly where no other stored value is nearer to what its key reads"),
        ),
    )


def _survivors(rule: str, width: int, counts: tuple[int, ...], draws: int) -> NDArray[np.float64]:
    """Shares of pairs read rightly: pairs, draw."""
    keys, values = _pairs("capacity", width, counts[-1], draws)
    memory, shares = None, list[NDArray[np.float64]]()
    for before, count in zip((0, *counts), counts, strict=False):
        memory = store(rule, keys[:, before:count], values[:, before:count], memory)
        found = reading(memory, keys[:, :count])
        # Values have one length, so the nearest has the largest product.
        nearest = (found @ values[:, :count].mT).argmax(2)
        shares.append((nearest == torch.arange(count)).double().mean(1).numpy())
    return np.stack(shares)


def repeats(study: InfiniAttention) -> Measurement:
    """The same pair in every segment: how much of its value is read."""
    keys, values = _pairs("repeats", study.width // study.heads, 1, study.draws)
    rows: list[list[float]] = []
    for rule in RULES:
        found = [
            reading(store(rule, keys.expand(-1, times, -1), values.expand(-1, times, -1)), keys) for times in TIMES
        ]
        rows.append([float((read * values).sum(2).mean()) for read in found])
    return Measurement(
        "repeats",
        say("the same pair stored again and again: the coefficient of its value in what is read"),
        np.array(rows),
        ("rule", "times"),
        {"rule": RULES, "times": TIMES},
        "coefficient",
    )


def update(study: InfiniAttention) -> Measurement:
    """One key whose value changes: where what is read points to."""
    keys, values = _pairs("update", study.width // study.heads, 2, study.draws)
    old, new = values[:, :1], values[:, 1:]
    towards = {"new": new, "mean": (old + new) / 2, "old": old}
    rows: list[list[float]] = []
    for rule in RULES:
        read = reading(store(rule, keys[:, :1].expand(-1, 2, -1), values), keys[:, :1])
        cosines = [torch.cosine_similarity(read, towards[name], dim=2) for name in TOWARDS]
        rows.append([float(cosine.mean()) for cosine in cosines])
    return Measurement(
        "update",
        say("one key stored with one value, then with another: what is read points to"),
        np.array(rows),
        ("rule", "towards"),
        {"rule": RULES, "towards": TOWARDS},
        "cosine",
        (say("means over {draws} draws of random keys and values", draws=study.draws),),
    )


def running_sums(study: InfiniAttention) -> Measurement:
    """Sums of sigma(k) over thousands of segments: in half precision, and as the mixer keeps them for such keys."""
    most, width = min(MOST_SEGMENTS, study.longest), study.width // study.heads
    measured = [count for count in COUNTS if count <= most]
    values = np.full((len(FORMATS), len(LENGTHS), len(COUNTS)), np.nan)
    for place, length in enumerate(LENGTHS):
        # Sixteen segments are the least that a text of the study has.
        if length <= study.longest // 16:
            values[:, place, : len(measured)] = _sum_errors(length, width, measured)
    return Measurement(
        "running_sum",
        say("how far a running sum of sigma(k) is from the exact one"),
        values,
        ("format", "length", "segments"),
        {"format": FORMATS, "length": LENGTHS, "segments": COUNTS},
        "relative error",
        (
            say("the entry that is furthest off, of {width}; keys are standard normal numbers in bfloat16", width=width),
            say("every segment's own sum is exact, and rounded only as it is added"),
            say("ours: the memory that the mixer keeps of the same keys; infinite: the sum has overflowed"),
        ),
    )  # fmt: skip


def _sum_errors(length: int, width: int, counts: Sequence[int]) -> NDArray[np.float64]:
    """Largest relative errors of the formats' running sums of one segment length: format, count."""
    generator = Seed(length).child("running sum").generator()
    exact = torch.zeros(width, dtype=torch.float64)
    halves = {name: torch.zeros(width, dtype=kind) for name, kind in _HALVES.items()}
    mixer = Infini(segment=length).build(Heads(1, 1, width, 1.0))
    memory: InfiniMemory | None = None
    errors: list[list[float]] = []
    for before, count in zip((0, *counts), counts, strict=False):
        step = max(1, TOKENS // length)
        for first in range(before, count, step):
            segments = min(step, count - first)
            k = torch.randn(1, 1, segments * length, width, generator=generator).bfloat16()
            # Each entry is exact to 1e-7, and each segment's sum to 1e-16 of that: far below what is looked for.
            added = sigma(k.float()).double().view(segments, length, width).sum(1)
            with torch.no_grad():
                memory = cast(InfiniMemory, mixer.mix(k, k, k, memory).memory)
            for one in added:
                exact = exact + one
                halves = {name: total + one.to(total.dtype) for name, total in halves.items()}
        assert memory is not None, "segments were read"
        ours = memory.normaliser[0, 0].double() * 2.0 ** int(memory.exponent[0, 0])
        sums = halves | {"ours": ours}
        errors.append([float(((sums[name].double() - exact) / exact).abs().max()) for name in FORMATS])
    return np.array(errors).T


def kernel_ratio(study: InfiniAttention) -> Measurement:
    """How much more a query reads of its own key than of any other, while keys are random."""
    rows: list[list[float]] = []
    for width in KERNEL_WIDTHS:
        keys, _ = _pairs("kernel", width, KERNEL_KEYS, study.draws)
        mapped = sigma(keys)
        match, average = (mapped * mapped).sum(2), (mapped @ mapped.mean(1)[..., None])[..., 0]
        rows.append((match / average).mean(1).tolist())
    return Measurement(
        "kernel_ratio",
        say("the kernel of the true match over the average kernel, for random keys"),
        np.array(rows),
        ("width", "seed"),
        {"width": KERNEL_WIDTHS, "seed": tuple(range(study.draws))},
        "ratio",
        (say("{count} keys of independent standard normal numbers per draw", count=f"{KERNEL_KEYS:,}"),),
    )


def _pairs(what: str, width: int, count: int, draws: int) -> tuple[Tensor, Tensor]:
    """Keys of standard normal numbers and values of length 1, in float64: draw pair width."""
    generators = [Seed(draw).child(what, width).generator() for draw in range(draws)]
    drawn = torch.stack([torch.randn(2, count, width, generator=g, dtype=torch.float64) for g in generators])
    return drawn[:, 0], torch.nn.functional.normalize(drawn[:, 1], dim=2)
