"""Jobs: what a state follows from, what is read of a job, and processes that are paused, stopped and taken up again."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from glassworks.core.errors import GlassworksError, InvalidInput, NotFound, RunBusy, UnknownName
from glassworks.studio.jobs.data import MOST_BYTES, kept, listed
from glassworks.studio.jobs.job import Job, Order
from glassworks.studio.jobs.keeper import Keeper
from glassworks.studio.jobs.reading import detail, events_after, history_of, report_of, summary

ORDER = Order("train", "bigram", "a title", ("train", "bigram", "steps=3"), {"steps": 3}, {"steps": 3})
# A stand-in for the command line: counts, goes on where it was, ends as Ctrl-C ends it.
PROGRAM = """
import json, os, sys, time
here = os.environ["GLASSWORKS_EVENTS"]
words = sys.argv[1:]
if "fail" in words:
    print("error: no such thing", file=sys.stderr)
    sys.exit(1)
done = sum('"step_done"' in line for line in open(here)) if os.path.exists(here) else 0
try:
    for step in range(done, 40 if "long" in words else 2):
        with open(here, "a") as file:
            file.write(json.dumps({"kind": "step_done", "at": time.time(), "digest": "0" * 16, "step": step, "loss": 1.0}) + "\\n")
        time.sleep(0.25 if "long" in words else 0)
except KeyboardInterrupt:
    print("Stopped.", file=sys.stderr)
    sys.exit(130)
