"""Masked tokens of real text, for encoders that were trained to fill them in."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field
from transformers import PreTrainedTokenizerBase

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evaluation.base import Benchmark, Prepared
from glassworks.evaluation.data import fingerprint
from glassworks.evaluation.items import Item
from glassworks.evaluation.paragraphs import paragraphs, text_path
from glassworks.evaluation.scores import token_scores
from glassworks.evaluation.spelling import Spelling, require_head
from glassworks.tensors.seeds import Seed

# Of the chosen tokens, as BERT was trained: these shares are masked, replaced by a random token, and left as they are.
_MASKED, _REPLACED = 0.8, 0.1


class MaskedLanguage(Benchmark):
    """Tokens of a text hidden and asked for again: share guessed right, nats per token.

    One document is a paragraph. Which tokens are hidden depends on the seed and the paragraph's number alone, so every
    plan is asked the same.
    """

    kind: Literal["mlm"] = "mlm"
    text_file: str | None = None
    """A text file in UTF-8, a paragraph per line; None for the test part of WikiText-2."""
    share: float = Field(default=0.15, gt=0, le=1)
    """The share of a paragraph's tokens that is asked for, at least one."""
    corruption: Literal["mask", "bert"] = "mask"
    """What stands in their place: always the mask token, or as BERT was trained (80 % mask, 10 % random, 10 % kept)."""
    window: int = Field(default=128, ge=3)
    """A paragraph is cut to so many tokens, those around it included."""
    seed: int = 0
    """Chooses the hidden tokens."""

    def prepare(self, subject: Subject) -> Prepared:
        """The paragraphs with their hidden tokens; raises InvalidInput for a model that cannot fill in."""
        spelling, mask = Spelling.of(subject), _mask_token(subject)
        path = text_path(self.text_file)
        window = min(self.window, subject.anatomy.context or self.window)
        items = tuple(
            self._hidden(number, spelling.plain(text), spelling, (mask, subject.anatomy.vocabulary, window))
            for number, text in enumerate(paragraphs(path, self.limit))
        )
        return Prepared(
            name=self.name if self.text_file is None else f"{self.name}_{Path(self.text_file).stem}",
            metric="acc",
            chance=1 / subject.anatomy.vocabulary,
            documents=len(items),
            data=fingerprint(path),
            notes=(
                say(
                    "{share} of the tokens of each paragraph asked for, at most {window} tokens read",
                    share=f"{self.share:.0%}",
                    window=window,
                ),
                say("always the mask token in their place")
                if self.corruption == "mask"
                else say("in their place 80 % mask token, 10 % random token, 10 % the token itself"),
            ),
            items=items,
            score=token_scores,
        )

    def _hidden(self, number: int, ids: Sequence[int], spelling: Spelling, sizes: tuple[int, int, int]) -> Item:
        mask, vocabulary, window = sizes
        chance = Seed(self.seed).child(self.kind, number).numpy()
        ids = ids[: window - len(spelling.front) - len(spelling.back)]
        chosen = np.sort(chance.choice(len(ids), max(1, round(self.share * len(ids))), replace=False))
        shown = list(ids)
        for place in chosen:
            fate = chance.random()
            if self.corruption == "mask" or fate < _MASKED:
                shown[place] = mask
            elif fate < _MASKED + _REPLACED:
                shown[place] = int(chance.integers(vocabulary))
        first = len(spelling.front)
        return Item(
            (*spelling.front, *shown, *spelling.back),
            tuple(int(place) + first for place in chosen),
            tuple(ids[place] for place in chosen),
        )


def _mask_token(subject: Subject) -> int:
    require_head(subject)
    tokenizer = subject.tokenizer
    if subject.anatomy.causal or not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise InvalidInput(
            say("this model does not fill in masked tokens"),
            right=say("an encoder with a masked-language head and its tokenizer"),
        )
    mask = tokenizer.mask_token_id
    if not isinstance(mask, int):
        raise InvalidInput(say("this tokenizer has no mask token"))
    return mask
