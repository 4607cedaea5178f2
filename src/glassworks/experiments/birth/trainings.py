"""What each study of Birth trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from glassworks.models.spec import TransformerSpec
from glassworks.tasks import Bigram
from glassworks.training.spec import AdamW, FrozenUntil, Sgd, TrainingSpec

if TYPE_CHECKING:
    from glassworks.experiments.birth.spec import Birth

# Published names of the three memories, and the parameters that hold them.
MEMORIES = {
    "output": "model.layers.1.self_attn.o_proj.weight",
    "match": "model.layers.1.self_attn.k_proj.weight",
    "position": "model.layers.0.self_attn.k_proj.weight",
}
# birth.md 2.2: everything else of the simplified model stays at its random start.
FROZEN = (
    "model.embed_tokens.*",
    "lm_head.*",
    "model.layers.0.self_attn.v_proj.*",
    "model.layers.0.self_attn.o_proj.*",
    "model.layers.1.self_attn.v_proj.*",
)
FREEZE_SETS: dict[str, tuple[str, ...]] = {
    "none": (),
    "output": ("output",),
    "match": ("match",),
    "position": ("position",),
    "match+position": ("match", "position"),
    "output+position": ("output", "position"),
}
SETTINGS: dict[str, dict[str, object]] = {
    "frequent K=5": {"trigger_choice": "fixed"},
    "frequent K=1": {"trigger_choice": "fixed", "triggers": 1},
    "rare K=5": {"trigger_choice": "fixed", "first_trigger_rank": 20},
    "rare K=1": {"trigger_choice": "fixed", "first_trigger_rank": 20, "triggers": 1},
    "random K=5": {},
    "random K=1": {"triggers": 1},
}


def simplified_model(task: Bigram, width: int, *, feedforward: bool = False) -> TransformerSpec:
    """The two-layer attention-only model of birth.md 2.2; `feedforward` adds the linear W_F after layer 2."""
    return TransformerSpec(
        vocabulary=task.vocabulary, width=width, depth=2, heads=1, context=task.longest, query="identity",
        norm="none", feedforward=("none", "linear") if feedforward else ("none",), positions="random",
    )  # fmt: skip


def full_model(task: Bigram, width: int, depth: int) -> TransformerSpec:
    """The full transformer of birth.md 2.1, whose MLP reads the block's input as in the official code."""
    return TransformerSpec(
        vocabulary=task.vocabulary, width=width, depth=depth, heads=4, context=task.longest, norm="layer",
        feedforward=("relu",), feedforward_reads="block_input", positions="learned",
    )  # fmt: skip


def trainings(birth: Birth, study: str) -> Mapping[str, TrainingSpec]:
    """The trainings of a study by label, each seed apart; theory and width train nothing."""
    found: dict[str, TrainingSpec] = {}
    for seed in birth.seeds:
        match study:
            case "main":
                found[f"main/{seed}"] = _in_context(birth, seed)
            case "freezing":
                for name in FREEZE_SETS:
                    found[f"{name}/{seed}"] = _in_context(birth, seed, FREEZE_SETS[name])
            case "data":
                for name in SETTINGS:
                    found[f"{name}/{seed}"] = _all_tokens(birth, seed, _task(birth, **SETTINGS[name]))
            case "shift":
                for law in ("uniform", "bigram"):
                    found[f"{law}/{seed}"] = _all_tokens(birth, seed, _task(birth, outputs=law))
            case "depth":
                for depth in (1, 2):
                    found[f"{depth}/{seed}"] = _full(birth, seed, depth)
            case _:
                pass
    return found


def _task(birth: Birth, **choices: object) -> Bigram:
    return Bigram.parse({"kind": "bigram", "length": birth.length} | choices)


def _in_context(birth: Birth, seed: int, held: tuple[str, ...] = ()) -> TrainingSpec:
    task = _task(birth)
    return TrainingSpec(
        task=task, model=simplified_model(task, birth.width), optimiser=Sgd(rate=birth.rate), steps=birth.steps,
        batch=birth.batch, loss_on="in_context", frozen=FROZEN, probe="recall", probe_every=birth.probe_every, seed=seed, precision=birth.precision,
        frozen_until=tuple(FrozenUntil(pattern=MEMORIES[name], step=birth.release) for name in held),
    )  # fmt: skip


def _all_tokens(birth: Birth, seed: int, task: Bigram) -> TrainingSpec:
    return TrainingSpec(
        task=task, model=simplified_model(task, birth.width, feedforward=True), optimiser=Sgd(rate=birth.rate),
        steps=birth.data_steps, batch=birth.batch, frozen=FROZEN, probe="recall", probe_every=birth.probe_every, seed=seed, precision=birth.precision,
    )  # fmt: skip


def _full(birth: Birth, seed: int, depth: int) -> TrainingSpec:
    task = _task(birth)
    return TrainingSpec(
        task=task, model=full_model(task, birth.width, depth), optimiser=AdamW(rate=birth.full_rate),
        steps=birth.depth_steps, batch=min(birth.batch, 64), probe_every=birth.probe_every, seed=seed, precision=birth.precision,
    )  # fmt: skip
