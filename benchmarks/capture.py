"""run_with_cache of all residual sites against the bare forward pass, GPT-2-small shape, random weights."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.measure import Ratio, alternate
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch


def residual_sites(runs: int) -> Ratio:
    """4 sequences of 256 tokens; the ratio is bare / watched, 0.909 or more means at most 1.10 times the bare time."""
    model = GPT2LMHeadModel(GPT2Config()).eval()
    subject = Subject.of(model)
    batch = TokenBatch(torch.randint(0, 50_000, (4, 256), generator=torch.Generator().manual_seed(0)))
    sites = ["embed", *(f"layers.{i}.{part}" for i in range(12) for part in ("in", "mid", "out"))]
    kept: list[int] = []

    def watched() -> None:
        _, cache = subject.run_with_cache(batch, sites)
        kept[:] = [len(cache), cache.bytes]

    def bare() -> None:
        with torch.no_grad():
            model(batch.ids)

    ours, theirs = alternate(watched, bare, runs)
    pairs = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    ratio = pairs[len(pairs) // 2]
    facts = {"sites kept": kept[0], "bytes kept": kept[1]}
    return Ratio(
        "run_with_cache, all residual sites, GPT-2 small, 4 x 256",
        "bare forward pass",
        "<= 1.10x time",
        ours,
        theirs,
        ratio,
        ratio <= 1.10,
        facts,
    )
