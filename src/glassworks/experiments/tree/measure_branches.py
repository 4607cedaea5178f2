"""What each branch of the tree can do: label sentences, go on with a text, translate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from glassworks.core.text import say
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.curves import on_common_steps, stack_histories
from glassworks.experiments.tree.branches import BRANCHES, CONTINUING, ENCODER, QUESTION, SENTIMENT, TASKS, TRANSLATING
from glassworks.models.quiet import quiet_bars
from glassworks.tasks import Batch, Continuations, MaskedText, Pairs, Sentences
from glassworks.tasks.text import BYTES
from glassworks.tensors.seeds import Seed
from glassworks.training.building import model_class
from glassworks.training.loop import Trained
from glassworks.training.objectives import Objective, objective_of
from glassworks.training.store import History

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.tree.spec import FamilyTree

UNDERSTANDING = (SENTIMENT, QUESTION)
# Sequences that are read at a time.
SIDE_BY_SIDE = 64
# Held-out windows of which an encoder guesses every byte of the second half, one at a time.
GUESSED = 8
SCORES = ("loss", "bleu")


def measure(study: FamilyTree, bench: Bench) -> Sequence[Measurement]:
    """Accuracies, losses, translations, curves and sizes."""
    return [
        _training(study, bench),
        _understanding(study, bench),
        _continuing(study, bench),
        _guessing(study, bench),
        _translating(study, bench),
        _sizes(study, bench),
    ]


def _of(bench: Bench, task: str, branch: str, seed: int) -> Trained | None:
    return bench.trained.get(f"{task}/{branch}/{seed}")


def _load(trained: Trained) -> tuple[Any, Objective]:
    """The trained model, and how it reads a batch."""
    with quiet_bars():
        model = model_class(trained.spec).from_pretrained(trained.path)
    model.eval()
    return model, objective_of(trained.spec.model, trained.spec.task)


def _training(study: FamilyTree, bench: Bench) -> Measurement:
    histories: dict[tuple[Label, ...], History] = {
        (task, branch, seed): found.history
        for task in TASKS
        for branch in BRANCHES
        for seed in study.seeds
        if (found := _of(bench, task, branch, seed)) is not None
    }
    says = say("branches while they learn")
    return stack_histories("branches_training", says, on_common_steps(histories), ("task", "branch", "seed"), ("loss",))


def _understanding(study: FamilyTree, bench: Bench) -> Measurement:
    values = np.full((len(UNDERSTANDING), len(BRANCHES), len(study.seeds)), np.nan)
    for place in np.ndindex(values.shape):
        task, branch, seed = UNDERSTANDING[place[0]], BRANCHES[place[1]], study.seeds[place[2]]
        found = bench.trained[f"{task}/{branch}/{seed}"]
        assert isinstance(found.spec.task, Sentences), "labels are learned from sentences"
        everything = found.spec.task.replaced("split", "held_out").first(1 << 30)
        values[place] = scores(*_load(found), everything)["accuracy/all"]
    return Measurement(
        "branches_understanding", say("held-out sentences that are given the right label"), values, ("task", "branch", "seed"),
        {"task": UNDERSTANDING, "branch": BRANCHES, "seed": study.seeds}, "share",
        (say("learned from scratch from thousands of sentences, without any pretraining"),),
    )  # fmt: skip


@torch.no_grad()
def scores(model: Any, objective: Objective, batch: Batch) -> dict[str, float]:
    """Accuracy and loss (nats) over "all" of a batch of any size."""
    total, counted = {"accuracy/all": 0.0, "loss/all": 0.0}, 0
    for first in range(0, len(batch.inputs), SIDE_BY_SIDE):
        part = part_of(batch, slice(first, first + SIDE_BY_SIDE))
        found, count = objective.score(objective.read(model, part, slice(None)), part), int(part.scored["all"].sum())
        total = {name: value + found[name] * count for name, value in total.items()}
        counted += count
    return {name: value / counted for name, value in total.items()}


def part_of(batch: Batch, rows: slice) -> Batch:
    """Some sequences of a batch."""
    masks = {name: mask[rows] for name, mask in batch.scored.items()}
    real = None if batch.real is None else batch.real[rows]
    return Batch(batch.inputs[rows], batch.targets[rows], masks, real=real, given=batch.given)


def _continuing(study: FamilyTree, bench: Bench) -> Measurement:
    branches = tuple(branch for branch in BRANCHES if branch != ENCODER)
    values = np.full((len(branches), len(study.seeds)), np.nan)
    for row, branch in enumerate(branches):
        for column, seed in enumerate(study.seeds):
            found = bench.trained[f"{CONTINUING}/{branch}/{seed}"]
            assert isinstance(found.spec.task, Continuations), "what goes on has a beginning"
            task = found.spec.task.replaced("text.split", "held_out")
            batch = task.sample(8 * study.held_out, Seed(seed).child("held out"))
            values[row, column] = scores(*_load(found), batch)["loss/all"] / math.log(2)
    return Measurement(
        "branches_continuing", say("loss on the second half of held-out windows, the first half given"), values,
        ("branch", "seed"), {"branch": branches, "seed": study.seeds}, "bits per byte",
        (say("the decoder learns from every byte of a window, the others from the second half"),),
    )  # fmt: skip


def _guessing(study: FamilyTree, bench: Bench) -> Measurement:
    values = np.full(len(study.seeds), np.nan)
    for place, seed in enumerate(study.seeds):
        found = bench.trained[f"{CONTINUING}/{ENCODER}/{seed}"]
        assert isinstance(found.spec.task, MaskedText), "an encoder guesses hidden bytes"
        windows = (
            found.spec.task.text.replaced("split", "held_out").sample(GUESSED, Seed(seed).child("held out")).inputs
        )
        values[place] = guessed_bits(*_load(found), windows)
    return Measurement(
        "branches_guessing", say("loss of the encoder on single hidden bytes of the second half"), values, ("seed",),
        {"seed": study.seeds}, "bits per byte",
        (say("each byte is guessed from both sides: no text can be written so, and the number compares with no other here"),),
    )  # fmt: skip


@torch.no_grad()
def guessed_bits(model: Any, objective: Objective, windows: Tensor) -> float:
    """The pseudo-likelihood of the second half of each window: one byte hidden at a time, all others shown."""
    length, lost = windows.shape[1], 0.0
    places = torch.arange(length // 2, length)
    for window in windows:
        shown = window.repeat(len(places), 1)
        shown[torch.arange(len(places)), places] = BYTES
        logits = objective.read(model, Batch(shown, shown, {}), slice(None))
        lost += float(F.cross_entropy(logits[torch.arange(len(places)), places], window[places]))
    return lost / len(windows) / math.log(2)


def _translating(study: FamilyTree, bench: Bench) -> Measurement:
    branches = tuple(branch for branch in BRANCHES if branch != ENCODER)
    values = np.full((len(branches), len(study.seeds), len(SCORES)), np.nan)
    for row, branch in enumerate(branches):
        for column, seed in enumerate(study.seeds):
            found = bench.trained[f"{TRANSLATING}/{branch}/{seed}"]
            assert isinstance(found.spec.task, Pairs), "translations are learned from pairs"
            values[row, column] = _translated(found, found.spec.task.replaced("split", "held_out"), study.translated)
    return Measurement(
        "branches_translating", say("held-out translations: loss per target token, and BLEU of greedy translations"), values,
        ("branch", "seed", "score"), {"branch": branches, "seed": study.seeds, "score": SCORES}, "nats per token; BLEU",
        (say("captions of pictures, English to German, the {count} first ones that fit", count=study.translated),),
    )  # fmt: skip


def _translated(found: Trained, pairs: Pairs, count: int) -> tuple[float, float]:
    import sacrebleu

    model, objective = _load(found)
    batch, words = pairs.first(count), pairs.words()
    written = [words.text(row.tolist()) for row in greedy(model, objective, batch)]
    references = [target for _, target in pairs.texts(count)]
    return scores(model, objective, batch)["loss/all"], float(sacrebleu.corpus_bleu(written, [references]).score)


@torch.no_grad()
def greedy(model: Any, objective: Objective, batch: Batch) -> Tensor:
    """The likeliest token again and again, all places after the given ones: one row of tokens a sequence.

    Every kind of model goes the way it was trained, so that no cache can differ; the rows are long as the batch allows.
    """
    found: list[Tensor] = []
    for first in range(0, len(batch.inputs), SIDE_BY_SIDE):
        part = part_of(batch, slice(first, first + SIDE_BY_SIDE))
        inputs, real = part.inputs.clone(), torch.ones_like(part.inputs, dtype=torch.bool)
        if part.real is not None:
            real[:, : part.given] = part.real[:, : part.given]
        rows: list[Tensor] = []
        for length in range(part.given, inputs.shape[1] + 1):
            so_far = Batch(inputs[:, :length], inputs[:, :length], {}, real=real[:, :length], given=part.given)
            token = objective.read(model, so_far, slice(None))[:, -1].argmax(-1)
            rows.append(token)
            if length < inputs.shape[1]:
                inputs[:, length] = token
        found.append(torch.stack(rows, 1))
    return torch.cat(found)


def _sizes(study: FamilyTree, bench: Bench) -> Measurement:
    values = np.full((len(TASKS), len(BRANCHES), 2), np.nan)
    for place in np.ndindex(len(TASKS), len(BRANCHES)):
        found = [_of(bench, TASKS[place[0]], BRANCHES[place[1]], seed) for seed in study.seeds]
        known = [trained for trained in found if trained is not None]
        if known:
            model, _ = _load(known[0])
            numbers = sum(parameter.numel() for parameter in model.parameters())
            values[place] = numbers, sum(trained.seconds for trained in known) / len(known)
    return Measurement(
        "branches_sizes", say("trained numbers of each model, and seconds of its training on the clock"), values,
        ("task", "branch", "number"), {"task": TASKS, "branch": BRANCHES, "number": ("parameters", "seconds")},
        "numbers; seconds",
    )  # fmt: skip
