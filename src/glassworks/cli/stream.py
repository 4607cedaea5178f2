"""stream: reads a text of any length in constant memory, keeps what the model remembers, answers from it."""

from __future__ import annotations

import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.api import load
from glassworks.cli.generate import spoken
from glassworks.cli.models import count_words
from glassworks.cli.options_stream import Stream
from glassworks.cli.reproduce import go_offline
from glassworks.cli.speak import doing, duration_words, new_table, print_json, remarks, results, size_words
from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.files import refuse_unwritable
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.models.memory_files import StreamMemory
    from glassworks.models.streaming import PieceRead
    from glassworks.models.text_pieces import Source

SECONDS_PER_LINE, SECONDS_PER_SAVING = 5.0, 30.0
# Pieces over which the present loss and speed are taken, and points of the curve in print.
LATELY, MOST_POINTS = 8, 200
STANDARD_INPUT = "-"


@dataclass(frozen=True, eq=False)
class Streamed:
    """A text that was read: what is remembered, the loss of each piece on the way, and the time it took."""

    memory: StreamMemory = field(repr=False)
    curve: tuple[PieceRead, ...] = field(repr=False)
    seconds: float
    """Of reading alone."""
    started_at: int
    """The byte of the file with which this reading began; above 0 where it went on with an earlier one."""
    full_cache: int
    """Numbers that a cache of all keys and values would hold by now."""
    seams: int
    """Places where tokens may differ from those of the text as a whole."""
    answer: str | None = None

    @property
    def tokens(self) -> int:
        """Tokens read now, without those of an earlier reading."""
        return sum(piece.tokens for piece in self.curve)

    @property
    def bytes(self) -> int:
        """Bytes read now."""
        return round(sum(piece.bytes for piece in self.curve))

    @property
    def tokens_per_second(self) -> float:
        """Speed of the reading."""
        return self.tokens / max(self.seconds, 1e-9)

    @property
    def bits_per_byte(self) -> float:
        """The mean loss of what was read now; NaN where nothing was predicted."""
        nats = sum(piece.nats for piece in self.curve)
        return nats / math.log(2) / self.bytes if self.bytes else math.nan

    def to_json(self) -> dict[str, Any]:
        """Plain data; of a long curve every so many pieces are taken together."""
        each = max(1, math.ceil(len(self.curve) / MOST_POINTS))
        points = [self.curve[first : first + each] for first in range(0, len(self.curve), each)]
        return {
            "tokens": self.tokens,
            "bytes": self.bytes,
            "all_tokens": self.memory.tokens,
            "started_at_byte": self.started_at,
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens_per_second, 1),
            "bits_per_byte": _finite(self.bits_per_byte),
            "curve": [
                {
                    "bytes": round(sum(p.bytes for p in point)),
                    "bits_per_byte": _finite(
                        sum(p.nats for p in point) / math.log(2) / max(sum(p.bytes for p in point), 1)
                    ),
                }
                for point in points
            ],
            "memory": {"values": self.memory.values, "bytes": self.memory.size},
            "full_cache": {"values": self.full_cache, "bytes": self.full_cache * _value_bytes(self.memory)},
            "seams": self.seams,
            "answer": self.answer,
        }


def stream(command: Stream) -> int:
    """Reads, shows, keeps, answers; returns 0, or 130 after Ctrl-C or a termination with the command that goes on."""
    go_offline(command.offline)
    _check(command)
    from glassworks.models.memory_files import load_memory
    from glassworks.models.text_pieces import Source

    source = None if command.file is None else Source.of(command.file)
    subject = load(
        command.source, device=command.device, dtype=command.dtype,
        trust_remote_code=command.trust_remote_code, out=command.out,
    )  # fmt: skip
    known = None if command.load_memory is None else load_memory(command.load_memory, decoder_of(subject))
    reader = Reader(subject, known, command.piece, None if command.save_memory is None else Path(command.save_memory))
    if known is not None and source is not None:
        remarks().print(str(reader.said_of(source)))
    try:
        with _progress(quiet=command.json) as tell:
            read = reader.read(source, tell)
    except KeyboardInterrupt:
        _tell_of_stop(command, reader)
        return 130
    except GlassworksError:
        _tell_of_saved(command, reader)
        raise
    if command.json:
        answer = None if command.ask is None else "".join(reader.answer(command.ask, command.max_new_tokens))
        print_json({"model": subject.origin.name, "file": command.file, "saved": command.save_memory, "question": command.ask} | read.to_json() | {"answer": answer})  # fmt: skip
        return 0
    _show(read, command)
    if command.ask is not None:
        results().print(f"\n{say('answer')}:", style="bold")
        spoken(command.ask)
        for text in reader.answer(command.ask, command.max_new_tokens):
            spoken(text)
        print(flush=True)
    return 0


