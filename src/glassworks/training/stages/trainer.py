"""One way to run the library's Trainer, and every trainer made from it, as a stage: our history, exact resume, polite stops.

`arguments(desk, spec)` are keyword arguments of TrainingArguments and of all of TRL's configs; `fit(trainer, desk)` trains.
A checkpoint counts only when `whole.json` lies in it, so one that a kill or a full disk cut short is never gone on from.
"""

import errno
import math
import random
import shutil
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from glassworks.core.errors import NoSpace
from glassworks.core.events import CheckpointSaved, Stopped
from glassworks.core.files import filling_folder, read_json, write_json
from glassworks.core.text import say
from glassworks.models.quiet import quiet_bars
from glassworks.tensors.devices import has_fast_bfloat16
from glassworks.tensors.memory import keep_freed_memory
from glassworks.tensors.processes import from_all, from_first, own_part, wait_for_all, world
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.base import Desk, LearningSpec, choose_precision, needed
from glassworks.training.stages.rows import begun_row, take_up_row
from glassworks.training.stages.sharding import put_together
from glassworks.training.stages.spread import share_of
from glassworks.training.stopping import Request, listening
from glassworks.training.store import History

WHOLE = "whole.json"
# What the Trainer logs beside measurements.
_CLOCKS = frozenset(
    {"epoch", "step", "total_flos", "train_runtime", "train_samples_per_second", "train_loss", "num_tokens"}
)
_SPEEDS = ("_runtime", "_per_second")


def arguments(desk: Desk, spec: LearningSpec) -> dict[str, Any]:
    """What every trainer of a stage is told: optimiser, schedule, steps, checkpoints, precision, device; no reports."""
    is_cpu = desk.options.device.type == "cpu"
    schedule: dict[str, Any] = {"lr_scheduler_type": spec.schedule}
    if spec.schedule == "cosine":
        schedule = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": spec.final}}
    elif spec.schedule == "constant":
        schedule = {"lr_scheduler_type": "constant_with_warmup"}
    # Means over logged steps are kept by no checkpoint: only at a row of the history can a state be gone on from exactly.
    rows = math.ceil(desk.options.checkpoint_every / spec.log_every)
    here = world()
    share = share_of(spec.batch, spec.accumulate, here.size)
    return schedule | {
        "output_dir": str(desk.checkpoints),
        "max_steps": spec.steps,
        "per_device_train_batch_size": share.rows,
        "gradient_accumulation_steps": share.passes,
        # Tokens of the whole update weigh alike, wherever they are.
        "average_tokens_across_devices": True,
        "ddp_backend": "gloo" if is_cpu and not here.is_alone else None,
        "learning_rate": spec.rate,
        "warmup_steps": spec.warmup_steps,
        "adam_beta1": spec.betas[0],
        "adam_beta2": spec.betas[1],
        "weight_decay": spec.weight_decay,
        "max_grad_norm": spec.clip,
        "bf16": choose_precision(spec, desk.options.device) == "bfloat16",
        "fp16": False,
        "activation_checkpointing": False,
        "use_cpu": is_cpu,
        "dataloader_pin_memory": not is_cpu,
        # A model that is cut into shards is put together between its layers, where a compiled one would break.
        "torch_compile": desk.options.compile and not desk.options.shard,
        "seed": spec.seed % 2**32,
        "data_seed": spec.seed % 2**32,
        "logging_strategy": "steps",
        "logging_steps": spec.log_every,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": rows * spec.log_every,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
        "log_level_replica": "error",
    }


