"""models: the pretrained models that have a name here, and fetching them."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.options_models import Models
from glassworks.cli.reproduce import go_offline
from glassworks.cli.speak import new_table, print_json, remarks, results, size_words
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.models.gallery import Entry
    from glassworks.models.gallery.downloads import Tell
    from glassworks.models.trained_models import Trained

SECONDS_PER_LINE = 5.0


def models(command: Models) -> int:
    """Lists, or fetches one; the folder of the fetched model is the last line of stdout."""
    go_offline(command.offline)
    from glassworks.models.gallery import entry_of

    if command.action == "list":
        if command.name is not None:
            raise InvalidInput(
                say("list takes no name"), given=command.name, next_command=f"glassworks models get {command.name}"
            )
        return _list(Path(command.out), as_json=command.json)
    if command.name is None:
        raise InvalidInput(say("which model?"), right=say("a name of the list"), next_command="glassworks models list")
    return _get(entry_of(command.name), command)


def _list(out: Path, *, as_json: bool) -> int:
    from glassworks.models.gallery import GALLERY, home, located
    from glassworks.models.trained_models import trained_in

    places = {entry.name: located(entry) for entry in GALLERY.values()}
    trained = trained_in(out)
    if as_json:
        rows = [_row(entry, places[entry.name]) for entry in GALLERY.values()]
        print_json({"home": str(home()), "models": rows, "trained": [one.to_json() for one in trained]})
        return 0
    table = new_table(
        say("name"), say("what it is"), say("layers"), say("width"), say("parameters"),
        say("licence"), say("download"), say("here"),
    )  # fmt: skip
    for entry in GALLERY.values():
        licence = f"{entry.licence} {say('(asks for consent)')}" if entry.is_gated else entry.licence
        table.add_row(
            entry.name, str(entry.about), entry.depth, str(entry.width), count_words(entry.parameters),
            licence, size_words(entry.download), str(say("yes") if places[entry.name] else say("no")),
        )  # fmt: skip
    results().print(table)
    _show_trained(trained)
    remarks().print(
        str(say("fetch one with: glassworks models get NAME; they are kept in {folder}", folder=str(home())))
    )
    return 0


def _show_trained(trained: Sequence[Trained]) -> None:
    """Nothing where nothing was trained."""
    if not trained:
        return
    table = new_table(
        say("folder"), say("stage"), say("model"), say("parameters"), say("after"), title=say("trained here")
    )  # fmt: skip
    for one in trained:
        after = " → ".join(one.before) or "–"
        table.add_row(str(one.folder), one.stage, one.architecture, count_words(one.parameters), after)
    results().print(table)


def _row(entry: Entry, place: Any) -> dict[str, Any]:
    return {
        "name": entry.name,
        "about": str(entry.about),
        "architecture": entry.architecture,
        "layers": list(entry.layers),
        "width": entry.width,
        "parameters": entry.parameters,
        "licence": entry.licence,
        "asks_for_consent": entry.is_gated,
        "download_bytes": entry.download,
        "sources": [str(source) for source in entry.sources],
        "path": None if place is None else str(place),
    }


def _get(entry: Entry, command: Models) -> int:
    from glassworks.models.gallery import get, located

    if located(entry) is None:
        # Before the first byte: whoever does not agree to the licence can still press Ctrl-C.
        for line in _facts(entry):
            remarks().print(str(line))
    with shown_progress(entry.name) as tell:
        kept = get(entry.name, is_offline=command.offline, tell=tell, is_accepted=command.accept_licence)
    if command.json:
        print_json(kept.to_json())
        return 0
    if kept.is_new:
        remarks().print(str(say("from {source}", source=kept.address)))
        remarks().print(
            str(
                say(
                    "{size} on disk; look inside with: glassworks examine {name} --text TEXT",
                    size=size_words(kept.size),
                    name=entry.name,
                )
            )
        )
    else:
        remarks().print(str(say("{name} is here already", name=entry.name)))
    print(kept.folder)
    return 0


def _facts(entry: Entry) -> tuple[Text, ...]:
    return (
        say("{name}: {about}", name=entry.name, about=entry.about),
        say(
            "{layers} layers, width {width}, {parameters} parameters",
            layers=entry.depth, width=entry.width, parameters=count_words(entry.parameters),
        ),
        say("licence: {licence}", licence=entry.licence)
        if entry.terms is None
        else say("licence: {licence}, {page}", licence=entry.licence, page=entry.terms),
        say(
            "download: {size} from {source}",
            size=size_words(entry.download), source=str(say(" or ")).join(map(str, entry.sources)),
        ),
    )  # fmt: skip


def count_words(count: int) -> str:
    """A number of parameters as people say it: 85.7 K, 134.5 M, 6.74 B."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}" if unit == "B" else f"{count / size:.1f} {unit}"
    return str(count)


@contextmanager
def shown_progress(name: str) -> Generator[Tell]:
    """A bar on a terminal, a line every few seconds anywhere else; both say when it will be done."""
    if sys.stderr.isatty():
        with _bar(name) as tell:
            yield tell
    else:
        yield _Lines().tell


@contextmanager
def _bar(name: str) -> Generator[Tell]:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(),
        DownloadColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(),
        TextColumn("{task.fields[end]}", table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=remarks(), transient=True) as progress:

        def tell(step: Text, done: int, total: int) -> None:
            words = f"{name}: {step}"
            if not progress.tasks or progress.tasks[0].description != words:
                # A new step, whose bytes may not be known: a task cannot forget those of the last one.
                for task in progress.task_ids:
                    progress.remove_task(task)
                progress.add_task(words, total=total or None, end="")
            task = progress.tasks[0]
            progress.update(
                task.id, completed=done, total=total or None, end=_end(task.time_remaining if total else None)
            )

        yield tell


class _Lines:
    """Progress as plain lines."""

    def __init__(self) -> None:
        self._step, self._begun, self._first, self._last = "", 0.0, 0, 0.0

    def tell(self, step: Text, done: int, total: int) -> None:
        """Takes one report; most of them are not worth a line."""
        now = time.monotonic()
        if step.template != self._step:
            self._step, self._begun, self._first, self._last = step.template, now, done, now
            print(f"{step} …", file=sys.stderr, flush=True)
        elif total and (now - self._last >= SECONDS_PER_LINE or done == total):
            self._last = now
            speed = max(done - self._first, 1) / max(now - self._begun, 1e-3)
            print(
                say(
                    "{done} of {all}, {speed} a second, {end}",
                    done=size_words(done), all=size_words(total), speed=size_words(speed),
                    end=_end((total - done) / speed),
                ),
                file=sys.stderr, flush=True,
            )  # fmt: skip


def _end(seconds: float | None) -> Text | str:
    """When it will be done, by the clock."""
    if seconds is None:
        return ""
    return say("done at {time}", time=time.strftime("%H:%M:%S", time.localtime(time.time() + seconds)))
