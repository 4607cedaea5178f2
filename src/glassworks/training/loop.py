"""The one training loop of the research studies: fresh batches, exact resume, a polite stop at NaN."""

import errno
import fnmatch
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.core.errors import Diverged, InvalidInput
from glassworks.core.events import CheckpointSaved, EventLog, StepDone, Stopped, TrainingDone, TrainingStarted
from glassworks.core.files import writing
from glassworks.core.text import Text, say
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.pieces import Reading, pieces_loss
from glassworks.models.quiet import quiet_bars
from glassworks.tasks.base import Batch
from glassworks.tensors.devices import has_fast_bfloat16
from glassworks.tensors.seeds import Seed
from glassworks.training.building import build_untrained
from glassworks.training.objectives import AnyBatch, objective_of
from glassworks.training.optimisers import build_optimiser
from glassworks.training.spec import TrainingSpec
from glassworks.training.store import Checkpoint, History, StoreEntry

# Tokens that one forward and backward pass takes on a CPU: 64 sequences of 256.
CPU_TOKENS = 64 * 256

Probe = Callable[[nn.Module], dict[str, float]]
# Masks of a batch with the weights of their mean losses.
Masks = Sequence[tuple[Tensor, float]]


@dataclass(frozen=True)
class TrainingOptions:
    """How a training is run; none of it changes what is learned beyond rounding."""

    store: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    checkpoint_every: int = 100
    compile: bool = False
    probe: Probe | None = None
    label: str = ""


@dataclass(frozen=True)
class Trained:
    """A finished training: where it lies, what was logged, and whether an equal one was found in the store."""

    spec: TrainingSpec
    path: Path
    history: History
    seconds: float
    reused: bool


def train(spec: TrainingSpec, options: TrainingOptions, events: EventLog) -> Trained:
    """Trains, resumes or finds the model of this spec. Raises Diverged at NaN, RunBusy beside another process."""
    entry = StoreEntry(options.store, spec)
    digest = spec.digest()
    if entry.is_done:
        events.emit(TrainingDone(label=options.label, digest=digest, seconds=entry.seconds(), reused=True))
        return Trained(spec, entry.path, entry.history(), entry.seconds(), reused=True)
    if spec.start_from is not None:
        # Equal specs are kept once, so the stage before must be looked into as its own spec says.
        is_probed_alike = spec.start_from.probe == spec.probe
        train(spec.start_from, replace(options, label="", probe=options.probe if is_probed_alike else None), events)
    with entry.lock():
        entry.open()
        run = _Run(spec, options, entry, events)
        run.go()
        run.finish()
    events.emit(TrainingDone(label=options.label, digest=digest, seconds=run.seconds))
    return Trained(spec, entry.path, run.history, run.seconds, reused=False)


