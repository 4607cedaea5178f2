"""The parent's side of a worker: starts it, asks it, gives up after a time, starts it again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

from glassworks.core.text import Language, say
from glassworks.studio.channel import Kind, Message, read_message
from glassworks.studio.refusals import BUSY, TOO_LATE, Refused, refusal

# Questions that wait at most: with one answered at a time, more would wait for minutes.
MOST_WAITING = 160
# Between asking a worker to stop and stopping it: an answer that does not listen is stopped with its process.
GRACE = 10.0
# Loading torch takes seconds on a cold disk; a worker that is not there after this will not come.
STARTING = 120.0
# A worker that has nothing to do begins with a question at once; one that is silent for so long was stopped or hangs.
SILENT = 20.0
# A worker that dies at once, again and again, is not started without end.
PAUSE = 1.0


class Crew:
    """One worker process; whatever listens to a number gets its messages."""

    def __init__(self, service: str, places: dict[str, Any]) -> None:
        self._command = (sys.executable, "-m", "glassworks.studio.child", service, json.dumps(places))
        self._process: asyncio.subprocess.Process | None = None
        self._listeners: dict[int, asyncio.Queue[Message | None]] = {}
        self._next = 0
        self._task: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()
        self.working_on: int | None = None
        self._heard = 0.0

    @property
    def pid(self) -> int | None:
        """The worker's process number, None between two lives."""
        return None if self._process is None else self._process.pid

    @property
    def listening(self) -> int:
        """How many questions or sockets are open."""
        return len(self._listeners)

    def start(self) -> None:
        """Starts the worker, unless it was, and keeps it alive until `stop`."""
        if self._task is None:
            self._task = asyncio.create_task(self._live())

    async def stop(self) -> None:
        """Ends the worker for good."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.kill()

    def kill(self) -> None:
        """Stops the present process; `start` brings up another."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def is_silent_since(self, moment: float) -> bool:
        """Whether a worker that is there and works on nothing has said nothing since that moment of the loop's clock."""
        return self.ready.is_set() and self.working_on is None and self._heard < moment

    def kill_silent(self, pid: int | None) -> None:
        """Stops the process of this number, if it is still the present one."""
        if self.pid == pid:
            sys.stderr.write(f"studio: worker {pid} does not listen and is started again\n")
            self.kill()

    @contextlib.asynccontextmanager
    async def line(self) -> AsyncGenerator[Line]:
        """A number of one's own, and what the worker says under it; None means that the worker died."""
        self._next += 1
        number, heard = self._next, asyncio.Queue[Message | None]()
        self._listeners[number] = heard
        try:
            yield Line(number, heard, self._send)
        finally:
            del self._listeners[number]

    async def _send(self, message: Message) -> None:
        await asyncio.wait_for(self.ready.wait(), STARTING)
        process = self._process
        if process is None or process.stdin is None:
            return
        # A worker that just died: the listeners hear of it from `_live`.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(message.packed())
            try:
                await asyncio.wait_for(process.stdin.drain(), SILENT)
            except TimeoutError:
                self.kill_silent(process.pid)

    async def _live(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
        while True:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment
                )
            except OSError as problem:
                # No memory or no file number is free at this moment; both pass.
                sys.stderr.write(f"studio: no worker can be started: {problem}\n")
                await asyncio.sleep(PAUSE)
                continue
            try:
                assert self._process.stdout is not None
                await self._hear(self._process.stdout)
            except (asyncio.IncompleteReadError, ValueError):
                pass
            finally:
                self.ready.clear()
                self.working_on = None
                self.kill()
                await self._process.wait()
            for heard in self._listeners.values():
                heard.put_nowait(None)
            await asyncio.sleep(PAUSE)

    async def _hear(self, stream: asyncio.StreamReader) -> None:
        while True:
            message = await read_message(stream)
            self._heard = asyncio.get_running_loop().time()
            match message.kind:
                case Kind.READY:
                    self.ready.set()
                case Kind.STARTED:
                    self.working_on = message.number
                case Kind.ANSWER | Kind.REFUSAL:
                    self.working_on = None
                case _:
                    pass
            if message.number in self._listeners:
                self._listeners[message.number].put_nowait(message)


