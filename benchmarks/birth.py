"""Data generation, training step and time to the induction head, against the published recipe written plainly."""

import time

import numpy as np
import torch

from benchmarks import reference
from benchmarks.measure import Ratio, alternate, gemm_rate, row
from glassworks.core.events import EventLog
from glassworks.evidence.claims import Scale
from glassworks.experiments import Birth
from glassworks.experiments.birth.trainings import simplified_model
from glassworks.models.transformer import build_model
from glassworks.tasks import Bigram
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import TrainingOptions, _Run
from glassworks.training.store import StoreEntry

TASK = Bigram()
# One of our batches lasts milliseconds: as in training, many are drawn in a row.
BATCHES_A_TURN = 20
LAWS = TASK.counts.unigram_law, TASK.counts.bigram_law


def generation(runs: int) -> Ratio:
    """512 sequences of 256 tokens, five random triggers."""
    rng = np.random.default_rng(0)
    seeds = iter(range(10_000))
    ours, theirs = alternate(
        lambda: [TASK.sample(512, Seed(next(seeds))) for _ in range(BATCHES_A_TURN)],
        lambda: reference.sample_batch(rng, *LAWS, 5, 512, 256),
        runs,
    )
    times = [seconds / BATCHES_A_TURN for seconds in ours], theirs
    written = 512 * 257 * 8
    facts = {
        "batches a turn": BATCHES_A_TURN,
        "bytes of tokens": written,
        "tokens per second": round(512 * 256 / sorted(times[0])[len(times[0]) // 2]),
    }
    return row(
        "bigram batch generation, 512 x 256, K=5 random", "plain Python and numpy loop", ("100x", 100), times, facts
    )


def generation_rows(runs: int, quick: bool) -> list[Ratio]:
    """Data generation."""
    return [generation(runs)]


def step_rows(runs: int, quick: bool) -> list[Ratio]:
    """Training steps of two batch sizes."""
    return [training_step(runs, batch=batch) for batch in ((64,) if quick else (512, 64))]


def head_rows(runs: int, quick: bool) -> list[Ratio]:
    """The time to the induction head, once: it takes minutes."""
    return [time_to_head(1)]


def step_flops(batch: int, width: int, length: int = 256, vocabulary: int = 65) -> float:
    """Floating-point operations of one training step with dense attention: forward, and the needed half of backward."""
    tokens = batch * length
    # Per layer: three d x d maps, scores and mixing. Layer 1 needs no gradient of its input, layer 2 all but W_V's.
    maps = 3 * 2 * width * width
    attention = 2 * 2 * length * width
    forward = 2 * (maps + attention) + 2 * width * vocabulary
    backward = (2 * width * width * 3 + attention) + (2 * width * width * 5 + 2 * attention) + 2 * width * vocabulary
    return float(tokens * (forward + backward))


def training_step(runs: int, batch: int = 512, width: int = 128) -> Ratio:
    """One optimiser step of the simplified model on the same tokens."""
    drawn = TASK.sample(batch, Seed(0))
    theirs = reference.SimplifiedModel(65, width, 256)
    optimiser = reference.published_optimiser(theirs)
    laptop = Birth.at(Scale.LAPTOP).replaced("width", width).replaced("batch", batch)
    spec = next(iter(laptop.trainings("main").values()))
    ours = _bare_run(spec)
    times = alternate(
        lambda: ours.step(1, drawn),
        lambda: reference.training_step(theirs, optimiser, (drawn.inputs, drawn.targets, drawn.occurrence)),
        runs,
    )
    flops = step_flops(batch, width)
    seconds = sorted(times[0])[len(times[0]) // 2]
    facts = {
        "GFLOP per step": round(flops / 1e9, 1),
        "GFLOP/s reached": round(flops / seconds / 1e9),
        "share of the float32 GEMM rate": round(flops / seconds / 1e9 / gemm_rate(torch.float32), 2),
        "share of the bfloat16 GEMM rate": round(flops / seconds / 1e9 / gemm_rate(torch.bfloat16), 2),
        "bytes of attention scores": 2 * batch * 256 * 256 * 2,
        "precision": ours.precision,
    }
    return row(
        f"training step of the simplified model, {batch} x 256, d={width}", "eager float32", ("1.8x", 1.8), times, facts
    )


def _bare_run(spec) -> _Run:
    """Our loop's own step, without probes and store writes."""
    import tempfile
    from pathlib import Path

    folder = Path(tempfile.mkdtemp())
    spec = spec.replaced("probe_every", 10**6)
    return _Run(spec, TrainingOptions(store=folder), StoreEntry(folder, spec), EventLog())


def time_to_head(runs: int, level: float = 0.9, limit: float = 1800.0) -> Ratio:
    """CPU time from nothing to in-context accuracy above 90 % (mean of five looks).

    The published side gets our generator too: its own plain loop would only add to its time.
    """
    ours, theirs, steps = [], [], []
    for seed in range(runs):
        seconds, count = _ours_to(level, seed)
        ours.append(seconds)
        steps.append(count)
        seconds, count = _published_to(level, seed, limit)
        theirs.append(seconds)
        steps.append(count)
    facts = {
        "steps ours": steps[::2],
        "steps published": steps[1::2],
        "batch ours": 64,
        "batch published": 512,
        "data of both sides": "vectorised generator",
    }
    return row(
        "start to in-context accuracy > 90 %, laptop preset",
        "published recipe, eager float32",
        ("5x", 5),
        (ours, theirs),
        facts,
    )


class _Reached(Exception):
    pass


def _ours_to(level: float, seed: int) -> tuple[float, int]:
    import tempfile
    from pathlib import Path

    recent: list[float] = []
    spec = Birth.at(Scale.LAPTOP).replaced("seeds", [seed]).replaced("probe_every", 2).trainings("main")[f"main/{seed}"]
    spec = spec.replaced("probe", "none")
    log = EventLog()
    found: list[int] = []

    def listener(event) -> None:
        if event.kind == "step_done":
            recent.append(event.scores["accuracy/in_context"])
            if len(recent) >= 5 and sum(recent[-5:]) / 5 > level:
                found.append(event.step)
                raise _Reached

    log.listen(listener)
    folder = Path(tempfile.mkdtemp())
    started = time.process_time()
    run = _Run(spec, TrainingOptions(store=folder), StoreEntry(folder, spec), log)
    run.entry.open()
    try:
        run.go()
    except _Reached:
        return time.process_time() - started, found[0]
    raise RuntimeError(f"seed {seed} never reached {level}")


def _published_to(level: float, seed: int, limit: float) -> tuple[float, int]:
    torch.manual_seed(seed)
    data = Seed(seed).child("published")
    started = time.process_time()
    model = reference.SimplifiedModel(65, 128, 256)
    optimiser = reference.published_optimiser(model)
    recent: list[float] = []
    for step in range(10_000):
        batch = TASK.sample(512, data.child(step))
        recent.append(reference.training_step(model, optimiser, (batch.inputs, batch.targets, batch.occurrence)))
        if len(recent) >= 5 and sum(recent[-5:]) / 5 > level:
            return time.process_time() - started, step
        if time.process_time() - started > limit:
            # An honest lower bound: the published side was stopped before it got there.
            return time.process_time() - started, step
    raise RuntimeError("unreachable")


def simplified_reference_is_the_same_model() -> float:
    """Largest logit difference between both sides with equal weights: the comparison is of equals."""
    theirs = reference.SimplifiedModel(65, 128, 256)
    ours = build_model(simplified_model(TASK, 128), Seed(0))
    with torch.no_grad():
        theirs.embed.copy_(ours.model.embed_tokens.weight)
        theirs.position.copy_(ours.model.position_vectors(256))
        theirs.unembed.copy_(ours.lm_head.weight)
        for layer in (0, 1):
            for name in ("key", "value", "output"):
                theirs.get_parameter(f"{name}_{layer + 1}").copy_(ours.model.matrix(layer, name))
        tokens = TASK.sample(4, Seed(1)).inputs
        return float((theirs(tokens) - ours(input_ids=tokens, use_cache=False).logits).abs().max())
