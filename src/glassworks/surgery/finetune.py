"""Classification under a plan: a linear classifier on the frozen encoder, or the whole encoder fine-tuned (painters.md 2, A.9).

The paper puts the plan in place before it fine-tunes BERT on GLUE, and in its frozen variant trains the classifier alone.
Here the sentence vector is the mean of the last stream over a text's tokens ([CLS] and [SEP] among them) for both, for
any model; BERT's own head takes its pooler's vector of the first token, which `pooling="first"` comes near to.
"""

from __future__ import annotations

import copy
import hashlib
import math
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn
from torch.nn import functional as F

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.calls import Hooks, stream_of
from glassworks.core.events import EventLog, Progressed, StepDone, TrainingDone, TrainingStarted
from glassworks.core.files import read_json, write_json
from glassworks.evaluation import Item, batches
from glassworks.evaluation.glue import Example, Graded, LabelledTexts, pair_items
from glassworks.evidence.statistics import Interval, interval_over_seeds
from glassworks.surgery.operate import operated
from glassworks.surgery.plans import Plan
from glassworks.surgery.scoring import Running, vectors_of
from glassworks.surgery.slots import choose_stack
from glassworks.surgery.specs import FinetuneSpec, FrozenSpec
from glassworks.surgery.steps import arithmetic, drawn, rate_at, update
from glassworks.surgery.sweep import fingerprint
from glassworks.tensors.seeds import Seed

TOKENS_PER_BATCH = 4096


@dataclass(frozen=True)
class TuneOptions:
    """How the work is done; none of it changes a number. With a folder, finished seeds are kept there and not done again."""

    folder: Path | None = None
    events: EventLog = field(default_factory=EventLog)
    stack: str | None = None


@dataclass(frozen=True, eq=False)
class Finetuned:
    """A plan's grades on the dev part, one for each seed."""

    plan: Plan
    spec: FinetuneSpec
    graded: Mapping[int, Graded]

    @property
    def score(self) -> Interval:
        """Mean of the data set's metric with its 95 % interval over seeds."""
        return interval_over_seeds(np.array([one.score.mean for one in self.graded.values()]))


def frozen_classifier(
    subject: Subject, plans: Sequence[Plan], data: LabelledTexts, spec: FrozenSpec, options: TuneOptions | None = None
) -> dict[Plan, Graded]:
    """The grade of a linear classifier for each plan, on vectors of the untrained encoder under that plan.

    What plans have in common is run once. Vectors are scaled to unit variance on the training examples; the penalty is
    chosen on a fifth of them, never on the dev part.
    """
    chance = Seed(spec.seed).child("frozen")
    different = list(dict.fromkeys(plans))
    examples = (*(train := _sampled(data.train, spec.examples, chance)), *data.dev)
    items = pair_items(subject, examples, spec.max_length)
    vectors = _vectors(subject, different, items, options or TuneOptions())
    labels = np.array([example.label for example in examples])
    fifth = chance.child("fifth").numpy().permutation(len(train)) < len(train) // 5
    found: dict[Plan, Graded] = {}
    for plan, rows in zip(different, vectors, strict=True):
        predicted = _classified(rows, labels[: len(train)], fifth, (len(data.labels), spec.penalties))
        found[plan] = Graded(data.metric, predicted, labels[len(train) :])
    return found


def finetune(
    subject: Subject, plan: Plan, data: LabelledTexts, spec: FinetuneSpec, options: TuneOptions | None = None
) -> Finetuned:
    """Trains a copy of the subject with a new linear head under the plan, once for each seed, and grades it on the dev part.

    The subject itself is untouched. Raises Diverged at NaN.
    """
    options = options or TuneOptions()
    stack = choose_stack(subject.anatomy, options.stack)
    plan.check(len(subject.anatomy.stacks[stack]), stack if len(subject.anatomy.stacks) > 1 else "")
    graded: dict[int, Graded] = {}
    for seed in spec.seeds:
        one = _Tuning(subject, plan, data, spec, Seed(seed), stack)
        kept = None if options.folder is None else options.folder / f"{one.name}.json"
        if kept is None or not kept.is_file():
            predicted = one.run(options.events)
            if kept is not None:
                write_json(kept, {"plan": str(plan), "data": data.data, "seed": seed, "predicted": predicted.tolist()})
        else:
            predicted = np.asarray(read_json(kept)["predicted"], dtype=np.int64)
        graded[seed] = Graded(data.metric, predicted, np.array([example.label for example in data.dev]))
    return Finetuned(plan, spec, graded)


