"""The live view of a run: a dashboard in a terminal, plain lines anywhere else."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.cli.braille import braille_curve
from glassworks.cli.speak import duration_words, remarks
from glassworks.cli.watch import Curves, Watch
from glassworks.core.events import (
    Event,
    EventLog,
    JobDone,
    JobFailed,
    Listener,
    Measured,
    Planned,
    Progressed,
    RunStarted,
    StepDone,
    TrainingDone,
    TrainingStarted,
)
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from rich.console import RenderableType

STEPS_PER_LINE, SECONDS_PER_LINE = 50, 5.0
FRAMES_PER_SECOND = 8
EVENTS = "GLASSWORKS_EVENTS"
CHART_HEIGHT = 4
_CURVES: tuple[tuple[str, Text, str], ...] = (
    ("recall/output", say("W_O² recalls its output"), "dodger_blue1"),
    ("recall/match", say("W_K² finds the trigger"), "dark_orange"),
    ("recall/position_64", say("W_K¹ looks one back (t < 64)"), "medium_purple2"),
    ("accuracy/in_context", say("accuracy in context"), "white"),
)
_LAST_SHOWN = 4
_FOUND_FINISHED = say(
    "This run was finished before: nothing was trained or measured again; its measurements were judged and drawn again."
)


@contextmanager
def shown(title: str) -> Generator[Watch | PlainLines]:
    """A listener whose view of the run is shown on stderr for the length of a `with`.

    A run that was found finished is named as such at the end.
    """
    record = _record()
    if sys.stderr.isatty():
        watch = Watch(also=record)
        with _dashboard(watch, title):
            yield watch
    else:
        lines = PlainLines(lambda line: print(line, file=sys.stderr, flush=True), also=record)
        watch = lines.watch
        yield lines
    if watch.found_finished:
        remarks().print(str(_FOUND_FINISHED))


def _record() -> Listener | None:
    """Appends every event to the file that GLASSWORKS_EVENTS names, for whoever watches this process from outside."""
    path = os.environ.get(EVENTS)
    return EventLog(Path(path)).emit if path else None


@contextmanager
def shown_as_tuple(title: str) -> Generator[tuple[Callable[[Event], None], ...]]:
    """The same as the listeners of a run."""
    with shown(title) as listener:
        yield (listener,)


@contextmanager
def _dashboard(watch: Watch, title: str) -> Generator[None]:
    from rich.live import Live

    # The view is drawn from its own thread at every frame, so clock and end time also move between two events.
    with Live(
        get_renderable=lambda: dashboard(watch, title),
        console=remarks(),
        refresh_per_second=FRAMES_PER_SECOND,
        redirect_stdout=False,
    ):
        yield


def dashboard(watch: Watch, title: str) -> RenderableType:
    """One frame: overall progress with its end, what is under way (training with its curves, work), what is finished."""
    from rich import box
    from rich.console import Group
    from rich.panel import Panel
    from rich.text import Text as Styled

    parts: list[RenderableType] = [] if watch.progress is not None and not watch.planned else [_overall(watch)]
    if watch.progress is not None:
        parts.append(_work(watch, watch.progress))
    elif len(watch.running) > 1:
        parts += [Styled(), *(_beside(each) for each in watch.running.values()), Styled()]
    elif watch.current is not None:
        parts += [Styled(), _headline(watch.current), Styled(), _charts(watch.current)]
    for one in watch.finished[-_LAST_SHOWN:]:
        words = say("found in the store") if one.reused else say("in {time}", time=duration_words(one.seconds))
        accuracy = "" if math.isnan(one.accuracy) else f"  {say('in context')} {one.accuracy:.1%}"
        parts.append(Styled(f"✓ {one.label}{accuracy}  {words}", "dim"))
    if watch.measured:
        parts.append(Styled(f"✓ {say('measured')}: {', '.join(watch.measured)}", "dim"))
    return Panel(
        Group(*parts),
        title=Styled(title, "bold"),
        title_align="left",
        subtitle=Styled(str(say("Ctrl-C stops; nothing is lost")), "dim"),
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="dodger_blue2",
        padding=(1, 2),
    )


def _overall(watch: Watch) -> RenderableType:
    count = say(
        "training {done} of {all}",
        done=min(watch.done_trainings + 1, max(len(watch.planned), 1)),
        all=len(watch.planned),
    )
    if watch.found_finished:
        return _row(say("finished before"), None, duration_words(watch.seconds))
    share = watch.done_steps / watch.total_steps if watch.total_steps else 0.0
    return _row(count if watch.planned else say("preparing"), share, f"{share:.0%}  {end_words(watch)}")


def _work(watch: Watch, work: Progressed) -> RenderableType:
    """A long piece of work that is no training: a sweep over many plans."""
    share = work.done / work.total if work.total else 0.0
    left = watch.seconds_of_work_left()
    return _row(work.label, share, f"{share:.0%}  {duration_words(work.seconds) if left is None else left_words(left)}")


def _beside(current: Curves) -> RenderableType:
    """One of several trainings under way at the same time."""
    words = f"{current.step}/{current.steps}  {say('loss')} {_number(current.loss, '.3f')}"
    return _row(current.label, current.step / max(current.steps, 1), words)


def _row(head: Text | str, share: float | None, words: str) -> RenderableType:
    """A line with a bar, if there is a share to show."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text as Styled

    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(total=1.0, completed=share or 0.0, complete_style="dodger_blue2", finished_style="dodger_blue2")
    grid.add_row(Styled(str(head), "bold"), "" if share is None else bar, words)
    return grid


