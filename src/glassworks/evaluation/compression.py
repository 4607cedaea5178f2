"""A language model as a compressor: a text in as few bits as the model finds it likely, decoded back exactly.

`compress(subject, data)` codes each token with the probabilities that the model gives it after those before it, and
`decompress` asks the same model the same questions. Text is read in a few streams side by side, in windows: once the context is
full, its later half is read again as the beginning of the next window. Both ways run the very same operations on the same
numbers, so they agree on one machine; other hardware, versions or numbers of threads may round otherwise, which a checksum tells.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from glassworks.anatomy import Subject
from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.text import say
from glassworks.evaluation.arithmetic import Decoder, Encoder, cumulative_counts
from glassworks.evaluation.spelling import Spelling, require_head

MAGIC = b"GWAC"
# Sign, model, bytes, checksum, tokens, streams, window: 34 bytes before the code.
_HEADER = struct.Struct("<4s8sQIIHI")
HEADER_BYTES = _HEADER.size
# Tokens that are worth a stream of their own, each of which begins without knowing anything; and the most streams.
WORTH, MOST_STREAMS = 2048, 16
# Tokens of context, where the model has room for more.
LONGEST_WINDOW = 1024
BYTES = 256
# Tokens of a byte of text at the most: one, and marks that a tokenizer adds of itself.
_MOST_TOKENS = 2


@dataclass(frozen=True)
class Compressed:
    """A coded text, and what it should have cost."""

    data: bytes
    """The whole file, header included."""
    tokens: int
    """Tokens that were coded."""
    ideal_bits: float
    """The sum of -log2 p over them: the model's cross-entropy of the text."""

    @property
    def code_bits(self) -> int:
        """Bits of the code without the header."""
        return 8 * (len(self.data) - HEADER_BYTES)


