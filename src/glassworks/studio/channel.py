"""Messages between the web process and a worker, over the worker's standard input and output.

A message is its length (uint32), a number (uint32: which question or which socket), a kind (one byte) and its bytes.
"""

import asyncio
import os
import struct
import threading
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

_HEAD = struct.Struct("<IIB")
# No message of ours is larger: an answer that would be is refused before it is sent.
LONGEST = 256 << 20


class Kind(IntEnum):
    """What a message is."""

    READY = 1  # child: it is loaded and waits
    ASK = 2  # parent: a question, JSON with `question` and `language`
    CANCEL = 3  # parent: the question of this number is no longer wanted
    STARTED = 4  # child: the question is being worked on
    PROGRESS = 5  # child: JSON with `label`, `done`, `total`
    ANSWER = 6  # child: a frame
    REFUSAL = 7  # child: JSON of an error
    OPEN = 8  # parent: a socket opened; JSON with its `language`
    SAY = 9  # parent: what the browser said on a socket, as it came
    FRAME = 10  # child: a frame for a socket
    CLOSE = 11  # either: the socket is closed


@dataclass(frozen=True)
class Message:
    """One message; `number` names the question or socket."""

    kind: Kind
    number: int = 0
    data: bytes = b""

    def packed(self) -> bytes:
        """The message as bytes."""
        return _HEAD.pack(len(self.data), self.number, self.kind) + self.data


async def read_message(stream: asyncio.StreamReader) -> Message:
    """The next message; IncompleteReadError at the end, which for a worker means that it died."""
    length, number, kind = _HEAD.unpack(await stream.readexactly(_HEAD.size))
    if length > LONGEST:
        raise asyncio.IncompleteReadError(b"", length)
    return Message(Kind(kind), number, await stream.readexactly(length))


class ChildChannel:
    """The child's end. What the child itself prints goes to standard error, never between the messages."""

    def __init__(self) -> None:
        self._input: BinaryIO = os.fdopen(os.dup(0), "rb")
        self._output: BinaryIO = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def read(self) -> Message | None:
        """The next message; None when the parent has gone."""
        head = self._input.read(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        length, number, kind = _HEAD.unpack(head)
        data = self._input.read(length)
        return Message(Kind(kind), number, data) if len(data) == length else None

    def write(self, message: Message) -> None:
        """Sends a message whole; any thread may."""
        with self._lock:
            self._output.write(message.packed())
            self._output.flush()
