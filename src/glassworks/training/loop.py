"""The one training loop of the research studies: fresh batches, exact resume, a polite stop at NaN."""

import errno
import fnmatch
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.core.errors import Diverged, InvalidInput
from glassworks.core.events import CheckpointSaved, EventLog, StepDone, Stopped, TrainingDone, TrainingStarted
from glassworks.core.files import filling_folder
from glassworks.core.text import Text, say
from glassworks.models.quiet import quiet_bars
from glassworks.tensors.devices import has_fast_bfloat16
from glassworks.tensors.processes import PATIENCE, from_first, joined, wait_for_all, world
from glassworks.tensors.seeds import Seed
from glassworks.training.building import build_hollow, model_class
from glassworks.training.gradients import Gradients, Masks
from glassworks.training.objectives import AnyBatch, objective_of
from glassworks.training.optimisers import build_optimiser
from glassworks.training.parallel import layout_of
from glassworks.training.spec import TrainingSpec
from glassworks.training.state import LiveState, first_not_finite, keep, take_up
from glassworks.training.stopping import listening
from glassworks.training.store import History, Progress, StoreEntry

Probe = Callable[[nn.Module], dict[str, float]]


@dataclass(frozen=True)
class TrainingOptions:
    """How a training is run; none of it changes what is learned beyond rounding."""

    store: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    checkpoint_every: int = 100
    compile: bool = False
    probe: Probe | None = None
    label: str = ""
    shard: bool = False
    """Whether several processes cut the model and the optimiser among them (FSDP2) instead of each having all (DDP)."""
    patience: float = PATIENCE
    """Seconds that a process waits for another in a step before it gives up."""


@dataclass(frozen=True)
class Trained:
    """A finished training: where it lies, what was logged, and whether an equal one was found in the store."""

    spec: TrainingSpec
    path: Path
    history: History
    seconds: float
    reused: bool


def train(spec: TrainingSpec, options: TrainingOptions, events: EventLog) -> Trained:
    """Trains, resumes or finds the model of this spec. Raises Diverged at NaN, RunBusy beside another process.

    Under torchrun all its processes train it together: they share each batch, and the first one alone writes and tells.
    """
    with joined(options.device, options.patience) as device:
        return _train(spec, replace(options, device=device), events if world().is_first else EventLog())


def _train(spec: TrainingSpec, options: TrainingOptions, events: EventLog) -> Trained:
    entry, is_first = StoreEntry(options.store, spec), world().is_first
    digest = spec.digest()
    if (found := _found(entry, options, events)) is not None:
        return found
    if spec.start_from is not None:
        # Equal specs are kept once, so the stage before must be looked into as its own spec says.
        is_probed_alike = spec.start_from.probe == spec.probe
        _train(spec.start_from, replace(options, label="", probe=options.probe if is_probed_alike else None), events)
    with entry.lock() if is_first else nullcontext():
        if (found := _found(entry, options, events)) is not None:  # by another process, meanwhile
            return found
        if is_first:
            entry.open()
        run = _Run(spec, options, entry, events)
        run.go()
        run.finish()
    events.emit(TrainingDone(label=options.label, digest=digest, seconds=run.seconds))
    if run.was_asked_to_end:
        raise KeyboardInterrupt  # in the last step: this training is whole, and no other begins
    return Trained(spec, entry.path, run.history, run.seconds, reused=False)


def _found(entry: StoreEntry, options: TrainingOptions, events: EventLog) -> Trained | None:
    """The training where it is finished in the store, for all processes alike; None where it is not."""
    found = from_first(_finished(entry) if world().is_first else None)
    if found is None:
        return None
    history, seconds = found
    events.emit(TrainingDone(label=options.label, digest=entry.spec.digest(), seconds=seconds, reused=True))
    return Trained(entry.spec, entry.path, history, seconds, reused=True)


def _finished(entry: StoreEntry) -> tuple[History, float] | None:
    """What a finished training logged and took; None where it is not finished."""
    if not entry.is_done:
        return None
    with suppress(OSError):  # left by a process that was killed between its last two acts
        entry.forget_checkpoints()
    return entry.history(), entry.seconds()


