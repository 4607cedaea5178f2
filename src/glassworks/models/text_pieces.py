"""A text of any length as tokens, a piece at a time: neither the text nor its tokens are ever held as a whole."""

import codecs
import hashlib
import io
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from glassworks.anatomy import Alphabet
from glassworks.anatomy.told import spelling
from glassworks.core.errors import InvalidInput, NotFound
from glassworks.core.text import say

# Characters that are tokenised at a time.
BLOCK = 1 << 14
# Characters before a block with which it is tokenised again, so that its first token is not taken for the start of a text.
CONTEXT = 256
# How far from the end of a block a token is taken to be settled where no word ends (Chinese, a line of digits).
MARGIN = 64
# Characters of a word that no tokenizer needs to see as a whole.
LONGEST_WORD = 1 << 18
STDIN = "-"
_BYTE_ORDER_MARK = "\ufeff"

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Place:
    """Where the reading of a text stands: after so many bytes, which end with a character and with a token.

    `context` are the characters before that point, with which those after it are tokenised as in the whole text.
    """

    bytes: int = 0
    context: str = ""
    until: int = 0
    """Bytes that have been looked at; no fewer than `bytes`."""
    sha256: str = hashlib.sha256().hexdigest()
    """SHA-256 of those, by which the text is known again."""


@dataclass(frozen=True, eq=False)
class TextPiece:
    """Consecutive tokens of a text, and the places before and after them."""

    ids: Tokens
    start: Place
    end: Place
    text: str = field(repr=False)
    ends: NDArray[np.int64] | None = field(repr=False)
    """How many of its characters are spelled after each token; None where the tokenizer does not tell."""

    def parted(self, tokens: int) -> int:
        """The least number of tokens, but at least so many, after which a character ends; all where that is unknown."""
        if self.ends is None or tokens >= len(self.ids):
            return len(self.ids)
        # A character of several tokens ends with the last of them.
        spelled = self.ends[max(tokens, 1) - 1]
        return int(np.searchsorted(self.ends, spelled, side="right")) if tokens else 0

    def after(self, tokens: int) -> Place:
        """The place after the first tokens of this piece, as many as `parted` tells."""
        if tokens == 0 or tokens >= len(self.ids) or self.ends is None:
            return self.end if tokens else self.start
        taken = self.text[: int(self.ends[tokens - 1])]
        context = (self.start.context + taken)[-CONTEXT:]
        return replace(self.end, bytes=self.start.bytes + len(taken.encode()), context=context)

    @property
    def size(self) -> int:
        """Bytes of its text."""
        return self.end.bytes - self.start.bytes


@dataclass(frozen=True, eq=False)
class Source:
    """A text that can be read once from its beginning: a file, standard input, or a text itself."""

    name: str
    """The path, `-` for standard input, or empty for a text."""
    size: int | None
    """Bytes, where they are known."""
    text: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, given: str | Path) -> "Source":
        """The file at a path, or standard input for `-`. Raises NotFound, or InvalidInput for a folder or an empty file."""
        if str(given) == STDIN:
            return cls(STDIN, None)
        path = Path(given).expanduser()
        if path.is_dir():
            raise InvalidInput(say("{path} is a folder", path=str(path)), right=say("a text file"))
        if not path.exists():
            raise NotFound(say("{path} is not there", path=str(path)), right=say("a text file"))
        # A pipe is read as it comes, and has no size to be known before; a device would never end.
        if not path.is_file() and not path.is_fifo():
            raise InvalidInput(
                say("{path} cannot be read as a file", path=str(path)), right=say("a text file, a pipe, or - for input")
            )
        size = path.stat().st_size if path.is_file() else None
        if size == 0:
            raise empty(str(path))
        return cls(str(path), size)

    @classmethod
    def of_text(cls, text: str) -> "Source":
        """A text that is held already."""
        if not text:
            raise empty("")
        return cls("", len(text.encode()), text)

    @contextmanager
    def opened(self) -> Generator[io.BufferedIOBase]:
        """Its bytes from the beginning."""
        if self.text is not None:
            yield io.BytesIO(self.text.encode())
        elif self.name == STDIN:
            yield cast(io.BufferedIOBase, sys.stdin.buffer)
        else:
            try:
                file = Path(self.name).expanduser().open("rb")
            except PermissionError:
                raise InvalidInput(
                    say("{path} cannot be read as a file", path=self.name), right=say("a UTF-8 text file")
                ) from None
            with file:
                yield file

    def goes_on_at(self, place: Place) -> bool:
        """Whether this text begins with what had been looked at; standard input is always taken for new text."""
        if self.name == STDIN or not place.until or (self.size is not None and self.size < place.until):
            return False
        with self.opened() as file:
            return _digest_of_first(file, place.until).hexdigest() == place.sha256


