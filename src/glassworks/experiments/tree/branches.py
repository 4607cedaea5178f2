"""The tree's branches at equal size: the same layers as encoder, decoder, prefix decoder and encoder-decoder (lifecycle.md 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from glassworks.evaluation.data import needed_file
from glassworks.experiments.tree.blocks import BETAS, BYTES, CLIP, DECAY, in_steps
from glassworks.experiments.tree.spec import CAPTIONS, QUESTIONS, SENTENCES
from glassworks.models import GlassworksConfig
from glassworks.models.spec import EncoderDecoderSpec, EncoderSpec, TokenModel, TransformerSpec
from glassworks.models.transformer import language_model_class
from glassworks.tasks import Continuations, MaskedText, Pairs, Sentences, TextWindows
from glassworks.tasks.base import TokenTask
from glassworks.training.schedules import ClipNorm, WarmupCosine
from glassworks.training.spec import AdamW, TrainingSpec

if TYPE_CHECKING:
    from glassworks.experiments.tree.spec import FamilyTree

ENCODER, DECODER, PREFIX, BOTH = "encoder", "decoder", "prefix decoder", "encoder-decoder"
BRANCHES = (ENCODER, DECODER, PREFIX, BOTH)
SENTIMENT, QUESTION, CONTINUING, TRANSLATING = "sentiment", "questions", "continuing", "translating"
TASKS = (SENTIMENT, QUESTION, CONTINUING, TRANSLATING)
# Word pieces of a sentence and of a question: what four in five of them need.
SENTENCE, QUESTION_LENGTH, KINDS_OF_QUESTIONS = 44, 24, 6


def trainings(study: FamilyTree) -> Mapping[str, TrainingSpec]:
    """Every branch on every task that it can learn, with every seed, as "task/branch/seed"."""
    return {
        f"{task}/{branch}/{seed}": training(study, task, branch, seed)
        for task in TASKS
        for branch in BRANCHES
        for seed in study.seeds
        # An encoder writes nothing: each of its vectors knows what comes.
        if (task, branch) != (TRANSLATING, ENCODER)
    }


def training(study: FamilyTree, task: str, branch: str, seed: int) -> TrainingSpec:
    """One training, with the recipe of the blocks."""
    rate = study.branch_rate
    world = world_of(study, task, branch)
    steps, batch = {
        SENTIMENT: (study.understanding_steps, study.understanding_batch),
        QUESTION: (study.understanding_steps, study.understanding_batch),
        CONTINUING: (study.continuing_steps, study.batch),
        TRANSLATING: (study.translating_steps, study.translating_batch),
    }[task]
    return TrainingSpec(
        task=world, model=model_of(study, branch, world),
        # Only a reader of the past alone learns from every byte, those given included.
        loss_on="text" if (task, branch) == (CONTINUING, DECODER) else "all",
        optimiser=AdamW(rate=rate, betas=BETAS, weight_decay=DECAY),
        schedule=WarmupCosine(warmup=steps // 10, until=steps, final=rate / 10), clip=ClipNorm(limit=CLIP),
        steps=steps, batch=batch, probe_every=study.probe_every, precision="float32", seed=seed,
    )  # fmt: skip


def world_of(study: FamilyTree, task: str, branch: str) -> Continuations | MaskedText | Pairs | Sentences:
    """What is learned: labels of sentences, the rest of a text (an encoder: its hidden bytes), or a translation."""
    match task:
        case "sentiment":
            files = tuple(needed_file(name) for name in SENTENCES)
            return Sentences.of(*files, pieces=study.pieces, length=SENTENCE)
        case "questions":
            files = tuple(needed_file(name) for name in QUESTIONS)
            return Sentences.of(*files, pieces=study.pieces, length=QUESTION_LENGTH, labels=KINDS_OF_QUESTIONS)
        case "translating":
            source, target, held_source, held_target = (needed_file(name) for name in CAPTIONS)
            return Pairs.of((source, target, held_source, held_target), pieces=study.pieces)
        case _:
            text = TextWindows.of(study.text_path(), length=study.length)
            return MaskedText(text=text) if branch == ENCODER else Continuations(text=text, given=study.length // 2)


def model_of(study: FamilyTree, branch: str, task: TokenTask) -> TokenModel:
    """A model of LLaMA's block for a task; its feed-forward is as wide as equal size with the decoder wants it."""
    ours = _model(study, branch, task, in_steps(8 * study.branch_width / 3))
    if branch in (DECODER, PREFIX):
        return ours
    wanted = count(model_of(study, DECODER, task))
    one, two = (count(_model(study, branch, task, hidden)) for hidden in (1, 2))
    return _model(study, branch, task, in_steps(1 + (wanted - one) / (two - one)))


def _model(study: FamilyTree, branch: str, task: TokenTask, hidden: int) -> TokenModel:
    sizes: dict[str, Any] = {
        # All who learn from a text have a place for the encoder's mask.
        "vocabulary": max(task.vocabulary, BYTES + 1), "width": study.branch_width, "heads": study.heads, "context": task.longest, "norm": "rms", "norm_epsilon": 1e-6, "feedforward": ("swiglu",),
        "feedforward_width": hidden, "positions": "rotary", "embedding_scale": 0.1, "tie_output": True,
    }  # fmt: skip
    match branch:
        case "encoder":
            return EncoderSpec(**sizes, depth=study.branch_depth, prediction_transform=False)
        case "encoder-decoder":
            return EncoderDecoderSpec(**sizes, depth=study.branch_depth // 2)
        case "prefix decoder":
            return TransformerSpec(**sizes, depth=study.branch_depth, reads="prefix")
        case _:
            return TransformerSpec(**sizes, depth=study.branch_depth)


def count(model: TokenModel) -> int:
    """Trained numbers of a model, counted on a device that holds none; tied ones once."""
    with torch.device("meta"):
        built = language_model_class(model)(GlassworksConfig.from_spec(model))
    built.tie_weights()
    return sum(parameter.numel() for parameter in {id(p): p for p in built.parameters()}.values())
