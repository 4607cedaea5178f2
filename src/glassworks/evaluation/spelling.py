"""Spelling: how texts become token ids for scoring, and which token stands in front."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from glassworks.anatomy import Alphabet, Subject
from glassworks.anatomy.told import spelling
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import Text, say
from glassworks.evaluation.items import Item

# What GPT-2, NeoX, OLMo, Qwen and SmolLM put between documents of their training text.
SEPARATOR = "<|endoftext|>"


@dataclass(frozen=True)
class Spelling:
    """Texts to ids for one model.

    `front` are the ids before every text, `back` those behind a whole one (encoders). `alone` starts a text that has no
    front where something must be scored from its first token, as the harness does.
    """

    plain: Callable[[str], list[int]]
    front: tuple[int, ...]
    back: tuple[int, ...] = ()
    alone: int | None = None

    @classmethod
    def of(cls, subject: Subject, first_token: str = "auto") -> "Spelling":
        """The spelling of a subject's tokenizer or alphabet.

        `first_token` "auto": what the tokenizer puts in front itself, else the separator of documents that is in its
        vocabulary, else its beginning-of-sequence token. "tokenizer": only what it puts there itself, as the harness
        does. Anything else: the text of a token of the vocabulary.
        """
        tokenizer: Any = subject.tokenizer
        continues = subject.anatomy.causal and not subject.anatomy.has_source
        match tokenizer:
            case None:
                raise InvalidInput(
                    say("this model has no tokenizer, so it cannot be scored on text"),
                    right=say("a model with a tokenizer, or Subject.of(model, tokenizer)"),
                )
            case Alphabet() as alphabet:
                return cls(alphabet.encode, ())
            case PreTrainedTokenizerBase():
                # Only a model that goes on from a text was trained on documents one after the other.
                return _of_tokenizer(tokenizer, first_token if continues or first_token != "auto" else "tokenizer")
            case _:
                return cls(lambda text: tokenizer.encode(text, add_special_tokens=False), ())

    def whole(self, text: str) -> list[int]:
        """The ids of a text with everything that belongs around it."""
        return [*self.front, *self.plain(text), *self.back]

    def pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of a context and of its continuation, cut as the harness cuts them.

        Both are spelled as one text; blanks at the context's end belong to the continuation.
        """
        kept = context.rstrip()
        context, continuation = kept, context[len(kept) :] + continuation
        if context:
            start = self.plain(context)
            return [*self.front, *start], self.plain(context + continuation)[len(start) :]
        ids = self.plain(continuation)
        front = list(self.front) or ([] if self.alone in (None, ids[0]) else [self.alone])
        return (front, ids) if front else (ids[:1], ids[1:])

    def item(self, context: Sequence[int], targets: Sequence[int], limit: int | None) -> Item:
        """The item that scores the targets behind the context, cut from the left to `limit` tokens, the front kept.

        Raises InvalidInput where the targets alone do not fit.
        """
        ids = (*context, *targets)[:-1]
        if limit is not None and len(ids) > limit:
            # The first target is read at the last token of the front, or at one token of the context.
            most = limit + 1 - max(1, len(self.front))
            if len(targets) > most:
                raise InvalidInput(
                    say("{count} tokens to be scored at once are more than the model's context", count=len(targets)),
                    right=say("at most {count} tokens", count=most),
                )
            ids = (*self.front, *ids[len(ids) - limit + len(self.front) :])
        first = len(ids) - len(targets)
        return Item(ids, tuple(range(first, len(ids))), tuple(targets))

    def translation(self, context: str, continuation: str, start: int) -> Item:
        """The item of an encoder-decoder: the context is its source, the continuation is scored behind the start token.

        Both are spelled alone, as the harness does, and no end token is scored.
        """
        targets = tuple(self.plain(continuation))
        return Item((start, *targets[:-1]), tuple(range(len(targets))), targets, tuple(self.whole(context)))

    def note(self, subject: Subject) -> Text:
        """What stands in front of every text, in words."""
        if not self.front:
            return say("no token stands in front of the text")
        return say("in front of every text: {tokens}", tokens=" ".join(subject.labels(self.front)))


def require_head(subject: Subject) -> None:
    """Raises InvalidInput for a model that gives no logits for each position."""
    anatomy = subject.anatomy
    if anatomy.answers_once:
        raise InvalidInput(say("the model answers once for a whole text"), right=say("a language model"))
    if anatomy.head is None and not anatomy.tied_head:
        raise InvalidInput(say("the model has no head"), right=say("a language model"))


def _of_tokenizer(tokenizer: PreTrainedTokenizerBase, first_token: str) -> Spelling:
    def plain(text: str) -> list[int]:
        # Long texts are cut into windows later; the library's warning about them would be wrong.
        with spelling(text):
            return list(tokenizer.encode(text, add_special_tokens=False, verbose=False))

    front, back = _around(tokenizer)
    # A tokenizer may have no such token; the library's types allow for lists, which no one token is.
    known = [token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if isinstance(token, int)]
    alone = known[0] if known else None
    if first_token not in ("auto", "tokenizer"):
        return Spelling(plain, (_id_of(tokenizer, first_token),), back, alone)
    if front or first_token == "tokenizer":
        return Spelling(plain, front, back, alone)
    chosen = tokenizer.get_vocab().get(SEPARATOR, tokenizer.bos_token_id)
    return Spelling(plain, (chosen,) if isinstance(chosen, int) else (), back, alone)


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer itself puts before and behind a text."""
    inner = tokenizer.encode("a", add_special_tokens=False)
    full = tokenizer.encode("a")
    for start in range(len(full) - len(inner) + 1):
        if full[start : start + len(inner)] == inner:
            return tuple(full[:start]), tuple(full[start + len(inner) :])
    return (), ()


def _id_of(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    vocabulary = tokenizer.get_vocab()
    if token not in vocabulary:
        raise UnknownName("token", token, tokenizer.all_special_tokens)
    return int(vocabulary[token])
