"""A first request to end waits for the step under way; a second one, and those of others, act as ever."""

import os
import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.training.stages.rows import begun_row, take_up_row
from glassworks.training.stopping import listening


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_request_is_noted_and_the_second_interrupts(number: int) -> None:
    before = signal.signal(number, signal.default_int_handler)
    try:
        with listening() as request:
            assert not request.came_to_any()
            send(number)
            assert request.came_to_any()
            with pytest.raises(KeyboardInterrupt):
                send(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_one_process_tells_its_own_error_though_a_request_waits() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def fails() -> None:
        with listening():
            send(signal.SIGTERM)
            raise InvalidInput(say("a rate of -1"))

    with pytest.raises(InvalidInput):
        fails()
    assert signal.getsignal(signal.SIGTERM) is before


def test_whoever_answers_a_signal_goes_on_answering_it() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with listening() as request:
            send(signal.SIGTERM)
            assert not request.came_to_any()
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    found: list[Any] = []

    def work() -> None:
        with listening():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def trainer() -> Any:
    """What the library's trainers add up in."""
    return SimpleNamespace(
        _globalstep_last_logged=20, _tr_loss=torch.tensor(0.0), _metrics={"train": {"entropy": [], "margin": []}},
        args=SimpleNamespace(process_index=0),
    )  # fmt: skip


def test_a_row_that_is_not_full_is_gone_on_with() -> None:
    one, other = trainer(), trainer()
    one._tr_loss += 0.1
    one._metrics["train"]["entropy"] += [1.5, 0.1]
    other._globalstep_last_logged = 23
    take_up_row(other, begun_row(one))
    assert other._globalstep_last_logged == 20
    assert torch.equal(other._tr_loss, one._tr_loss)
    assert other._metrics == one._metrics


def test_a_row_of_two_processes_is_gone_on_with_by_one() -> None:
    alone = trainer()
    take_up_row(alone, {"since": 20, "losses": [0.2, 0.6], "means": {}})
    assert float(alone._tr_loss) == pytest.approx(0.4)
