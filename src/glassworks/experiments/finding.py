"""From what a person typed to a run folder and its experiment; no torch."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import BrokenFile, GlassworksError, InvalidInput, NotFound, UnknownName
from glassworks.core.runs import RunFolder, list_runs
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Verdict
from glassworks.experiments import EXPERIMENTS
from glassworks.experiments.base import Experiment
from glassworks.experiments.variants import VARIANTS, VariantsSpec
from glassworks.surgery.choice import SWEEP, SweepSpec

# What lies in a folder `runs`: runs of experiments, sweeps, and varied trainings.
KINDS = (*EXPERIMENTS.kinds, SWEEP, VARIANTS)
_SHORTEST_DIGEST = 4
_VERBS = {SWEEP: "sweep MODEL", VARIANTS: "train bigram --vary seed=0,1,2"}
_DIGEST = re.compile(r"[0-9a-f]{16}")


def find_run(given: str, out: Path) -> RunFolder:
    """The run of a folder, a digest (or four digits of it), or the newest of an experiment below `out`."""
    if not given:
        raise InvalidInput(say("which run?"), given='""', right=say("a run folder or its digest"))
    if os.sep in given or (Path(given) / "spec.json").is_file():
        return RunFolder.open(Path(given))
    here = list_runs(out / "runs")
    if given in KINDS:
        here = [run for run in here if run.path.parent.name == given][:1]
        if not here:
            verb = _VERBS.get(given, f"reproduce {given}")
            raise NotFound(
                say("no run of {experiment} in {folder}", experiment=given, folder=str(out / "runs")),
                next_command=f"glassworks {verb}{out_flag(out)}",
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
    """The experiment with the settings of a run; InvalidInput for a sweep, which is none."""
    if run.experiment == SWEEP:
        raise InvalidInput(
            say("{path} holds a sweep of plans, and no trained model", path=str(run.path)),
            right=say("the run of an experiment"),
            next_command=f"glassworks runs show {shlex.quote(str(run.path))}",
        )
    if run.experiment == VARIANTS:
        raise InvalidInput(
            say("{path} holds the table of varied trainings; their models lie in the store", path=str(run.path)),
            right=say("the folder of one of its rows"),
            next_command=f"glassworks runs show {shlex.quote(str(run.path))}",
        )
    return EXPERIMENTS.parse({"kind": run.experiment} | settings_of(run))


def settings_of(run: RunFolder) -> dict[str, Any]:
    """What spec.json says of the settings, unchecked; BrokenFile where it holds none."""
    found = run.header()["spec"]
    if not isinstance(found, dict):
        raise BrokenFile(say("{path} holds no settings", path=str(run.path / "spec.json")))
    return cast(dict[str, Any], found)


def verdicts_of(run: RunFolder) -> tuple[Verdict, ...]:
    """The verdicts of a run, each of which can be shown; BrokenFile where the file holds anything else."""
    if not run.has("verdicts.json"):
        return ()
    rows = run.read_json("verdicts.json")
    try:
        found = tuple(Verdict.from_json(row) for row in rows)
        for verdict in found:
            # Sentences are filled only when they are shown; here a wrong one still has a file to name.
            "".join([verdict.claim, verdict.unit, verdict.says.en, verdict.where.en, verdict.because.en])
            sorted(verdict.seeds)
    except Exception as problem:
        path = run.path / "verdicts.json"
        raise BrokenFile(
            say("{path} holds no verdicts: {reason}", path=str(path), reason=reason_of(problem)),
            next_command=f"glassworks claims check --run {shlex.quote(str(run.path))}",
        ) from None
    return found


def reason_of(problem: Exception) -> Text:
    """Why something could not be read, in one sentence, whatever went wrong."""
    if isinstance(problem, GlassworksError):
        return problem.what
    return say("{reason}", reason=f"{type(problem).__name__}: {problem}")


def deletable(run: RunFolder) -> Path:
    """The real folder of a run; InvalidInput unless it is `runs/<experiment>/<digest>` with its own digest.

    Any folder may hold a spec.json, and a path may lead out of `runs` by a link or `..`; only what a run wrote
    may be removed.
    """
    lexical = Path(os.path.normpath(run.path.absolute()))
    real = run.path.resolve()
    is_link = any(part.is_symlink() for part in (lexical, lexical.parent, lexical.parent.parent))
    kind = run.experiment
    is_run = real.parts[-3:-1] == ("runs", kind) and kind in KINDS and _DIGEST.fullmatch(real.name)
    if not is_run or is_link or _own_digest(run) not in (None, real.name):
        raise InvalidInput(
            say("{path} is not where a run lies, so it is not deleted", path=str(run.path)),
            given=str(real),
            right=say("a folder runs/EXPERIMENT/DIGEST, no link, named by the digest of its own settings"),
            next_command="glassworks runs list",
        )
    return real


def _own_digest(run: RunFolder) -> str | None:
    """The digest of a run's settings; None where this version cannot read them."""
    try:
        match run.experiment:
            case "sweep":
                return SweepSpec.parse(settings_of(run)).digest()
            case "variants":
                return VariantsSpec.parse(settings_of(run)).digest()
            case _:
                return experiment_of(run).digest()
    except GlassworksError:
        return None