@dataclass(frozen=True, eq=False)
class _Tuning:
    """One fine-tuning with one seed."""

    subject: Subject
    plan: Plan
    data: LabelledTexts
    spec: FinetuneSpec
    seed: Seed
    stack: str

    @property
    def name(self) -> str:
        """Sixteen hexadecimal digits of everything that fixes the numbers, then the seed."""
        spec = self.spec.replaced("seeds", [self.seed.value]).digest()
        parts = (spec, str(self.plan), self.stack, self.data.data, fingerprint(self.subject))
        return f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:16]}-{self.seed.value}"

    def run(self, events: EventLog) -> Int[np.ndarray, " item"]:
        """Trains and predicts the labels of the dev part."""
        spec, started = self.spec, time.perf_counter()
        subject = replace(self.subject, model=copy.deepcopy(self.subject.model).requires_grad_(True))
        head = self._head().to(subject.device)
        optimiser = torch.optim.AdamW([*subject.model.parameters(), *head.parameters()], weight_decay=0.0)
        examples = _sampled(self.data.train, spec.examples, self.seed)
        items = pair_items(subject, examples, spec.max_length)
        learned = [(item, example.label) for item, example in zip(items, examples, strict=True)]
        steps = max(1, math.ceil(len(learned) * spec.epochs / spec.batch))
        label, digest = f"{self.data.name}, {self.plan}", self.name
        events.emit(TrainingStarted(label=label, digest=digest, seed=self.seed.value, first_step=0, steps=steps))
        with operated(subject, self.plan, stack=self.stack):
            subject.model.train()
            for step in range(steps):
                begun = time.perf_counter()
                batch = drawn(learned, self.seed.child("order"), step * spec.batch, spec.batch)
                with self._dropout(subject.device, step):
                    loss = self._loss(subject, head, batch)
                    value = update(optimiser, loss, rate_at(step, steps, spec.learning_rate), step)
                seconds = time.perf_counter() - begun
                events.emit(StepDone(digest=digest, step=step, loss=value, seconds=seconds))
            subject.model.eval()
            predicted = self._predicted(subject, head)
        events.emit(TrainingDone(label=label, digest=digest, seconds=time.perf_counter() - started))
        return predicted

    def _head(self) -> nn.Linear:
        """A fresh head, drawn as BERT draws its own."""
        # Made without numbers, for drawing them would move the global generator.
        head = nn.Linear(self.subject.anatomy.width, len(self.data.labels), device="meta").to_empty(device="cpu")
        nn.init.normal_(head.weight, std=0.02, generator=self.seed.child("head").generator())
        nn.init.zeros_(head.bias)
        return head

    @contextmanager
    def _dropout(self, device: torch.device, step: int) -> Generator[None]:
        """Dropout knows the global generator only: it is set for one step and then put back."""
        devices = [device.index or 0] if device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed.child("dropout", step).value)
            yield

    def _loss(self, subject: Subject, head: nn.Linear, learned: Sequence[tuple[Item, int]]) -> Tensor:
        [batch] = batches([item for item, _ in learned], sys.maxsize, causal=False)
        labels = torch.tensor([learned[row][1] for row in batch.items], device=subject.device)
        return F.cross_entropy(self._answers(subject, head, batch.batch, self.spec.dropout), labels)

    def _answers(
        self, subject: Subject, head: nn.Linear, batch: TokenBatch, dropout: float = 0.0
    ) -> Float[Tensor, "batch label"]:
        with arithmetic(subject.device, self.spec.precision):
            stream = last_stream(subject, batch, self.stack).float()
            real = batch.real.to(stream.device)[..., None]
            vectors = stream[:, 0] if self.spec.pooling == "first" else (stream * real).sum(1) / real.sum(1)
            return head(F.dropout(vectors, dropout)).float()

    def _predicted(self, subject: Subject, head: nn.Linear) -> Int[np.ndarray, " item"]:
        items = pair_items(subject, self.data.dev, self.spec.max_length)
        found = np.zeros(len(items), np.int64)
        with torch.no_grad():
            for batch in batches(items, TOKENS_PER_BATCH, causal=False):
                found[list(batch.items)] = self._answers(subject, head, batch.batch).argmax(-1).cpu().numpy()
        return found


