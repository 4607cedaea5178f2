"""export: a run's report, tables, figures or models in another place; a plan as a model; a model as two files."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glassworks.cli.options import Export
from glassworks.cli.speak import print_json, tell_of_torch
from glassworks.core.errors import InvalidInput, NotFound
from glassworks.core.files import read_json, replacing_folder, write_bytes
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.evidence.claims import Verdict
from glassworks.evidence.measurements import load_measurements, save_table
from glassworks.experiments.base import Experiment
from glassworks.experiments.finding import experiment_of, find_run
from glassworks.surgery.choice import SWEEP

# What a store entry holds for us alone stays behind; the rest is a Hugging Face folder.
_PRIVATE = {"checkpoint.safetensors", "lock", "done.json"}


def export(command: Export) -> int:
    """Writes and says where; each path is a line of stdout."""
    if command.two_files is not None:
        from glassworks.cli.export_two_files import export_two_files

        return _told(command, {"model": command.run or ""}, *export_two_files(command))
    if command.to is None:
        raise InvalidInput(
            say("in which format?"), right=say("--to html, csv, svg, png or hf; or MODEL --two-files DIR")
        )
    if command.plan is not None:
        if command.run is not None:
            raise InvalidInput(
                say("a run or a plan, not both"), given=command.run, right=say("--plan with --model MODEL")
            )
        from glassworks.cli.export_plan import export_plan

        return _told(command, {"plan": command.plan}, *export_plan(command))
    if command.run is None:
        raise InvalidInput(
            say("which run?"), right=say("a run folder or its digest, or --plan PLAN"), next_command="glassworks runs"
        )
    run = find_run(command.run, Path())
    if run.experiment == SWEEP:
        return _told(command, {"run": str(run.path)}, *_sweep(command, run))
    experiment = experiment_of(run)
    destination = Path(command.out or f"exports/{experiment.kind}-{run.path.name}")
    kinds: Mapping[str, Callable[[Experiment, RunFolder, Path], list[Path]]] = {
        "html": _report,
        "csv": _tables,
        "svg": _svg,
        "png": _png,
        "hf": _models,
    }
    if command.to not in kinds:
        raise InvalidInput(
            say(
                "a run of {experiment} cannot be taken along as {format}", experiment=experiment.kind, format=command.to
            ),
            right=say("one of {known}", known=", ".join(kinds)),
        )
    if command.to == "hf":
        tell_of_torch(as_json=command.json)
    return _told(command, {"run": str(run.path)}, destination, kinds[command.to](experiment, run, destination))


def _told(command: Export, what: Mapping[str, str], folder: Path, written: Sequence[Path]) -> int:
    if command.json:
        print_json({**what, "to": command.to, "folder": str(folder), "files": [str(path) for path in written]})
        return 0
    for path in written:
        print(path)
    return 0


def _sweep(command: Export, run: RunFolder) -> tuple[Path, list[Path]]:
    """A sweep's report, table or figures; it trained no model."""
    from glassworks.surgery.record import SweepRecord

    sources: Mapping[str, list[Path]] = {
        "html": [run.report],
        "csv": [run.path / "tables" / "rows.csv"],
        "svg": sorted((run.path / "figures").glob("*.svg")),
        "png": sorted((run.path / "figures").glob("*.png")),
    }
    if command.to not in sources:
        raise InvalidInput(
            say("a run of {experiment} cannot be taken along as {format}", experiment=SWEEP, format=command.to),
            right=say("one of {known}", known=", ".join(sources)),
        )
    SweepRecord.open(run.path)
    folder = Path(command.out or f"exports/{SWEEP}-{run.path.name}")
    return folder, _copied(sources[command.to], folder)


def _copied(sources: Sequence[Path], folder: Path) -> list[Path]:
    written = [folder / path.name for path in sources]
    for source, path in zip(sources, written, strict=True):
        write_bytes(path, source.read_bytes())
    return written


def _report(experiment: Experiment, run: RunFolder, destination: Path) -> list[Path]:
    if not run.report.is_file():
        raise _unfinished(run, experiment)
    path = destination / "report.html"
    write_bytes(path, run.report.read_bytes())
    return [path]


def _tables(experiment: Experiment, run: RunFolder, destination: Path) -> list[Path]:
    if not run.has("measurements.json"):
        raise _unfinished(run, experiment)
    written: list[Path] = []
    for name, measurement in load_measurements(run.path).items():
        path = destination / f"{name}.csv"
        save_table([measurement], path)
        written.append(path)
    if run.has("verdicts.json"):
        written.append(destination / "verdicts.csv")
        write_bytes(written[-1], _verdicts_csv(run).encode())
    return written


def _verdicts_csv(run: RunFolder) -> str:
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["claim", "says", "where", "verdict", "value", "low", "high", "unit", "seeds", "because"])
    for row in run.read_json("verdicts.json"):
        v = Verdict.from_json(row)
        low, high = row["interval"]
        seeds = " ".join(map(str, v.seeds))
        writer.writerow([v.claim, v.says, v.where, v.outcome.value, row["value"], low, high, v.unit, seeds, v.because])
    return buffer.getvalue()


