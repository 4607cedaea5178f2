"""run_with_cache of all residual sites against the bare forward pass, GPT-2-small shape, random weights."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.measure import Ratio, alternate, row
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch


def rows(runs: int, quick: bool) -> list[Ratio]:
    """Every row of this page."""
    return [residual_sites(runs if quick else max(runs, 15))]


def residual_sites(runs: int) -> Ratio:
    """4 sequences of 256 tokens; at most 1.10 times the bare time is asked for."""
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
    facts = {"sites kept": kept[0], "bytes kept": kept[1]}
    what = "run_with_cache, all residual sites, GPT-2 small, 4 x 256"
    return row(what, "bare forward pass", (">= 0.91x (at most 1.1 times the time)", 1 / 1.1), (ours, theirs), facts)
