"""What every stage of a model's life has in common: its choices, its desk, its folder below OUT/store, and how it is run.

A stage takes the folder that the stage before left and leaves one of the same form (folder.py). Equal choices on equal
folders and data are run once and found again; a stage that was stopped, however hard, goes on where it was.
"""

import hashlib
import json
import shutil
import time
from abc import abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from glassworks.core.errors import Diverged, InvalidInput, Unavailable
from glassworks.core.events import EventLog, StepDone, Stopped, TrainingDone, TrainingStarted
from glassworks.core.files import read_json, write_json
from glassworks.core.runs import describe_environment, lock_folder
from glassworks.core.spec import Spec
from glassworks.core.text import Text, say
from glassworks.tensors.devices import has_fast_bfloat16
from glassworks.tensors.memory import give_freed_memory_back
from glassworks.tensors.processes import check_shards, from_first, joined, wait_for_all, world
from glassworks.training.stages.folder import (
    CHECKPOINTS,
    DONE,
    HISTORY,
    STAGE,
    StageFile,
    folder_of,
    identity_of,
    identity_of_files,
    stages_behind,
)
from glassworks.training.store import History

Facts = dict[str, int | float | str]


class StageSpec(Spec):
    """One stage: what it starts from, and its choices. `run` does the work at a desk."""

    models: ClassVar[tuple[str, ...]] = ("start",)
    """Fields that name a folder, gallery or hub model; the digest holds what lies there instead of the name."""
    files: ClassVar[tuple[str, ...]] = ()
    """Fields that name data files (a path, or a tuple of paths); the digest holds the bytes instead of the names."""
    follows: ClassVar[tuple[str, ...]] = ()
    """Kinds of stages of which one must lie behind `start`; any start will do where empty."""

    has_reference: ClassVar[bool] = False
    """Whether what is learned is held against where it started."""

    start: str = ""
    """The folder that the stage before left, or the name of a gallery model; empty where a stage starts from nothing."""
    seed: int = 0
    """All chance: initial weights, order of data, dropout, draws."""

    @abstractmethod
    def run(self, desk: "Desk") -> Facts:
        """Does the work, leaves a model folder in `desk.path`; the facts go into done.json."""

    def data_files(self, name: str) -> list[str]:
        """The files that a field of `files` means, in the order in which they are read."""
        value = self.__dict__[name]
        return [str(value)] if isinstance(value, str) else [str(one) for one in value]


class LearningSpec(StageSpec):
    """A stage that learns by AdamW; the choices that all of them share, as LLaMA's are (lifecycle.md 3)."""

    steps: int = Field(default=1000, ge=1)
    """Updates."""
    batch: int = Field(default=16, ge=1)
    """Sequences of a forward and backward pass."""
    accumulate: int = Field(default=1, ge=1)
    """Such passes of an update."""
    length: int = Field(default=256, ge=2)
    """Longest sequence, in tokens."""
    rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How the rate falls after the warm-up: by half a cosine, by a line to zero, or not at all."""
    warmup: float = Field(default=0.02, ge=0, lt=1)
    """Share of the steps over which the rate rises from zero."""
    final: float = Field(default=0.1, ge=0, le=1)
    """Share of the highest rate at which the cosine ends."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Averaging constants of AdamW's first and second moment."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled weight decay; norms and biases have none."""
    clip: float = Field(default=1.0, ge=0)
    """Largest length of all gradients as one vector; 0 for no bound."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Matrix products; weights stay float32. "auto" takes bfloat16 in hardware."""
    lora: int = Field(default=0, ge=0)
    """Rank of low-rank adapters that are trained instead of the weights; 0 trains the weights themselves."""
    lora_scale: float = Field(default=2.0, gt=0)
    """Factor on what an adapter adds (alpha / rank)."""
    log_every: int = Field(default=10, ge=1)
    """Steps between two rows of the history, each a mean over them."""

    @property
    def warmup_steps(self) -> int:
        """Steps over which the rate rises."""
        return round(self.warmup * self.steps)


@dataclass(frozen=True)
class StageOptions:
    """How a stage is run; none of it changes what is learned beyond rounding."""

    store: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    checkpoint_every: int = 100
    """Steps between two states that a stopped stage can go on from; rounded up to a row of the history."""
    track: str | None = None
    """trackio, tensorboard, wandb or mlflow, beside the folder's own history."""
    compile: bool = False
    shard: bool = False
    """Whether several processes cut weights and the optimiser's state among them (FSDP2) instead of each holding all."""
    label: str = ""
    any_start: bool = False
    """Whether a start without the stages that should lie behind it is taken all the same."""


