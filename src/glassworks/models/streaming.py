"""Reading a text of any length in constant memory, and answering from what was kept of it."""

import math
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.cache import MemoryLayer
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.infinify import infini_spec, is_infinified
from glassworks.models.memory_files import StreamMemory, bounded_cache, weights_digest
from glassworks.models.text_pieces import STDIN, Place, Source, Speller, TextPiece, TextPieces, Tokens

# Tokens read at a time, and the most logits that may be held for them (64 MB in float32).
PIECE, MOST_LOGITS = 8192, 1 << 24
# Tokens before a new one that are decoded with it, so that blanks between words are not lost.
_DECODED_BEFORE = 8
_REPLACEMENT = "\ufffd"
# Tokens by which a chunk may be longer than a piece, so that it ends with a character.
_MORE = 16


@dataclass(frozen=True)
class PieceRead:
    """One piece of a text, read: its tokens and bytes, the sum of their losses, and the seconds it took."""

    tokens: int
    bytes: float
    nats: float
    seconds: float

    @property
    def bits_per_byte(self) -> float:
        """The mean loss of the piece; NaN where it has no byte."""
        return self.nats / math.log(2) / self.bytes if self.bytes else math.nan


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Tokens of which none or all are read, with the place after them and the bytes that they spell."""

    ids: Tokens
    end: Place
    bytes: float


class Stream:
    """A model that reads texts of any length; `memory` is its state after the last whole piece.

    The state is exchanged only when a piece is read through all layers, so that it is whole whenever the reading stops.
    Raises InvalidInput for a model whose memory grows, whose positions end, or without a tokenizer.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: object, memory: StreamMemory | None = None, piece: int | None = None
    ) -> None:
        if piece is not None and piece < 1:
            raise InvalidInput(say("a piece has at least one token"), given=piece, right=say("1 or more"))
        self.model, self.speller = model, Speller(tokenizer)
        empty = StreamMemory(model, tuple(None for _ in bounded_cache(model).layers), 0)
        self.memory = empty if memory is None else _of(model, memory)
        self.piece = piece_of(model) if piece is None else piece
        self.seams = 0
        _refuse_few_places(model)

    def read(self, source: Source) -> Generator[PieceRead]:
        """Reads a text piece by piece, from where the memory stands in it if it is the same text, else from its beginning.

        Raises NotFound, or InvalidInput for an empty text and at the first byte that is no UTF-8; what was read before
        stays in `memory`.
        """
        place = Place()
        if source.goes_on_at(self.memory.place):
            place = self.memory.place
        elif source.name == self.memory.source == STDIN:
            # The rest of the same input, of which nothing but the words before it is known.
            place = Place(context=self.memory.place.context)
        pieces = TextPieces(self.speller, source, place)
        first = self.speller.beginning() if self.memory.tokens == 0 else []
        self.memory = replace(self.memory, source=source.name, place=place)
        for chunk in _chunks(pieces, first, self.piece):
            begun = time.perf_counter()
            nats = self._take(chunk)
            self.seams = pieces.seams
            yield PieceRead(len(chunk.ids), chunk.bytes, nats, time.perf_counter() - begun)

    def answer(self, question: str, new_tokens: int = 100) -> Iterator[str]:
        """The likeliest words after the text and a question, as they are made; the memory itself does not change.

        Ends at the model's end token or after `new_tokens`. Raises InvalidInput for an empty question.
        """
        if not question:
            raise InvalidInput(say("the question is empty"), right=say("at least one character"))
        ids = self.speller.plain(question)
        memory = self.memory
        if memory.tokens == 0:
            ids = [*self.speller.beginning(), *ids]
        for first in range(0, len(ids), self.piece):
            memory, _ = _read_on(memory, np.asarray(ids[first : first + self.piece], dtype=np.int64))
        spoken = Spoken(self.speller, ids)
        ends = end_tokens(self.model)
        for _ in range(new_tokens):
            assert memory.upcoming is not None, "the question was read"
            token = int(memory.upcoming.argmax())
            if token in ends:
                break
            yield spoken.add(token)
            memory, _ = _read_on(memory, np.asarray([token], dtype=np.int64))
        yield spoken.rest()

    def _take(self, chunk: _Chunk) -> float:
        """Reads a chunk and takes the new state; returns the sum of its losses."""
        memory, nats = self.memory, 0.0
        # A chunk is longer than a piece where it is not known where its characters end.
        for first in range(0, len(chunk.ids), self.piece + _MORE):
            memory, some = _read_on(memory, chunk.ids[first : first + self.piece + _MORE])
            nats += some
        self.memory = replace(
            memory, place=chunk.end, nats=self.memory.nats + nats, bytes=self.memory.bytes + chunk.bytes
        )
        return nats


class Spoken:
    """Tokens into text as they come: a character of several tokens waits for its last, blanks between words are kept."""

    def __init__(self, speller: Speller, before: Sequence[int] = ()) -> None:
        self._speller = speller
        self._ids = [int(token) for token in before[-_DECODED_BEFORE:]]
        self._told = len(self._ids)
        self._start = 0

    def add(self, token: int) -> str:
        """The text that is certain now and was not told before."""
        self._ids.append(token)
        found = self._untold()
        if not found or found.endswith(_REPLACEMENT):
            return ""
        self._start, self._told = max(0, self._told - 1), len(self._ids)
        return found

    def rest(self) -> str:
        """What is left at the end: an unfinished character is shown as such."""
        found = self._untold() if self._told < len(self._ids) else ""
        self._told = len(self._ids)
        return found

    def _untold(self) -> str:
        before = self._speller.text_of(self._ids[self._start : self._told])
        return self._speller.text_of(self._ids[self._start :])[len(before) :]