class _Run:
    """The moving parts of one training: model, optimiser, history, clock."""

    def __init__(self, spec: TrainingSpec, options: TrainingOptions, entry: StoreEntry, events: EventLog) -> None:
        self.spec, self.options, self.entry, self.events = spec, options, entry, events
        self.layout = layout_of(options.device, shard=options.shard)
        self.model = self.layout.build(spec)
        self.precision = from_first(self._choose_precision())
        self.objective = objective_of(spec.model, spec.task)
        self._freeze()
        self.parameters = dict(self.model.named_parameters())
        self.optimiser = build_optimiser(spec, self.parameters)
        self.live = LiveState(self.model, self.parameters, self.optimiser)
        self.history = History()
        self.first_step, self.earlier_seconds, self.was_asked_to_end = 0, 0.0, False
        self.started = time.perf_counter()
        self._take_up()
        self.gradients = Gradients(spec, self.model, self.layout, self.objective, self.precision, options.compile)
        self._plain: PreTrainedModel | None = None

    @property
    def seconds(self) -> float:
        return self.earlier_seconds + time.perf_counter() - self.started

    def go(self) -> None:
        """All remaining steps. A request to end is answered between two of them, and the state there kept."""
        spec, step = self.spec, self.first_step
        label, digest = self.options.label, spec.digest()
        self.events.emit(TrainingStarted(label=label, digest=digest, seed=spec.seed, first_step=step, steps=spec.steps))
        try:
            with listening() as request:
                for step, batch in _batches(spec, self.first_step, str(self.options.device)):
                    is_asked = request.came_to_any()
                    if step != self.first_step and (is_asked or step % self.options.checkpoint_every == 0):
                        self.save(step)
                    if is_asked:
                        raise KeyboardInterrupt
                    self.step(step, batch)
                self.was_asked_to_end = request.came_to_any()
        except KeyboardInterrupt:
            # In the middle of a step (a second request) that may be half applied: there is the checkpoint before it.
            self.events.emit(Stopped(cause="interrupted", step=step))
            raise

    def step(self, step: int, batch: AnyBatch) -> None:
        """One update; metrics are taken on the fresh batch before it (birth.md 3.1)."""
        self._release(step)
        if self.spec.snapshot_every and step % self.spec.snapshot_every == 0:
            self._snapshot(step)
        begun = time.perf_counter()
        is_probed = step % self.spec.probe_every == 0 or step == self.spec.steps - 1
        self.optimiser.zero_grad(set_to_none=True)
        masks = self._learned_from(batch, step)
        try:
            with self._dropout(step):
                loss, logits = self.gradients.of(batch, masks, keep_logits=is_probed)
        except InvalidInput as refused:
            raise self._refused(step, refused) from refused
        loss = self.layout.summed(loss)
        self._check_finite(loss, step)
        if is_probed:
            self._log(step, batch, logits, loss)
        self._hold_back(step)
        if self.spec.clip is not None:
            self.spec.clip.apply([p for p in self.parameters.values() if p.grad is not None])
        for group in self.optimiser.param_groups:
            group["lr"] = self.spec.schedule.rate(step, self.spec.optimiser.rate) * group["factor"]
        self.optimiser.step()
        if is_probed:
            last = {name: column[-1] for name, column in self.history.metrics.items() if column[-1] == column[-1]}
            seconds = time.perf_counter() - begun
            self.events.emit(
                StepDone(digest=self.spec.digest(), step=step, loss=float(loss), scores=last, seconds=seconds)
            )

    def _dropout(self, step: int) -> AbstractContextManager[None]:
        """What dropout draws depends on seed and step alone, so that a resumed training draws the same.

        With several processes each draws for its own sequences, so it depends on their number, too.
        """
        if not self.spec.model.dropout:
            return nullcontext()
        here = self.layout.here
        place = () if here.is_alone else (here.rank, here.size)
        return Seed(self.spec.seed).child("dropout", step, *place).of_torch(self.options.device)

    def save(self, step: int) -> None:
        """Writes the state after `step` steps; refuses to keep a state that is not finite."""
        bad = first_not_finite(self.live.tensors(), self.layout)
        if bad is not None:
            self._stop(step, bad)
        keep(self.entry, self.live, self.layout, Progress(step, self.history, self.seconds))
        self.events.emit(CheckpointSaved(digest=self.spec.digest(), step=step))

    def finish(self) -> None:
        """Checks that the last update left finite weights, then writes the model and the mark of completion."""
        bad = first_not_finite(self.parameters, self.layout)
        if bad is not None:
            self._stop(self.spec.steps, bad)
        if self.spec.snapshot_every:
            self._snapshot(self.spec.steps)
        model = self._plain_model()
        if model is not None:
            nn.Module.to(model, "cpu")
            self._write(model)

    def _write(self, model: PreTrainedModel) -> None:
        with quiet_bars(), filling_folder(self.entry.path) as folder:
            try:
                model.save_pretrained(folder)
            except SafetensorError as problem:
                # The library's writer names no reason; with less room than the weights take, the reason is the room.
                size = sum(p.numel() * p.element_size() for p in model.parameters())
                if shutil.disk_usage(self.entry.path).free < size:
                    raise OSError(errno.ENOSPC, str(problem)) from None
                raise
        self.entry.finish(self.history, self.seconds, {"precision": self.precision, "device": self.options.device.type})

    def _snapshot(self, step: int) -> None:
        weights = self.layout.whole(self.model.state_dict())
        if self.layout.here.is_first:
            self.entry.save_snapshot(step, weights)

    def _plain_model(self) -> PreTrainedModel | None:
        """The model as any other, in the first process; all take part in putting it together. None in the others."""
        here = self.layout.here
        if not self.layout.is_sharded:
            return self.model if here.is_first else None
        weights = self.layout.whole(dict(self.model.named_parameters()) | dict(self.model.named_buffers()))
        if not here.is_first:
            return None
        if self._plain is None:
            self._plain = build_hollow(self.spec)
            nn.Module.to(self._plain, self.options.device)
        with torch.no_grad():
            for name, tensor in (*self._plain.named_parameters(), *self._plain.named_buffers()):
                tensor.copy_(weights[name])
        return self._plain

    def _log(self, step: int, batch: AnyBatch, logits: Tensor, loss: Tensor) -> None:
        score = self.objective.score(logits, batch, self.layout.rows(len(batch.inputs)), self.layout.summed)
        row = {"loss": float(loss)} | score
        if self.options.probe is not None:
            model = self._plain_model()
            if model is not None:
                model.eval()
                row |= self.options.probe(model)
                model.train()
            # However long that took, it is no step in which the others lose patience.
            wait_for_all()
        self.history.append(step, row)

    def _learned_from(self, batch: AnyBatch, step: int) -> Masks:
        """The masks whose means make the loss, with their weights."""
        named = [(self.spec.loss_on, 1.0), *((extra.mask, extra.weight) for extra in self.spec.extra_losses)]
        for name, _ in named:
            if not bool(batch.scored[name].any()):
                raise InvalidInput(
                    say("batch {step} holds no token to learn from ({mask})", step=step, mask=name),
                    given=say(
                        "{batch} sequences of {length} tokens", batch=self.spec.batch, length=self.spec.task.length
                    ),
                    right=say("longer sequences or a larger batch"),
                )
        return [(batch.scored[name], weight) for name, weight in named]

    def _check_finite(self, loss: Tensor, step: int) -> None:
        if not bool(torch.isfinite(loss)):
            self._stop(step, "loss")

    def _stop(self, step: int, what: str) -> None:
        self.events.emit(Stopped(cause=f"{what} is not finite", step=step))
        raise Diverged(
            say("training met NaN or infinity in {what} at step {step}", what=what, step=step),
            given=self.spec.optimiser.to_json(),
            right=self._kept(say("a smaller learning rate")),
        )

    def _refused(self, step: int, problem: InvalidInput) -> Diverged:
        """What to raise where training has led a layer to numbers that it does not work with, as singular sums."""
        self.events.emit(Stopped(cause=problem.what.en, step=step))
        cure = say("a smaller learning rate")
        if problem.right is not None:
            cure = say("{cure}; or a smaller learning rate", cure=problem.right)
        return Diverged(
            say("training met numbers that the model refuses at step {step}: {reason}", step=step, reason=problem.what),
            given=problem.given or self.spec.optimiser.to_json(),
            right=self._kept(cure),
        )

    def _kept(self, cure: Text) -> Text:
        """The cure, and where the last good state lies."""
        last = self.entry.last_step()
        if last is None:
            return say("{cure}; no state was kept, for none was good", cure=cure)
        path = str(self.entry.path)
        return say("{cure}; the last good state (step {step}) is kept in {path}", cure=cure, step=last, path=path)

    def _choose_precision(self) -> str:
        if self.spec.precision != "auto":
            return self.spec.precision
        return "bfloat16" if has_fast_bfloat16(self.options.device) else "float32"

    def _freeze(self) -> None:
        for name, parameter in self.model.named_parameters():
            later = self.layout.can_freeze_later and any(
                fnmatch.fnmatch(name, f.pattern) for f in self.spec.frozen_until
            )
            parameter.requires_grad_(not (later or self._is_always_frozen(name)))

    def _is_always_frozen(self, name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.spec.frozen)

    def _is_held(self, name: str, step: int) -> bool:
        return any(step < f.step and fnmatch.fnmatch(name, f.pattern) for f in self.spec.frozen_until)

    def _release(self, step: int) -> None:
        """Asks for the gradients of parameters whose step has come."""
        for name, parameter in self.parameters.items():
            if not self._is_held(name, step) and not self._is_always_frozen(name):
                parameter.requires_grad_(True)

    def _hold_back(self, step: int) -> None:
        """Drops the gradients of parameters whose step has not come, where they had to be asked for from the start."""
        for name, parameter in self.parameters.items():
            if self._is_held(name, step):
                parameter.grad = None

    def _take_up(self) -> None:
        """Goes on from the last checkpoint, or from the training before where there is one."""
        progress = take_up(self.entry, self.live, self.layout)
        if progress is not None:
            self.history, self.first_step = progress.history, progress.step
            self.earlier_seconds = progress.seconds
        elif self.spec.start_from is not None:
            earlier: Mapping[str, Tensor] = {}
            if self.layout.here.is_first:
                earlier = _weights_of(self.spec, self.model, StoreEntry(self.options.store, self.spec.start_from).path)
            for name, tensor in self.model.state_dict().items():
                self.layout.fill(tensor, earlier.get(name))