def end_words(watch: Watch) -> str:
    """When training will be over, or how long it has taken where that is not known yet."""
    remaining = watch.remaining_seconds()
    if watch.total_steps and watch.done_steps >= watch.total_steps:
        return str(say("trained; measuring, {time}", time=duration_words(watch.seconds)))
    if remaining is None:
        return duration_words(watch.seconds)
    return left_words(remaining)


def left_words(seconds: float) -> str:
    """How long it will still take, and the clock time of the end."""
    clock = time.strftime("%H:%M", time.localtime(time.time() + seconds))
    return str(say("about {time} left, until {clock}", time=duration_words(seconds), clock=clock))


def _headline(current: Curves) -> RenderableType:
    from rich.text import Text as Styled

    accuracy = current.last("accuracy/in_context")
    line = Styled(current.label, "bold")
    line.append(f"   {say('step')} {current.step}/{current.steps}", "not bold")
    # Worlds of vectors have no accuracy, and their losses are no nats.
    is_of_tokens = any(name.startswith("accuracy/") for name in current.scores)
    line.append(f"   {say('loss')} {_number(current.loss, '.3f')}{' nats' if is_of_tokens else ''}", "not bold")
    if not math.isnan(accuracy):
        line.append(f"   {say('in context')} {accuracy:.1%}", "not bold dodger_blue1")
    return line


