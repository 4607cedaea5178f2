"""claims: every claim with its newest verdict; `claims check` judges again from a folder. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from glassworks.cli.finding import experiment_of, find_run, reason_of, verdicts_of
from glassworks.cli.options import Claims
from glassworks.cli.speak import (
    compact_verdict_table,
    counted,
    print_json,
    remarks,
    results,
    verdict_json,
    verdict_table,
)
from glassworks.core.errors import GlassworksError, InvalidInput, UnknownName
from glassworks.core.runs import RunFolder, list_runs
from glassworks.core.text import say
from glassworks.evidence.claims import Claim, Finding, Outcome, Scale, Verdict
from glassworks.evidence.statistics import Interval
from glassworks.experiments import EXPERIMENTS
from glassworks.experiments.base import Experiment
from glassworks.experiments.pages import rebuild_command
from glassworks.experiments.run import done_studies, rejudge


@dataclass(frozen=True)
class Standing:
    """A claim as it stands: its newest verdict, the run that gave it, and the command that would give it again."""

    experiment: str
    verdict: Verdict
    run: Path | None
    command: str

    def to_json(self) -> dict[str, Any]:
        """Plain data in the chosen language."""
        where = {"run": None if self.run is None else str(self.run), "command": self.command}
        return {"experiment": self.experiment} | verdict_json(self.verdict) | where


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
        standings = [s for experiment in chosen for s in newest_standings(experiment, out)]
    else:
        run = find_run(command.run, out)
        standings = list(_standings_of(EXPERIMENTS[run.experiment], [run]))
    if command.json:
        print_json({"claims": [standing.to_json() for standing in standings]})
        return 0
    for kind in dict.fromkeys(standing.experiment for standing in standings):
        _show(kind, [standing for standing in standings if standing.experiment == kind], verbose=command.verbose)
    return 0


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
        rows = [Standing(experiment.kind, verdict, run.path, _again(run)) for verdict in verdicts]
        print_json({"run": str(run.path), "claims": [row.to_json() for row in rows]})
        return 0
    console = results()
    table = verdict_table if command.verbose else compact_verdict_table
    console.print(table(verdicts, say("judged again from {path}", path=str(run.path))))
    console.print(str(counted(verdicts)), style="bold")
    return 0


def newest_standings(experiment: type[Experiment], out: Path) -> Iterator[Standing]:
    """Each claim's newest decided verdict among the runs below `out`, else its newest undecided one, else "not run yet"."""
    runs = [run for run in list_runs(out / "runs") if run.path.parent.name == experiment.model_fields["kind"].default]
    runs.sort(key=_judged_at, reverse=True)
    yield from _standings_of(experiment, [run for run in runs if _is_readable(run)])


def _is_readable(run: RunFolder) -> bool:
    """Whether a run's verdicts can be shown; one that is damaged is named and left out."""
    try:
        _again(run)
        verdicts_of(run)
    except Exception as problem:  # whatever one folder holds, the others still have verdicts
        told = say("{path} was left out, unreadable: {reason}", path=str(run.path), reason=reason_of(problem))
        remarks().print(str(told), style="dim")
        return False
    return True


def _standings_of(experiment: type[Experiment], runs: list[RunFolder]) -> Iterator[Standing]:
    judged = [(run, {verdict.claim: verdict for verdict in verdicts_of(run)}) for run in runs]
    kind = str(experiment.model_fields["kind"].default)
    for claim in experiment.claims:
        found = [(run, verdicts[claim.key]) for run, verdicts in judged if claim.key in verdicts]
        decided = [pair for pair in found if pair[1].outcome is not Outcome.UNDECIDED]
        if found:
            run, verdict = (decided or found)[0]
            yield Standing(kind, verdict, run.path, _again(run))
        else:
            yield Standing(kind, _not_run(claim), None, f"glassworks reproduce {kind}")


def _judged_at(run: RunFolder) -> float:
    path = run.path / "verdicts.json"
    return path.stat().st_mtime if path.is_file() else 0.0


def _not_run(claim: Claim) -> Verdict:
    nothing = Finding(Outcome.UNDECIDED, Interval(float("nan"), float("nan"), float("nan"), 0), "", say("not run yet"))
    return Verdict(
        claim.key, claim.says, claim.where, nothing.outcome, nothing.value, "", nothing.because, (), Scale.SMOKE
    )


def _again(run: RunFolder) -> str:
    """The command that makes this run again from nothing; the one that was typed where its settings cannot be read."""
    found = run.read_json("environment.json") if run.has("environment.json") else {}
    environment = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    try:
        return rebuild_command(experiment_of(run), done_studies(run))
    except GlassworksError:
        return str(environment.get("command", ""))


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
