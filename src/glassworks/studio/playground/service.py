"""All open playgrounds in one process: each in turn hears, trains for a few milliseconds, and shows.

A message that is none closes its own socket and nothing else; the others do not notice.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from glassworks.core.errors import GlassworksError
from glassworks.core.text import LANGUAGES, Language
from glassworks.studio.channel import ChildChannel, Kind, Message
from glassworks.studio.frames import encode
from glassworks.studio.playground.hearing import hear
from glassworks.studio.playground.messages import MESSAGES
from glassworks.studio.playground.session import Session
from glassworks.studio.refusals import error_json

# A network takes at most a few megabytes, and those that rest take no time.
MOST_NETWORKS = 64
SLICE = 0.008
# What a socket may have waiting before it is taken for broken.
MOST_WAITING, MOST_WAITING_BYTES = 2000, 8 << 20


@dataclass
class _Open:
    number: int
    language: Language
    session: Session
    waiting: deque[bytes] = field(default_factory=deque[bytes])
    bytes_waiting: int = 0


class Playing:
    """The process's work: sessions by the number of their socket."""

    def __init__(self, channel: ChildChannel) -> None:
        self._channel = channel
        self._inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._open: dict[int, _Open] = {}

    def work(self) -> None:
        """Serves until the parent has gone."""
        threading.Thread(target=self._listen, daemon=True).start()
        self._channel.write(Message(Kind.READY))
        while True:
            self._take(self._patience())
            for one in list(self._open.values()):
                try:
                    self._serve(one)
                except Exception as problem:
                    traceback.print_exc(file=sys.stderr)
                    self._close(one, error_json(problem, one.language))

    def _listen(self) -> None:
        while (message := self._channel.read()) is not None:
            self._inbox.put(message)
        os._exit(0)

    def _patience(self) -> float | None:
        """Seconds until something is due; None: until a message comes."""
        now = time.perf_counter()
        if any(one.waiting for one in self._open.values()):
            return 0.0
        moments = [due for one in self._open.values() if (due := one.session.due(now)) is not None]
        return max(0.0, min(moments) - now) if moments else None

    def _take(self, patience: float | None) -> None:
        """Sorts what has come to its sessions."""
        try:
            message = self._inbox.get(timeout=patience) if patience != 0 else self._inbox.get_nowait()
            while True:
                self._sort(message)
                message = self._inbox.get_nowait()
        except queue.Empty:
            return

    def _sort(self, message: Message) -> None:
        match message.kind:
            case Kind.OPEN:
                told = json.loads(message.data)
                asked: list[Language] = [one for one in LANGUAGES if one == told.get("language")]
                one = self._open[message.number] = _Open(
                    message.number, asked[0] if asked else "en", Session(self._has_room)
                )
                self._send(one, {"kind": "ready", "most_networks": MOST_NETWORKS})
            case Kind.CLOSE:
                self._open.pop(message.number, None)
            case Kind.SAY if message.number in self._open:
                one = self._open[message.number]
                one.waiting.append(message.data)
                one.bytes_waiting += len(message.data)
                if len(one.waiting) > MOST_WAITING or one.bytes_waiting > MOST_WAITING_BYTES:
                    self._close(one, {"what": "more messages than can be answered"})
            case _:
                pass

    def _has_room(self) -> bool:
        return sum(len(one.session.trainers) for one in self._open.values()) < MOST_NETWORKS

    def _serve(self, one: _Open) -> None:
        """A slice for one session: its messages, its training, its frame."""
        deadline = time.perf_counter() + SLICE
        while one.waiting and time.perf_counter() < deadline:
            data = one.waiting.popleft()
            one.bytes_waiting -= len(data)
            if not self._hear(one, data):
                return
        one.session.work(time.perf_counter() + SLICE)
        for body in one.session.taken_answers():
            self._send(one, body)
        frame = one.session.frame(time.perf_counter())
        if frame is not None:
            self._send(one, frame)

    def _hear(self, one: _Open, data: bytes) -> bool:
        """Whether the socket may stay open."""
        found: Any = None
        try:
            found = json.loads(data)
            known = isinstance(found, dict) and found.get("kind") in MESSAGES.kinds
        except (ValueError, RecursionError):
            known = False
        if not known:
            self._close(one, {"what": "no message of the playground"})
            return False
        try:
            hear(one.session, MESSAGES.parse(found))
        except GlassworksError as problem:
            told = error_json(problem, one.language) | {"kind": "problem", "of": found["kind"]}
            self._send(one, told)
        return True

    def _send(self, one: _Open, body: dict[str, Any]) -> None:
        self._channel.write(Message(Kind.FRAME, one.number, encode(body, one.language)))

    def _close(self, one: _Open, why: dict[str, Any]) -> None:
        self._open.pop(one.number, None)
        self._channel.write(Message(Kind.CLOSE, one.number, json.dumps(why, ensure_ascii=False).encode()))
