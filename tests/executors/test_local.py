"""Workers as processes of this machine, killed for real."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from glassworks.core.errors import JobsFailed, Unavailable
from glassworks.core.events import EventLog, JobFailed, read_events
from glassworks.core.files import read_json
from glassworks.executors import Local
from glassworks.executors.local import cuda_devices
from tests.executors.chores import begun, job
from tests.executors.parent import names

ROOT = Path(__file__).parents[2]


def workers(pid: int) -> list[psutil.Process]:
    """The worker processes that a parent started."""
    found = psutil.Process(pid).children(recursive=True)
    return [process for process in found if "glassworks.executors.worker" in " ".join(process.cmdline())]


def until(holds, seconds: float = 60.0) -> None:
    """Waits until something holds; fails after some seconds."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "it never came to hold"
        time.sleep(0.05)


def parent(folder: Path, executor: str, seconds: float) -> subprocess.Popen[str]:
    """A parent in a process of its own, which hears Ctrl-C also where these tests were started in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.executors.parent", str(folder), executor, str(seconds)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def told(folder: Path, outputs: list[str]) -> None:
    """Every job is reported by the last parent exactly once, and each result is whole."""
    lines = outputs[-1].split("\n")
    assert sorted(line.split()[0] for line in lines if line) == names()
    assert all(read_json(folder / f"{name}.json")["beginning"] == begun(folder, name) for name in names())


@pytest.mark.parametrize(
    ("environment", "devices", "found"),
    [
        ({}, 0, []),
        ({}, 3, ["0", "1", "2"]),
        ({"CUDA_VISIBLE_DEVICES": "2, 5"}, 8, ["2", "5"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, 8, []),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1f,MIG-2"}, 0, ["GPU-1f", "MIG-2"]),
    ],
)
def test_the_devices_are_those_that_this_process_may_use(tmp_path, environment, devices, found):
    for number in range(devices):
        (tmp_path / f"0000:0{number}:00.0").mkdir()
    assert cuda_devices(environment, tmp_path) == found


@pytest.mark.slow
def test_jobs_are_shared_among_processes_with_one_thread_and_one_device_each(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    done = Local(workers=2).run([job(tmp_path, f"{n}", seconds=0.5) for n in range(6)], tmp_path / "work", EventLog())
    results = [read_json(one.job.proof) for one in done]
    assert len({one["pid"] for one in results}) == 2
    assert os.getpid() not in {one["pid"] for one in results}
    assert {one["threads"] for one in results} == {"1"}
    assert {one["cuda"] for one in results} == {"4", "7"}
    assert {one.attempts for one in done} == {1}
    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == []


@pytest.mark.slow
def test_a_job_whose_worker_dies_is_done_by_another(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    events = EventLog(tmp_path / "events.jsonl")
    jobs = [job(tmp_path, "a", dies=2), job(tmp_path, "b", fails=1), job(tmp_path, "c", dies=9), job(tmp_path, "d")]
    with pytest.raises(JobsFailed) as caught:
        Local(workers=2).run(jobs, tmp_path / "work", events)
    assert [name for name, _, _ in caught.value.failures] == ["c"]
    assert [begun(tmp_path, name) for name in "abcd"] == [3, 2, 3, 1]
    failures = [e for e in read_events(tmp_path / "events.jsonl") if isinstance(e, JobFailed)]
    assert sorted((e.job, e.attempt, e.again) for e in failures) == [
        ("a", 1, True), ("a", 2, True), ("b", 1, True), ("c", 1, True), ("c", 2, True), ("c", 3, False),
    ]  # fmt: skip
    log = Path(next(path for name, _, path in caught.value.failures if name == "c"))
    assert log.read_text() == "c: beginning number 3\n"


@pytest.mark.slow
def test_workers_that_cannot_even_start_are_given_up_with_what_they_said(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="before they began"):
        Local(workers=2).run([job(tmp_path, "a")], tmp_path / "work", EventLog())


@pytest.mark.slow
@pytest.mark.parametrize("victims", ["worker", "parent", "both"])
def test_whoever_is_killed_no_result_is_lost_or_counted_twice(tmp_path, victims):
    outputs = []
    first = parent(tmp_path, "local:2", 1.0)
    until(lambda: any(begun(tmp_path, name) for name in names()))
    mine = workers(first.pid)
    if victims in ("worker", "both"):
        mine[0].kill()
    if victims in ("parent", "both"):
        first.kill()
    outputs.append(first.communicate(timeout=120)[0])
    if victims != "worker":
        # No orphan stays, and none of them waits for the next parent to end.
        until(lambda: not any(process.is_running() and process.status() != "zombie" for process in mine))
        before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
        outputs.append(parent(tmp_path, "local:2", 0.0).communicate(timeout=120)[0])
        assert {name: (tmp_path / name).read_bytes() for name in before} == before
    told(tmp_path, outputs)


@pytest.mark.slow
def test_ctrl_c_ends_all_workers_and_the_next_start_goes_on(tmp_path):
    first = parent(tmp_path, "local:2", 3.0)
    until(lambda: any(begun(tmp_path, name) for name in names()))
    mine = workers(first.pid)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 130
    assert not any(process.is_running() and process.status() != "zombie" for process in mine)
    again = parent(tmp_path, "local:2", 0.0)
    told(tmp_path, [again.communicate(timeout=120)[0]])


@pytest.mark.slow
def test_two_parents_at_once_share_the_work(tmp_path):
    both = [parent(tmp_path, "local:1", 0.3) for _ in range(2)]
    outputs = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    for output in outputs:
        told(tmp_path, [output])
    assert {begun(tmp_path, name) for name in names()} == {1}
