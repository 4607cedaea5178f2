"""Perplexity of real text, window by window."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evaluation.base import Benchmark, MetricScore, Prepared, Scores
from glassworks.evaluation.data import fingerprint, read_text
from glassworks.evaluation.items import Item, Scored
from glassworks.evaluation.paragraphs import spread, text_path
from glassworks.evaluation.scores import token_scores
from glassworks.evaluation.spelling import Spelling, require_head

# Tokens decoded before a span, so that blanks and split characters at its edge are counted once.
_BEFORE = 8


@dataclass(frozen=True)
class _Span:
    """Text tokens [first, end) are scored, those from `start` on are read."""

    start: int
    first: int
    end: int


class Perplexity(Benchmark):
    """Perplexity of a text: nats per token, bits per byte, next-token accuracy.

    Every token is scored once. A window begins with the first token of `Spelling`; with `limit`, so many windows are
    taken, spread evenly over the text.
    """

    kind: Literal["ppl"] = "ppl"
    text_file: str | None = None
    """A text file in UTF-8; None for the test part of WikiText-2, as it is."""
    window: int = Field(default=512, ge=2)
    """Tokens that the model reads at once, the first token included; never more than its context."""
    stride: int | None = Field(default=None, ge=1)
    """Tokens scored in each window, behind those that are only read; None for as many as fit."""
    first_token: str = "auto"
    """What stands in front of every window: "auto", "tokenizer", or the text of a token."""

    @property
    def name(self) -> str:
        """`ppl`, with the file's name where one is given."""
        return self.kind if self.text_file is None else f"{self.kind}_{Path(self.text_file).stem}"

    def prepare(self, subject: Subject) -> Prepared:
        """The windows of the text; documents are windows."""
        require_head(subject)
        if subject.anatomy.has_source:
            raise InvalidInput(say("this model reads a source, and a text alone has none"), right=say("--eval titles"))
        path = text_path(self.text_file)
        text = read_text(path)
        if not subject.anatomy.causal:
            raise InvalidInput(
                say("this model looks ahead, so the next token is no question to it"), right=say("--eval mlm")
            )
        spelling = Spelling.of(subject, self.first_token)
        ids = spelling.plain(text)
        window = min(self.window, subject.anatomy.context or self.window)
        spans = spread(_spans(len(ids), window, len(spelling.front), self.stride), self.limit)
        if not spans:
            raise InvalidInput(say("{path} has too few tokens to score", path=str(path)), given=len(ids))
        scored = sum(span.end - span.first for span in spans)
        return Prepared(
            name=self.name,
            metric="nll",
            chance=math.log(subject.anatomy.vocabulary),
            documents=len(spans),
            data=fingerprint(path),
            notes=(
                spelling.note(subject),
                say(
                    "{scored} of {all} tokens scored, in windows of {window}",
                    scored=scored,
                    all=len(ids),
                    window=window,
                ),
            ),
            items=tuple(_item(span, ids, spelling) for span in spans),
            score=_scorer(np.array([_bytes(subject, ids, span) for span in spans], dtype=np.float64)),
        )


def _spans(count: int, window: int, front: int, stride: int | None) -> list[_Span]:
    # The last token of a window is a target only; without a front the first one is context only.
    room = window + 1 - front
    size = min(stride or window, window if front == 0 else room)
    spans: list[_Span] = []
    first = 1 if front == 0 else 0
    while first < count:
        end = min(first + size, count)
        spans.append(_Span(max(0, end - room), first, end))
        first = end
    return spans


def _item(span: _Span, ids: Sequence[int], spelling: Spelling) -> Item:
    context = [*spelling.front, *ids[span.start : span.first]]
    return spelling.item(context, ids[span.first : span.end], None)


def _bytes(subject: Subject, ids: Sequence[int], span: _Span) -> int:
    """Bytes of the text that a span's tokens stand for."""
    before = ids[max(0, span.first - _BEFORE) : span.first]
    together = subject.to_string([*before, *ids[span.first : span.end]])
    return max(1, len(together.encode()) - len(subject.to_string(before).encode()))


def _scorer(lengths: NDArray[np.float64]) -> Callable[[Sequence[Scored]], Scores]:
    def score(scored: Sequence[Scored]) -> Scores:
        nats = np.array([-one.logprob for one in scored])
        bits = MetricScore.mean(nats / lengths / math.log(2), lengths, higher_is_better=False)
        return {**token_scores(scored), "bits_per_byte": bits}

    return score