def _svg(experiment: Experiment, run: RunFolder, destination: Path) -> list[Path]:
    return _figures(experiment, run, destination, ".svg")


def _png(experiment: Experiment, run: RunFolder, destination: Path) -> list[Path]:
    return _figures(experiment, run, destination, ".png")


def _figures(experiment: Experiment, run: RunFolder, destination: Path, suffix: str) -> list[Path]:
    found = sorted((run.path / "figures").glob(f"*{suffix}"))
    if not found:
        raise _unfinished(run, experiment)
    return _copied(found, destination)


def _models(experiment: Experiment, run: RunFolder, destination: Path) -> list[Path]:
    """One Hugging Face folder for each trained model of the run that lies in the store."""
    store = run.path.absolute().parents[2] / "store"
    found = {
        destination / label.replace("/", "-").replace(" ", "_"): (label, spec, store / spec.digest())
        for label, spec in _trainings(experiment).items()
        if (store / spec.digest() / "done.json").is_file()
    }
    # All are looked at before the first is written, so that a refusal leaves nothing behind.
    for folder, (_, _, entry) in found.items():
        _refuse_foreign(folder, entry)
    for folder, (label, spec, entry) in found.items():
        _copy_model(entry, folder, _card(experiment, label, spec, entry))
    if not found:
        raise NotFound(
            say("no trained model of this run is in {store}", store=str(store)),
            next_command=f"glassworks reproduce {experiment.kind} --resume {shlex.quote(str(run.path))}",
        )
    return list(found)


def _trainings(experiment: Experiment) -> dict[str, Any]:
    """Label -> spec over all studies, each distinct training once."""
    found: dict[str, tuple[str, Any]] = {}
    for study in experiment.studies:
        for label, spec in experiment.trainings(study.name).items():
            found.setdefault(spec.digest(), (label if label.startswith(study.name) else f"{study.name}/{label}", spec))
    return dict(found.values())


def _public(entry: Path) -> list[Path]:
    """The files of a store entry that make up its Hugging Face folder."""
    found = (path for path in entry.iterdir() if path.is_file() and path.name not in _PRIVATE)
    return sorted(path for path in found if not path.name.startswith("."))


def _refuse_foreign(folder: Path, entry: Path) -> None:
    """Only an earlier export of the same training may be replaced, and only while nothing was added to it."""
    if not os.path.lexists(folder):
        return
    ours = {path.name for path in _public(entry)} | {"README.md"}
    names = {path.name for path in folder.iterdir()} if folder.is_dir() and not folder.is_symlink() else {folder.name}
    training = folder / "training.json"
    is_same = training.is_file() and training.read_bytes() == (entry / "training.json").read_bytes()
    if names and not (names <= ours and is_same):
        raise InvalidInput(
            say("{folder} holds something else, which would be overwritten", folder=str(folder)),
            given=", ".join(sorted(names - ours or names)[:5]),
            right=say("an empty folder, or one that is not there yet, as --out"),
        )


def _copy_model(entry: Path, folder: Path, card: str) -> None:
    """Fills a folder aside and renames it into place, so that no reader meets half a model."""
    with replacing_folder(folder) as new:
        for source in _public(entry):
            shutil.copyfile(source, new / source.name)
        write_bytes(new / "README.md", card.encode())


def _card(experiment: Experiment, label: str, spec: Any, entry: Path) -> str:
    history = read_json(entry / "history.json")
    last = {name: values[-1] for name, values in history["metrics"].items() if values and values[-1] is not None}
    scores = "\n".join(f"| {name} | {value:.4g} |" for name, value in sorted(last.items()))
    paper = experiment.paper
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [glassworks, research, {experiment.kind}]
---

# {label}

A model trained by Glassworks for its reproduction of *{paper.title}* ({paper.authors}, {paper.year}; {paper.reference}).
It models a synthetic character world, not language, and is meant for study only.

| fact | value |
|---|---|
| layers, width, heads | {spec.model.depth}, {spec.model.width}, {spec.model.heads} |
| vocabulary | {spec.model.vocabulary} characters (`world.json`) |
| longest sequence | {spec.model.context} |
| steps, batch | {spec.steps}, {spec.batch} |
| seed | {spec.seed} |
| training digest | `{spec.digest()}` (`training.json`) |

Scores on the last training batch (fresh sequences; accuracies and recalls are fractions, losses are nats):

| score | value |
|---|---|
{scores}

```python
import glassworks as gw

subject = gw.load(".")
```

`import glassworks.models` registers the architecture, after which `AutoModelForCausalLM.from_pretrained(".")` works too.
"""


def _unfinished(run: RunFolder, experiment: Experiment) -> InvalidInput:
    return InvalidInput(
        say("this run is not finished, so there is nothing to export yet"),
        given=str(run.path),
        next_command=f"glassworks reproduce {experiment.kind} --resume {shlex.quote(str(run.path))}",
    )