def fit(trainer: Trainer, desk: Desk) -> None:
    """Trains, or goes on from the last whole checkpoint; the history ends up in `desk.history`.

    Raises Diverged at NaN, NoSpace on a full disk and KeyboardInterrupt, each with the last good checkpoint kept. The
    process's chance and matrix precision are as before afterwards.
    """
    last = last_checkpoint(desk)
    here = world()
    if last is not None:
        desk.earlier_seconds = float(read_json(last / WHOLE)["seconds"])
    # Ours tells of the rows; the library's would print them.
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    telling = _Telling(desk, trainer, {} if last is None else read_json(last / WHOLE).get("row", {}))
    trainer.add_callback(telling)
    if desk.options.device.type == "cpu" and not desk.options.shard:
        keep_freed_memory()
    with _process_restored(), quiet_bars():
        # "medium" leaves slow libraries for fast ones; where bfloat16 is in hardware it also rounds to that, shape by shape,
        # so that an answer would depend on those beside it. Who asks for float32 there gets it.
        rounds = not trainer.args.bf16 and has_fast_bfloat16(desk.options.device)
        torch.set_float32_matmul_precision("highest" if rounds else "medium")
        if not here.is_first:
            # Each process drops out other numbers; the first those that one process alone would.
            torch.manual_seed(Seed(trainer.args.seed).child("process", here.rank).value)
        try:
            with listening() as telling.request:
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
        except KeyboardInterrupt:
            desk.events.emit(Stopped(cause="interrupted", step=trainer.state.global_step))
            raise
        except (OSError, SafetensorError, RuntimeError) as problem:
            told = _explained(problem, desk, _size_of(trainer))
            if told is problem:
                raise
            raise told from problem
    # Takes the wrapper off in place that lowers the precision of `forward`.
    trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    bad = first_not_finite(_unwrapped(trainer))
    if bad is not None:
        raise desk.diverged(trainer.state.global_step, bad)


def last_checkpoint(desk: Desk) -> Path | None:
    """The newest checkpoint that is whole, as the first process sees it; all processes ask together."""
    return from_first(_newest_whole(desk) if desk.writes else None)


def _newest_whole(desk: Desk) -> Path | None:
    """The newest checkpoint that is whole; those that are not are removed."""
    whole: list[Path] = []
    for path in desk.checkpoints.glob("checkpoint-*"):
        if (path / WHOLE).is_file():
            whole.append(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def history_of(logged: list[dict[str, float]]) -> History:
    """The rows of a Trainer's log: steps counted from 0, the measurements alone."""
    history = History()
    for entry in logged:
        row = row_of(entry)
        if row:
            history.append(int(entry["step"]) - 1, row)
    return history


def row_of(entry: Mapping[str, Any]) -> dict[str, float]:
    """The measurements of one entry of a Trainer's log."""
    return {
        name: float(value)
        for name, value in entry.items()
        if isinstance(value, int | float) and name not in _CLOCKS and not name.endswith(_SPEEDS)
    }


def first_not_finite(model: nn.Module) -> str | None:
    """The name of a parameter that holds NaN or infinity in any process; None where all are finite."""
    own = (name for name, p in model.named_parameters() if not bool(torch.isfinite(own_part(p)).all()))
    return next((name for name in from_all(next(own, None)) if name is not None), None)


def with_adapters(model: PreTrainedModel, spec: LearningSpec) -> Any:
    """The model with low-rank adapters on all its maps, the rest frozen; the model itself where `lora` is 0."""
    if not spec.lora:
        return model
    needed("peft")
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=spec.lora, lora_alpha=spec.lora * spec.lora_scale, target_modules="all-linear")  # pyright: ignore[reportArgumentType] - any number serves as alpha
    # Adapters are drawn from the global generator.
    with _process_restored():
        torch.manual_seed(spec.seed)
        adapted: Any = get_peft_model(model, config)
    return adapted


def learner_of(desk: Desk, model: PreTrainedModel, spec: LearningSpec) -> Any:
    """What learns: the model with adapters where the spec asks for them; one that is cut has them since it was laid."""
    return with_adapters(model, spec) if desk.learner is None else desk.learner


def save_model(desk: Desk, model: Any, tokenizer: Any) -> None:
    """Writes model and tokenizer into the stage's folder; adapters are merged into the weights and kept in `adapter/` too.

    Raises NoSpace on a full disk.
    """
    if desk.hollow is not None:
        model = put_together(desk.hollow, model)
    if not desk.writes:
        return
    with quiet_bars(), filling_folder(desk.path) as folder:
        try:
            if not isinstance(model, PreTrainedModel):
                # Adapters around a model; their library writes and merges them.
                model.save_pretrained(folder / "adapter")
                model = model.merge_and_unload()
            nn.Module.to(model, "cpu")
            model.save_pretrained(folder)
            if tokenizer is not None:
                tokenizer.save_pretrained(folder)
        except (OSError, SafetensorError) as problem:
            size = sum(p.numel() * p.element_size() for p in model.parameters())
            told = _explained(problem, desk, size)
            if told is problem:
                raise
            raise told from None