class Reader:
    """A model at work on a text, and where its memory is kept meanwhile."""

    def __init__(
        self, subject: Subject, memory: StreamMemory | None, piece: int | None = None, path: Path | None = None
    ) -> None:
        from glassworks.models.streaming import Stream as Reading

        self.stream = Reading(decoder_of(subject), subject.tokenizer, memory, piece)
        self.path = path
        self.curve: list[PieceRead] = []

    @property
    def memory(self) -> StreamMemory:
        """What is remembered after the last whole piece."""
        return self.stream.memory

    def said_of(self, source: Source) -> Text:
        """Whether a text goes on with what was read before, or follows it."""
        memory = self.memory
        if source.goes_on_at(memory.place):
            return say("{tokens} tokens were read before; {file} goes on at byte {byte}", tokens=f"{memory.tokens:,}", file=source.name, byte=f"{memory.place.bytes:,}")  # fmt: skip
        return say("{tokens} tokens were read before, of {former}; {file} follows from its beginning", tokens=f"{memory.tokens:,}", former=memory.source or "-", file=source.name)  # fmt: skip

    def read(
        self, source: Source | None, tell: Callable[[Source, list[PieceRead], StreamMemory], object] = lambda *_: None
    ) -> Streamed:
        """Reads a text to its end; `tell` hears of every piece. The memory is kept now and then, and at the end."""
        begun, saved, start = time.perf_counter(), time.monotonic(), 0
        if source is not None:
            place = self.memory.place
            start = place.bytes if source.goes_on_at(place) else 0
            for piece in self.stream.read(source):
                self.curve.append(piece)
                tell(source, self.curve, self.memory)
                if self.path is not None and time.monotonic() - saved > SECONDS_PER_SAVING:
                    self.save()
                    saved = time.monotonic()
        seconds = time.perf_counter() - begun
        self.save()
        from glassworks.models.memory_files import keys_per_token

        full = keys_per_token(self.memory.model) * self.memory.tokens
        return Streamed(self.memory, tuple(self.curve), seconds, start, full, self.stream.seams)

    def save(self) -> bool:
        """Writes what is remembered to the file that was named, if any; False where nothing was read or none was named."""
        if self.path is None or self.memory.tokens == 0:
            return False
        from glassworks.models.memory_files import weights_digest

        # A second Ctrl-C must not stop what the first one asked for.
        with _undisturbed():
            if not self.memory.weights:
                self.stream.memory = replace(self.memory, weights=weights_digest(self.memory.model))
            self.memory.save(self.path)
        return True

    def answer(self, question: str, new_tokens: int) -> Generator[str]:
        """The likeliest words after the text and a question, as they are made."""
        yield from self.stream.answer(question, new_tokens)


def decoder_of(subject: Subject) -> Any:
    """The model of a subject; InvalidInput where it writes no text."""
    from transformers import GenerationMixin, PreTrainedModel

    model = subject.model
    if isinstance(model, PreTrainedModel) and isinstance(model, GenerationMixin) and not subject.anatomy.has_source:
        return model
    raise InvalidInput(
        say("this model writes no text after a prompt"), given=type(model).__name__, right=say("a decoder")
    )


def source_of(text: str | Path) -> Source:
    """A file where one of that name is there, else the text itself; a path is always meant as a file."""
    from glassworks.models.text_pieces import Source

    # Asked in a way that takes whole texts too, which are longer than any name.
    is_file = isinstance(text, Path) or os.path.isfile(os.path.expanduser(text))
    return Source.of(text) if is_file else Source.of_text(str(text))


@contextmanager
def _undisturbed() -> Generator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress(*, quiet: bool) -> Generator[Callable[[Source, list[PieceRead], StreamMemory], None]]:
    """A line that follows the reading on a terminal, a line every few seconds anywhere else."""
    last = time.monotonic()
    with doing(quiet=quiet) as status:

        def tell(source: Source, curve: list[PieceRead], memory: StreamMemory) -> None:
            nonlocal last
            words = _line(source, curve, memory)
            status(words)
            if not sys.stderr.isatty() and not quiet and time.monotonic() - last >= SECONDS_PER_LINE:
                print(str(words), file=sys.stderr, flush=True)
                last = time.monotonic()

        yield tell


def _line(source: Source, curve: list[PieceRead], memory: StreamMemory) -> Text:
    lately = curve[-LATELY:]
    done = memory.place.bytes
    share = f"{min(1.0, done / source.size):.0%}" if source.size else f"{done:,} B"
    recent = sum(p.nats for p in lately) / math.log(2) / max(sum(p.bytes for p in lately), 1)
    return say(
        "{share}  {tokens} tokens, {speed}/s  {bits} bits per byte, {recent} lately  memory {size}",
        share=share,
        tokens=f"{memory.tokens:,}",
        speed=f"{sum(p.tokens for p in lately) / max(sum(p.seconds for p in lately), 1e-9):,.0f}",
        bits=f"{memory.bits_per_byte:.3f}",
        recent=f"{recent:.3f}",
        size=size_words(memory.size),
    )


