"""runs: what is on disk: list, show, delete, verify. No torch."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from glassworks.cli.options import Runs
from glassworks.cli.speak import (
    counted,
    duration_words,
    new_table,
    print_json,
    remarks,
    results,
    size_words,
    verdict_table,
)
from glassworks.core.errors import InvalidInput
from glassworks.core.events import read_events
from glassworks.core.runs import Damage, RunFolder, list_runs
from glassworks.core.text import Text, say
from glassworks.experiments.entries import Entry
from glassworks.experiments.finding import deletable, find_run, out_flag, reason_of, settings_of
from glassworks.experiments.standings import verdict_json
from glassworks.surgery.choice import SWEEP


def runs(command: Runs) -> int:
    """Does what was asked; verify returns 1 when something is damaged."""
    out = Path(command.out)
    match command.action:
        case "list":
            return _list(out, as_json=command.json)
        case "show":
            return _show(_asked(command, out), as_json=command.json)
        case "delete":
            return _delete(_asked(command, out), command)
        case "verify":
            chosen = list_runs(out / "runs") if command.run is None else [_asked(command, out)]
            return _verify(chosen, as_json=command.json)


def _asked(command: Runs, out: Path) -> RunFolder:
    if command.run is None:
        raise InvalidInput(
            say("which run?"), right=say("a run folder or its digest"), next_command=f"glassworks runs{out_flag(out)}"
        )
    return find_run(command.run, out)


def _list(out: Path, *, as_json: bool) -> int:
    entries = [Entry.of(run) for run in list_runs(out / "runs")]
    if as_json:
        print_json({"runs": [entry.to_json() for entry in entries]})
        return 0
    if not entries:
        remarks().print(
            str(say("no runs in {folder} yet; start with: glassworks reproduce birth", folder=str(out / "runs")))
        )
        return 0
    table = new_table(
        say("experiment"),
        say("digest"),
        say("scale or model"),
        say("studies done"),
        say("verdicts"),
        say("size"),
        say("age"),
        say("state"),
    )
    for entry in entries:
        verdicts = str(counted(entry.verdicts)) if entry.verdicts else "–"
        table.add_row(
            entry.experiment, entry.path.name, entry.scale, ", ".join(entry.studies) or "–", verdicts,
            size_words(entry.size), duration_words(entry.age), str(entry.state),
        )  # fmt: skip
    results().print(table)
    return 0


def _show(run: RunFolder, *, as_json: bool) -> int:
    entry = Entry.of(run)
    spec = settings_of(run)
    seconds = {e.digest: e.seconds for e in read_events(run.path / "events.jsonl") if e.kind == "training_done"}
    if as_json:
        verdicts = [verdict_json(verdict) for verdict in entry.verdicts]
        print_json(entry.to_json() | {"spec": spec, "trainings": seconds, "claims": verdicts})
        return 0
    console = results()
    table = new_table(say("run"), str(run.path))
    rows = [
        (say("scale or model"), entry.scale),
        (say("studies done"), ", ".join(entry.studies) or "–"),
        _work_row(run, seconds),
        (say("size"), size_words(entry.size)),
        (say("state"), str(entry.state)),
        (say("settings"), ", ".join(f"{name} = {value}" for name, value in spec.items())),
    ]
    for name, value in rows:
        table.add_row(str(name), value)
    console.print(table)
    if entry.verdicts:
        console.print(verdict_table(entry.verdicts))
        console.print(str(counted(entry.verdicts)), style="bold")
    if run.report.is_file():
        print(run.report)
    return 0


def _work_row(run: RunFolder, seconds: Mapping[str, float]) -> tuple[Text, str]:
    """What was computed: trainings of an experiment, layer runs of a sweep."""
    if run.experiment == SWEEP:
        cost = run.read_json("cost.json") if run.has("cost.json") else {}
        return say("layer runs done, over each batch"), str(cost.get("done", "–"))
    return say("trainings"), f"{len(seconds)}, {duration_words(sum(seconds.values()))}"


def _delete(run: RunFolder, command: Runs) -> int:
    real = deletable(run)
    size = Entry.of(run).size
    if not command.yes:
        if command.json or not sys.stdin.isatty():
            raise InvalidInput(
                say("deleting needs a yes"),
                right=say("--yes"),
                next_command=f"glassworks runs delete {shlex.quote(str(run.path))} --yes",
            )
        print(
            say("Delete {path}, {size}? [y/N]", path=str(run.path), size=size_words(size)),
            file=sys.stderr,
            end=" ",
            flush=True,
        )
        if sys.stdin.readline().strip().lower() not in ("y", "yes", "是"):
            print(say("Kept."), file=sys.stderr)
            return 0
    RunFolder(real).delete()
    if command.json:
        print_json({"deleted": str(run.path), "bytes": size})
    else:
        print(
            say("deleted {path}, {size}; trained models stay in the store", path=str(run.path), size=size_words(size))
        )
    return 0


def _verify(chosen: list[RunFolder], *, as_json: bool) -> int:
    found = {str(run.path): _damage_of(run) for run in chosen}
    unfinished = [path for path, every in found.items() if [d.path for d in every] == [Path(path)]]
    is_whole = all(not every or path in unfinished for path, every in found.items())
    if as_json:
        damage = {path: [{"path": str(d.path), "what": str(d.what)} for d in every] for path, every in found.items()}
        print_json({"whole": is_whole, "unfinished": unfinished, "runs": damage})
        return 0 if is_whole else 1
    if not found:
        remarks().print(str(say("nothing to verify")))
    for path, every in found.items():
        if path in unfinished:
            print(say("{path}: unfinished, nothing to compare with", path=path))
            continue
        print(say("{path}: as written", path=path) if not every else say("{path}: damaged", path=path))
        for damage in every:
            print(f"  {_line(damage, Path(path))}")
    return 0 if is_whole else 1


def _damage_of(run: RunFolder) -> list[Damage]:
    """What is not as it was written; a manifest that cannot be read is damage itself."""
    try:
        return run.verify()
    except Exception as problem:  # one bad manifest must not hide the state of the other runs
        return [Damage(run.path / "manifest.json", say("unreadable: {reason}", reason=reason_of(problem)))]


def _line(damage: Damage, run: Path) -> str:
    inside = damage.path.relative_to(run) if damage.path.is_relative_to(run) else damage.path
    return f"{inside}: {damage.what}"
