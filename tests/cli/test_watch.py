import io

import pytest

from glassworks.cli.live import PlainLines, dashboard, end_words
from glassworks.cli.watch import Watch
from glassworks.core.events import (
    Judged,
    Measured,
    Planned,
    Progressed,
    RunStarted,
    StepDone,
    Stopped,
    TrainingDone,
    TrainingStarted,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def step(digest: str, number: int, **scores: float) -> StepDone:
    named = {name.replace("__", "/"): value for name, value in scores.items()}
    return StepDone(digest=digest, step=number, loss=1.5, scores=named, seconds=0.1)


def started(digest: str, first: int = 0, steps: int = 100) -> TrainingStarted:
    return TrainingStarted(label=f"main/{digest}", digest=digest, seed=0, first_step=first, steps=steps)


def test_the_end_is_estimated_from_the_steps_done_here_not_from_those_found(clock):
    watch = Watch(clock)
    watch(Planned(trainings={"a": 100, "b": 100, "c": 100}))
    watch(TrainingDone(label="a", digest="a", seconds=50.0, reused=True))
    watch(started("b", first=60))
    assert watch.remaining_seconds() is None
    clock.now += 10
    watch(step("b", 79))
    # 20 steps took 10 s; 20 of b and 100 of c are left.
    assert watch.remaining_seconds() == pytest.approx(60.0)
    assert (watch.done_steps, watch.total_steps, watch.done_trainings) == (180, 300, 1)


def test_a_training_found_in_the_store_counts_once_however_often_it_is_asked_for(clock):
    watch = Watch(clock)
    watch(Planned(trainings={"a": 100}))
    for _ in range(3):
        watch(TrainingDone(label="a", digest="a", seconds=1.0, reused=True))
    assert [one.reused for one in watch.finished] == [True]
    assert watch.done_steps == 100


def test_a_finished_training_keeps_its_last_accuracy(clock):
    watch = Watch(clock)
    watch(Planned(trainings={"a": 2}))
    watch(started("a", steps=2))
    watch(step("a", 0, accuracy__in_context=0.1))
    watch(step("a", 1, accuracy__in_context=0.9))
    watch(TrainingDone(label="main/a", digest="a", seconds=3.0))
    assert watch.finished[0].accuracy == 0.9
    assert watch.current is not None
    assert watch.current.scores["accuracy/in_context"] == [(0.0, 0.1), (1.0, 0.9)]


def test_other_news_is_kept(clock):
    watch = Watch(clock)
    for event in (
        Measured(name="depth", seconds=1.0),
        Judged(claim="c", verdict="HOLDS"),
        Stopped(cause="interrupted"),
    ):
        watch(event)
    assert (watch.measured, watch.judged, watch.stopped) == (["depth"], 1, "interrupted")


def test_plain_lines_come_every_fifty_steps_or_five_seconds_and_at_the_end(clock):
    stream = io.StringIO()
    lines = PlainLines(lambda line: print(line, file=stream), clock)
    lines(RunStarted(command="x", resumed=True))
    lines(Planned(trainings={"a": 100}))
    lines(started("a"))
    quiet = stream.getvalue().count("\n")
    lines(step("a", 10, accuracy__in_context=0.25))
    assert stream.getvalue().count("\n") == quiet
    clock.now += 6
    lines(step("a", 20, accuracy__in_context=0.25))
    assert stream.getvalue().count("\n") == quiet + 1
    lines(step("a", 70, accuracy__in_context=0.5, recall__output=0.75))
    lines(step("a", 99, accuracy__in_context=0.5))
    assert stream.getvalue().count("\n") == quiet + 3
    assert "70" not in stream.getvalue().splitlines()[quiet]
    assert "accuracy 50.0%  W_O2 75.0%" in stream.getvalue()
    assert "100%" in stream.getvalue().splitlines()[-1]


def test_a_run_found_finished_is_known_once_it_is_judged_with_nothing_planned(clock):
    from rich.console import Console

    lines: list[str] = []
    plain = PlainLines(lines.append, clock)
    plain(RunStarted(command="x", resumed=True))
    assert not plain.watch.found_finished
    plain(Judged(claim="c", verdict="HOLDS"))
    assert plain.watch.found_finished
    assert lines == []
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(dashboard(plain.watch, "birth"))
    assert "finished before" in console.export_text()

    going_on = PlainLines(lines.append, clock)
    for event in (RunStarted(command="x", resumed=True), Planned(trainings={"a": 9}), Judged(claim="c", verdict="F")):
        going_on(event)
    assert not going_on.watch.found_finished
    assert lines == ["going on with what is there; trainings: 1, steps: 9"]


def test_the_dashboard_draws_every_state_without_scores_and_with(clock):
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    watch = Watch(clock)
    console.print(dashboard(watch, "birth"))
    watch(Planned(trainings={"a": 100, "b": 100}))
    watch(started("a"))
    console.print(dashboard(watch, "birth"))
    for number in range(0, 100, 10):
        clock.now += 1
        watch(step("a", number, accuracy__in_context=number / 100, recall__output=1.0, recall__match=0.5))
    console.print(dashboard(watch, "birth"))
    watch(TrainingDone(label="main/a", digest="a", seconds=9.0))
    watch(Measured(name="formation", seconds=1.0))
    console.print(dashboard(watch, "birth"))
    shown = console.export_text()
    assert "W_O² recalls its output" in shown
    assert "main/a   step 91/100" in shown
    assert "✓ main/a  in context 90.0%" in shown
    assert "formation" in shown
    assert "left, until" in end_words(watch)


def test_work_that_is_no_training_shows_its_share_and_its_end(clock):
    from rich.console import Console

    lines: list[str] = []
    plain = PlainLines(lines.append, clock)
    plain(RunStarted(command="x", resumed=True))
    plain(Planned(trainings={}))
    plain(Progressed(label="single: ppl 1/2", done=10.0, total=40.0, seconds=20.0))
    assert plain.watch.seconds_of_work_left() == pytest.approx(60.0)
    assert lines == ["going on with what is there"]
    clock.now += 6
    plain(Progressed(label="single: ppl 1/2", done=20.0, total=40.0, seconds=26.0))
    assert lines[-1].startswith(" 50%  single: ppl 1/2  about 26 s left, until ")
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(dashboard(plain.watch, "painters"))
    shown = console.export_text()
    assert "single: ppl 1/2" in shown
    assert "50%  about 26 s left" in shown
    assert "training" not in shown
    plain(Measured(name="single", seconds=40.0))
    assert plain.watch.progress is None


def test_a_run_with_nothing_to_train_is_not_called_finished_before(clock):
    watch = Watch(clock)
    for event in (RunStarted(command="x", resumed=True), Planned(trainings={}), Judged(claim="c", verdict="HOLDS")):
        watch(event)
    assert not watch.found_finished


def test_a_training_that_was_not_planned_is_counted_all_the_same(clock):
    watch = Watch(clock)
    watch(Planned(trainings={}))
    watch(started("a", steps=4))
    clock.now += 2
    watch(step("a", 0))
    assert (watch.total_steps, watch.done_steps) == (4, 1)
    assert watch.remaining_seconds() == pytest.approx(6.0)