def _check(command: Stream) -> None:
    """Refuses what would do nothing or cannot be meant, before a model is loaded."""
    if command.file is None and (command.load_memory is None or command.ask is None):
        raise InvalidInput(
            say("which text? A stream needs a file, or a memory and a question"),
            right=say("--file FILE, or --load-memory FILE --ask TEXT"),
        )
    if command.ask is not None and not command.ask:
        raise InvalidInput(say("the question is empty"), right=say("at least one character"))
    if command.piece is not None and command.piece < 1:
        raise InvalidInput(say("a piece has at least one token"), given=command.piece, right=say("1 or more"))
    if command.max_new_tokens < 1:
        raise InvalidInput(say("no token would be written"), given=command.max_new_tokens, right=say("1 or more"))
    if command.save_memory is not None:
        refuse_unwritable(Path(command.save_memory))


def _show(read: Streamed, command: Stream) -> None:
    table = new_table(say("read"), command.file or command.load_memory or "")
    memory, each = read.memory, _value_bytes(read.memory)
    rows: list[tuple[Text, str]] = []
    if command.file is not None:
        rows += [
            (say("tokens"), f"{read.tokens:,} ({read.bytes:,} B)"),
            (say("time"), f"{duration_words(read.seconds)}, {read.tokens_per_second:,.0f} {say('tokens a second')}"),
            (say("loss"), f"{read.bits_per_byte:.3f} {say('bits per byte')}"),
        ]
    if read.tokens != memory.tokens:
        rows.append((say("with what was read before"), f"{memory.tokens:,} {say('tokens')}"))
    times = f"{read.full_cache * each / max(memory.size, 1):,.1f}"
    full = f"{count_words(read.full_cache)} {say('values')}, {size_words(read.full_cache * each)}"
    rows += [
        (say("what is remembered"), f"{count_words(memory.values)} {say('values')}, {size_words(memory.size)}"),
        (say("a cache of all keys and values"), f"{full} ({say('{times} times as much', times=times)})"),
    ]
    if read.seams:
        rows.append((say("places where tokens may differ from those of the whole text"), str(read.seams)))
    if command.save_memory is not None:
        rows.append((say("kept in"), command.save_memory))
    for name, value in rows:
        table.add_row(str(name), value)
    results().print(table)


def _tell_of_stop(command: Stream, reader: Reader) -> None:
    """What is kept of a reading that was stopped, and what to type to go on."""
    if not reader.save():
        cure = say("Stopped. Nothing was kept; --save-memory FILE keeps what was read.")
        if command.save_memory is not None:
            cure = say("Stopped before the first piece was read.")
        print(str(cure), file=sys.stderr)
        return
    tokens, byte = f"{reader.memory.tokens:,}", f"{reader.memory.place.bytes:,}"
    print(str(say("Stopped after {tokens} tokens, at byte {byte}. What is remembered is kept. Go on with:", tokens=tokens, byte=byte)), file=sys.stderr)  # fmt: skip
    print(f"  {going_on(command, reader.memory.place.bytes)}", file=sys.stderr)


def _tell_of_saved(command: Stream, reader: Reader) -> None:
    if reader.curve and reader.save():
        print(str(say("What was read before is kept in {path}.", path=str(command.save_memory))), file=sys.stderr)


def going_on(command: Stream, byte: int) -> str:
    """The command that reads the rest of the text."""
    assert command.save_memory is not None, "a memory was kept"
    words = ["glassworks", "stream", command.source, "--file", command.file or STANDARD_INPUT]
    words += ["--load-memory", command.save_memory, "--save-memory", command.save_memory]
    for name, value, usual in (
        ("--ask", command.ask, None), ("--piece", command.piece, None), ("--device", command.device, "auto"),
        ("--dtype", command.dtype, "auto"), ("--out", command.out, "."), ("--max-new-tokens", command.max_new_tokens, 100),
    ):  # fmt: skip
        words += [] if value == usual else [name, str(value)]
    line = shlex.join(words)
    # Standard input cannot be known again: the rest alone is to be given.
    return f"tail -c +{byte + 1} | {line}" if command.file == STANDARD_INPUT else line


def _value_bytes(memory: StreamMemory) -> int:
    """Bytes of one number of the model."""
    return int(memory.model.dtype.itemsize)


def _finite(number: float) -> float | None:
    return round(number, 6) if math.isfinite(number) else None
