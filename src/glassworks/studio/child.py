"""The worker process: answers one question at a time; a second thread listens, so that a cancel arrives at once.

Started by `crew.py` as `python -m glassworks.studio.child`, with its places as JSON on the command line.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from glassworks.core.text import Language, choose_language
from glassworks.studio.channel import LONGEST, ChildChannel, Kind, Message
from glassworks.studio.frames import encode
from glassworks.studio.questions.desk import Desk, Places
from glassworks.studio.refusals import BAD, CANCELLED, error_json, status_of

# Progress is told at most this often, so that a loop may tell of every step.
TELL_EVERY = 0.1
# Between two looks at whether an import has ended.
IMPORT_PAUSE = 0.02


class Cancelled(BaseException):
    """The person no longer waits. No `except Exception` on the way may swallow it."""


class Answering:
    """The main thread's work: question after question, each of which another thread may call off."""

    def __init__(self, channel: ChildChannel, desk: Desk) -> None:
        self._channel = channel
        self._desk = desk
        self._waiting: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._called_off: set[int] = set()
        self._current: int | None = None
        self._lock = threading.Lock()
        self._thread = threading.get_ident()
        self._told = 0.0

    def listen(self) -> None:
        """Reads until the parent has gone; runs in a thread of its own."""
        while True:
            message = self._channel.read()
            if message is None:
                # Nobody is left to answer, and whatever is being computed is for nobody.
                os._exit(0)
            if message.kind is Kind.CANCEL:
                self._call_off(message.number)
            else:
                self._waiting.put(message)

    def work(self) -> None:
        """Answers until the process ends."""
        self._channel.write(Message(Kind.READY))
        while True:
            try:
                self._answer(self._waiting.get())
            except Cancelled:
                continue  # it came in the moment between two questions

    def _answer(self, message: Message) -> None:
        number = message.number
        with self._lock:
            if number in self._called_off:
                self._called_off.discard(number)
                return
            self._current = number
        try:
            self._channel.write(Message(Kind.STARTED, number))
            reply = self._computed(message)
        except Cancelled:
            self._desk.restore()
            reply = Message(Kind.REFUSAL, number, json.dumps({"status": CANCELLED, "error": {"what": "-"}}).encode())
        with self._lock:
            self._current = None
            self._called_off.discard(number)
            # A call-off on its way would strike the next question.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), None)
        self._channel.write(reply)

    def _computed(self, message: Message) -> Message:
        from glassworks.studio.questions import QUESTIONS

        asked: dict[str, Any] = json.loads(message.data)
        language: Language = asked["language"]
        self._desk.language = language
        choose_language(language)
        self._desk.tell = lambda label, done, total: self._tell(message.number, label, done, total)
        try:
            frame = encode(QUESTIONS.parse(asked["question"]).answer(self._desk), language)
            if len(frame) > LONGEST:
                raise MemoryError(f"an answer of {len(frame)} bytes")
        except Exception as problem:
            status = status_of(problem)
            if status != BAD:
                traceback.print_exc(file=sys.stderr)
            error = {"status": status, "error": error_json(problem, language)}
            return Message(Kind.REFUSAL, message.number, json.dumps(error).encode())
        return Message(Kind.ANSWER, message.number, frame)

    def _tell(self, number: int, label: str, done: float, total: float) -> None:
        now = time.monotonic()
        if now - self._told < TELL_EVERY and done < total:
            return
        self._told = now
        data = json.dumps({"label": label, "done": done, "total": total}).encode()
        self._channel.write(Message(Kind.PROGRESS, number, data))

    def _call_off(self, number: int) -> None:
        with self._lock:
            self._called_off.add(number)
        # A package whose import is broken off half-way stays broken, for every later question too.
        while not self._struck(number):
            time.sleep(IMPORT_PAUSE)

    def _struck(self, number: int) -> bool:
        with self._lock:
            if self._current != number:
                return True
            if is_importing(self._thread):
                return False
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Cancelled))
            return True


def is_importing(thread: int) -> bool:
    """Whether the thread of this identifier is in the middle of an import."""
    frame = sys._current_frames().get(thread)  # pyright: ignore[reportPrivateUsage] - documented for this use
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def main() -> None:
    """Runs the service that the command line names: `questions` or `playground`."""
    service, found = sys.argv[1], json.loads(sys.argv[2])
    channel = ChildChannel()
    import torch

    # One thread: the machine's other processors belong to trainings and to the person.
    torch.set_num_threads(1)
    if service == "playground":
        from glassworks.studio.playground.service import Playing

        Playing(channel).work()
        return
    places = Places(Path(found["out"]), tuple(map(Path, found["folders"])), found["most_parameters"])
    answering = Answering(channel, Desk(places))
    # Before the first question, which then does not wait for it.
    importlib.import_module("glassworks.models.load")

    threading.Thread(target=answering.listen, daemon=True).start()
    answering.work()


if __name__ == "__main__":
    main()
