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
from glassworks.core.files import read_json, write_json, writing
from glassworks.core.text import say
from glassworks.models.quiet import quiet_bars
from glassworks.tensors.memory import keep_freed_memory
from glassworks.training.stages.base import Desk, LearningSpec, choose_precision, needed
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
    return schedule | {
        "output_dir": str(desk.checkpoints),
        "max_steps": spec.steps,
        "per_device_train_batch_size": spec.batch,
        "gradient_accumulation_steps": spec.accumulate,
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
        "torch_compile": desk.options.compile,
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
    }


def fit(trainer: Trainer, desk: Desk) -> None:
    """Trains, or goes on from the last whole checkpoint; the history ends up in `desk.history`.

    Raises Diverged at NaN, NoSpace on a full disk and KeyboardInterrupt, each with the last good checkpoint kept. The
    process's chance and matrix precision are as before afterwards.
    """
    last = last_checkpoint(desk)
    if last is not None:
        desk.earlier_seconds = float(read_json(last / WHOLE)["seconds"])
    # Ours tells of the rows; the library's would print them.
    for printing in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printing)
    trainer.add_callback(_Telling(desk))
    if desk.options.device.type == "cpu":
        keep_freed_memory()
    with _process_restored(), quiet_bars():
        torch.set_float32_matmul_precision("medium")
        try:
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
    """The name of a parameter that holds NaN or infinity; None where all are finite."""
    return next((name for name, p in model.named_parameters() if not bool(torch.isfinite(p).all())), None)


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


def save_model(desk: Desk, model: Any, tokenizer: Any) -> None:
    """Writes model and tokenizer into the stage's folder; adapters are merged into the weights and kept in `adapter/` too.

    Raises NoSpace on a full disk.
    """
    with quiet_bars(), writing(desk.path):
        try:
            if not isinstance(model, PreTrainedModel):
                # Adapters around a model; their library writes and merges them.
                model.save_pretrained(desk.path / "adapter")
                model = model.merge_and_unload()
            nn.Module.to(model, "cpu")
            model.save_pretrained(desk.path)
            if tokenizer is not None:
                tokenizer.save_pretrained(desk.path)
        except (OSError, SafetensorError) as problem:
            size = sum(p.numel() * p.element_size() for p in model.parameters())
            told = _explained(problem, desk, size)
            if told is problem:
                raise
            raise told from None


class _Telling(TrainerCallback):
    """Keeps the desk's history and events in step with the trainer, and refuses to keep what is not finite."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        self.desk.history = history_of(state.log_history)
        self.desk.begin(state.global_step, state.max_steps)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
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
        write_json(folder / WHOLE, {"seconds": self.desk.seconds})
        self.desk.events.emit(CheckpointSaved(digest=self.desk.digest, step=state.global_step))

    def _widen(self, row: Mapping[str, float]) -> None:
        history = self.desk.history
        for name, value in row.items():
            column = history.metrics.setdefault(name, [float("nan")] * len(history.steps))
            column[-1] = value


def _explained(problem: Exception, desk: Desk, size: int) -> Exception:
    """NoSpace where the disk was full, whatever the writer called it; the problem itself otherwise."""
    is_full = isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)
    is_writer = isinstance(problem, SafetensorError) or "file write" in str(problem) or "writ" in str(problem).lower()
    desk.path.mkdir(parents=True, exist_ok=True)
    if not is_full and not (is_writer and shutil.disk_usage(desk.path).free < size):
        return problem
    last = last_checkpoint(desk)
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