@dataclass(frozen=True)
class StageDone:
    """A finished stage: its folder, what was logged, and whether an equal one was found in the store."""

    spec: StageSpec
    path: Path
    history: History
    seconds: float
    reused: bool
    facts: Mapping[str, int | float | str]


class Desk:
    """Where a stage works: its folder, its options, its history and the events that tell of it."""

    def __init__(self, spec: StageSpec, digest: str, options: StageOptions, events: EventLog) -> None:
        self.spec, self.digest, self.options, self.events = spec, digest, options, events
        self.path = options.store / digest
        self.history = History()
        self.hollow: nn.Module | None = None
        """The model that learns, with its adapters, without its numbers; None unless it is cut into shards."""
        self.learner: nn.Module | None = None
        """The model that learns, with its adapters; None unless it is cut into shards."""
        self.earlier_seconds = 0.0
        """Of the sessions before this one; a stage that goes on from a checkpoint sets it."""
        self._started = time.perf_counter()
        self._step_began = self._started

    @property
    def label(self) -> str:
        """The stage's name in the live view."""
        return self.options.label or self.spec.kind

    @property
    def start(self) -> Path | None:
        """The folder or file that the stage starts from; None where it starts from nothing or a hub name."""
        return folder_of(self.spec.start) if self.spec.start else None

    @property
    def checkpoints(self) -> Path:
        """Where states to go on from are kept while the stage is unfinished."""
        return self.path / CHECKPOINTS

    @property
    def writes(self) -> bool:
        """Whether this process writes the stage's files: the first of all that train it."""
        return world().is_first

    @property
    def is_done(self) -> bool:
        """Whether the stage's folder is finished, as the first process sees it; all processes ask together."""
        return from_first((self.path / DONE).is_file())

    @contextmanager
    def held(self) -> Generator[None]:
        """The folder's lock, in the process that writes; RunBusy while another training holds it."""
        if not self.writes:
            yield
            return
        with lock_folder(self.path):
            yield

    @property
    def seconds(self) -> float:
        """Wall time of the stage so far, over all its sessions."""
        return self.earlier_seconds + time.perf_counter() - self._started

    def begin(self, first_step: int, steps: int) -> None:
        """Tells that steps begin; called once."""
        self._step_began = time.perf_counter()
        self.events.emit(
            TrainingStarted(
                label=self.label, digest=self.digest, seed=self.spec.seed, first_step=first_step, steps=steps
            )
        )

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Adds a row of the history (steps counted from 0) and tells of it; `loss` leads where there is one."""
        self.history.append(step, row)
        now = time.perf_counter()
        self.events.emit(
            StepDone(
                digest=self.digest,
                step=step,
                loss=row.get("loss", float("nan")),
                scores=dict(row),
                seconds=now - self._step_began,
            )
        )
        self._step_began = now

    def diverged(self, step: int, what: str, cure: Text | None = None) -> Diverged:
        """The error for a number that is not finite, after telling of it; names the last good state."""
        self.events.emit(Stopped(cause=f"{what} is not finite", step=step))
        cure = cure or say("a smaller learning rate")
        kept = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        right = say("{cure}; no state was kept, for none was good", cure=cure)
        if kept:
            last = kept[-1].name.rpartition("-")[2]
            right = say(
                "{cure}; the last good state (step {step}) is kept in {path}", cure=cure, step=last, path=str(kept[-1])
            )
        return Diverged(
            say("training met NaN or infinity in {what} at step {step}", what=what, step=step),
            given=f"rate={self.spec.rate:g}" if isinstance(self.spec, LearningSpec) else None,
            right=right,
        )


def run_stage(spec: StageSpec, options: StageOptions, events: EventLog) -> StageDone:
    """Runs a stage, goes on with a stopped one, or finds the equal one in the store.

    Raises InvalidInput where a stage is missing behind `start`, RunBusy beside another process, Diverged at NaN, NoSpace
    on a full disk; the last good state is kept in all of these.
    """
    check_shards(options.shard)
    with joined(options.device) as device:
        # One process speaks for all.
        events = events if world().is_first else EventLog()
        if options.shard and device.type == "cpu":
            give_freed_memory_back()
        return _run(spec, replace(options, device=device), events)


def _run(spec: StageSpec, options: StageOptions, events: EventLog) -> StageDone:
    stage = from_first(_looked_up(spec, options) if world().is_first else None)
    assert stage is not None, "the first process looks it up or ends them all"
    desk = Desk(spec, stage.digest, options, events)
    if desk.is_done:
        return _found(spec, desk)
    with desk.held():
        if desk.is_done:
            return _found(spec, desk)
        if desk.writes:
            write_json(desk.path / STAGE, stage.to_json())
        with _tracked(desk):
            facts = spec.run(desk)
        facts = {"device": options.device.type} | facts
        if desk.writes:
            write_json(desk.path / HISTORY, desk.history.to_json())
            write_json(desk.path / "environment.json", describe_environment())
            write_json(desk.path / DONE, {"seconds": desk.seconds, "facts": facts})
            shutil.rmtree(desk.checkpoints, ignore_errors=True)
        wait_for_all()
    events.emit(TrainingDone(label=desk.label, digest=desk.digest, seconds=desk.seconds))
    return StageDone(spec, desk.path, desk.history, desk.seconds, reused=False, facts=facts)


def _looked_up(spec: StageSpec, options: StageOptions) -> StageFile:
    check_start(spec, any_start=options.any_start)
    return stage_file(spec)


def stage_file(spec: StageSpec) -> StageFile:
    """What identifies a stage; reads the named folders and files. The digest is that of what they are."""
    known = {name: identity_of(str(spec.__dict__[name])) for name in spec.models}
    for name in spec.files:
        named = spec.data_files(name)
        known[name] = identity_of_files(named) if named else ""
    text = json.dumps(spec.identity() | known, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    before = stages_behind(spec.start) if spec.start else ()
    return StageFile(spec.kind, digest, spec.to_json(), known, before)


def check_start(spec: StageSpec, *, any_start: bool = False) -> None:
    """Refuses a stage whose `start` lacks what has to come before it; `any_start` lets it pass."""
    if not spec.follows or any_start:
        return
    wanted = spec.follows[-1]
    if not spec.start:
        raise InvalidInput(
            say("{kind} starts from the folder that another stage left, and none is named", kind=spec.kind),
            right=say("start=FOLDER, the folder of a stage {stage}", stage=" | ".join(spec.follows)),
            next_command=f"glassworks train {wanted} --start FOLDER",
        )
    behind = stages_behind(spec.start)
    if any(one.kind in spec.follows for one in behind) or (not behind and is_taught_to_chat(spec.start)):
        return
    passed = ", ".join(one.kind for one in behind) or "-"
    raise InvalidInput(
        say(
            "{kind} comes after {stage}, which {start} did not go through",
            kind=spec.kind,
            stage=wanted,
            start=spec.start,
        ),
        given=say("stages behind it: {stages}", stages=passed),
        right=say("the folder that {stage} left, or --any-start to go on all the same", stage=wanted),
        next_command=f"glassworks train {wanted} --start {spec.start}",
    )


def is_taught_to_chat(source: str) -> bool:
    """Whether a model from elsewhere brings a chat template, as one that was tuned on instructions does."""
    folder = folder_of(source)
    if folder is None or not folder.is_dir():
        return False
    settings = folder / "tokenizer_config.json"
    if (folder / "chat_template.jinja").is_file():
        return True
    return settings.is_file() and bool(read_json(settings).get("chat_template"))


def choose_precision(spec: LearningSpec, device: torch.device) -> str:
    """float32 or bfloat16: as the spec says, or what the hardware is fast at."""
    if spec.precision != "auto":
        return spec.precision
    return "bfloat16" if has_fast_bfloat16(device) else "float32"


def needed(package: str, extra: str = "train") -> None:
    """Raises Unavailable unless a package that the base installation lacks is here."""
    if find_spec(package) is None:
        raise Unavailable(
            say("the package {package} is not installed", package=package),
            right=say("the optional part {extra}", extra=extra),
            next_command=f"pip install 'glassworks[{extra}]'",
        )


def _found(spec: StageSpec, desk: Desk) -> StageDone:
    if desk.writes:
        # A process that was killed between its last two acts left them.
        shutil.rmtree(desk.checkpoints, ignore_errors=True)
    done = read_json(desk.path / DONE)
    history = History.from_json(read_json(desk.path / HISTORY))
    seconds = float(done["seconds"])
    desk.events.emit(TrainingDone(label=desk.label, digest=desk.digest, seconds=seconds, reused=True))
    return StageDone(spec, desk.path, history, seconds, reused=True, facts=done["facts"])


@contextmanager
def _tracked(desk: Desk) -> Generator[None]:
    if desk.options.track is None or not desk.writes:
        yield
        return
    from glassworks.training.stages.tracking import tracking

    with tracking(desk.options.track, desk.path, desk.digest, desk.spec.to_json()) as listener:
        desk.events.listen(listener)
        yield