class _Run:
    """The moving parts of one training: model, optimiser, history, clock."""

    def __init__(self, spec: TrainingSpec, options: TrainingOptions, entry: StoreEntry, events: EventLog) -> None:
        self.spec, self.options, self.entry, self.events = spec, options, entry, events
        self.model = build_untrained(spec)
        nn.Module.to(self.model, options.device)
        self.forward = torch.compile(self.model, dynamic=False) if options.compile else self.model
        self.precision = self._choose_precision()
        self.objective = objective_of(spec.model, spec.task)
        self._freeze()
        self.parameters = dict(self.model.named_parameters())
        self.optimiser = build_optimiser(spec, self.parameters)
        self.history = History()
        self.first_step, self.earlier_seconds = 0, 0.0
        self.started = time.perf_counter()
        self._take_up()

    @property
    def seconds(self) -> float:
        return self.earlier_seconds + time.perf_counter() - self.started

    def go(self) -> None:
        """All remaining steps; on an interrupt the present state is saved first."""
        spec, digest = self.spec, self.spec.digest()
        self.events.emit(
            TrainingStarted(
                label=self.options.label,
                digest=digest,
                seed=spec.seed,
                first_step=self.first_step,
                steps=spec.steps,
            )
        )
        step = self.first_step
        try:
            for step, batch in _batches(spec, self.first_step, str(self.options.device)):
                if step and step % self.options.checkpoint_every == 0 and step != self.first_step:
                    self.save(step)
                self.step(step, batch)
        except KeyboardInterrupt:
            # The step under way may be half applied; the checkpoint before it is whole, so that one is kept.
            self.events.emit(Stopped(cause="interrupted", step=step))
            raise

    def step(self, step: int, batch: AnyBatch) -> None:
        """One update; metrics are taken on the fresh batch before it (birth.md 3.1)."""
        self._release(step)
        if self.spec.snapshot_every and step % self.spec.snapshot_every == 0:
            self.entry.save_snapshot(step, self.model.state_dict())
        begun = time.perf_counter()
        is_probed = step % self.spec.probe_every == 0 or step == self.spec.steps - 1
        self.optimiser.zero_grad(set_to_none=True)
        masks = self._learned_from(batch, step)
        try:
            with self._dropout(step):
                loss, logits = self._learn_from(batch, masks, keep_logits=is_probed)
        except InvalidInput as refused:
            raise self._refused(step, refused) from refused
        self._check_finite(loss, step)
        if is_probed:
            self._log(step, batch, logits, loss)
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
        """What dropout draws depends on seed and step alone, so that a resumed training draws the same."""
        if not self.spec.model.dropout:
            return nullcontext()
        return Seed(self.spec.seed).child("dropout", step).of_torch(self.options.device)

    def _learn_from(self, batch: AnyBatch, masks: Masks, *, keep_logits: bool) -> tuple[Tensor, Tensor]:
        """Gradients of the mean loss over the batch, piece by piece; the loss, and all logits where they are asked for."""
        loss = torch.zeros((), device=batch.targets.device)
        kept: list[Tensor] = []
        for part in self._pieces(batch):
            with torch.autocast(self.options.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                if self.spec.piece is None:
                    logits = self.objective.read(self.forward, batch, part)
                else:
                    share, logits = self._read_in_pieces(batch, part, masks, self.spec.piece)
                    loss += share
            if self.spec.piece is None:
                share = self._share(logits, batch, masks, (part,))
                if share.requires_grad:
                    share.backward()
                loss += share.detach()
            if keep_logits:
                kept.append(logits.detach())
        return loss, torch.cat(kept) if kept else loss

    def _share(self, output: Tensor, batch: AnyBatch, masks: Masks, part: tuple[slice, ...]) -> Tensor:
        """What these positions add to the loss of the whole batch."""
        share = torch.zeros((), device=output.device)
        for mask, weight in masks:
            here = mask[part]
            if bool(here.any()):
                mean = self.objective.mean_loss(output, batch.targets[part], here)
                share = share + mean * (here.sum() / mask.sum()) * weight
        return share

    def _read_in_pieces(self, batch: AnyBatch, part: slice, masks: Masks, piece: int) -> tuple[Tensor, Tensor]:
        """Loss and logits with sequences read piece by piece; the gradients through the memories are taken on the way."""
        assert isinstance(batch, Batch), "the spec checks that tokens are read"
        assert isinstance(self.model, GlassworksForCausalLM), "a model that reads tokens"
        kept: dict[int, Tensor] = {}

        def share(logits: Tensor, positions: slice) -> Tensor:
            # Pieces that are read again on the way back come last first.
            kept[positions.start] = logits.detach()
            return self._share(logits.float(), batch, masks, (part, positions))

        reading = Reading(piece, self.spec.recompute, self.spec.truncate_after)
        written = None if batch.written is None else batch.written[part]
        total = pieces_loss(self.model, batch.inputs[part], reading, share, written)
        return total, torch.cat([kept[start] for start in sorted(kept)], 1)

    def _pieces(self, batch: AnyBatch) -> list[slice]:
        size, length = batch.inputs.shape[:2]
        # On a CPU a large batch is memory traffic: score tensors that leave the cache are allocated and paged in anew
        # every step. Other devices take the batch whole.
        piece = max(1, CPU_TOKENS // length) if self.options.device.type == "cpu" else size
        return [slice(start, start + piece) for start in range(0, size, piece)]

    def save(self, step: int) -> None:
        """Writes the state after `step` steps; refuses to keep a state that is not finite."""
        tensors = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimiser/{key}/{name}"] = value
        bad = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
        if bad:
            self._stop(step, bad[0])
        # Tied or expanded tensors share memory, which safetensors refuses: each gets its own.
        self.entry.save_checkpoint(
            Checkpoint(step, {n: t.detach().clone() for n, t in tensors.items()}, self.history, self.seconds)
        )
        self.events.emit(CheckpointSaved(digest=self.spec.digest(), step=step))

    def finish(self) -> None:
        """Checks that the last update left finite weights, then writes the model and the mark of completion."""
        for name, parameter in self.parameters.items():
            if not bool(torch.isfinite(parameter).all()):
                self._stop(self.spec.steps, name)
        nn.Module.to(self.model, "cpu")
        if self.spec.snapshot_every:
            self.entry.save_snapshot(self.spec.steps, self.model.state_dict())
        with quiet_bars(), writing(self.entry.path):
            try:
                self.model.save_pretrained(self.entry.path)
            except SafetensorError as problem:
                # The library's writer names no reason; with less room than the weights take, the reason is the room.
                size = sum(p.numel() * p.element_size() for p in self.parameters.values())
                if shutil.disk_usage(self.entry.path).free < size:
                    raise OSError(errno.ENOSPC, str(problem)) from None
                raise
        self.entry.finish(self.history, self.seconds, {"precision": self.precision, "device": self.options.device.type})

    def _log(self, step: int, batch: AnyBatch, logits: Tensor, loss: Tensor) -> None:
        row = {"loss": float(loss)} | self.objective.score(logits, batch)
        if self.options.probe is not None:
            self.model.eval()
            row |= self.options.probe(self.model)
            self.model.train()
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
        last = self.entry.load_checkpoint()
        if last is None:
            return say("{cure}; no state was kept, for none was good", cure=cure)
        path = str(self.entry.path)
        return say("{cure}; the last good state (step {step}) is kept in {path}", cure=cure, step=last.step, path=path)

    def _choose_precision(self) -> str:
        if self.spec.precision != "auto":
            return self.spec.precision
        return "bfloat16" if has_fast_bfloat16(self.options.device) else "float32"

    def _freeze(self) -> None:
        for name, parameter in self.model.named_parameters():
            later = any(fnmatch.fnmatch(name, f.pattern) for f in self.spec.frozen_until)
            parameter.requires_grad_(not (later or self._is_always_frozen(name)))

    def _is_always_frozen(self, name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in self.spec.frozen)

    def _release(self, step: int) -> None:
        for name, parameter in self.parameters.items():
            held = [f.step for f in self.spec.frozen_until if fnmatch.fnmatch(name, f.pattern)]
            if held and step >= max(held) and not self._is_always_frozen(name):
                parameter.requires_grad_(True)

    def _take_up(self) -> None:
        checkpoint = self.entry.load_checkpoint()
        if checkpoint is None:
            if self.spec.start_from is not None:
                _start_from(self.model, StoreEntry(self.options.store, self.spec.start_from).path)
            return
        state = {n.removeprefix("model/"): t for n, t in checkpoint.tensors.items() if n.startswith("model/")}
        self.model.load_state_dict(state)
        for name, tensor in checkpoint.tensors.items():
            if name.startswith("optimiser/"):
                _, key, parameter = name.split("/", 2)
                # AdamW counts its steps on the CPU whatever the device.
                place = tensor if key == "step" else tensor.to(self.options.device)
                self.optimiser.state[self.parameters[parameter]][key] = place
        self.history, self.first_step = checkpoint.history, checkpoint.step
        self.earlier_seconds = checkpoint.seconds


def _start_from(model: nn.Module, folder: Path) -> None:
    """Takes the weights of the model in a folder; InvalidInput where they do not fit."""
    assert isinstance(model, PreTrainedModel)
    with quiet_bars():
        earlier = type(model).from_pretrained(folder)
    try:
        model.load_state_dict(earlier.state_dict())
    except RuntimeError as problem:
        raise InvalidInput(
            say(
                "the model cannot start from the weights in {folder}: {reason}", folder=str(folder), reason=str(problem)
            ),
            right=say("a model of the same parts and sizes"),
        ) from None


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
