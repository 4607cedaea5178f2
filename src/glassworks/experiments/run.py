"""Running an experiment: train what is missing, measure, judge, draw, write the report; every part resumable."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.events import EventLog, Judged, Listener, Measured, Planned, RunDone, RunStarted
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Verdict, judge
from glassworks.evidence.measurements import Measurement, load_measurements, save_measurements, save_table
from glassworks.executors import WORK, Executor
from glassworks.experiments.base import Bench, Experiment
from glassworks.experiments.elsewhere import training_jobs
from glassworks.experiments.pages import write_report

if TYPE_CHECKING:
    import torch

    from glassworks.training.loop import Trained, TrainingOptions
    from glassworks.training.spec import TrainingSpec


@dataclass(frozen=True)
class RunOptions:
    """Where and how an experiment runs; none of it is part of the experiment."""

    out: Path = Path()
    only: tuple[str, ...] = ()
    device: str = "auto"
    listeners: tuple[Listener, ...] = ()
    command: str = ""
    executor: Executor | None = None
    """Who trains; this process, one training after the other, unless given."""


@dataclass(frozen=True)
class Outcome:
    """A finished run: its folder, its verdicts, how long it took."""

    run: RunFolder
    verdicts: tuple[Verdict, ...]
    seconds: float
    measurements: Mapping[str, Measurement] = field(default_factory=dict[str, Measurement], repr=False)


def run_experiment(experiment: Experiment, options: RunOptions) -> Outcome:
    """Runs the chosen studies (all unless `only`); raises RunBusy when another process works on the same run."""
    names = chosen_studies(experiment, options.only)
    run = RunFolder.create(options.out / "runs", experiment.kind, experiment)
    for listener in options.listeners:
        run.events.listen(listener)
    started = time.perf_counter()
    with run.lock():
        run.events.emit(RunStarted(command=options.command, resumed=run.has("studies.json")))
        # What follows rewrites files: until the end this run is unfinished, and its old manifest would call it damaged.
        (run.path / "manifest.json").unlink(missing_ok=True)
        missing = [name for name in names if name not in done_studies(run)]
        if missing or not run.has("environment.json"):
            run.write_environment({"device": _device_name(options.device), "command": options.command})
        _run_studies(experiment, missing, run, options)
        return _conclude(experiment, run, started)


def chosen_studies(experiment: Experiment, only: Sequence[str]) -> list[str]:
    """The names of the studies to run, in the experiment's order; an unknown one raises UnknownName."""
    known = [study.name for study in experiment.studies]
    for name in only:
        if name not in known:
            raise UnknownName("study", name, known, next_command=f"glassworks reproduce {experiment.kind} --help")
    return [name for name in known if not only or name in only]


def done_studies(run: RunFolder) -> dict[str, float]:
    """The studies whose measurements are in the folder, with the seconds they took."""
    if not (run.has("studies.json") and run.has("measurements.json")):
        return {}
    found: Any = run.read_json("studies.json")
    if not isinstance(found, dict):
        return {}
    return {str(name): float(seconds) for name, seconds in cast(dict[str, Any], found).items()}


def rejudge(experiment: Experiment, run: RunFolder) -> list[Verdict]:
    """Judges the claims again from the measurements on disk; needs no torch."""
    if not run.has("measurements.json"):
        raise InvalidInput(
            say("{path} holds no measurements yet", path=str(run.path)),
            next_command=f"glassworks reproduce {experiment.kind} --resume {run.path}",
        )
    verdicts = judge(experiment.claims, Evidence(load_measurements(run.path), experiment.reached_scale()))
    run.write_json("verdicts.json", [verdict.to_json() for verdict in verdicts])
    run.seal_again("verdicts.json")
    return verdicts


def _run_studies(experiment: Experiment, names: Sequence[str], run: RunFolder, options: RunOptions) -> None:
    if not names:
        return
    from glassworks.tensors.devices import choose_device
    from glassworks.tensors.memory import keep_freed_memory

    device = choose_device(options.device)
    if device.type == "cpu":
        keep_freed_memory()
    experiment.check(names)
    plans = {name: experiment.trainings(name) for name in names}
    specs = {spec.digest(): spec for plan in plans.values() for spec in plan.values()}
    run.events.emit(Planned(trainings={digest: spec.steps for digest, spec in specs.items()}))
    store = options.out / "store"
    if options.executor is not None:
        # What follows finds all of them in the store.
        jobs = training_jobs(experiment, plans, store, options.device)
        options.executor.run(jobs, options.out / WORK, run.events)
    # Of what an executor did, all was told.
    events = run.events if options.executor is None else EventLog()
    for name in names:
        begun = time.perf_counter()
        trained = {
            label: _train(spec, training_options(experiment, spec, f"{name}: {label}", store, device), events)
            for label, spec in plans[name].items()
        }
        found = experiment.measure(name, Bench(trained, store, device, run.events, name))
        _keep(run, name, found, time.perf_counter() - begun)
        for measurement in found:
            run.events.emit(Measured(name=measurement.name, seconds=time.perf_counter() - begun))


def _device_name(request: str) -> str:
    """The device that a request means here, with its name where it has one."""
    import torch

    from glassworks.tensors.devices import choose_device

    device = choose_device(request)
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def training_options(
    experiment: Experiment, spec: TrainingSpec, label: str, store: Path, device: torch.device
) -> TrainingOptions:
    """How a training of an experiment is run, whoever runs it."""
    from glassworks.training.loop import TrainingOptions

    return TrainingOptions(
        store=store, device=device, compile=device.type == "cuda", probe=experiment.probe(spec), label=label
    )


def _train(spec: TrainingSpec, options: TrainingOptions, events: EventLog) -> Trained:
    from glassworks.training.loop import train

    return train(spec, options, events)


def _keep(run: RunFolder, study: str, found: Sequence[Measurement], seconds: float) -> None:
    """Adds a study's measurements to the folder; a kill between the two writes only repeats the study."""
    kept = load_measurements(run.path) if run.has("measurements.json") else {}
    kept |= {measurement.name: measurement for measurement in found}
    save_measurements(run.path, list(kept.values()))
    run.write_json("studies.json", done_studies(run) | {study: round(seconds, 2)})


def _conclude(experiment: Experiment, run: RunFolder, started: float) -> Outcome:
    verdicts = rejudge(experiment, run)
    for verdict in verdicts:
        run.events.emit(Judged(claim=verdict.claim, verdict=verdict.outcome.value))
    measurements = load_measurements(run.path)
    for suffix in (".csv", ".parquet"):
        save_table(measurements.values(), run.path / "tables" / f"measurements{suffix}")
    figures = redraw(experiment, run, measurements)
    write_report(experiment, run, verdicts, figures)
    seconds = time.perf_counter() - started
    # Told last: whoever hears of it finds a whole run, also after a kill.
    run.seal()
    run.events.emit(RunDone(seconds=seconds))
    return Outcome(run, tuple(verdicts), seconds, measurements)


def redraw(experiment: Experiment, run: RunFolder, measurements: Mapping[str, Measurement]) -> list[Any]:
    """Draws every figure again from the measurements, as SVG (light, dark) and PNG under `figures/`."""
    figures = list(experiment.draw(Evidence(measurements, experiment.reached_scale())))
    for figure in figures:
        for theme in ("light", "dark"):
            run.write_bytes(f"figures/{figure.name}.{theme}.svg", figure.svg(theme).encode())
        run.write_bytes(f"figures/{figure.name}.png", figure.png("light"))
    return figures
