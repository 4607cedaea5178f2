"""claims: every claim with its newest verdict; `claims check` judges again from a folder. No torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from glassworks.cli.options import Claims
from glassworks.cli.speak import (
    compact_verdict_table,
    counted,
    print_json,
    remarks,
    results,
    verdict_table,
)
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import Text, say
from glassworks.experiments import EXPERIMENTS
from glassworks.experiments.finding import experiment_of, find_run
from glassworks.experiments.run import rejudge
from glassworks.experiments.standings import Standing, command_again, newest_standings, standings_of


def claims(command: Claims) -> int:
    """Lists or checks."""
    match command.action:
        case "check":
            return _check(command)
        case "list":
            return _list(command)
        case name if command.experiment is None and name in EXPERIMENTS.kinds:
            return _list(replace(command, action="list", experiment=name))
        case other:
            raise UnknownName("experiment", other, EXPERIMENTS.kinds, next_command="glassworks claims --help")


def _list(command: Claims) -> int:
    out = Path(command.out)
    chosen = [EXPERIMENTS[command.experiment]] if command.experiment else list(EXPERIMENTS)
    if command.run is None:
        standings = [s for experiment in chosen for s in newest_standings(experiment, out, _remark)]
    else:
        run = find_run(command.run, out)
        standings = list(standings_of(EXPERIMENTS[run.experiment], [run]))
    if command.json:
        print_json({"claims": [standing.to_json() for standing in standings]})
        return 0
    for kind in dict.fromkeys(standing.experiment for standing in standings):
        _show(kind, [standing for standing in standings if standing.experiment == kind], verbose=command.verbose)
    return 0


def _remark(what: Text) -> None:
    remarks().print(str(what), style="dim")


def _check(command: Claims) -> int:
    if command.experiment is None and command.run is None:
        raise InvalidInput(
            say("which experiment's claims?"),
            right=say("one of {known}, or --run", known=", ".join(EXPERIMENTS.kinds)),
            next_command=f"glassworks claims check {EXPERIMENTS.kinds[0]}",
        )
    if command.experiment is not None and command.experiment not in EXPERIMENTS.kinds:
        EXPERIMENTS[command.experiment]
    run = find_run(command.run or str(command.experiment), Path(command.out))
    if command.experiment not in (None, run.experiment):
        raise InvalidInput(
            say("the run in {path} is one of {experiment}", path=str(run.path), experiment=run.experiment),
            given=command.experiment,
        )
    experiment = experiment_of(run)
    verdicts = rejudge(experiment, run)
    if command.json:
        rows = [Standing(experiment.kind, verdict, run.path, command_again(run)) for verdict in verdicts]
        print_json({"run": str(run.path), "claims": [row.to_json() for row in rows]})
        return 0
    console = results()
    table = verdict_table if command.verbose else compact_verdict_table
    console.print(table(verdicts, say("judged again from {path}", path=str(run.path))))
    console.print(str(counted(verdicts)), style="bold")
    return 0


def _show(kind: str, standings: list[Standing], *, verbose: bool) -> None:
    console = results()
    verdicts = [standing.verdict for standing in standings]
    table = verdict_table if verbose else compact_verdict_table
    console.print(table(verdicts, say("claims of {experiment}", experiment=kind)))
    console.print(str(counted(verdicts)), style="bold")
    for run, command in dict.fromkeys((s.run, s.command) for s in standings):
        if run is None:
            remarks().print(str(say("To judge what was not run yet: {command}", command=command)))
        else:
            seeds = sorted({seed for s in standings if s.run == run for seed in s.verdict.seeds})
            console.print(
                str(
                    say(
                        "{path}: seeds {seeds}; {command}",
                        path=str(run),
                        seeds=", ".join(map(str, seeds)) or "–",
                        command=command,
                    )
                ),
                style="dim",
            )
    if not verbose:
        remarks().print(str(say("The sentences and reasons: {command}", command="glassworks claims -v")), style="dim")
