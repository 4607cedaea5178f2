"""Healing: a short low-rank training of a model under a plan, judged on text that it was not trained on.

After a cut the layers that are left expect streams that no longer come. Deeper Layers (2403.17887) heals with QLoRA,
painters.md A.2 with full fine-tuning; here the weights stay frozen and only adapters on the layers of the plan learn.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from glassworks.anatomy import Subject
from glassworks.core.events import CheckpointSaved, EventLog, Measured, StepDone, TrainingDone, TrainingStarted
from glassworks.core.files import write_json
from glassworks.evaluation import Item, MetricScore, batches, score_items
from glassworks.evaluation.items import is_causal
from glassworks.evaluation.scores import token_scores
from glassworks.evidence.statistics import Interval, bootstrap_interval
from glassworks.surgery.adapters import Adapter, adapted, fresh_adapter
from glassworks.surgery.operate import operated
from glassworks.surgery.plans import Plan
from glassworks.surgery.slots import choose_stack
from glassworks.surgery.specs import HealSpec
from glassworks.surgery.steps import arithmetic, drawn, rate_at, update
from glassworks.surgery.sweep import fingerprint
from glassworks.surgery.texts import Split, split_of
from glassworks.tensors.files import load_tensors, save_tensors
from glassworks.tensors.seeds import Seed

# Share of the steps over which the learning rate rises.
WARMUP = 0.1
# What AdamW keeps of the gradients.
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class HealOptions:
    """How a healing is run; none of it changes a number. With a folder it can be taken up again and is kept there."""

    folder: Path | None = None
    checkpoint_every: int = 20
    events: EventLog = field(default_factory=EventLog)


@dataclass(frozen=True, eq=False)
class Healed:
    """A healed plan: the adapter, the training loss of each step, and nats per token on held-out text.

    `intact` is the whole model without plan and adapter, `before` the plan alone, `after` plan and adapter, `control`
    the whole model trained alike; their documents are the same windows.
    """

    spec: HealSpec
    plan: Plan
    adapter: Adapter
    losses: tuple[float, ...]
    intact: MetricScore
    before: MetricScore
    after: MetricScore
    control: MetricScore | None
    seconds: float

    @property
    def gain(self) -> Interval:
        """Nats per token won by healing, with its 95 % interval over the held-out windows (paired)."""
        return _paired(lambda means: means[0] - means[1], self.before, self.after)

    @property
    def regained(self) -> Interval:
        """The share of what the plan cost that healing won back; above 1 where training also taught the text's manner."""
        return _paired(
            lambda means: (means[0] - means[1]) / (means[0] - means[2]), self.before, self.after, self.intact
        )

    @property
    def repaired(self) -> Interval | None:
        """The share of the plan's cost that is gone once the whole model is trained alike: 0 nothing, 1 all of it.

        1 - (after - control) / (before - intact); None without a control.
        """
        if self.control is None:
            return None
        scores = (self.after, self.control, self.before, self.intact)
        return _paired(lambda means: 1 - (means[0] - means[1]) / (means[2] - means[3]), *scores)

    def to_json(self) -> dict[str, object]:
        """Plain data: what was done and what came of it, nats per token."""
        named = {"intact": self.intact, "before": self.before, "after": self.after}
        named |= {} if self.control is None else {"control": self.control}
        return {
            **self.plan.to_json(),
            "spec": self.spec.to_json(),
            "nats_per_token": {name: _shown(interval_of(score)) for name, score in named.items()},
            "gain": _shown(self.gain),
            "regained": _shown(self.regained),
            "repaired": None if self.repaired is None else _shown(self.repaired),
            "trained_parameters": self.adapter.parameter_count,
            "losses": list(self.losses),
            "seconds": self.seconds,
        }

    def save(self, folder: Path) -> Path:
        """Writes the adapter as peft writes one, the plan, and the numbers in healing.json; returns the folder."""
        self.adapter.save(folder)
        write_json(folder / "healing.json", self.to_json())
        return folder


def heal(
    subject: Subject,
    plan: Plan,
    spec: HealSpec,
    split: Split | None = None,
    *,
    stack: str | None = None,
    options: HealOptions | None = None,
) -> Healed:
    """Trains adapters on the layers of a plan while the plan runs; the subject is left as it was found.

    `split` takes the place of the spec's texts. Use the result with `adapted` and `operated`, or as a model of its own
    with `merged`. Raises Unavailable without peft, Diverged at NaN.
    """
    stack = choose_stack(subject.anatomy, stack)
    plan.check(len(subject.anatomy.stacks[stack]), stack if len(subject.anatomy.stacks) > 1 else "")
    split = split_of(subject, spec.texts) if split is None else split
    work = _Healing(subject, stack, spec, split, options or HealOptions())
    started = time.perf_counter()
    training = subject.model.training
    subject.model.eval()
    try:
        intact = work.judge("intact")
        with operated(subject, plan, stack=stack):
            before = work.judge("under the plan")
        adapter, losses = work.fit(plan)
        with adapted(subject, adapter), operated(subject, plan, stack=stack):
            after = work.judge("healed")
        control = work.control() if spec.control else None
    finally:
        subject.model.train(training)
    return Healed(spec, plan, adapter, losses, intact, before, after, control, time.perf_counter() - started)


def interval_of(score: MetricScore) -> Interval:
    """A mean over documents with its 95 % interval (bootstrap)."""
    return bootstrap_interval(lambda means: float(means[0]), (score.per_document,), score.weights)


