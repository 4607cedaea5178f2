import threading
import time
from dataclasses import replace

import pytest

from glassworks.core.errors import InvalidInput, NotFound
from glassworks.core.events import CheckpointSaved, EventLog
from glassworks.core.files import write_json
from glassworks.executors import Here
from glassworks.executors.attempts import Ending, Observer, Signature, attempts_of, beat, beat_path, begin, here
from glassworks.executors.board import Board
from glassworks.executors.jobs import Job
from tests.executors.chores import job

GONE = 2**22 + 1  # above the largest process number of this system


def dead(session: str, worker: int = 1) -> Signature:
    return replace(Signature.own(session, worker), pid=GONE)


def elsewhere(session: str, worker: int = 1) -> Signature:
    return replace(Signature.own(session, worker), place="another machine")


def board_of(tmp_path, *jobs: Job, retries: int = 2) -> Board:
    return Board.create(tmp_path / "work", jobs, retries)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "nul\0"])
def test_a_job_whose_name_no_folder_can_have_is_refused(tmp_path, name):
    with pytest.raises(InvalidInput):
        Job(name, "", "os:getcwd", {}, tmp_path / "proof")


def test_a_job_read_from_its_folder_is_the_same_job(tmp_path):
    one = job(tmp_path, "a", needs=("b",), seconds=0.5)
    one.save(tmp_path / "kept")
    assert Job.load(tmp_path / "kept") == one


def test_of_thirty_two_that_want_a_job_at_once_one_gets_it(tmp_path):
    taken, gate = [], threading.Barrier(32)

    def want(worker: int) -> None:
        by = Signature.own("s", worker)
        gate.wait()
        taken.append(begin(tmp_path, by))

    for _ in range(5):
        threads = [threading.Thread(target=want, args=(worker,)) for worker in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    won = [attempt for attempt in taken if attempt is not None]
    # Whoever comes late in a round may begin the next attempt: numbers are never given twice.
    assert len({attempt.number for attempt in won}) == len(won) >= 5
    assert [attempt.number for attempt in attempts_of(tmp_path)] == sorted(attempt.number for attempt in won)
    assert [attempt.by for attempt in attempts_of(tmp_path)] == [a.by for a in sorted(won, key=lambda one: one.number)]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_the_first_word_about_an_ending_counts(tmp_path):
    attempt = begin(tmp_path, Signature.own("s", 1))
    assert attempt.end(Ending("lost"))
    assert not attempt.end(Ending("done", 3.0))
    assert attempt.ending == Ending("lost")


def test_a_free_job_is_held_once_taken_and_free_again_when_its_worker_dies(tmp_path):
    one = job(tmp_path, "a")
    board = board_of(tmp_path, one)
    assert board.standing("a").kind == "free"
    board.take("a", Signature.own(board.session, 1))
    assert board.standing("a").kind == "held"
    (tmp_path / "b").mkdir()
    other = board_of(tmp_path / "b", job(tmp_path / "b", "a"))
    other.take("a", dead(other.session))
    assert other.standing("a").kind == "free"
    assert [attempt.ending.kind for attempt in attempts_of(other.of("a"))] == ["lost"]


def test_a_job_whose_workers_keep_dying_is_given_up_after_its_retries(tmp_path):
    board = board_of(tmp_path, job(tmp_path, "a"), retries=2)
    for _ in range(3):
        assert board.standing("a").kind == "free"
        board.take("a", dead(board.session))
    standing = board.standing("a")
    assert standing.kind == "given_up"
    assert "ended without a word" in str(standing.what)


def test_deaths_in_another_session_are_not_held_against_this_one(tmp_path):
    one = job(tmp_path, "a")
    board = board_of(tmp_path, one, retries=0)
    board.take("a", dead("an earlier one"))
    assert board.standing("a").kind == "free"


def test_a_death_after_a_checkpoint_is_no_failure_for_the_next_attempt_goes_on_there(tmp_path):
    board = board_of(tmp_path, job(tmp_path, "a"), retries=0)
    for step in range(3):
        attempt = board.take("a", dead(board.session))
        EventLog(attempt.events).emit(CheckpointSaved(digest="a", step=step))
        assert board.standing("a").kind == "free"
    board.take("a", dead(board.session))
    assert board.standing("a").kind == "given_up"


def test_a_result_that_a_dying_worker_had_written_is_taken(tmp_path):
    one = job(tmp_path, "a")
    board = board_of(tmp_path, one, retries=0)
    board.take("a", dead(board.session))
    write_json(one.proof, {})
    assert board.standing("a").kind == "done"


def test_a_job_waits_for_what_it_needs_and_falls_with_it(tmp_path):
    first, second = job(tmp_path, "a"), job(tmp_path, "b", needs=("a",))
    board = board_of(tmp_path, first, second, retries=0)
    assert board.standing("b").kind == "waiting"
    board.take("a", dead(board.session))
    assert board.standing("b").kind == "given_up"
    write_json(first.proof, {})
    assert board.standing("b").kind == "free"


def test_a_worker_of_another_machine_is_believed_as_long_as_its_heart_beats(tmp_path):
    by = elsewhere("s")
    observer = Observer(tmp_path, silence=0.1)
    path = beat_path(tmp_path, by)
    for count in range(3):
        beat(path, count)
        assert observer.is_alive(by)
        time.sleep(0.06)
    time.sleep(0.11)
    assert not observer.is_alive(by)


def test_a_change_of_the_clock_kills_nobody(tmp_path, monkeypatch):
    by, other = Signature.own("s", 1), elsewhere("s")
    observer = Observer(tmp_path)
    assert observer.is_alive(by)
    assert observer.is_alive(other)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert observer.is_alive(by)
    assert observer.is_alive(other)


def test_a_process_number_that_is_used_again_is_not_taken_for_the_dead_worker(tmp_path):
    by = Signature.own("s", 1)
    assert not Observer(tmp_path).is_alive(replace(by, born=by.born - 1))
    assert by.place == here()


def test_a_session_that_is_over_has_no_work_for_late_workers(tmp_path):
    board = board_of(tmp_path, job(tmp_path, "a"))
    board.close(keep=True)
    with pytest.raises(NotFound):
        Board.open(board.folder, board.session)


def test_two_different_jobs_of_one_name_are_refused(tmp_path):
    one = job(tmp_path, "a")
    with pytest.raises(InvalidInput):
        Here().run([one, replace(one, function="os:getcwd")], tmp_path / "work", EventLog())


def test_a_need_that_is_no_job_is_refused(tmp_path):
    with pytest.raises(InvalidInput):
        Here().run([job(tmp_path, "a", needs=("b",))], tmp_path / "work", EventLog())
