"""reproduce: runs an experiment before your eyes and judges its claims."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glassworks.cli.live import shown
from glassworks.cli.options import Reproduce
from glassworks.cli.speak import (
    counted,
    duration_words,
    print_json,
    remarks,
    results,
    tell_of_torch,
    verdict_table,
)
from glassworks.cli.watch import Watch
from glassworks.core.errors import InvalidInput, UnknownName, nearest
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.evidence.claims import Scale
from glassworks.executors import executor_of
from glassworks.experiments import EXPERIMENTS
from glassworks.experiments.base import Experiment
from glassworks.experiments.finding import experiment_of, find_run
from glassworks.experiments.run import Outcome, RunOptions, chosen_studies, done_studies, run_experiment
from glassworks.experiments.standings import verdict_json


@dataclass(frozen=True)
class Order:
    """What is to be run, and where."""

    experiment: Experiment
    out: Path
    only: tuple[str, ...]


def reproduce(command: Reproduce) -> int:
    """Runs, shows, judges; returns 0, or 130 after Ctrl-C with the command that goes on."""
    go_offline(command.offline)
    order = order_of(command)
    executor = None if command.executor is None else executor_of(command.executor)
    if command.device != "auto":
        from glassworks.tensors.devices import choose_device

        # Also where nothing is left to compute: a device that is not here is a mistake worth naming.
        choose_device(command.device)
    folder = order.out / "runs" / order.experiment.kind / order.experiment.digest()
    title = f"glassworks reproduce {order.experiment.kind} · {order.experiment.scale.value} · {folder}"
    # A finished run is only judged and drawn again, without torch.
    if not _is_finished(order, folder):
        tell_of_torch(as_json=command.json)
    try:
        with shown(title) as listener:
            options = RunOptions(
                order.out, order.only, command.device, (listener,), command=typed_command(sys.argv[1:]),
                executor=executor,
            )  # fmt: skip
            outcome = run_experiment(order.experiment, options)
            watch = listener if isinstance(listener, Watch) else listener.watch
    except KeyboardInterrupt:
        remarks().print(str(say("Stopped. What is finished is kept. Go on with:")))
        print(f"  {resume_command(command, order, folder)}", file=sys.stderr)
        return 130
    show_outcome(outcome, as_json=command.json, reused=watch.found_finished)
    return 0


def order_of(command: Reproduce) -> Order:
    """The experiment with all its settings from what was typed; errors name the nearest known name."""
    out = Path(command.out)
    if command.resume is not None:
        return _resumed(command, out)
    if command.experiment is None:
        raise InvalidInput(
            say("which experiment?"),
            right=say("one of {known}", known=", ".join(EXPERIMENTS.kinds)),
            next_command=f"glassworks reproduce {EXPERIMENTS.kinds[0]}",
        )
    experiment = EXPERIMENTS[command.experiment].at(scale_of(command.scale or "laptop"))
    _check_studies(experiment, command)
    for assignment in command.set:
        experiment = experiment.replaced_from_text(assignment)
    if command.seed:
        experiment = experiment.replaced("seeds", list(command.seed))
    if command.dtype != "auto":
        experiment = _with_precision(experiment, command.dtype)
    return Order(experiment, out, command.only)


def _check_studies(experiment: Experiment, command: Reproduce) -> None:
    """Raises UnknownName for a study that the experiment lacks, with the command that would run the nearest."""
    known = [study.name for study in experiment.studies]
    for name in command.only:
        if name not in known:
            right = nearest(name, known) or known[0]
            words = ["glassworks", "reproduce", experiment.kind]
            words += ["--resume", command.resume] if command.resume else []
            words += ["--scale", command.scale] if command.scale else []
            raise UnknownName("study", name, known, next_command=shlex.join([*words, "--only", right]))


def _is_finished(order: Order, folder: Path) -> bool:
    """Whether every study that was asked for is measured already."""
    if not (folder / "spec.json").is_file():
        return False
    done = done_studies(RunFolder.open(folder))
    return all(name in done for name in chosen_studies(order.experiment, order.only))


def scale_of(name: str) -> Scale:
    """The scale of a name; an unknown one raises UnknownName."""
    known = [scale.value for scale in Scale]
    if name not in known:
        raise UnknownName("scale", name, known)
    return Scale(name)


def show_outcome(outcome: Outcome, *, as_json: bool, reused: bool = False) -> None:
    """The verdicts; the path of the report is the last line of stdout. `reused`: the run was finished before."""
    if as_json:
        print_json(
            {
                "run": str(outcome.run.path),
                "report": str(outcome.run.report),
                "verdicts": [verdict_json(verdict) for verdict in outcome.verdicts],
                "seconds": round(outcome.seconds, 2),
                "reused": reused,
            }
        )
        return
    console = results()
    console.print(verdict_table(outcome.verdicts))
    time = duration_words(outcome.seconds)
    told = str(say("reused; judged and drawn again in {time}", time=time)) if reused else time
    console.print(f"{counted(outcome.verdicts)}  ·  {told}", style="bold")
    console.print(str(say("The report, with figures and limits:")))
    print(outcome.run.report)


def resume_command(command: Reproduce, order: Order, folder: Path) -> str:
    """What to type to go on."""
    words = ["glassworks", "reproduce", order.experiment.kind, "--resume", str(folder)]
    for study in order.only:
        words += ["--only", study]
    if command.device != "auto":
        words += ["--device", command.device]
    if command.executor is not None:
        words += ["--executor", command.executor]
    return shlex.join(words)


def typed_command(arguments: Sequence[str]) -> str:
    """The command line as it can be typed again."""
    return shlex.join(["glassworks", *arguments])


def go_offline(offline: bool) -> None:
    """Tells every Hugging Face library to stay off the network; without the flag the environment decides."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["TRANSFORMERS_OFFLINE"] = "1"


def _resumed(command: Reproduce, out: Path) -> Order:
    dtype = "" if command.dtype == "auto" else command.dtype
    settings = (("--scale", command.scale), ("--set", command.set), ("--seed", command.seed), ("--dtype", dtype))
    given = [name for name, value in settings if value]
    if given:
        raise InvalidInput(
            say("a resumed run keeps its own settings"),
            given=", ".join(given),
            right=say("--resume without {given}, or a new run without --resume", given=", ".join(given)),
        )
    run = find_run(str(command.resume), out)
    experiment = experiment_of(run)
    if command.experiment not in (None, experiment.kind):
        raise InvalidInput(
            say("the run in {path} is one of {experiment}", path=str(run.path), experiment=experiment.kind),
            given=command.experiment,
        )
    _check_studies(experiment, command)
    return Order(experiment, _root_of(run, experiment), command.only)


def _root_of(run: RunFolder, experiment: Experiment) -> Path:
    """The folder above `runs/<experiment>/<digest>`, where the store lies; a moved or edited run is refused."""
    path = run.path.absolute()
    expected = ("runs", experiment.kind, experiment.digest())
    if path.parts[-3:] != expected:
        raise InvalidInput(
            say("{path} does not carry the name of its settings, so it was moved or edited", path=str(run.path)),
            right=say("a folder that ends in {expected}", expected="/".join(expected)),
        )
    root = path.parents[2]
    return Path(os.path.relpath(root)) if root.is_relative_to(Path.cwd()) else root


def _with_precision(experiment: Experiment, dtype: str) -> Experiment:
    if "precision" not in type(experiment).model_fields:
        raise InvalidInput(
            say("{experiment} chooses its precision itself", experiment=experiment.kind),
            given=f"--dtype {dtype}",
            right=say("no --dtype"),
        )
    return experiment.replaced("precision", dtype)
