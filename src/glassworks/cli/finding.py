"""From what a person typed to a run folder and its experiment; no torch."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from glassworks.core.errors import InvalidInput, NotFound, UnknownName
from glassworks.core.runs import RunFolder, list_runs
from glassworks.core.text import say
from glassworks.experiments import EXPERIMENTS
from glassworks.experiments.base import Experiment

_SHORTEST_DIGEST = 4


def find_run(given: str, out: Path) -> RunFolder:
    """The run of a folder, a digest (or four digits of it), or the newest of an experiment below `out`."""
    if os.sep in given or (Path(given) / "spec.json").is_file():
        return RunFolder.open(Path(given))
    here = list_runs(out / "runs")
    if given in EXPERIMENTS.kinds:
        here = [run for run in here if run.path.parent.name == given][:1]
        if not here:
            raise NotFound(
                say("no run of {experiment} in {folder}", experiment=given, folder=str(out / "runs")),
                next_command=f"glassworks reproduce {given}{out_flag(out)}",
            )
        return RunFolder.open(here[0].path)
    if len(given) >= _SHORTEST_DIGEST:
        matching = [run for run in here if run.path.name.startswith(given)]
        if len(matching) == 1:
            return RunFolder.open(matching[0].path)
        if matching:
            raise InvalidInput(
                say("{count} runs begin with {digest}", count=len(matching), digest=given),
                right=say("one of {known}", known=", ".join(run.path.name for run in matching)),
            )
    if not here:
        raise NotFound(
            say("there is no run in {folder}", folder=str(out / "runs")),
            given=given,
            next_command="glassworks reproduce birth",
        )
    raise UnknownName("run", given, [run.path.name for run in here], next_command=f"glassworks runs{out_flag(out)}")


def out_flag(out: Path) -> str:
    """`--out` for a command line, nothing where it is the present folder anyway."""
    return "" if out == Path() else f" --out {shlex.quote(str(out))}"


def experiment_of(run: RunFolder) -> Experiment:
    """The experiment with the settings of a run."""
    return EXPERIMENTS.parse({"kind": run.experiment} | run.header()["spec"])
