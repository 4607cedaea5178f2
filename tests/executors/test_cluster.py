"""SLURM through submitit: by submitit's own local cluster, and by programs that stand in for SLURM's and run what is submitted."""

import contextlib
import os
import signal
import stat
import sys
import threading
from pathlib import Path

import pytest

from glassworks.core.errors import InvalidInput, Unavailable
from glassworks.core.events import EventLog
from glassworks.core.files import read_json
from glassworks.executors import Slurm, executor_of
from glassworks.executors.slurm import under_way
from tests.executors.chores import begun, job
from tests.executors.parent import names
from tests.executors.test_local import parent, told, until

ROOT = Path(__file__).parents[2]
SLURM = "slurm:partition=gpu,workers=2,hours=0.5"


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs of SLURM's names on the path; the folder of their state."""
    state, programs = tmp_path / "state", tmp_path / "bin"
    state.mkdir()
    programs.mkdir()
    for name in ("sbatch", "srun", "squeue", "scancel"):
        path = programs / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/executors/fake_slurm.py" {name} "$@"\n')
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(state))
    monkeypatch.setattr("glassworks.executors.slurm._SECONDS_BETWEEN_LOOKS", 0.5)
    monkeypatch.chdir(ROOT)
    yield state
    for pid in _groups(state):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _groups(state: Path) -> list[int]:
    return [int(path.read_text()) for path in state.glob("*.pid")]


def _running(state: Path) -> list[int]:
    """Elements of which any process runs."""
    found = []
    for pid in _groups(state):
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            continue
        found.append(pid)
    return found


def test_without_slurm_the_message_says_where_it_would_be(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="reaches no SLURM"):
        Slurm().run([job(tmp_path, "a")], tmp_path / "work", EventLog())


def test_an_element_that_squeue_still_lists_after_its_end_is_over():
    listing = "7_0 RUNNING\n7_1 PENDING\n7_2 COMPLETED\n7_3 OUT_OF_MEMORY\n8_0 COMPLETING\n\n"
    assert under_way(listing) == {"7_0", "7_1", "8_0"}


@pytest.mark.slow
def test_a_controller_that_does_not_answer_in_time_is_asked_again(tmp_path, slurm, monkeypatch):
    squeue = tmp_path / "bin" / "squeue"
    asked = tmp_path / "asked"
    squeue.write_text(
        squeue.read_text().replace("exec", f"[ -e {asked} ] || {{ touch {asked}; exec sleep 9; }}\nexec", 1)
    )
    monkeypatch.setattr("glassworks.executors.slurm._SECONDS_FOR_AN_ANSWER", 0.5)
    jobs = [job(tmp_path, f"{n}", seconds=1.5) for n in range(4)]
    done = executor_of(SLURM).run(jobs, tmp_path / "work", EventLog())
    assert asked.exists()
    assert [one.attempts for one in done] == [1, 1, 1, 1]
    assert (slurm / "submitted.txt").read_text().count("#SBATCH --array") == 1


@pytest.mark.slow
def test_an_array_of_workers_does_the_jobs_with_what_was_asked_for(tmp_path, slurm):
    jobs = [job(tmp_path, "a", dies=1), *(job(tmp_path, f"b{n}", seconds=0.2) for n in range(3))]
    asked = f"{SLURM},gpus=1,cpus=4,memory=8,account=lab,sbatch.constraint=a100"
    done = executor_of(asked).run(jobs, tmp_path / "work", EventLog())
    assert sorted((one.job.name, one.attempts) for one in done) == [("a", 2), ("b0", 1), ("b1", 1), ("b2", 1)]
    assert {read_json(one.job.proof)["threads"] for one in done} == {"1"}
    submitted = (slurm / "submitted.txt").read_text()
    for line in (
        "--array=0-1%2", "--partition=gpu", "--gpus-per-node=1", "--cpus-per-task=4", "--mem=8GB", "--account=lab",
        "--constraint=a100", "--time=30", "--signal=USR2@90",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in submitted
    until(lambda: not _running(slurm))


@pytest.mark.slow
def test_the_jobs_of_a_killed_parent_go_on_and_are_found_by_the_next(tmp_path, slurm):
    first = parent(tmp_path, SLURM, 1.0)
    until(lambda: any(begun(tmp_path, name) for name in names()))
    first.kill()
    first.communicate()
    assert _running(slurm), "the cluster does not care that its submitter is gone"
    again = parent(tmp_path, SLURM, 0.0)
    told(tmp_path, [again.communicate(timeout=120)[0]])
    assert {begun(tmp_path, name) for name in names()} == {1}


@pytest.mark.slow
def test_ctrl_c_cancels_what_was_submitted_and_the_next_start_goes_on(tmp_path, slurm):
    first = parent(tmp_path, SLURM, 3.0)
    until(lambda: any(begun(tmp_path, name) for name in names()))
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == 130
    assert (slurm / "cancelled.txt").is_file()
    until(lambda: not _running(slurm))
    told(tmp_path, [parent(tmp_path, SLURM, 0.0).communicate(timeout=120)[0]])


@pytest.mark.slow
def test_what_slurm_refuses_is_told_in_its_words(tmp_path, slurm):
    (slurm / "refuse").write_text("gpu")
    with pytest.raises(InvalidInput, match="invalid partition specified"):
        executor_of(SLURM).run([job(tmp_path, "a")], tmp_path / "work", EventLog())


@pytest.mark.slow
def test_a_worker_whose_time_is_up_leaves_its_job_to_the_next(tmp_path, slurm):
    one = job(tmp_path, "a", seconds=4.0, checkpoints=True)

    def near_the_limit() -> None:
        until(lambda: begun(tmp_path, "a") == 1)
        os.killpg(_groups(slurm)[0], signal.SIGUSR2)

    thread = threading.Thread(target=near_the_limit)
    thread.start()
    (done,) = executor_of(f"{SLURM},retries=0").run([one], tmp_path / "work", EventLog())
    thread.join()
    assert done.attempts == 2


@pytest.mark.slow
def test_the_same_works_on_this_machine_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    jobs = [job(tmp_path, "a", dies=1), job(tmp_path, "b")]
    done = executor_of("slurm:cluster=local,workers=2,hours=0.1").run(jobs, tmp_path / "work", EventLog())
    assert sorted((one.job.name, one.attempts) for one in done) == [("a", 2), ("b", 1)]
