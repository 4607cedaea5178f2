"""The logits after a text and any chosen words, with what was read before kept: stepping back or aside costs nothing.

Plain decoders are read by the fast decoder, which goes on from the longest beginning it has read; others by the model itself.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from glassworks.anatomy import Subject
from glassworks.anatomy.tokens import check_tokens
from glassworks.models.candidates import Chooser, Sampling, check_numbers
from glassworks.models.fast_decoder import FastDecoder, why_not_fast
from glassworks.models.generating import check_room
from glassworks.models.streaming import end_tokens
from glassworks.studio.words.prompts import Prompt

# Logits that are kept of one model: a thousand steps of 16 thousand words.
MOST_KEPT = 64 << 20
# Chosen tokens whose chances are told and kept; a longer path shows its later words without.
MOST_FACTS = 4096


@dataclass(frozen=True)
class Fact:
    """How a chosen token stood where it was chosen: its logit, its rank, and the logarithm of the sum of all exponentials."""

    logit: float
    rank: int
    log_total: float

    @property
    def chance(self) -> float:
        """Its probability, before any temperature or cut."""
        return math.exp(self.logit - self.log_total)


class Reader:
    """What was read with one model; one for each open model, by `reader_of`."""

    def __init__(self) -> None:
        self._decoder: FastDecoder | None = None
        self._is_fast: bool | None = None
        self._kept: OrderedDict[tuple[int, ...], Tensor] = OrderedDict()
        self._bytes = 0
        self._facts: dict[tuple[int, ...], Fact] = {}
        self._chooser: tuple[Sampling, Chooser, int] | None = None
        self._whole: tuple[Prompt, Tensor] | None = None

    def logits(self, subject: Subject, prompt: Prompt, chosen: Sequence[int] = ()) -> Float[Tensor, " vocabulary"]:
        """The logits of the next word, in float32. Raises InvalidInput for more tokens than the model has positions for."""
        key = (*prompt.source, -1, *prompt.ids, *chosen)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        check_reading(subject, prompt, chosen)
        try:
            found = self._read(subject, prompt, chosen)
        except BaseException:
            # Called off in the middle: what the decoder keeps may be half written.
            self._decoder, self._is_fast = None, None
            raise
        check_numbers(found)
        self._keep(key, found)
        return found

    def whole(self, subject: Subject, prompt: Prompt) -> Float[Tensor, "position vocabulary"]:
        """The logits at every position of a prompt, in float32; those of the last one asked for are kept."""
        if self._whole is None or self._whole[0] != prompt:
            check_reading(subject, prompt, ())
            with torch.no_grad():
                self._whole = (prompt, subject.forward(prompt.batch())[0].float())
        return self._whole[1]

    def facts(self, subject: Subject, prompt: Prompt, chosen: Sequence[int]) -> list[Fact]:
        """How each chosen token stood; the first ones only, where there are very many."""
        found: list[Fact] = []
        for place, token in enumerate(chosen[:MOST_FACTS]):
            key = (*prompt.source, -1, *prompt.ids, *chosen[: place + 1])
            if key not in self._facts:
                logits = self.logits(subject, prompt, chosen[:place])
                own = logits[token]
                fact = Fact(float(own), int((logits > own).sum()) + 1, float(torch.logsumexp(logits, -1)))
                if len(self._facts) >= MOST_FACTS:
                    self._facts.clear()
                self._facts[key] = fact
            found.append(self._facts[key])
        return found

    def drawn(self, choice: Sampling, logits: Float[Tensor, " vocabulary"], place: int) -> int:
        """The token that a choice takes as its `place`-th: the same that `glassworks generate` takes there with its seed."""
        if not choice.is_drawn:
            return Chooser(choice).choose(logits)
        # Only the newest chooser is kept: a person turns one knob at a time.
        known, chooser, count = self._chooser or (choice, Chooser(choice), 0)
        if known != choice or count > place:
            chooser, count = Chooser(choice), 0
        # Called off in the middle, it would stand nobody knows where.
        self._chooser = None
        for _ in range(count, place):
            # Each step takes as many random numbers as there are words, whatever their chances.
            chooser.choose(torch.zeros_like(logits))
        token = chooser.choose(logits)
        self._chooser = (choice, chooser, place + 1)
        return token

    def _read(self, subject: Subject, prompt: Prompt, chosen: Sequence[int]) -> Tensor:
        if self._is_fast is None:
            self._is_fast = not prompt.source and why_not_fast(subject.model) is None
        if not self._is_fast:
            with torch.no_grad():
                return subject.forward(prompt.batch(chosen))[0, -1].float().clone()
        if self._decoder is None:
            self._decoder = FastDecoder(subject.model)
        return self._decoder.read([*prompt.ids, *chosen]).clone()

    def _keep(self, key: tuple[int, ...], logits: Tensor) -> None:
        self._kept[key] = logits
        self._bytes += logits.nbytes
        while self._bytes > MOST_KEPT and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.nbytes


# By the open model: when the desk closes it, nothing of it is left here.
_READERS: WeakKeyDictionary[Subject, Reader] = WeakKeyDictionary()


def reader_of(subject: Subject) -> Reader:
    """What was read with this model so far."""
    return _READERS.setdefault(subject, Reader())


def check_reading(subject: Subject, prompt: Prompt, chosen: Sequence[int]) -> None:
    """Raises InvalidInput for tokens outside the vocabulary, and for more of them than the model's context."""
    ids = [*prompt.ids, *chosen]
    check_tokens(torch.tensor([ids]), subject.anatomy.vocabulary, None)
    if isinstance(subject.model, PreTrainedModel):
        check_room(subject, subject.model, len(ids), 0)
    else:
        check_tokens(torch.tensor([ids]), subject.anatomy.vocabulary, subject.anatomy.context)


def ends_of(subject: Subject, *, is_chat: bool) -> frozenset[int]:
    """The tokens with which the model ends a text, or its turn."""
    from transformers import PreTrainedTokenizerBase

    ends = end_tokens(subject.model) if isinstance(subject.model, PreTrainedModel) else frozenset[int]()
    tokenizer = subject.tokenizer
    if is_chat and isinstance(tokenizer, PreTrainedTokenizerBase) and isinstance(tokenizer.eos_token_id, int):
        ends |= {tokenizer.eos_token_id}
    return ends