class _Left(BaseException):
    """Leaves a forward pass behind the last layer; no library catches a BaseException by accident."""


def last_stream(subject: Subject, batch: TokenBatch, stack: str) -> Float[Tensor, "batch position width"]:
    """The stream behind a stack's last layer (or behind the plan that runs in its place), with gradients."""
    reached: list[Tensor | None] = []

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        reached.append(stream_of(output))
        raise _Left

    with Hooks() as hooks, suppress(_Left):
        hooks.after(subject.model.get_submodule(subject.anatomy.stacks[stack][-1]), leave)
        subject.forward(batch)
    [stream] = reached
    assert stream is not None, "the last layer returns the stream"
    return stream


def _sampled(examples: tuple[Example, ...], most: int | None, seed: Seed) -> tuple[Example, ...]:
    """At most so many of the examples, drawn by the seed."""
    if most is None or most >= len(examples):
        return examples
    return tuple(drawn(examples, seed.child("examples"), 0, most))


def _vectors(
    subject: Subject, plans: Sequence[Plan], items: Sequence[Item], options: TuneOptions
) -> Float32[np.ndarray, "plan item width"]:
    """The mean of the last stream over each item's tokens, for each plan."""
    found = np.zeros((len(plans), len(items), subject.anatomy.width), np.float32)
    pieces, started = batches(items, TOKENS_PER_BATCH, causal=False), time.perf_counter()
    for number, piece in enumerate(pieces, start=1):
        found[:, list(piece.items)] = vectors_of(subject, piece, plans, Running(options.stack))
        seconds = time.perf_counter() - started
        options.events.emit(Progressed(label="vectors", done=number, total=len(pieces), seconds=seconds))
    return found


def _classified(
    vectors: Float32[np.ndarray, "item width"],
    labels: Int[np.ndarray, " known"],
    fifth: Bool[np.ndarray, " known"],
    choice: tuple[int, tuple[float, ...]],
) -> Int[np.ndarray, " asked"]:
    """Labels of the items beyond those whose labels are known; `choice` is the number of labels and the penalties."""
    count, penalties = choice
    table = torch.from_numpy(vectors).double()
    known = table[: len(labels)]
    # Columns that never vary carry nothing; a tiny spread keeps them finite.
    table = (table - known.mean(0)) / known.std(0).clamp_min(1e-9)
    known, asked = table[: len(labels)], table[len(labels) :]
    true, apart = torch.from_numpy(labels), torch.from_numpy(fifth)
    weights = torch.zeros(count, table.shape[1] + 1, dtype=torch.float64)
    tried: list[tuple[float, float]] = []
    for penalty in sorted(penalties, reverse=True):
        weights = _logistic(known[~apart], true[~apart], weights, penalty)
        tried.append((float(F.cross_entropy(_linear(known[apart], weights), true[apart])), penalty))
    weights = _logistic(known, true, torch.zeros_like(weights), min(tried)[1])
    return _linear(asked, weights).argmax(-1).numpy()


def _logistic(
    vectors: Float[Tensor, "item width"], labels: Int[Tensor, " item"], start: Tensor, penalty: float
) -> Float[Tensor, "label column"]:
    """Weights and biases that minimise mean nats plus half the penalty times the squared norm of the weights (L-BFGS)."""
    weights = start.clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, tolerance_change=1e-8, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(_linear(vectors, weights), labels) + penalty / 2 * weights[:, :-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return weights.detach()


def _linear(
    vectors: Float[Tensor, "item width"], weights: Float[Tensor, "label column"]
) -> Float[Tensor, "item label"]:
    return vectors @ weights[:, :-1].T + weights[:, -1]