class _Telling(TrainerCallback):
    """Keeps the desk's history and events in step with the trainer, and refuses to keep what is not finite.

    After a request to end it has the state kept where it is, with the row of the history that is not full yet, and ends.
    """

    def __init__(self, desk: Desk, trainer: Trainer, row: Mapping[str, Any]) -> None:
        self.desk, self.trainer, self.row = desk, trainer, row
        self.request = Request()
        self.ends = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        self.desk.history = history_of(state.log_history)
        if self.row:
            take_up_row(self.trainer, self.row)
        self.desk.begin(state.global_step, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        if state.global_step < state.max_steps and self.request.came_to_any():
            self.ends = control.should_save = True
        # The loss was taken before this update, so it cannot tell what the update made of the weights.
        bad = first_not_finite(rest["model"]) if control.should_save else None
        if bad is not None:
            raise self.desk.diverged(state.global_step - 1, bad)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        row = row_of(rest.get("logs") or {})
        if not row:
            return
        step = state.global_step - 1
        if not math.isfinite(row.get("loss", 0.0)):
            raise self.desk.diverged(step, "loss")
        if self.desk.history.steps[-1:] == [step]:
            # A second entry for one step (an evaluation) widens the row.
            self._widen(row)
        else:
            self.desk.log(step, row)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        folder = self.desk.checkpoints / f"checkpoint-{state.global_step}"
        # Every process has its part in the folder.
        row = begun_row(self.trainer)
        if self.desk.writes:
            write_json(folder / WHOLE, {"seconds": self.desk.seconds, "row": row})
        self.desk.events.emit(CheckpointSaved(digest=self.desk.digest, step=state.global_step))
        if self.ends:
            wait_for_all()
            raise KeyboardInterrupt

    def _widen(self, row: Mapping[str, float]) -> None:
        history = self.desk.history
        for name, value in row.items():
            column = history.metrics.setdefault(name, [float("nan")] * len(history.steps))
            column[-1] = value


def _explained(problem: Exception, desk: Desk, size: int) -> Exception:
    """NoSpace where the disk was full, whatever the writer called it; the problem itself otherwise."""
    is_full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    # torch's writer of archives speaks of places in its file where the disk is full.
    words = str(problem).lower()
    is_writer = isinstance(problem, SafetensorError) or "writ" in words or "inline_container" in words
    desk.path.mkdir(parents=True, exist_ok=True)
    if not is_full and not (is_writer and shutil.disk_usage(desk.path).free < size):
        return problem
    last = _newest_whole(desk)
    kept = say("no state was kept before")
    if last is not None:
        kept = say("the state after step {step} is kept", step=last.name.rpartition("-")[2])
    return NoSpace(
        say("cannot write {path}: the disk is full; {kept}", path=str(desk.path), kept=kept),
        right=say("more free space, then the same command, which goes on from there"),
        next_command="glassworks doctor",
    )


def _size_of(trainer: Trainer) -> int:
    """Bytes of a checkpoint: weights and the two moments of AdamW."""
    parameters = _unwrapped(trainer).parameters()
    return sum(p.numel() * p.element_size() * (3 if p.requires_grad else 1) for p in parameters)


def _unwrapped(trainer: Trainer) -> nn.Module:
    model = trainer.model
    assert isinstance(model, nn.Module), "a trainer has its model"
    return model


@contextmanager
def _process_restored() -> Generator[None]:
    """Puts the process's generators and matrix precision back, which the library's trainers set."""
    python, numpy, precision = random.getstate(), np.random.get_state(), torch.get_float32_matmul_precision()
    with torch.random.fork_rng(), warnings.catch_warnings():
        # One library's word to another about the name of a method.
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
            torch.set_float32_matmul_precision(precision)
