"""Many playgrounds in one process: each is served in turn, and a broken message ends its own socket only."""

import json
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from glassworks.studio.channel import Kind, Message
from glassworks.studio.frames import decode
from glassworks.studio.playground import service
from glassworks.studio.playground.service import MOST_NETWORKS, Playing

pytestmark = pytest.mark.slow


class Wire:
    """A channel without processes."""

    def __init__(self) -> None:
        self.to_child: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.heard: defaultdict[int, list[Message]] = defaultdict(list)

    def read(self) -> Message:
        return self.to_child.get()

    def write(self, message: Message) -> None:
        self.heard[message.number].append(message)

    def say(self, number: int, data: bytes | dict[str, Any]) -> None:
        self.to_child.put(Message(Kind.SAY, number, data if isinstance(data, bytes) else json.dumps(data).encode()))

    def open(self, number: int, **settings: Any) -> None:
        self.to_child.put(Message(Kind.OPEN, number, b'{"language": "zh"}'))
        self.say(number, {"kind": "open", "settings": {"seed": "0.1"} | settings})

    def frames(self, number: int) -> list[dict[str, Any]]:
        return [decode(one.data) for one in list(self.heard[number]) if one.kind is Kind.FRAME]

    def is_closed(self, number: int) -> bool:
        return any(one.kind is Kind.CLOSE for one in list(self.heard[number]))


def wait(condition: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    playing: Any = Playing(made)  # pyright: ignore[reportArgumentType]  (a wire is spoken to like a channel)
    threading.Thread(target=playing.work, daemon=True).start()
    yield made
    for number in list(made.heard):
        made.to_child.put(Message(Kind.CLOSE, number))


@pytest.mark.parametrize(
    "data", [b"{", b"null", b"[]", b"\xff\xfe", b'{"kind": "nothing"}', b"[" * 100_000, b'{"kind": 3}']
)
def test_a_broken_message_closes_its_own_socket_only(wire: Wire, data: bytes) -> None:
    wire.open(1)
    wire.open(2)
    wire.say(2, data)
    wait(lambda: wire.is_closed(2))
    wire.say(1, {"kind": "step"})
    wait(lambda: wire.frames(1)[-1].get("a", {}).get("epoch") == 1)
    assert not wire.is_closed(1)


def test_what_cannot_be_is_answered_in_the_page_s_language_and_the_socket_stays(wire: Wire) -> None:
    wire.open(1)
    wire.say(1, {"kind": "edit", "layer": 9, "to": 0, "value": 1})
    wait(lambda: any(one["kind"] == "problem" for one in wire.frames(1)))
    problem = next(one for one in wire.frames(1) if one["kind"] == "problem")
    assert problem["of"] == "edit"
    assert problem["what"] == "没有这个神经元"
    assert not wire.is_closed(1)


def test_ten_trainings_go_on_side_by_side_without_any_frame_being_drawn(wire: Wire) -> None:
    for number in range(1, 11):
        wire.open(number)
        wire.say(number, {"kind": "speed", "mode": "max"})
        wire.say(number, {"kind": "until", "epoch": 40})
    for number in range(1, 11):
        for frame in (1, 2, 3):
            wire.say(number, {"kind": "ack", "frame": frame})
    time.sleep(3)
    for number in range(1, 11):
        wire.say(number, {"kind": "ack", "frame": 4})
        wire.say(number, {"kind": "ack", "frame": 5})
    wait(lambda: all(wire.frames(number)[-1]["a"]["epoch"] == 40 for number in range(1, 11)))


def test_networks_beyond_the_bound_are_refused_politely_and_room_is_given_back(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_NETWORKS", 3)
    assert MOST_NETWORKS >= 50
    for number in range(1, 5):
        wire.open(number)
    wait(lambda: len(wire.frames(4)) == 2)
    assert wire.frames(4)[1]["kind"] == "problem"
    wire.to_child.put(Message(Kind.CLOSE, 1))
    wire.say(4, {"kind": "open"})
    wait(lambda: wire.frames(4)[-1]["kind"] == "frame")


def test_a_flood_ends_its_own_socket(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_WAITING_BYTES", 10_000)
    wire.open(1)
    wire.open(2)
    wait(lambda: len(wire.frames(2)) == 2)
    for _ in range(50):
        wire.say(1, {"kind": "reset", "same": False} | {"kind": "open", "settings": {"shape": [32] * 12}})
        wire.say(1, json.dumps({"kind": "open", "settings": {"seed": "x" * 1000}}).encode())
    wait(lambda: wire.is_closed(1))
    wire.say(2, {"kind": "step"})
    wait(lambda: wire.frames(2)[-1]["a"]["epoch"] == 1)
    assert not wire.is_closed(2)