def compress(subject: Subject, data: bytes, *, streams: int | None = None) -> Compressed:
    """Codes bytes with a model; one of bytes takes any, one with a tokenizer takes text in UTF-8.

    Raises InvalidInput for a model that does not go on from a text, and for bytes that its tokenizer does not give back.
    """
    ids, window = _spelled(subject, data), window_of(subject)
    lanes = streams or max(1, min(MOST_STREAMS, len(ids) // WORTH))
    encoder, bits = Encoder(), 0.0
    rows = _cut(ids, lanes)

    def code(row: int, place: int, probabilities: NDArray[np.float64]) -> int:
        nonlocal bits
        token = rows[row][place]
        counts = cumulative_counts(probabilities)
        start, end = int(counts[token]), int(counts[token + 1])
        encoder.push(start, end - start, int(counts[-1]))
        bits -= math.log2(probabilities[token]) if probabilities[token] > 0 else math.log2((end - start) / counts[-1])
        return token

    _read(_Reader(subject, window), [len(row) for row in rows], code)
    header = _HEADER.pack(MAGIC, fingerprint_of(subject), len(data), zlib.crc32(data), len(ids), lanes, window)
    return Compressed(header + encoder.finish(), len(ids), bits)


def decompress(subject: Subject, coded: bytes) -> bytes:
    """The bytes that `compress` was given; raises BrokenFile for another file, another model, or other rounding."""
    if len(coded) < HEADER_BYTES or coded[:4] != MAGIC:
        raise BrokenFile(say("this is no text coded with a model"), right=say("what `compress` returned"))
    _, model, size, checksum, tokens, lanes, window = _HEADER.unpack_from(coded)
    if model != fingerprint_of(subject):
        raise BrokenFile(
            say("the text was coded with another model"), given=fingerprint_of(subject).hex(),
            right=say("the model with fingerprint {digest}", digest=model.hex()),
        )  # fmt: skip
    if tokens > max(1, size) * _MOST_TOKENS or lanes > max(MOST_STREAMS, tokens) or window > window_of(subject):
        # A damaged header must not start hours of decoding.
        raise BrokenFile(say("this is no text coded with a model"), right=say("what `compress` returned"))
    decoder = Decoder(coded[HEADER_BYTES:])
    rows: list[list[int]] = [[] for _ in range(lanes)]

    def code(row: int, place: int, probabilities: NDArray[np.float64]) -> int:
        rows[row].append(decoder.pull(cumulative_counts(probabilities)))
        return rows[row][-1]

    _read(_Reader(subject, window), [len(part) for part in _cut(range(tokens), lanes)], code)
    data = _written(subject, [token for row in rows for token in row])
    if len(data) != size or zlib.crc32(data) != checksum:
        raise BrokenFile(
            say("the code does not give back what was coded"),
            right=say("an undamaged file, and the machine, versions and number of threads that coded it"),
        )
    return data


def fingerprint_of(subject: Subject) -> bytes:
    """Eight bytes that name a model's weights, whatever folder they lie in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(subject.model.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(plain.shape)} {plain.dtype}".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.digest()[:8]


def parameter_bytes(subject: Subject) -> int:
    """Bytes of the weights as they are held, shared ones counted once: what a decoder needs beside the code."""
    return sum(p.numel() * p.element_size() for p in subject.model.parameters())


def window_of(subject: Subject) -> int:
    """Tokens of context that are used."""
    return max(2, min(subject.anatomy.context or LONGEST_WINDOW, LONGEST_WINDOW))


@torch.no_grad()
def bits_of(subject: Subject, data: bytes, *, batch: int = 64) -> float:
    """The model's cross-entropy of some bytes, in bits: whole windows at once, each with half a context before it.

    As `compress` has it with one stream, but for rounding and without the code. The first token counts as one of all equally likely.
    """
    ids, window, front = _spelled(subject, data), window_of(subject), list(_front(subject))
    if not ids:
        return 0.0
    bits = 0.0 if front else math.log2(subject.anatomy.vocabulary)
    whole = torch.tensor([*front, *ids])
    spans = list(_spans(len(whole), window))
    for begin in range(0, len(spans), batch):
        some = spans[begin : begin + batch]
        size = max(end - start for start, _, end in some)
        rows = torch.stack([_row(whole, start, size) for start, _, _ in some])
        lost = _lost(subject, rows)
        for row, (start, first, end) in zip(lost, some, strict=True):
            # Tokens of the front are given, and those before `first` were counted in the window before.
            bits += float(row[max(first, len(front), 1) - 1 - start : end - 1 - start].sum())
    return bits


def _spans(count: int, window: int) -> Iterator[tuple[int, int, int]]:
    """Windows over tokens: where reading starts, the first token that is scored, and the end."""
    keep = window // 2
    start, first = 0, 0
    while True:
        # A window reads `window` tokens and is asked about one more.
        end = min(count, start + window + 1)
        yield start, first, end
        if end >= count:
            return
        start, first = end - keep, end


def _row(whole: Int[Tensor, " token"], start: int, size: int) -> Int[Tensor, " position"]:
    part = whole[start : start + size]
    return torch.cat([part, part.new_zeros(size - len(part))])


def _lost(subject: Subject, rows: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position_but_first"]:
    """Bits of every token but the first."""
    found: Any = subject.model(input_ids=rows[:, :-1].to(subject.device), use_cache=False)
    logits = found.logits.float().log_softmax(-1)
    targets = rows[:, 1:, None].to(subject.device)
    return -logits.gather(-1, targets)[..., 0].double().cpu() / math.log(2)


Code = Callable[[int, int, NDArray[np.float64]], int]


def _read(reader: _Reader, lengths: Sequence[int], code: Code) -> None:
    """Asks for every token of every stream in a fixed order; `code` says which one came."""
    for place in range(max(lengths, default=0)):
        probabilities = reader.probabilities(len(lengths))
        reader.take([code(row, place, probabilities[row]) if place < n else 0 for row, n in enumerate(lengths)])


class _Reader:
    """A model that reads several streams one token at a time, and says how likely each next token is."""

    def __init__(self, subject: Subject, window: int) -> None:
        self._subject, self._window = subject, window
        self._front = list(_front(subject))
        self._read: list[list[int]] = []
        self._cache: Any = None
        self._held = 0

    @torch.no_grad()
    def probabilities(self, streams: int) -> Float[np.ndarray, "stream token"]:
        """Of the next token of each stream; equal ones where nothing stands in front of the first."""
        if not self._read:
            self._read = [list(self._front) for _ in range(streams)]
        if not self._read or not self._read[0]:
            vocabulary = self._subject.anatomy.vocabulary
            return np.full((streams, vocabulary), 1.0 / vocabulary)
        if self._cache is None or self._held >= self._window:
            # Once the context is full the later half is read again, as the beginning of a new one.
            fresh = [row if self._cache is None else row[-(self._window // 2) :] for row in self._read]
            self._cache, self._held, self._read = None, 0, [list(row) for row in fresh]
        else:
            fresh = [row[-1:] for row in self._read]
        return self._ask(torch.tensor(fresh))

    def take(self, tokens: Sequence[int]) -> None:
        """Goes on by one token in each stream."""
        for row, token in zip(self._read, tokens, strict=True):
            row.append(token)

    def _ask(self, ids: Int[Tensor, "stream position"]) -> Float[np.ndarray, "stream token"]:
        found: Any = self._subject.model(
            input_ids=ids.to(self._subject.device), past_key_values=self._cache, use_cache=True
        )
        self._cache, self._held = found.past_key_values, self._held + ids.shape[1]
        likely = found.logits[:, -1].float().softmax(-1).cpu().numpy().astype(np.float64)
        if not np.isfinite(likely).all():
            raise InvalidInput(
                say("the model gives no probabilities for the next token"), right=say("a model without NaN")
            )
        return likely


def _cut(ids: Sequence[int], lanes: int) -> list[Sequence[int]]:
    """Parts one behind the other whose lengths differ by at most one, the longer ones first."""
    size, more = divmod(len(ids), lanes)
    ends = [size * lane + min(lane, more) for lane in range(lanes + 1)]
    return [ids[start:end] for start, end in pairwise(ends)]


def _front(subject: Subject) -> tuple[int, ...]:
    return () if spells_bytes(subject) else Spelling.of(subject).front


def spells_bytes(subject: Subject) -> bool:
    """Whether a model's tokens are the bytes of a text, so that it can code any bytes."""
    if subject.anatomy.vocabulary != BYTES:
        return False
    probe = "A\u00e9\u4e2d\n"
    try:
        return Spelling.of(subject).plain(probe) == list(probe.encode())
    except InvalidInput:
        return False


def _spelled(subject: Subject, data: bytes) -> list[int]:
    require_head(subject)
    if subject.anatomy.has_source or not subject.anatomy.causal:
        raise InvalidInput(say("this model does not go on from a text token by token"), right=say("a decoder"))
    if spells_bytes(subject):
        return list(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            say("these bytes are no text in UTF-8, which this model's tokenizer needs"), right=say("a model of bytes")
        ) from None
    ids = Spelling.of(subject).plain(text)
    if _written(subject, ids) != data:
        raise InvalidInput(
            say("this model's tokenizer does not give back the text that it is given"), right=say("a model of bytes")
        )
    return ids


def _written(subject: Subject, ids: Sequence[int]) -> bytes:
    return bytes(ids) if spells_bytes(subject) else subject.to_string(ids).encode()