print(json.dumps({"model": "m", "threads": os.environ["OMP_NUM_THREADS"]}))
"""


def _job(folder: Path, **fields: Any) -> Job:
    path = folder / "jobs" / "one"
    path.mkdir(parents=True, exist_ok=True)
    job = Job(path, ORDER, 1.0, **fields)
    job.write()
    return job


def _end(job: Job, code: int, session: int = 1) -> None:
    (job.path / "ended.json").write_text(json.dumps({"session": session, "code": code, "at": 2.0}))


@pytest.mark.parametrize(
    ("code", "state"), [(0, "done"), (130, "stopped"), (1, "failed"), (-9, "failed")], ids=["0", "130", "1", "killed"]
)
def test_how_a_job_ended_follows_from_its_code(tmp_path: Path, code: int, state: str) -> None:
    job = _job(tmp_path, session=1, pid=1, born=0.0)
    _end(job, code)
    assert job.state() == state


def test_a_job_that_was_never_started_waits_and_can_be_called_off(tmp_path: Path) -> None:
    job = _job(tmp_path)
    assert job.state() == "queued"
    assert job.changed(wish="stop").state() == "stopped"


@pytest.mark.parametrize(
    ("words", "reaches"),
    [
        (("train", "bigram"), False),
        (("train", "bigram", "--executor", "local:2"), False),
        (("train", "bigram", "--executor", "slurm:partition=gpu"), True),
        (("train", "bigram", '--executor={"kind":"slurm","setup":["module load x"]}'), True),
    ],
)
def test_a_job_found_in_a_folder_reaches_no_cluster_before_somebody_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], reaches: bool
) -> None:
    started: list[str] = []
    monkeypatch.setattr(Keeper, "_start", lambda keeper, job: started.append(job.identifier))
    path = tmp_path / "jobs" / "one"
    path.mkdir(parents=True)
    Job(path, Order("train", "bigram", "a title", words), 1.0).write()
    keeper = Keeper(tmp_path)
    keeper.tick()
    assert started == ([] if reaches else ["one"])
    keeper.go_on("one")
    keeper.tick()
    assert set(started) == {"one"}


def test_a_job_whose_process_is_gone_without_a_word_was_interrupted(tmp_path: Path) -> None:
    job = _job(tmp_path, session=2, pid=2**22 - 3, born=1.0)
    _end(job, 0, session=1)
    assert job.state() == "interrupted", "the end of an earlier session is not the end of this one"


def test_another_process_with_the_same_number_is_not_the_job(tmp_path: Path) -> None:
    born = psutil.Process().create_time()
    assert _job(tmp_path, session=1, pid=os.getpid(), born=born - 60.0).process() is None
    assert _job(tmp_path, session=1, pid=os.getpid(), born=born).state() == "running"


def test_a_job_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    job = _job(tmp_path, session=1, pid=7, born=3.0, threads=2)
    assert Job.read(job.path) == job
    (job.path / "job.json").write_text("{")
    assert Job.read(job.path) is None


def test_a_job_that_would_run_a_models_code_is_none(tmp_path: Path) -> None:
    words = ("examine", "model", "--trust-remote-code")
    job = Job(tmp_path, Order("examine", "", "a stranger's job", words), 1.0)
    job.write()
    assert Job.read(tmp_path) is None


def test_events_come_in_pieces_and_a_torn_line_waits(tmp_path: Path) -> None:
    job = _job(tmp_path)
    lines = [json.dumps({"kind": "step_done", "step": i, "loss": float("nan")}) for i in range(10)]
    (job.path / "events.jsonl").write_text("\n".join(lines) + '\n{"kind": "st')
    first = events_after(job, 0, most=len(lines[0]) * 4)
    assert [event["step"] for event in first["events"]] == [0, 1, 2]
    assert first["more"]
    assert first["events"][0]["loss"] is None, "no NaN leaves the studio"
    rest = events_after(job, first["next"])
    assert [event["step"] for event in rest["events"]] == list(range(3, 10))
    assert events_after(job, rest["next"])["events"] == []
    with (job.path / "events.jsonl").open("a") as file:
        file.write('ep_done", "step": 10}\n')
    assert [event["step"] for event in events_after(job, rest["next"])["events"]] == [10]


def test_a_history_is_read_only_for_trainings_that_the_job_speaks_of(tmp_path: Path) -> None:
    job = _job(tmp_path)
    (job.path / "events.jsonl").write_text(json.dumps({"kind": "training_done", "digest": "a" * 16}) + "\n")
    store = tmp_path / "store" / ("a" * 16)
    store.mkdir(parents=True)
    (store / "history.json").write_text(json.dumps({"steps": [0], "metrics": {"loss": [1.0]}}))
    assert history_of(job, "a" * 16, tmp_path)["steps"] == [0]
    with pytest.raises(UnknownName):
        history_of(job, "../../etc", tmp_path)


def test_a_report_is_served_from_below_the_folder_alone(tmp_path: Path) -> None:
    job = _job(tmp_path / "out", session=1, pid=1, born=0.0)
    _end(job, 0)
    outside = tmp_path / "outside.html"
    outside.write_text("x")
    (job.path / "stdout").write_text(json.dumps({"report": str(outside)}))
    with pytest.raises(NotFound):
        report_of(job, tmp_path / "out")
    inside = tmp_path / "out" / "report.html"
    inside.write_text("x")
    (job.path / "stdout").write_text(json.dumps({"report": str(inside)}))
    assert report_of(job, tmp_path / "out") == inside


@pytest.mark.parametrize("name", ["../one", "one/../one", "", "jobs"])
def test_a_job_is_looked_up_and_its_name_never_joined(tmp_path: Path, name: str) -> None:
    _job(tmp_path)
    keeper = Keeper(tmp_path)
    assert keeper.job("one").order == ORDER
    with pytest.raises(UnknownName):
        keeper.job(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", ".hidden", "a b/c.txt", "", "x" * 300, "C:\\x\\y.json"])
def test_a_brought_text_gets_a_safe_name_below_data(tmp_path: Path, name: str) -> None:
    found = kept(tmp_path, name, "some text")
    path = Path(str(found["path"]))
    assert path.parent == tmp_path / "data"
    assert not path.name.startswith(".")
    assert path.name in {str(one["name"]) for one in listed(tmp_path)}


def test_an_empty_or_huge_text_is_refused(tmp_path: Path) -> None:
    for text in (" \n", "x" * (MOST_BYTES + 1)):
        with pytest.raises(InvalidInput):
            kept(tmp_path, "a.txt", text)
    assert not (tmp_path / "data").exists()


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    made = Keeper(tmp_path, program=(sys.executable, "-S", str(program)))
    yield made
    for job in made.all():
        if (process := job.process()) is not None:
            for one in (*process.children(recursive=True), process):
                one.kill()
    made.wait()


def _order(*words: str) -> Order:
    return Order("train", "bigram", " ".join(words), words, {}, {})


def _until(keeper: Keeper, check: Callable[[], bool], seconds: float = 40.0) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, [
            (job.order.title, job.state(), detail(job, keeper.out)["log"]) for job in keeper.all()
        ]
        keeper.tick()
        time.sleep(0.05)


@pytest.mark.slow
def test_a_job_runs_its_command_and_tells_its_end(keeper: Keeper) -> None:
    job = keeper.add(_order("short"))
    _until(keeper, lambda: keeper.job(job.identifier).state() == "done")
    found = detail(keeper.job(job.identifier), keeper.out)
    assert found["result"] == {"model": "m", "threads": str(job.threads)}
    assert found["progress"]["step"] == 2
    failing = keeper.add(_order("fail"))
    _until(keeper, lambda: keeper.job(failing.identifier).state() == "failed")
    assert "no such thing" in detail(keeper.job(failing.identifier), keeper.out)["log"]
    with pytest.raises(InvalidInput):
        keeper.go_on(job.identifier)


@pytest.mark.slow
def test_at_most_two_run_and_a_paused_one_makes_room(keeper: Keeper) -> None:
    names = [keeper.add(_order("long", str(i))).identifier for i in range(3)]
    _until(keeper, lambda: [keeper.job(name).state() for name in names] == ["running", "running", "queued"])
    keeper.pause(names[0])
    _until(keeper, lambda: keeper.job(names[2]).state() == "running")
    assert keeper.job(names[0]).state() == "paused"


@pytest.mark.slow
def test_a_job_of_two_processes_waits_for_both_places_and_nobody_overtakes_it(keeper: Keeper) -> None:
    wide = Order("train", "bigram", "wide", ("long", "wide"), {}, {"launch": 2})
    first = keeper.add(_order("long", "first")).identifier
    second, third = keeper.add(wide).identifier, keeper.add(_order("short")).identifier
    keeper.tick()
    assert [keeper.job(name).state() for name in (first, second, third)] == ["running", "queued", "queued"]
    keeper.stop(first)
    _until(keeper, lambda: keeper.job(second).state() == "running")
    assert keeper.job(third).state() == "queued"


@pytest.mark.slow
def test_workers_in_groups_of_their_own_are_held_and_go_on_with_the_job(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import subprocess, sys\n"
        "subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'], start_new_session=True).wait()\n"
    )
    keeper = Keeper(tmp_path, program=(sys.executable, "-S", str(program)))
    name = keeper.add(_order("any")).identifier

    def family() -> list[psutil.Process]:
        process = keeper.job(name).process()
        return [] if process is None else [process, *process.children(recursive=True)]

    _until(keeper, lambda: len(family()) == 3)
    workers = family()
    try:
        keeper.pause(name)
        _until(keeper, lambda: all(one.status() == psutil.STATUS_STOPPED for one in workers))
        keeper.go_on(name)
        _until(keeper, lambda: all(one.status() != psutil.STATUS_STOPPED for one in workers))
    finally:
        for one in workers:
            one.kill()
        keeper.wait()


def test_a_job_whose_workers_are_a_clusters_is_not_held(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
        try:
            born = psutil.Process(process.pid).create_time()
            order = Order("train", "bigram", "t", ("train",), {}, {"place": "slurm"})
            path = tmp_path / "jobs" / "one"
            path.mkdir(parents=True)
            Job(path, order, 1.0, session=1, pid=process.pid, born=born).write()
            with pytest.raises(InvalidInput):
                Keeper(tmp_path).pause("one")
            assert psutil.Process(process.pid).status() != psutil.STATUS_STOPPED
        finally:
            process.kill()


@pytest.mark.slow
def test_a_paused_job_stands_still_and_goes_on(keeper: Keeper) -> None:
    name = keeper.add(_order("long")).identifier

    def step() -> int:
        return summary(keeper.job(name))["progress"]["step"] or 0

    _until(keeper, lambda: step() >= 1)
    keeper.pause(name)
    time.sleep(0.3)
    held = step()
    time.sleep(0.8)
    assert step() == held
    keeper.go_on(name)
    _until(keeper, lambda: step() > held)


@pytest.mark.slow
def test_a_stopped_job_is_taken_up_where_it_was_also_after_a_restart(keeper: Keeper) -> None:
    name = keeper.add(_order("long")).identifier
    _until(keeper, lambda: (summary(keeper.job(name))["progress"]["step"] or 0) >= 2)
    # The studio ends and another one finds the job running.
    again = Keeper(keeper.out, program=keeper.program)
    assert again.job(name).state() == "running"
    with pytest.raises(RunBusy):
        again.delete(name)
    again.stop(name)
    _until(again, lambda: again.job(name).state() == "stopped")
    reached = summary(again.job(name))["progress"]["step"]
    again.go_on(name)
    _until(again, lambda: (summary(again.job(name))["progress"]["step"] or 0) > reached)
    steps = [event["step"] for event in events_after(again.job(name), 0)["events"]]
    assert steps == sorted(set(steps)), "no step was done twice"
    assert again.job(name).session == 2
    again.stop(name)
    again.wait()


@pytest.mark.slow
def test_a_job_whose_number_a_killed_studio_had_no_time_to_write_is_found_and_not_started_twice(keeper: Keeper) -> None:
    job = keeper.job(keeper.add(_order("long")).identifier)
    was = job.pid
    assert was is not None
    job.changed(pid=None, born=None)
    again = Keeper(keeper.out, program=keeper.program)
    assert again.job(job.identifier).state() == "queued"
    again.tick()
    found = again.job(job.identifier)
    assert (found.pid, found.session, found.state()) == (was, 1, "running")


@pytest.mark.slow
def test_a_job_goes_on_in_a_process_of_its_own_while_its_last_one_is_leaving(keeper: Keeper) -> None:
    job = keeper.job(keeper.add(_order("long")).identifier)
    _end(job, 130)
    assert job.process() is not None, "its process is still there"
    assert job.state() == "stopped"
    found = keeper.go_on(job.identifier)
    assert (found.session, found.state()) == (2, "running")
    assert found.pid != job.pid
    for process in (*job.process().children(), job.process()):
        process.kill()


@pytest.mark.slow
def test_a_killed_process_is_interrupted_and_can_be_deleted(keeper: Keeper) -> None:
    name = keeper.add(_order("long")).identifier
    _until(keeper, lambda: (summary(keeper.job(name))["progress"]["step"] or 0) >= 1)
    process = keeper.job(name).process()
    assert process is not None
    for one in (process, *process.children()):
        one.kill()
    _until(keeper, lambda: keeper.job(name).state() == "interrupted")
    keeper.delete(name)
    assert keeper.all() == []
    with pytest.raises(GlassworksError):
        keeper.stop(name)