@dataclass(frozen=True)
class Line:
    """A number under which the worker is spoken to."""

    number: int
    heard: asyncio.Queue[Message | None]
    _send: Callable[[Message], Any]

    async def send(self, kind: Kind, data: bytes = b"") -> None:
        """Says something to the worker, as soon as it is there."""
        await self._send(Message(kind, self.number, data))


@dataclass
class Standing:
    """How a question stands, for the person who waits."""

    state: str = "queued"
    label: str = ""
    done: float = 0.0
    total: float = 0.0


@dataclass
class Questions:
    """Asks one worker: at most so many wait, each for a time, and whoever leaves is no longer answered."""

    crew: Crew
    standing: dict[str, Standing] = field(default_factory=dict[str, Standing])

    async def ask(self, question: dict[str, Any], seconds: float, language: Language, name: str = "") -> bytes:
        """The answer's frame. Raises Refused; a cancelled task calls the question off."""
        if self.crew.listening >= MOST_WAITING:
            raise refusal(
                BUSY,
                say("{count} questions are waiting already", count=self.crew.listening),
                language,
                say("try again in a moment"),
            )
        async with self.crew.line() as line:
            standing = self.standing.setdefault(name, Standing()) if name else Standing()
            try:
                await line.send(Kind.ASK, json.dumps({"question": question, "language": language}).encode())
                return await self._answer(line, standing, seconds, language)
            except asyncio.CancelledError:
                await asyncio.shield(self._call_off(line))
                raise
            except TimeoutError:
                raise refusal(BUSY, say("the worker does not start"), language, say("look at the terminal")) from None
            finally:
                self.standing.pop(name, None)

    async def _answer(self, line: Line, standing: Standing, seconds: float, language: Language) -> bytes:
        limit: float | None = None  # the time counts from the moment at which it is worked on
        loop = asyncio.get_running_loop()
        while True:
            pid, asked_at = self.crew.pid, loop.time()
            try:
                left = SILENT if limit is None else max(0.0, limit - loop.time())
                message = await asyncio.wait_for(line.heard.get(), left)
            except TimeoutError:
                if limit is None:
                    if self.crew.is_silent_since(asked_at):
                        self.crew.kill_silent(pid)
                    continue
                await self._call_off(line)
                raise refusal(
                    TOO_LATE,
                    say("no answer within {seconds} seconds", seconds=round(seconds)),
                    language,
                    say("a shorter text or a smaller model"),
                ) from None
            if message is None:
                raise refusal(
                    BUSY, say("the worker stopped in the middle of this question and was started again"), language,
                    say("ask again; if it happens again, a shorter text or a smaller model"),
                )  # fmt: skip
            match message.kind:
                case Kind.STARTED:
                    limit, standing.state = loop.time() + seconds, "running"
                case Kind.PROGRESS:
                    told = json.loads(message.data)
                    standing.label, standing.done, standing.total = told["label"], told["done"], told["total"]
                case Kind.ANSWER:
                    return message.data
                case Kind.REFUSAL:
                    found = json.loads(message.data)
                    raise Refused(found["status"], found["error"])
                case _:
                    continue

    async def _call_off(self, line: Line) -> None:
        """Asks the worker to leave it; one that does not within the grace is stopped."""
        # First, since one that does not listen keeps whoever speaks to it waiting.
        asyncio.get_running_loop().call_later(GRACE, self._stop_if_stuck, self.crew.pid, line.number)
        await line.send(Kind.CANCEL)

    def _stop_if_stuck(self, process: int | None, number: int) -> None:
        if self.crew.pid == process and self.crew.working_on == number:
            self.crew.kill()
