"""What lies on disk: runs, trained models, how the claims stand. Every name of an address is looked up in a listing, never joined."""

from __future__ import annotations

import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import GlassworksError, NotFound
from glassworks.core.events import read_events
from glassworks.core.files import read_json, writing
from glassworks.core.runs import RunFolder, list_runs, lock_folder
from glassworks.core.text import Language, Text, choose_language, say
from glassworks.experiments import EXPERIMENTS
from glassworks.experiments.base import Experiment
from glassworks.experiments.entries import Entry
from glassworks.experiments.finding import deletable, experiment_of, settings_of
from glassworks.experiments.run import rejudge
from glassworks.experiments.standings import command_again, newest_standings, verdict_json
from glassworks.experiments.variants import VARIANTS
from glassworks.surgery.choice import SWEEP

# Of a store folder: where each kind of training keeps its choices.
_CHOICES = ("stage.json", "training.json", "spec.json")
_SLICE = 1 << 18


def runs_here(out: Path, language: Language) -> list[dict[str, Any]]:
    """Every run at a glance, newest first."""
    choose_language(language)
    return [Entry.of(run).to_json() | {"id": _identifier(run)} for run in list_runs(out / "runs")]


def run_named(out: Path, experiment: str, digest: str) -> RunFolder:
    """A run of the listing; NotFound for any other name."""
    for run in list_runs(out / "runs"):
        if (run.path.parent.name, run.path.name) == (experiment, digest):
            return run
    raise NotFound(
        say("there is no run {name}", name=f"{experiment}/{digest}"),
        right=say("one that `glassworks runs` lists"),
        next_command="glassworks runs",
    )


def run_details(run: RunFolder, language: Language) -> dict[str, Any]:
    """A run whole: its settings, verdicts, files, what it cost, and the command that makes it again."""
    choose_language(language)
    entry = Entry.of(run)
    seconds = {e.digest: e.seconds for e in read_events(run.path / "events.jsonl") if e.kind == "training_done"}
    return entry.to_json() | {
        "id": _identifier(run),
        "spec": settings_of(run),
        "claims": [verdict_json(verdict) for verdict in entry.verdicts],
        "trainings": seconds,
        "files": [{"name": name, "bytes": path.stat().st_size} for name, path in files_of(run).items()],
        "command": _command(run),
    }


def _command(run: RunFolder) -> str:
    if run.experiment not in (SWEEP, VARIANTS):
        return command_again(run)
    environment = run.read_json("environment.json") if run.has("environment.json") else {}
    return str(environment.get("command", ""))


def files_of(run: RunFolder) -> dict[str, Path]:
    """The files of a run that a person may have, by their path inside it."""
    found = (path for path in sorted(run.path.rglob("*")) if path.is_file() and not path.is_symlink())
    return {path.relative_to(run.path).as_posix(): path for path in found if path.name != "lock"}


def judged_again(run: RunFolder, language: Language) -> list[dict[str, Any]]:
    """The verdicts as they come out of the run's measurements now."""
    choose_language(language)
    return [verdict_json(verdict) for verdict in rejudge(experiment_of(run), run)]


def damage_of(run: RunFolder, language: Language) -> list[dict[str, str]]:
    """What differs from what was written."""
    return [{"path": one.path.name, "what": one.what.in_language(language)} for one in run.verify()]


def delete_run(run: RunFolder) -> None:
    """Removes a run; RunBusy while a process works on it."""
    RunFolder(deletable(run)).delete()


def results_here(out: Path, language: Language) -> dict[str, Any]:
    """Every experiment with its paper, its studies and how each claim stands; and the runs that could not be read."""
    choose_language(language)
    unread: list[Text] = []
    found = [_experiment(experiment, out, unread, language) for experiment in EXPERIMENTS]
    return {"experiments": found, "unread": [text.in_language(language) for text in unread]}


