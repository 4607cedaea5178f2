"""Twelve blocks of equal size: LLaMA's, each with one choice undone, and two whole blocks of earlier years (lifecycle.md 3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glassworks.models.spec import TransformerSpec
from glassworks.tasks import TextWindows
from glassworks.training.schedules import ClipNorm, Constant, WarmupCosine
from glassworks.training.spec import AdamW, TrainingSpec

if TYPE_CHECKING:
    from glassworks.experiments.tree.spec import FamilyTree

BYTES = 256
DECAY, CLIP, BETAS = 0.1, 1.0, (0.9, 0.95)
# How much longer than in training texts are read to see whether positions hold.
BEYOND = 4
# Hidden numbers of a feed-forward come in steps of so many.
STEP = 8
LLAMA, GPT2, ORIGINAL = "llama", "gpt-2", "2017"
# The choices undone one by one.
NORMS = ("layer norm", "layer norm after", "rms after")
FEEDFORWARDS = ("gelu", "relu")
POSITIONS = ("learned", "sinusoidal", "alibi", "none")
BLOCKS = (LLAMA, *NORMS, *FEEDFORWARDS, *POSITIONS, GPT2, ORIGINAL)

_RMS: dict[str, Any] = {"norm": "rms", "norm_epsilon": 1e-6}
_LAYER: dict[str, Any] = {"norm": "layer", "norm_epsilon": 1e-5}
# The last layer ends with a norm of its own.
_AFTER: dict[str, Any] = {"norm_placement": "post", "final_norm": False}
_TWO: dict[str, Any] = {"feedforward": ("relu",)}


def changes_of(study: FamilyTree, label: str) -> dict[str, Any]:
    """What a label changes in LLaMA's block."""
    match label:
        case "layer norm":
            return _LAYER
        case "layer norm after":
            return _LAYER | _AFTER
        case "rms after":
            return _AFTER
        case "gelu" | "relu":
            return {"feedforward": (label,)}
        case "learned" | "alibi" | "none":
            return {"positions": label}
        case "sinusoidal":
            return _sinusoidal(study)
        case "gpt-2":
            return _LAYER | {"feedforward": ("gelu_tanh",), "positions": "learned", "bias": True}
        case "2017":
            return _LAYER | _AFTER | _TWO | _sinusoidal(study) | {"bias": True}
        case _:
            return {}


def _sinusoidal(study: FamilyTree) -> dict[str, Any]:
    """Embeddings are multiplied by the root of the width and start smaller by it; the table is computed, so it may be long."""
    width = study.width
    return {
        "positions": "sinusoidal", "context": BEYOND * study.length,
        "embedding_factor": width**0.5, "embedding_scale": width**-0.5,
    }  # fmt: skip


def block(study: FamilyTree, label: str) -> TransformerSpec:
    """The decoder of bytes that a label stands for; its feed-forward is as wide as equal size wants it."""
    fields: dict[str, Any] = {
        "vocabulary": BYTES, "width": study.width, "depth": study.depth, "heads": study.heads, "context": study.length,
        "feedforward": ("swiglu",), "positions": "rotary", "embedding_scale": 0.3,
    }  # fmt: skip
    fields |= _RMS | changes_of(study, label)
    ours = TransformerSpec(**fields)
    if label == LLAMA:
        # Its own rule: two thirds of four times the width, so that three maps are as large as two.
        return ours.replaced("feedforward_width", in_steps(8 * study.width / 3))
    wanted = parameters(block(study, LLAMA))
    one, two = (parameters(ours.replaced("feedforward_width", hidden)) for hidden in (1, 2))
    return ours.replaced("feedforward_width", in_steps(1 + (wanted - one) / (two - one)))


def in_steps(hidden: float) -> int:
    """A width of whole steps, so that no block's products are slower for an odd size."""
    return max(STEP, round(hidden / STEP) * STEP)


def parameters(model: TransformerSpec) -> int:
    """Trained numbers of such a decoder, which has no key-value sharing and no tied output."""
    width, hidden, constant = model.width, model.width_of_feedforward, int(model.bias)
    norm = width if model.norm == "rms" else 2 * width
    attention = 4 * (width * width + constant * width)
    inward = 2 if model.feedforward == ("swiglu",) else 1
    feedforward = inward * hidden * (width + constant) + width * (hidden + constant)
    table = model.context * width if model.positions == "learned" else 0
    last = norm if model.has_final_norm else 0
    return 2 * model.vocabulary * width + table + model.depth * (attention + feedforward + 2 * norm) + last


def trainings(study: FamilyTree) -> Mapping[str, TrainingSpec]:
    """Every block with every seed, at the rate of all, as "label/seed"."""
    return {f"{label}/{seed}": training(study, label, seed) for label in BLOCKS for seed in study.seeds}


def training(study: FamilyTree, label: str, seed: int) -> TrainingSpec:
    """LLaMA's recipe: AdamW, decay 0.1, gradients clipped at 1, warm-up, a cosine down to a tenth."""
    rate, steps = study.rate, study.steps
    return TrainingSpec(
        task=TextWindows.of(study.text_path(), length=study.length), model=block(study, label),
        optimiser=AdamW(rate=rate, betas=BETAS, weight_decay=DECAY),
        schedule=WarmupCosine(warmup=steps // 10, until=steps, final=rate / 10), clip=ClipNorm(limit=CLIP),
        steps=steps, batch=study.batch, probe_every=study.probe_every, precision="float32", seed=seed,
    )  # fmt: skip


def hasty(study: FamilyTree, label: str, seed: int) -> TrainingSpec:
    """The same block at a rate many times higher, at once and throughout, without clipping: what breaks, breaks here."""
    task = TextWindows.of(study.text_path(), length=study.length)
    return TrainingSpec(
        task=task, model=block(study, label), schedule=Constant(), steps=study.hasty_steps, batch=study.batch,
        optimiser=AdamW(rate=study.rate * study.hasty_factor, betas=BETAS, weight_decay=DECAY),
        probe_every=max(1, study.hasty_steps // 50), precision="float32", seed=seed,
    )  # fmt: skip
