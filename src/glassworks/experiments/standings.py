"""How each claim stands: its newest verdict among the runs on disk, and the command that would give it again. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import GlassworksError
from glassworks.core.runs import RunFolder, list_runs
from glassworks.core.text import Text, current_language, say
from glassworks.evidence.claims import Claim, Finding, Outcome, Scale, Verdict
from glassworks.evidence.statistics import Interval
from glassworks.experiments.base import Experiment
from glassworks.experiments.finding import experiment_of, reason_of, verdicts_of
from glassworks.experiments.pages import rebuild_command
from glassworks.experiments.run import done_studies


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


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict with plain sentences in the chosen language."""
    language = current_language()
    plain = {"says": verdict.says, "where": verdict.where, "because": verdict.because}
    return verdict.to_json() | {name: text.in_language(language) for name, text in plain.items()}


def newest_standings(experiment: type[Experiment], out: Path, tell: Callable[[Text], None]) -> Iterator[Standing]:
    """Each claim's newest decided verdict among the runs below `out`, else its newest undecided one, else "not run yet".

    `tell` hears of each run that is damaged and was left out.
    """
    runs = [run for run in list_runs(out / "runs") if run.path.parent.name == experiment.model_fields["kind"].default]
    runs.sort(key=_judged_at, reverse=True)
    yield from standings_of(experiment, [run for run in runs if _is_readable(run, tell)])


def _is_readable(run: RunFolder, tell: Callable[[Text], None]) -> bool:
    try:
        command_again(run)
        verdicts_of(run)
    except Exception as problem:  # whatever one folder holds, the others still have verdicts
        tell(say("{path} was left out, unreadable: {reason}", path=str(run.path), reason=reason_of(problem)))
        return False
    return True


def standings_of(experiment: type[Experiment], runs: list[RunFolder]) -> Iterator[Standing]:
    """Each claim of an experiment as these runs, newest first, left it."""
    judged = [(run, {verdict.claim: verdict for verdict in verdicts_of(run)}) for run in runs]
    kind = str(experiment.model_fields["kind"].default)
    for claim in experiment.claims:
        found = [(run, verdicts[claim.key]) for run, verdicts in judged if claim.key in verdicts]
        decided = [pair for pair in found if pair[1].outcome is not Outcome.UNDECIDED]
        if found:
            run, verdict = (decided or found)[0]
            yield Standing(kind, verdict, run.path, command_again(run))
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


def command_again(run: RunFolder) -> str:
    """The command that makes this run again from nothing; the one that was typed where its settings cannot be read."""
    found = run.read_json("environment.json") if run.has("environment.json") else {}
    environment = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    try:
        return rebuild_command(experiment_of(run), done_studies(run))
    except GlassworksError:
        return str(environment.get("command", ""))