def _experiment(experiment: type[Experiment], out: Path, unread: list[Text], language: Language) -> dict[str, Any]:
    kind = str(experiment.model_fields["kind"].default)
    standings = [standing.to_json() for standing in newest_standings(experiment, out, unread.append)]
    for standing in standings:
        standing["run"] = None if standing["run"] is None else "/".join(Path(str(standing["run"])).parts[-2:])
    paper = experiment.paper
    return {
        "kind": kind,
        "title": paper.title,
        "authors": paper.authors,
        "year": paper.year,
        "reference": paper.reference,
        "studies": [{"name": one.name, "says": one.says.in_language(language)} for one in experiment.studies],
        "claims": standings,
        "command": f"glassworks reproduce {kind}",
    }


@dataclass(frozen=True)
class Stored:
    """A folder of the store: a finished model or one that is being trained."""

    folder: Path
    what: str
    size: int
    age: float
    finished: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "digest": self.folder.name,
            "what": self.what,
            "bytes": self.size,
            "age_seconds": round(self.age, 1),
            "finished": self.finished,
        }


def store_here(out: Path) -> list[dict[str, Any]]:
    """Every folder of the store, newest first, finished or not."""
    found = [_stored(folder) for folder in _store_folders(out)]
    return [one.to_json() for one in sorted(found, key=lambda one: one.age)]


def _store_folders(out: Path) -> list[Path]:
    store = out / "store"
    folders = store.iterdir() if store.is_dir() else ()
    return [
        path
        for path in folders
        if _is_sendable(path.name)
        and path.is_dir()
        and not path.is_symlink()
        and any((path / c).is_file() for c in _CHOICES)
    ]


def _is_sendable(text: str) -> bool:
    """Whether it is UTF-8: a folder of another system's may have a name that is none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _stored(folder: Path) -> Stored:
    files = [path.stat() for path in folder.rglob("*") if path.is_file()]
    what = "?"
    for name in _CHOICES:
        if (folder / name).is_file():
            try:
                found = read_json(folder / name)
            except GlassworksError:
                break
            what = _kind_in(cast(dict[str, Any], found)) if isinstance(found, dict) else "?"
            break
    age = time.time() - max((one.st_mtime for one in files), default=0.0)
    what = what if _is_sendable(what) else "?"
    return Stored(folder, what, sum(one.st_size for one in files), age, (folder / "done.json").is_file())


def _kind_in(found: dict[str, Any]) -> str:
    task = found.get("task")
    return str(found.get("kind") if not isinstance(task, dict) else cast(dict[str, Any], task).get("kind", "?"))


def stored_named(out: Path, digest: str) -> Path:
    """A folder of the store's listing; NotFound for any other name."""
    for folder in _store_folders(out):
        if folder.name == digest:
            return folder
    raise NotFound(say("there is no trained model {name}", name=digest), next_command="glassworks models")


def delete_stored(folder: Path) -> None:
    """Removes a model; RunBusy while it is being trained. It is out of sight before its files go, so none is half there."""
    with lock_folder(folder):
        gone = folder.with_name(f".{folder.name[:200]}.deleted")
        with writing(folder):
            folder.rename(gone)
    with writing(gone):
        shutil.rmtree(gone)


def archived(files: dict[str, Path], top: str) -> Iterator[bytes]:
    """A zip of some files below a folder `top`, in slices; what is packed lies on disk, not in memory."""
    with tempfile.TemporaryFile() as packed:
        # A file without a date is from 1970, which a zip cannot say.
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False) as archive:
            for name, path in files.items():
                archive.write(path, f"{top}/{name}")
        packed.seek(0)
        while piece := packed.read(_SLICE):
            yield piece


def files_below(folder: Path) -> dict[str, Path]:
    """The files of a model's folder by their path inside it; states of a training are left out."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    inside = {path.relative_to(folder).as_posix(): path for path in found}
    return {name: path for name, path in inside.items() if name != "lock" and not name.startswith("checkpoint")}


def _identifier(run: RunFolder) -> str:
    return f"{run.path.parent.name}/{run.path.name}"