def empty(name: str) -> InvalidInput:
    """The error for a text without a single character."""
    return InvalidInput(say("the text is empty"), given=name or None, right=say("at least one character"))


class Speller:
    """The tokens of a text by any tokenizer or alphabet, with the characters that each came from where they are known."""

    def __init__(self, tokenizer: object) -> None:
        match tokenizer:
            case PreTrainedTokenizerBase() | Alphabet():
                self.tokenizer: Any = tokenizer
            case _:
                raise InvalidInput(
                    say("this model has no tokenizer, so it cannot read text"), right=say("a model folder with one")
                )
        self.has_offsets = isinstance(tokenizer, Alphabet) or bool(self.tokenizer.is_fast)

    def beginning(self) -> list[int]:
        """The tokens that the tokenizer itself puts before a text."""
        if isinstance(self.tokenizer, Alphabet):
            return []
        with spelling():
            plain, whole = (list(self.tokenizer.encode("a", add_special_tokens=special)) for special in (False, True))
        starts = [first for first in range(len(whole)) if whole[first : first + len(plain)] == plain]
        return [int(token) for token in whole[: starts[0]]] if starts else []

    def plain(self, text: str) -> list[int]:
        """The tokens of a text, without those that mark its beginning or end."""
        if isinstance(self.tokenizer, Alphabet):
            return self.tokenizer.encode(text)
        with spelling(text):
            return [int(token) for token in self.tokenizer.encode(text, add_special_tokens=False, verbose=False)]

    def spelled(self, text: str) -> tuple[Tokens, NDArray[np.int64]]:
        """Token ids and the characters [token, (first, end)] of each; InvalidInput where they are not known."""
        if isinstance(self.tokenizer, Alphabet):
            ids = np.asarray(self.tokenizer.encode(text), dtype=np.int64)
            each = np.arange(len(ids), dtype=np.int64)
            return ids, np.stack([each, each + 1], 1)
        with spelling(text):
            found = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = np.asarray(found["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        return np.asarray(found["input_ids"], dtype=np.int64), offsets

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of new tokens, without special ones."""
        if isinstance(self.tokenizer, Alphabet):
            return self.tokenizer.decode(ids)
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


class TextPieces:
    """The tokens of a source from a place on, piece by piece, as they would be in one reading of the whole.

    A block of characters is tokenised together with the last characters before it, and its tokens are taken up to the last
    one that begins a word, or to one well before the block's end where no word does. `seams` counts places where
    the two readings of the overlap disagreed, so that tokens there may differ from those of the whole text.
    """

    def __init__(self, speller: Speller, source: Source, place: Place | None = None) -> None:
        self.speller, self.source = speller, source
        self.place = place or Place()
        self.seams = 0

    def __iter__(self) -> Iterator[TextPiece]:
        """All pieces to the end; NotFound, or InvalidInput for an empty text and at the first byte that is not UTF-8."""
        start = self.place
        with self.source.opened() as file:
            digest = _digest_of_first(file, start.bytes)
            waiting, done = "", start.bytes
            for text, is_last in _blocks(_characters(file, done, self.source.name)):
                if done == 0 and not waiting and text.startswith(_BYTE_ORDER_MARK):
                    text = text.removeprefix(_BYTE_ORDER_MARK)
                    done = len(_BYTE_ORDER_MARK.encode())
                    digest.update(_BYTE_ORDER_MARK.encode())
                waiting += text
                ids, ends, length = self._settled(start.context, waiting, is_last=is_last)
                if not length:
                    continue
                taken, waiting = waiting[:length], waiting[length:]
                raw = taken.encode()
                digest.update(raw)
                done += len(raw)
                end = Place(done, (start.context + taken)[-CONTEXT:], done, digest.hexdigest())
                yield TextPiece(ids, start, end, taken, ends)
                start = end
        if done == 0 or (done == len(_BYTE_ORDER_MARK.encode()) and not start.until):
            raise empty(self.source.name)

    def _settled(self, context: str, text: str, *, is_last: bool) -> tuple[Tokens, NDArray[np.int64] | None, int]:
        """The tokens that no further text can change, where each ends, and how many characters of `text` they spell."""
        if not self.speller.has_offsets:
            length = len(text) if is_last else text.rfind("\n") + 1 or (len(text) if len(text) > 16 * BLOCK else 0)
            return np.asarray(self.speller.plain(text[:length]), dtype=np.int64), None, length
        known = len(context)
        ids, offsets = self.speller.spelled(context + text)
        if known and _straddles(offsets, known):
            self.seams += 1
            known = 0
            ids, offsets = self.speller.spelled(text)
        first = int(np.searchsorted(offsets[:, 0], known))
        ends = np.maximum.accumulate(offsets[first:, 1]) - known
        if is_last:
            return ids[first:], ends, len(text)
        if len(text) > LONGEST_WORD and not len(_places(offsets, known, len(text))):
            # No end of a word in reach: what is there is taken as it is, so that memory stays bounded.
            self.seams += 1
            return ids[first:], ends, len(text)
        cut = _cut(context[len(context) - known :] + text, offsets, known)
        count = int(np.searchsorted(offsets[first:, 0], cut))
        return ids[first : first + count], ends[:count], cut - known


def _straddles(offsets: NDArray[np.int64], place: int) -> bool:
    """Whether a token lies on both sides of a place between two characters."""
    return bool(((offsets[:, 0] < place) & (offsets[:, 1] > place)).any())


def _places(offsets: NDArray[np.int64], known: int, length: int) -> NDArray[np.int64]:
    """Where a token begins after `known` and before the last character, with nothing that reaches across."""
    if not len(offsets):
        return np.zeros(0, dtype=np.int64)
    begins, ends = offsets[:, 0], np.maximum.accumulate(offsets[:, 1])
    # A character of several tokens has the same place in all of them: only the first one begins it.
    is_fresh = np.concatenate([[True], (begins[1:] > begins[:-1]) & (ends[:-1] <= begins[1:])])
    return begins[is_fresh & (begins > known) & (begins < length - 1)]


def _cut(text: str, offsets: NDArray[np.int64], known: int) -> int:
    """The last place after `known` where a word surely begins, else a token well before the end; `known` for none."""
    places = _places(offsets, known, len(text))
    for place in places[::-1].tolist():
        # A word of most tokenizers brings along the one blank before it: nothing reaches over that point.
        if text[place].isspace() and not text[place - 1].isspace() and not text[place + 1].isspace():
            return int(place)
    settled = places[places < len(text) - MARGIN]
    return int(settled[-1]) if len(settled) else known


def _blocks(characters: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """The same text in blocks, each with whether it is the last."""
    before: str | None = None
    try:
        for text in characters:
            if before is not None:
                yield before, False
            before = text
    except InvalidInput:
        # What stands before the first byte that is no text can still be read.
        if before is not None:
            yield before, False
        raise
    if before is not None:
        yield before, True


def _characters(file: io.BufferedIOBase, done: int, name: str) -> Iterator[str]:
    """UTF-8 text of a file from where it stands, which is `done` bytes after its beginning."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    while True:
        raw = file.read(BLOCK)
        held = len(decoder.getstate()[0])
        try:
            text = decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as problem:
            offset = done - held + problem.start
            if problem.start:
                yield problem.object[: problem.start].decode()
            raise InvalidInput(
                say("{path} is not UTF-8 text", path=name or "-"),
                given=say(
                    "byte 0x{byte} at offset {offset}", byte=f"{problem.object[problem.start]:02x}", offset=offset
                ),
                right=say("a UTF-8 text file"),
            ) from None
        done += len(raw)
        if text:
            yield text
        if not raw:
            return


def _digest_of_first(file: io.BufferedIOBase, count: int) -> Any:
    """The SHA-256 of the first bytes of a file, which then stands after them."""
    digest = hashlib.sha256()
    while count:
        raw = file.read(min(count, 1 << 20))
        if not raw:
            break
        digest.update(raw)
        count -= len(raw)
    return digest
