"""What is compared with other projects, each in its own environment (`benchmarks.environments`): same weights, same input."""

from collections.abc import Mapping
from typing import Any

from benchmarks.measure import Ratio
from benchmarks.sides import Duel, rows_of

GPT2 = {"depth": 12, "batch": 2, "length": 256}
SMALL = {"width": 128, "depth": 4, "length": 256}
MIXER = {"batch": 8, "heads": 4, "width": 64}
INFINI = {"heads": 4, "width": 256, "depth": 2, "segment": 512}

CAPTURES = tuple(
    Duel(
        what=f"run_with_cache, GPT-2 small, 2 x 256, {'residual stream and attention' if attention else 'residual stream'}",
        label=f"run_with_cache, {'with attention' if attention else 'residual stream'}",
        environment=environment,
        ours=("our_capture", "capture"),
        theirs=(module, "capture"),
        target=(">= 0.95x", 0.95),
        options=GPT2 | {"attention": attention},
        memory=True,
        prepares="prepare",
        keeps_memory=True,
    )
    for environment, module in (("transformer-lens", "lens"), ("nnsight", "sight"))
    for attention in (False, True)
)
SCORING = Duel(
    what="scoring 100 questions of 4 choices, from file to metrics",
    label="scoring of choices",
    environment="lm-eval",
    ours=("our_scoring", "choices"),
    theirs=("scoring", "choices"),
    target=(">= 1x", 1.0),
    options={"width": 256, "depth": 4, "documents": 100, "batch": 16},
    memory=True,
    prepares="prepare",
)
# So cold that both sides draw the likeliest answers, for their chance is not the same; the work is.
DRAWN = {"group": 8, "answer_length": 32, "temperature": 1e-4}


def _tuning(kind: str, title: str, **options: Any) -> Duel:
    return Duel(
        what=f"{title}, {options['steps']} updates of {options['batch']}, from folder to folder",
        label=kind.upper(),
        environment="trl",
        ours=("our_tuning", kind),
        theirs=("tuning", kind),
        # Ours runs on TRL's own trainers and also judges held-out examples and keeps a record.
        target=(">= 0.9x", 0.9),
        options=SMALL | options,
        # Both sides let matrix products be rounded to bfloat16, in an order of their own; in full float32 they are equal to 1e-4.
        tolerance=5e-3,
        memory=True,
        prepares="prepare",
    )


TUNING = (
    _tuning("sft", "fine-tuning on demonstrations (SFT)", examples=16, batch=16, steps=10, rate=3e-4),
    _tuning("dpo", "preferences (DPO)", examples=16, batch=16, steps=10, rate=3e-4),
    _tuning("grpo", "rewards (GRPO), coldest draws", examples=2, batch=16, steps=5, rate=1e-6, **DRAWN),
)


def _mixer(job: str, title: str, tokens: int, target: tuple[str, float], **more: Any) -> Duel:
    return Duel(
        what=f"{title}, forward and backward, 8 x {tokens}, 4 heads of 64",
        label={"linear": "linear attention", "gated": "gated linear attention", "mesa": "mesa layer"}[job],
        environment="flash-linear-attention",
        ours=("our_mixers", job),
        theirs=("recurrences", job),
        target=target,
        options=MIXER | {"tokens": tokens},
        memory=True,
        prepares="prepare",
        **more,
    )


MIXERS = (
    _mixer("linear", "linear attention", 1024, (">= 1x", 1.0)),
    _mixer("gated", "linear attention with one gate per head", 1024, (">= 1x", 1.0)),
    # Both sides are measured against the same layer in float64: the peer's is an iteration that stops after 30 rounds.
    _mixer("mesa", "mesa layer", 512, (">= 10x", 10.0), tolerance=2e-2, exact="exact_mesa"),
)


def _infini(rule: str, tokens: int, trains: bool) -> Duel:
    return Duel(
        what=f"infini-attention, {rule} rule, {'forward and backward' if trains else 'forward'}, {tokens} tokens",
        label=f"infini {rule}, {tokens // 1024}k {'both ways' if trains else 'forward'}",
        environment="infini",
        ours=("our_infini", "infini"),
        theirs=("segments", "infini"),
        target=(">= 1.25x", 1.25),
        options=INFINI | {"write": rule, "tokens": tokens, "trains": trains, "recompute": trains and tokens > 16384},
        memory=trains and rule == "linear",
        prepares="prepare",
    )


SEGMENTS = tuple(_infini(rule, 4096, trains) for rule in ("linear", "delta") for trains in (False, True))
LONG_SEGMENTS = tuple(_infini("linear", tokens, trains) for tokens in (16384, 65536) for trains in (False, True))

SUITES: Mapping[str, tuple[Duel, ...]] = {
    "peer-captures": CAPTURES,
    "peer-scoring": (SCORING,),
    "peer-tuning": TUNING,
    "peer-mixers": MIXERS,
    "peer-infini": SEGMENTS,
    "peer-infini-long": LONG_SEGMENTS,
}


def rows(suite: str, runs: int) -> list[Ratio]:
    """Every row of a suite."""
    return [row for duel in SUITES[suite] for row in rows_of(duel, runs)]