def _charts(current: Curves) -> RenderableType:
    from rich.table import Table

    chosen = [(key, name, colour) for key, name, colour in _CURVES if key in current.scores]
    grid = Table.grid(expand=True, padding=(0, 3))
    width = max((remarks().width - 16) // 2, 20)
    for _ in range(2):
        grid.add_column(ratio=1)
    cells = [_chart(current, key, str(name), colour, width) for key, name, colour in chosen]
    if not cells and current.scores.get("loss"):
        cells = [_loss_chart(current, width)]
    for first in range(0, len(cells), 2):
        grid.add_row(*cells[first : first + 2])
    return grid


def _loss_chart(current: Curves, width: int) -> RenderableType:
    """The loss from zero to the largest so far, where a training logs no shares."""
    from rich.console import Group
    from rich.text import Text as Styled

    known = [value for _, value in current.scores["loss"] if math.isfinite(value)]
    top = max(known, default=1.0)
    head = Styled(f"{current.last('loss'):.4g} ", "bold dodger_blue1").append(str(say("loss")), "not bold")
    lines = braille_curve(current.scores["loss"], float(max(current.steps - 1, 1)), width, CHART_HEIGHT, top)
    marks = (f"{top:.3g} ", *[""] * (CHART_HEIGHT - 2), "0 ")
    body = [Styled(mark.rjust(6), "dim").append(line, "dodger_blue1") for mark, line in zip(marks, lines, strict=True)]
    return Group(head, *body, Styled())


def _chart(current: Curves, key: str, name: str, colour: str, width: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text as Styled

    # The width that a double-column character takes is not known here, so the value leads and nothing is aligned right.
    head = Styled(f"{current.last(key):6.1%} ", f"bold {colour}").append(name, "not bold")
    lines = braille_curve(current.scores[key], float(max(current.steps - 1, 1)), width, CHART_HEIGHT)
    marks = ("1 ", *["  "] * (CHART_HEIGHT - 2), "0 ")
    body = [Styled(mark, "dim").append(line, colour) for mark, line in zip(marks, lines, strict=True)]
    return Group(head, *body, Styled())


class PlainLines:
    """A listener that writes a line when something begins or ends, and at most every 50 steps or 5 seconds between."""

    def __init__(
        self,
        write: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        also: Listener | None = None,
    ) -> None:
        self.watch: Watch = Watch(clock, also)
        self._write, self._clock = write, clock
        self._last_time, self._last_step = clock(), 0
        self._goes_on = False

    def __call__(self, event: Event) -> None:
        """Hears one event and perhaps writes a line."""
        self.watch(event)
        line = self._line(event)
        if line is not None:
            self._write(line)

    def _line(self, event: Event) -> str | None:
        match event:
            case RunStarted(resumed=resumed):
                self._goes_on = resumed
                return None
            case Planned(trainings=trainings):
                # Said only now: a run with nothing left to plan was finished and does not go on.
                begin = [str(say("going on with what is there"))] if self._goes_on else []
                steps = sum(trainings.values())
                count = [str(say("trainings: {count}, steps: {steps}", count=len(trainings), steps=steps))]
                return "; ".join([*begin, *(count if trainings else ())]) or None
            case TrainingStarted(label=label, first_step=first, steps=steps):
                self._last_time, self._last_step = self._clock(), first
                return str(say("{label}: from step {first} to {steps}", label=label, first=first, steps=steps))
            case StepDone():
                return self._step_line(event)
            case Progressed():
                return self._work_line(event)
            case TrainingDone(label=label, seconds=seconds, reused=reused):
                words = say("found in the store") if reused else say("done in {time}", time=duration_words(seconds))
                return f"{label}: {words}"
            case JobFailed():
                return str(_failure(event))
            case JobDone(job=job, label=label, seconds=seconds, found=found):
                if found:
                    return f"{label}: {say('found in the store')}" if job in self.watch.planned else None
                told = any(one.label == label for one in self.watch.finished)
                return None if told else f"{label}: {say('done in {time}', time=duration_words(seconds))}"
            case Measured(name=name):
                return str(say("measured {name}", name=name))
            case _:
                return None

    def _step_line(self, event: StepDone) -> str | None:
        current, now = self.watch.current, self._clock()
        # Of several at a time, steps would fill the screen.
        is_alone = len(self.watch.running) < 2
        is_far = is_alone and event.step + 1 - self._last_step >= STEPS_PER_LINE
        due = is_far or now - self._last_time >= SECONDS_PER_LINE
        if current is None or not (due or current.step == current.steps):
            return None
        self._last_time, self._last_step = now, event.step + 1
        scores = "  ".join(
            f"{name} {current.last(key):.1%}" for key, name in _PLAIN_NAMES.items() if key in current.scores
        )
        share = self.watch.done_steps / max(self.watch.total_steps, 1)
        return f"{share:4.0%}  {current.label}  {current.step}/{current.steps}  {say('loss')} {event.loss:.3f}  {scores}  {end_words(self.watch)}"

    def _work_line(self, event: Progressed) -> str | None:
        now, left = self._clock(), self.watch.seconds_of_work_left()
        if left is None or (now - self._last_time < SECONDS_PER_LINE and event.done < event.total):
            return None
        self._last_time = now
        return f"{event.done / event.total:4.0%}  {event.label}  {left_words(left)}"


def _failure(event: JobFailed) -> Text:
    values = {"label": event.label, "attempt": event.attempt, "reason": event.reason, "log": event.log}
    if event.again:
        return say("{label}: attempt {attempt} failed ({reason}); it is begun again. What it printed: {log}", **values)
    return say("{label}: attempt {attempt} failed ({reason}); given up. What it printed: {log}", **values)


_PLAIN_NAMES = {
    "accuracy/in_context": "accuracy",
    "recall/output": "W_O2",
    "recall/match": "W_K2",
    "recall/position_64": "W_K1",
}


def _number(value: float, form: str) -> str:
    return "–" if math.isnan(value) else format(value, form)
