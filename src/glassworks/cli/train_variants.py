"""train --vary: one training with some settings varied, every combination, by one executor; one table at the end."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.live import shown
from glassworks.cli.options_train import Train
from glassworks.cli.reproduce import typed_command
from glassworks.cli.speak import duration_words, new_table, print_json, remarks, results
from glassworks.core.errors import InvalidInput, JobsFailed, NotFound
from glassworks.core.events import (
    Event,
    EventLog,
    Listener,
    Planned,
    RunDone,
    RunStarted,
    TrainingDone,
    TrainingStarted,
)
from glassworks.core.files import read_json, write_json
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.executors import WORK, Executor, Job, executor_of
from glassworks.experiments.variants import (
    VARIANTS,
    Group,
    Row,
    VariantsSpec,
    combinations,
    groups_of,
    read_varied,
    table_of,
)

if TYPE_CHECKING:
    import pandas as pd

    from glassworks.training.spec import TrainingSpec
    from glassworks.training.stages.base import StageSpec

ROWS = "tables/rows.csv"


@dataclass(frozen=True)
class Variant:
    """One combination: the values as typed, and the training or stage that they mean."""

    values: Mapping[str, str]
    spec: TrainingSpec | StageSpec
    digest: str
    steps: int

    @property
    def label(self) -> str:
        """Its values, for people."""
        return " ".join(f"{name}={value}" for name, value in self.values.items())


@dataclass(frozen=True, eq=False)
class VariantsOrder:
    """All combinations of one command, ready to run."""

    task: str
    names: tuple[str, ...]
    variants: list[Variant]
    device: str = "auto"
    any_start: bool = False

    @property
    def spec(self) -> VariantsSpec:
        """The value that names the run's folder."""
        return VariantsSpec(
            task=self.task, names=self.names, values=tuple(tuple(one.values.values()) for one in self.variants),
            trainings=tuple(one.digest for one in self.variants),
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Variants:
    """Finished combinations: their run folder, a row of each, mean and interval over seeds where seeds vary."""

    run: RunFolder
    names: tuple[str, ...]
    each: list[Row] = field(repr=False)
    seconds: float

    @property
    def groups(self) -> list[Group]:
        """Loss over seeds for each combination of the other settings."""
        return groups_of(self.names, self.each)

    @property
    def rows(self) -> pd.DataFrame:
        """One line per combination: values, facts, folder, error."""
        return table_of(self.names, self.each)


def train_variants(command: Train) -> int:
    """Trains every combination, shows one table; 1 where some failed, 130 after Ctrl-C with the command that goes on."""
    _refuse_processes(command)
    executor = executor_of(command.executor or "here")
    varied = read_varied(command.vary)
    order = VariantsOrder(command.task, tuple(varied), variants_of(command, varied), command.device, command.any_start)
    failed: JobsFailed | None = None
    try:
        with shown(f"glassworks train {command.task} · {folder_of(order, Path(command.out))}") as listener:
            try:
                made = trained_variants(order, Path(command.out), executor, (listener,), typed_command(sys.argv[1:]))
            except VariantsFailed as problem:
                made, failed = problem.made, problem.cause
    except KeyboardInterrupt:
        remarks().print(str(say("Stopped. What is finished is kept. Go on with:")))
        print(f"  {typed_command(sys.argv[1:])}", file=sys.stderr)
        return 130
    _show(made, as_json=command.json)
    if failed is not None:
        raise failed
    return 0


class VariantsFailed(Exception):
    """Some combinations failed in every attempt; `made` holds all, the others finished."""

    def __init__(self, made: Variants, cause: JobsFailed) -> None:
        super().__init__(str(cause))
        self.made, self.cause = made, cause


def variants_of(command: Train, varied: Mapping[str, Sequence[str]]) -> list[Variant]:
    """Every combination as a training or a stage; the first impossible one raises its own error, before any work."""
    from glassworks.cli.train import refuse_stage_options
    from glassworks.training.stages.recipes import is_stage

    if is_stage(command.task):
        read = _stage
    else:
        refuse_stage_options(command)
        read = _training
    return [read(command, dict(zip(varied, values, strict=True))) for values in combinations(varied)]


def _refuse_processes(command: Train) -> None:
    """Raises InvalidInput where several processes are to train each combination, or a tracker is to hear of all."""
    from glassworks.tensors.processes import world

    here = world()
    if command.launch != 1 or command.shard or not here.is_alone:
        given = (
            f"torchrun, {here.size}"
            if not here.is_alone
            else "--shard"
            if command.shard
            else f"--launch {command.launch}"
        )
        raise InvalidInput(
            say("a varied training takes one process for each combination"),
            given=given,
            right=say("--executor local:4 for several at a time"),
        )
    if command.track is not None:
        raise InvalidInput(
            say("varied trainings are told to no tracker"),
            given=f"--track {command.track}",
            right=say("--track with a single training"),
        )


def folder_of(order: VariantsOrder, out: Path) -> Path:
    """Where the run of these variants lies."""
    return out / "runs" / VARIANTS / order.spec.digest()


def trained_variants(
    order: VariantsOrder, out: Path, executor: Executor, listeners: Sequence[Listener] = (), command: str = ""
) -> Variants:
    """Trains what is missing of all combinations; raises VariantsFailed once every other one is done."""
    started = time.perf_counter()
    run = RunFolder.create(out / "runs", VARIANTS, order.spec)
    for listener in listeners:
        run.events.listen(listener)
    with run.lock():
        run.events.emit(RunStarted(command=command, resumed=run.has("environment.json")))
        (run.path / "manifest.json").unlink(missing_ok=True)
        run.write_environment({"device": order.device, "command": command, "executor": executor.to_json()})
        jobs = {one.digest: _job(one, order, run, out) for one in order.variants}
        run.events.emit(
            Planned(trainings={one.digest: one.steps for one in order.variants if not jobs[one.digest].is_done})
        )
        failed: JobsFailed | None = None
        try:
            executor.run(list(jobs.values()), out / WORK, run.events)
        except JobsFailed as problem:
            failed = problem
        reasons = {} if failed is None else {name: str(what) for name, what, _ in failed.failures}
        each = [_row(one, jobs[one.digest], reasons) for one in order.variants]
        run.write_bytes(ROWS, table_of(order.names, each).to_csv(index=False).encode())
        seconds = time.perf_counter() - started
        if failed is None:
            run.seal()
            run.events.emit(RunDone(seconds=seconds))
    made = Variants(run, order.names, each, seconds)
    if failed is not None:
        raise VariantsFailed(made, failed)
    return made


def train_variant(variant: Mapping[str, Any], out: str, device: str, row: str, cwd: str, **more: Any) -> None:
    """Trains one combination into the store, and writes its row: what a worker does."""
    from glassworks.training.spec import TrainingSpec
    from glassworks.training.stages.shelf import STAGES

    if Path.cwd() != Path(cwd):
        # Files are named as they were typed.
        os.chdir(cwd)
    events: EventLog = more["events"]
    label = str(variant["label"])

    def tell(event: Event) -> None:
        if isinstance(event, TrainingStarted | TrainingDone):
            event = event.model_copy(update={"label": label})
        events.emit(event)

    if variant["kind"] == "training":
        found = _trained(TrainingSpec.parse(variant["spec"]), Path(out), device, tell)
    else:
        found = _staged(STAGES.parse(variant["spec"]), Path(out), device, tell, any_start=bool(variant["any_start"]))
    write_json(Path(row), found)


def _trained(spec: TrainingSpec, out: Path, device: str, listener: Listener) -> dict[str, Any]:
    from glassworks.cli.train import How, trained

    made = trained(spec, out, How(device), (listener,))
    facts = {
        "loss": _finite(made.held_out), "unit": made.unit.en, "floor": _finite(made.floor),
        "parameters": made.parameters, "steps": spec.steps, "seconds": round(made.seconds, 2),
    }  # fmt: skip
    if made.solve is not None:
        facts["solve_converged"] = made.solve.converged
    return {"folder": str(made.path), "facts": facts}


def _staged(spec: StageSpec, out: Path, device: str, listener: Listener, *, any_start: bool) -> dict[str, Any]:
    from glassworks.tensors.devices import choose_device
    from glassworks.training.stages.base import LearningSpec, StageOptions, run_stage

    events = EventLog()
    events.listen(listener)
    here, steps = choose_device(device), spec.steps if isinstance(spec, LearningSpec) else 1
    options = StageOptions(
        store=out / "store", device=here, checkpoint_every=max(1, min(100, steps // 20)), compile=here.type == "cuda",
        any_start=any_start,
    )  # fmt: skip
    done = run_stage(spec, options, events)
    facts = {name: value if isinstance(value, str) else _finite(value) for name, value in done.facts.items()}
    loss = {"loss": facts.pop("held_out_loss")} if "held_out_loss" in facts else {}
    return {"folder": str(done.path), "facts": loss | facts | {"seconds": round(done.seconds, 2)}}


def _training(command: Train, values: Mapping[str, str]) -> Variant:
    from glassworks.training.recipes import read_settings, training_of

    words = [f"{name}={value}" for name, value in values.items()]
    spec = training_of(command.task, read_settings([*command.settings, *words]))
    return Variant(values, spec, spec.digest(), spec.steps)


def _stage(command: Train, values: Mapping[str, str]) -> Variant:
    from glassworks.training.stages.base import LearningSpec, check_start, stage_file
    from glassworks.training.stages.recipes import stage_of

    options = {"preset": command.preset, "start": command.start}
    for name in values:
        if options.get(name) is not None:
            raise InvalidInput(say("{name} is said twice", name=name), given=f"--{name} {options[name]}")
    options |= {name: value for name, value in values.items() if name in options}
    words = [f"{name}={value}" for name, value in values.items() if name not in options]
    spec = stage_of(command.task, [*command.settings, *words], options["preset"], options["start"])
    check_start(spec, any_start=command.any_start)
    steps = spec.steps if isinstance(spec, LearningSpec) else 1
    return Variant(values, spec, stage_file(spec).digest, steps)


def _job(variant: Variant, order: VariantsOrder, run: RunFolder, out: Path) -> Job:
    row = run.path.absolute() / "rows" / f"{variant.digest}.json"
    kind = "training" if variant.spec.kind == "training" else "stage"
    label = variant.label or order.task
    return Job(
        name=f"{run.path.name}-{variant.digest}",
        label=label,
        function=f"{__name__}:train_variant",
        arguments={
            "variant": {"kind": kind, "spec": variant.spec.to_json(), "label": label, "any_start": order.any_start},
            "out": str(out), "device": order.device, "row": str(row), "cwd": str(Path.cwd()),
        },
        proof=row,
        weight=float(variant.steps),
    )  # fmt: skip


def _row(variant: Variant, job: Job, reasons: Mapping[str, str]) -> Row:
    try:
        found = read_json(job.proof)
    except NotFound:
        return Row(tuple(variant.values.values()), variant.digest, {}, error=reasons.get(job.name, "-"))
    return Row(tuple(variant.values.values()), variant.digest, found["facts"], str(found["folder"]))


def _finite(number: float | int) -> float | int | None:
    return number if math.isfinite(number) else None


def _show(made: Variants, *, as_json: bool) -> None:
    """The table of all combinations, then over seeds; its file is the last line of stdout."""
    path = made.run.path / ROWS
    if as_json:
        print_json(
            {
                "run": str(made.run.path),
                "rows": [
                    {
                        "values": dict(zip(made.names, row.values, strict=True)), "facts": dict(row.facts),
                        "digest": row.digest, "folder": row.folder, "error": row.error,
                    }
                    for row in made.each
                ],
                "groups": [_group_json(made.names, group) for group in made.groups],
                "table": str(path),
                "seconds": round(made.seconds, 2),
            }
        )  # fmt: skip
        return
    console = results()
    units = {str(row.facts["unit"]) for row in made.each if "unit" in row.facts}
    loss = (
        say("loss on what it never saw, {unit}", unit=units.pop())
        if len(units) == 1
        else say("loss on what it never saw")
    )
    table = new_table(*made.names, loss, say("seconds"), say("folder"))
    for row in made.each:
        value = _number(row.loss) if row.error is None else str(say("failed: {reason}", reason=row.error))
        seconds = row.facts.get("seconds")
        table.add_row(*row.values, value, "–" if seconds is None else f"{float(seconds):.1f}", row.folder or "–")
    console.print(table)
    if made.groups:
        others = [name for name in made.names if name != "seed"]
        over = new_table(*others, say("mean loss over seeds"), say("95 % interval"), say("seeds"))
        for group in made.groups:
            low, high = _number(group.loss.low), _number(group.loss.high)
            interval = "–" if math.isnan(group.loss.low) else f"{low} … {high}"
            over.add_row(*group.values, _number(group.loss.mean), interval, str(group.loss.count))
        console.print(over)
    done = sum(row.error is None for row in made.each)
    console.print(
        str(say("{done} of {count} trained in {time}", done=done, count=len(made.each), time=duration_words(made.seconds))),
        style="bold",
    )  # fmt: skip
    console.print(str(say("All numbers:")))
    print(path)


def _group_json(names: Sequence[str], group: Group) -> dict[str, Any]:
    others = [name for name in names if name != "seed"]
    return {
        "values": dict(zip(others, group.values, strict=True)), "mean": _finite(group.loss.mean),
        "low": _finite(group.loss.low), "high": _finite(group.loss.high), "seeds": group.loss.count,
    }  # fmt: skip


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4g}"