def _weights_of(spec: TrainingSpec, model: PreTrainedModel, folder: Path) -> Mapping[str, Tensor]:
    """The weights of the model in a folder by name; InvalidInput where they do not fit this model."""
    with quiet_bars():
        earlier = model_class(spec).from_pretrained(folder).state_dict()
    here = model.state_dict()
    odd = sorted(n for n in {*here, *earlier} if n not in here or n not in earlier or here[n].shape != earlier[n].shape)
    if odd:
        name, shapes = odd[0], [str(list(s[odd[0]].shape)) if odd[0] in s else "-" for s in (earlier, here)]
        raise InvalidInput(
            say(
                "the model cannot start from the weights in {folder}: {reason}",
                folder=str(folder),
                reason=f"{name}: {shapes[0]}, {shapes[1]}",
            ),
            right=say("a model of the same parts and sizes"),
        )
    return earlier


def _batches(spec: TrainingSpec, first: int, device: str) -> Iterator[tuple[int, AnyBatch]]:
    """Each step with its batch, which depends on seed and step alone; the next one is drawn while this one trains."""
    data = Seed(spec.seed).child("data")

    def draw(step: int) -> AnyBatch:
        return spec.task.sample(spec.batch, data.child(step), device)

    with _worker() as worker:
        coming: Future[AnyBatch] = worker.submit(draw, first)
        for step in range(first, spec.steps):
            batch = coming.result()
            if step + 1 < spec.steps:
                coming = worker.submit(draw, step + 1)
            yield step, batch


@contextmanager
def _worker() -> Generator[ThreadPoolExecutor]:
    worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
    try:
        yield worker
    finally:
        worker.shutdown(wait=True, cancel_futures=True)