@dataclass(frozen=True, eq=False)
class _Healing:
    """The work of one healing; every batch depends on seed and step alone."""

    subject: Subject
    stack: str
    spec: HealSpec
    split: Split
    options: HealOptions

    @cached_property
    def identity(self) -> str:
        """Everything that fixes the numbers of a plan, in digests."""
        return " ".join((self.spec.digest(), self.stack, fingerprint(self.subject), self.split.digest()))

    def judge(self, name: str) -> MetricScore:
        """Nats per token on the held-out items, with whatever is done to the model at the moment."""
        started = time.perf_counter()
        with arithmetic(self.subject.device, self.spec.precision):
            scored = score_items(self.subject, self.split.held_out)
        self.options.events.emit(Measured(name=f"held-out loss, {name}", seconds=time.perf_counter() - started))
        return token_scores(scored)["nll"]

    def control(self) -> MetricScore:
        """Nats per token of the whole model, trained as the plan was: what there is to win without any cut."""
        whole = Plan.identity(len(self.subject.anatomy.stacks[self.stack]))
        adapter, _ = self.fit(whole)
        with adapted(self.subject, adapter):
            return self.judge("whole model, trained alike")

    def fit(self, plan: Plan) -> tuple[Adapter, tuple[float, ...]]:
        """Trains adapters under a plan; returns them with the loss of each step, taken before its update."""
        spec, events = self.spec, self.options.events
        digest = hashlib.sha256(f"{self.identity} {plan}".encode()).hexdigest()[:16]
        seed, started = Seed(spec.seed).child("adapter"), time.perf_counter()
        fresh = fresh_adapter(self.subject, plan, self.stack, (spec.rank, spec.alpha), spec.parts, seed)
        with adapted(self.subject, fresh) as weights, operated(self.subject, plan, stack=self.stack):
            optimiser = torch.optim.AdamW(weights.values(), lr=spec.learning_rate, weight_decay=0.0)
            kept = None if self.options.folder is None else _Kept(self.options.folder, digest, weights, optimiser)
            losses = [] if kept is None else kept.taken_up()
            events.emit(
                TrainingStarted(
                    label=str(plan), digest=digest, seed=spec.seed, first_step=len(losses), steps=spec.steps
                )
            )
            for step in range(len(losses), spec.steps):
                losses.append(self._step(step, optimiser, digest))
                if kept is not None and ((step + 1) % self.options.checkpoint_every == 0 or step + 1 == spec.steps):
                    kept.keep(losses)
                    events.emit(CheckpointSaved(digest=digest, step=step + 1))
            events.emit(TrainingDone(label=str(plan), digest=digest, seconds=time.perf_counter() - started))
            return fresh.filled(weights), tuple(losses)

    def _step(self, step: int, optimiser: torch.optim.Optimizer, digest: str) -> float:
        begun = time.perf_counter()
        spec = self.spec
        with arithmetic(self.subject.device, spec.precision):
            loss = self._loss(drawn(self.split.fit, Seed(spec.seed).child("windows"), step * spec.batch, spec.batch))
        value = update(optimiser, loss, rate_at(step, spec.steps, spec.learning_rate, WARMUP), step)
        self.options.events.emit(StepDone(digest=digest, step=step, loss=value, seconds=time.perf_counter() - begun))
        return value

    def _loss(self, items: Sequence[Item]) -> Tensor:
        """Nats per target of the items, which are run as one batch."""
        [batch] = batches(items, sys.maxsize, causal=is_causal(self.subject))
        logits = batch.read(self.subject.forward(batch.batch))
        return F.cross_entropy(logits.float(), batch.targets.to(logits.device))


@dataclass(frozen=True, eq=False)
class _Kept:
    """The state of a training on disk: weights, what AdamW keeps of the gradients, losses."""

    folder: Path
    digest: str
    weights: Mapping[str, nn.Parameter]
    optimiser: torch.optim.Optimizer

    @property
    def path(self) -> Path:
        """One file for each training, named by its digest."""
        return self.folder / f"training-{self.digest}.safetensors"

    def keep(self, losses: Sequence[float]) -> None:
        """Writes what the next step needs."""
        tensors: dict[str, Tensor] = {"losses": torch.tensor(losses, dtype=torch.float64)}
        for name, weight in self.weights.items():
            state = self.optimiser.state[weight]
            tensors |= {f"weight/{name}": weight} | {f"{key}/{name}": state[key] for key in _MOMENTS}
        save_tensors(self.path, tensors)

    def taken_up(self) -> list[float]:
        """Goes back to the state that was kept, if there is one; returns the losses of the steps done."""
        if not self.path.is_file():
            return []
        tensors, _ = load_tensors(self.path)
        losses: list[float] = tensors["losses"].tolist()
        for name, weight in self.weights.items():
            weight.data.copy_(tensors[f"weight/{name}"])
            moments = {key: tensors[f"{key}/{name}"].to(weight.device) for key in _MOMENTS}
            self.optimiser.state[weight] = {"step": torch.tensor(float(len(losses))), **moments}
        return losses


def _paired(statistic: Callable[[NDArray[np.float64]], float], *scores: MetricScore) -> Interval:
    return bootstrap_interval(statistic, [score.per_document for score in scores], scores[0].weights)


def _shown(interval: Interval) -> dict[str, float]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}
