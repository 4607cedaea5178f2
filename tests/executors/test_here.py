import threading
from pathlib import Path

import pytest

from glassworks.core.errors import JobsFailed
from glassworks.core.events import EventLog, JobDone, JobFailed, JobStarted, Progressed, read_events
from glassworks.core.files import write_json
from glassworks.executors import Here
from glassworks.executors.attempts import Signature
from glassworks.executors.board import Board
from glassworks.executors.worker import DEPOSED, Pulse, Stop, perform, say_how_it_ended
from tests.executors.chores import begun, job


def kinds(path) -> list[str]:
    return [event.kind for event in read_events(path)]


def test_each_job_is_done_once_and_told_in_order(tmp_path):
    jobs = [job(tmp_path, "a"), job(tmp_path, "b", needs=("a",))]
    heard = []
    events = EventLog(tmp_path / "events.jsonl")
    events.listen(heard.append)
    done = Here().run([*jobs, jobs[0]], tmp_path / "work", events)
    assert [(one.job.name, one.attempts, one.found) for one in done] == [("a", 1, False), ("b", 1, False)]
    assert [begun(tmp_path, name) for name in "ab"] == [1, 1]
    assert [e.job for e in heard if isinstance(e, JobStarted)] == ["a", "b"]
    assert [(e.job, e.found) for e in heard if isinstance(e, JobDone)] == [("a", False), ("b", False)]
    totals = [e for e in heard if isinstance(e, Progressed)]
    assert totals[-1].done == totals[-1].total == 2.0
    assert kinds(tmp_path / "events.jsonl") == [event.kind for event in heard]


def test_nothing_is_left_of_finished_jobs_but_their_results(tmp_path):
    Here().run([job(tmp_path, "a")], tmp_path / "work", EventLog())
    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == []


def test_what_is_done_is_found_and_not_begun(tmp_path):
    one = job(tmp_path, "a")
    write_json(one.proof, {})
    (done,) = Here().run([one], tmp_path / "work", EventLog())
    assert done.found
    assert begun(tmp_path, "a") == 0


def test_a_failure_is_begun_again_as_often_as_it_was_said(tmp_path):
    (done,) = Here(retries=2).run([job(tmp_path, "a", fails=2)], tmp_path / "work", EventLog())
    assert done.attempts == 3
    assert begun(tmp_path, "a") == 3


def test_the_others_are_done_before_a_failure_is_raised_with_its_reason_and_what_it_printed(tmp_path):
    heard = []
    events = EventLog()
    events.listen(heard.append)
    jobs = [job(tmp_path, "a", fails=9), job(tmp_path, "b"), job(tmp_path, "c", needs=("a",))]
    with pytest.raises(JobsFailed) as caught:
        Here(retries=1).run(jobs, tmp_path / "work", events)
    assert jobs[1].is_done
    assert str(caught.value).startswith("2 of 3 jobs failed; job a: ValueError")
    failures = {name: (str(what), log) for name, what, log in caught.value.failures}
    assert failures["a"][0] == "ValueError: no luck at beginning 2"
    assert "no luck at beginning 2" in Path(failures["a"][1]).read_text()
    assert failures["c"][0] == "it needs job a, which failed"
    assert begun(tmp_path, "c") == 0
    assert [e.again for e in heard if isinstance(e, JobFailed)] == [True, False]


def test_what_could_only_fail_the_same_way_is_not_begun_again(tmp_path):
    with pytest.raises(JobsFailed):
        Here(retries=5).run([job(tmp_path, "a", hopeless=True)], tmp_path / "work", EventLog())
    assert begun(tmp_path, "a") == 1


def test_a_job_that_ends_without_its_result_has_failed(tmp_path):
    with pytest.raises(JobsFailed, match="without its result"):
        Here().run([job(tmp_path, "a", forgets=True)], tmp_path / "work", EventLog())


@pytest.mark.slow
def test_a_result_that_another_process_has_locked_is_waited_for_and_no_failure(tmp_path, monkeypatch):
    monkeypatch.setattr("glassworks.executors.here.BUSY_SECONDS", 0.05)
    (done,) = Here(retries=0).run([job(tmp_path, "a", busy=2)], tmp_path / "work", EventLog())
    assert done.attempts == 3


def test_a_job_that_failed_before_gets_all_its_retries_again(tmp_path):
    one = job(tmp_path, "a", fails=2)
    with pytest.raises(JobsFailed):
        Here(retries=0).run([one], tmp_path / "work", EventLog())
    (done,) = Here(retries=1).run([one], tmp_path / "work", EventLog())
    assert done.attempts == 2


def test_a_job_that_another_process_does_meanwhile_is_taken_as_done(tmp_path):
    jobs = [job(tmp_path, "a"), job(tmp_path, "b"), job(tmp_path, "c")]
    events = EventLog()
    events.listen(lambda event: write_json(jobs[1].proof, {}) if event.kind == "job_started" else None)
    done = Here().run(jobs, tmp_path / "work", events)
    assert [(one.job.name, one.found) for one in done] == [("a", False), ("b", True), ("c", False)]
    assert begun(tmp_path, "b") == 0


@pytest.mark.parametrize(("word", "ended"), [("its own", []), ("another's", [DEPOSED])])
def test_a_worker_ends_where_another_ended_its_attempt_and_not_by_its_own_word(tmp_path, monkeypatch, word, ended):
    codes, beats = [], threading.Event()
    monkeypatch.setattr("glassworks.executors.worker.os._exit", codes.append)
    one = job(tmp_path, "a")
    board = Board.create(tmp_path / "work", [one], retries=0)
    attempt = board.take("a", Signature.own(board.session, 1))
    with Pulse(tmp_path / "one.beat", seconds=0.01).beating() as pulse:
        pulse.attempt = attempt
        ending = perform(one, attempt, Stop())
        assert attempt.ending is None, "its worker says so once its pulse looks no longer"
        if word == "its own":
            pulse.attempt = None
        say_how_it_ended(attempt, ending)
        beats.wait(0.1)
    assert codes[:1] == ended
