"""Generation token by token under parallel plans: the exact cache, the published averaged one, and none (painters.md 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.painters.measure import start_near
from glassworks.experiments.painters.sweeps import loaded, windows_of
from glassworks.experiments.painters.tables import MAIN_LOOPS
from glassworks.surgery.caches import CacheMode
from glassworks.surgery.families import LoopedParallel, ParallelMiddle
from glassworks.surgery.operate import operated
from glassworks.surgery.plans import Plan

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.painters.spec import Painters

MIDDLES = (3, 5, 7)
MODES = ("uncached", "exact", "mean")


def cache_study(painters: Painters, bench: Bench) -> list[Measurement]:
    """Nats per decoded token in each mode, in float32, and the checks that exact means exact."""
    subject = loaded(painters.decoder, bench)
    # The first token fed alone is not scored, so one more than is decoded.
    prompt, length = painters.cache_prompt, painters.cache_prompt + painters.cache_tokens + 1
    ids = torch.tensor([row[:length] for row in windows_of(subject, painters, painters.cache_sequences, length)])
    depth = subject.anatomy.depth
    starts = tuple(dict.fromkeys(start_near(depth, middle) for middle in MIDDLES))
    families = {"parallel": ParallelMiddle(starts=starts), "looped": LoopedParallel(starts=starts, loops=(MAIN_LOOPS,))}
    middles = tuple(depth - 2 * start - 1 for start in starts)
    nats = np.zeros((len(families), len(middles), len(MODES), len(ids)))
    worst = 0.0
    for row, family in enumerate(families.values()):
        for column, variant in enumerate(family.variants(depth)):
            found = {mode: _decoded(subject, ids, prompt, variant.plan, mode) for mode in MODES}
            nats[row, column] = [-found[mode].mean(axis=1) for mode in MODES]
            worst = max(worst, float(np.abs(found["exact"] - found["uncached"]).max()))
    coords = {"strategy": tuple(families), "affected": middles, "mode": MODES, "part": tuple(range(len(ids)))}
    whole = -_decoded(subject, ids, prompt, Plan.identity(depth), "uncached").mean(axis=1)
    caveat = say(
        "Given tokens are decoded, {count} after a prompt of {prompt}, in float32.",
        count=painters.cache_tokens,
        prompt=prompt,
    )
    return [
        Measurement(
            "cache", say("nats per decoded token"), nats, tuple(coords), coords, "nats per token", (caveat,),
            {"mode": "no cache; a slot for each execution; one average for a parallel set", "part": "sequences"},
        ),
        Measurement(
            "cache_full", say("nats per decoded token of the whole model"), whole, ("part",),
            {"part": coords["part"]}, "nats per token",
        ),
        _fidelity(subject, ids, worst),
    ]  # fmt: skip


def _fidelity(subject: Subject, ids: Int[Tensor, "sequence token"], worst: float) -> Measurement:
    """That plans change nothing they should not: checked on the model itself."""
    batch = TokenBatch(ids)
    with torch.no_grad():
        plain = subject.forward(batch)
        with operated(subject, Plan.identity(subject.anatomy.depth)):
            identity = subject.forward(batch)
        after = subject.forward(batch)
    values = [float((identity - plain).abs().max()), float((after - plain).abs().max()), worst]
    return Measurement(
        "fidelity", say("plans against the plain model, cached against uncached decoding"), np.array(values), ("check",),
        {"check": ("identity plan", "after plans", "decoding")}, "logits; nats",
    )  # fmt: skip


def _decoded(
    subject: Subject, ids: Int[Tensor, "sequence token"], prompt: int, plan: Plan, mode: str
) -> Float64[np.ndarray, "sequence decoded"]:
    """The log-probability of every token behind the first decoded one, read one token at a time where there is a cache."""
    ids = ids.to(subject.device)
    cache: CacheMode = "mean" if mode == "mean" else "exact"
    with torch.no_grad(), operated(subject, plan, cache=cache):
        if mode == "uncached":
            logits = subject.forward(TokenBatch(ids))[:, prompt:-1]
        else:
            logits = _one_by_one(subject, ids, prompt)
    known = logits.float().log_softmax(-1)
    return known.gather(-1, ids[:, prompt + 1 :, None])[..., 0].double().cpu().numpy()


def _one_by_one(
    subject: Subject, ids: Int[Tensor, "sequence token"], prompt: int
) -> Float[Tensor, "sequence decoded vocabulary"]:
    # The library's models are called with keywords that nn.Module does not declare.
    model: Any = subject.model
    state = model(input_ids=ids[:, :prompt], use_cache=True).past_key_values
    read: list[Tensor] = []
    for place in range(prompt, ids.shape[1] - 1):
        output = model(input_ids=ids[:, place : place + 1], past_key_values=state, use_cache=True)
        state = output.past_key_values
        read.append(output.logits[:, 0])
    return torch.stack(read, 1)
