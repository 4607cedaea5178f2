"""Requests to end by the system, and readers that go away."""

import os
import signal
import time

import pytest

from glassworks.cli.speak import results
from glassworks.cli.stopping import stoppable


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_system_stops_a_command_as_ctrl_c_does(number: signal.Signals) -> None:
    def stopped() -> None:
        with stoppable():
            # To this very thread: another one may take what is sent to the process, and nobody would wake this one.
            signal.raise_signal(number)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert signal.getsignal(number) is signal.SIG_DFL


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_one_of_several_processes_is_left_to_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with stoppable():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_reader_that_went_away_is_no_failure_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as nobody:
        monkeypatch.setattr("sys.stdout", nobody)
        with pytest.raises(BrokenPipeError):
            results().print("a table")
        # What is still in its buffer would be written when it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)


class _Clearing:
    """Python drops what a signal's handler raises while it clears an object away."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def _work_that_drops_a_request() -> None:
    one = _Clearing()
    del one
    time.sleep(10)


def test_a_request_that_python_drops_is_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt), stoppable():
        _work_that_drops_a_request()
    assert signal.getsignal(signal.SIGALRM) is before
    assert "Traceback" not in capsys.readouterr().err


def test_a_reminder_that_strikes_in_the_hook_itself_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = signal.setitimer

    def slow(which: int, seconds: float, interval: float = 0.0) -> tuple[float, float]:
        before = timer(which, seconds, interval)
        if seconds:
            time.sleep(3 * seconds)
        return before

    monkeypatch.setattr(signal, "setitimer", slow)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), stoppable():
        _work_that_drops_a_request()
    assert time.monotonic() - started < 5