def piece_of(model: PreTrainedModel) -> int:
    """Tokens that are read at a time: whole segments, and no more than there is room for their logits."""
    segment = segment_of(model)
    room = min(PIECE, MOST_LOGITS // int(model.config.get_text_config(decoder=True).vocab_size))
    return max(segment, room // segment * segment)


def segment_of(model: PreTrainedModel) -> int:
    """The least number of tokens after which all layers begin a new segment; 1 where there are none."""
    if is_infinified(model):
        return infini_spec(model).segment
    if not isinstance(model, GlassworksForCausalLM):
        return 1
    # Segments are of a mixer, or of the whole model.
    parts = [model.config.spec.to_json(), *(mixer.to_json() for mixer in model.config.spec.mixers)]
    return math.lcm(*(int(part.get("segment", 1)) for part in parts))


def end_tokens(model: PreTrainedModel) -> frozenset[int]:
    """The tokens with which a text of this model ends."""
    found = model.config.get_text_config(decoder=True).to_dict().get("eos_token_id")
    match found:
        case int(token):
            return frozenset({token})
        case [*tokens]:
            return frozenset(token for token in tokens if isinstance(token, int))
        case _:
            return frozenset()


def _of(model: PreTrainedModel, memory: StreamMemory) -> StreamMemory:
    """A live memory as this model's; InvalidInput where another model, or other weights, made it."""
    if memory.model is model:
        return memory
    if type(memory.model) is not type(model) or weights_digest(memory.model) != weights_digest(model):
        raise InvalidInput(
            say("this is the memory of another model, or of other weights"),
            given=type(memory.model).__name__,
            right=say("the model that read the text, in the same number format"),
        )
    return memory.for_model(model)


def _read_on(memory: StreamMemory, ids: Tokens) -> tuple[StreamMemory, float]:
    """The memory after further tokens, and the sum of their losses (nats); the very first token of all has none."""
    model = memory.model
    known = model.get_input_embeddings()
    if isinstance(known, torch.nn.Embedding) and len(ids) and int(ids.max()) >= known.num_embeddings:
        raise InvalidInput(
            say("a token id is outside the vocabulary"),
            given=int(ids.max()),
            right=say("0 to {last}", last=known.num_embeddings - 1),
        )
    given = torch.from_numpy(ids)[None].to(next(model.parameters()).device)
    cache = memory.cache()
    with torch.no_grad():
        logits: Tensor = model(input_ids=given, past_key_values=cache, use_cache=True).logits[0]
        nats = F.cross_entropy(logits[:-1].float(), given[0, 1:], reduction="sum") if len(ids) > 1 else logits.sum() * 0
        if memory.upcoming is not None:
            nats = nats + F.cross_entropy(memory.upcoming[None].float(), given[0, :1], reduction="sum")
    layers = tuple(layer.memory for layer in cache.layers if isinstance(layer, MemoryLayer))
    # A tensor of its own: a row of the logits would keep all of them.
    after = replace(memory, layers=layers, tokens=memory.tokens + len(ids), upcoming=logits[-1].clone())
    return after, float(nats)


def _chunks(pieces: Iterable[TextPiece], first: Sequence[int], size: int) -> Iterator[_Chunk]:
    """The tokens of pieces, with `first` before them, in chunks of `size` tokens, the last of any number.

    A chunk ends with a character, so it may have some tokens more, and the next one as many fewer. Where the text ends in
    an error, what stands before it comes first.
    """
    held: list[Tokens] = [np.asarray(first, dtype=np.int64)] if first else []
    count, weight, wanted, end = len(first), 0.0, size, Place()
    problem: InvalidInput | None = None
    each = iter(pieces)
    while True:
        try:
            piece = next(each)
        except StopIteration:
            break
        except InvalidInput as found:
            problem = found
            break
        at = 0
        while count + len(piece.ids) - at >= wanted:
            stop = piece.parted(at + max(0, wanted - count))
            held.append(piece.ids[at:stop])
            weight += piece.after(stop).bytes - piece.after(at).bytes
            over = count + stop - at - wanted
            yield _Chunk(np.concatenate(held), piece.after(stop), float(weight))
            held, count, weight, wanted, at = [], 0, 0.0, max(1, size - over), stop
        held.append(piece.ids[at:])
        weight += piece.size - (piece.after(at).bytes - piece.start.bytes)
        count, end = count + len(piece.ids) - at, piece.end
    if count:
        yield _Chunk(np.concatenate(held), end, float(weight))
    if problem is not None:
        raise problem


def _refuse_few_places(model: PreTrainedModel) -> None:
    """Raises InvalidInput for a model whose table of positions ends somewhere."""
    if isinstance(model, GlassworksForCausalLM) and model.config.spec.longest is not None:
        spec = model.config.spec
        raise InvalidInput(
            say(
                "this model knows {count} positions and no more, so it cannot read a text of any length",
                count=spec.context,
            ),
            given=f"positions={spec.positions}",
            right=say("a model with rotary positions or none"),
        )
