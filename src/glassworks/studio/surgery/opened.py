"""A model, a stack of it and a plan that fits: what every question of the page begins with."""

from __future__ import annotations

from dataclasses import dataclass

from glassworks.anatomy import Alphabet, Subject, TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evaluation.spelling import Spelling
from glassworks.studio.surgery.stage_tree import read
from glassworks.surgery.plans import Plan
from glassworks.surgery.slots import choose_stack
from glassworks.surgery.trial import writes

MOST_SIGNS = 8_000


@dataclass(frozen=True, eq=False)
class Opened:
    """An open model with the plan that one of its stacks is to run."""

    subject: Subject
    stack: str
    plan: Plan

    @classmethod
    def of(cls, subject: Subject, stack: str, plan: str) -> Opened:
        """Reads the plan for the stack ("" takes the usual one); InvalidInput or StrangeModel where that cannot be."""
        chosen = choose_stack(subject.anatomy, stack or None)
        depth = len(subject.anatomy.stacks[chosen])
        return cls(subject, chosen, read(plan, depth) if plan.strip() else Plan.identity(depth))

    @property
    def depth(self) -> int:
        """Layers of the stack."""
        return len(self.subject.anatomy.stacks[self.stack])

    @property
    def whole(self) -> Plan:
        """Every layer once, in order."""
        return Plan.identity(self.depth)

    @property
    def plans(self) -> list[Plan]:
        """The plan and the whole model."""
        return [self.plan, self.whole]


def kind_of(subject: Subject) -> str:
    """What can be asked of the model.

    `writes`: a decoder. `translates`: an encoder-decoder. `fills`: an encoder with a head over its vocabulary and a mask
    token. `turns`: an encoder whose vectors are all there is.
    """
    if writes(subject):
        return "translates" if subject.anatomy.has_source else "writes"
    return "turns" if mask_of(subject) is None else "fills"


def mask_of(subject: Subject) -> int | None:
    """The id of the mask token of a model that fills masked places in; None for any other."""
    from transformers import PreTrainedTokenizerBase

    anatomy, tokenizer = subject.anatomy, subject.tokenizer
    has_head = (anatomy.head is not None or anatomy.tied_head) and not anatomy.answers_once
    if not has_head or not isinstance(tokenizer, PreTrainedTokenizerBase):
        return None
    return tokenizer.mask_token_id if isinstance(tokenizer.mask_token_id, int) else None


def spelling_of(subject: Subject) -> Spelling:
    """How a text becomes ids; of a model without a tokenizer, a text is ids with blanks between."""
    if subject.tokenizer is None:
        return Spelling(lambda text: ids_of(text, subject.anatomy.vocabulary), ())
    return Spelling.of(subject)


def ids_of(text: str, vocabulary: int) -> list[int]:
    """Typed token ids; InvalidInput for what is none of this model's."""
    words = text.replace(",", " ").split()
    wrong = next(
        (word for word in words if not (word.isascii() and word.isdigit() and int(word[:9]) < vocabulary)), None
    )
    if wrong is not None or not words:
        raise InvalidInput(
            say("this model reads token ids, not text"),
            given=wrong or text,
            right=say("numbers from 0 to {last} with blanks between", last=vocabulary - 1),
        )
    return [int(word) for word in words]


def batch_of(subject: Subject, text: str) -> TokenBatch:
    """The tokens of a text as the model's own tokenizer spells it."""
    check_length(text)
    tokenizer = subject.tokenizer
    if tokenizer is None:
        return subject.batch(ids_of(text, subject.anatomy.vocabulary))
    return subject.batch(text if text or not isinstance(tokenizer, Alphabet) else " ")


def check_length(text: str) -> None:
    """Raises InvalidInput for a text that is empty or longer than a page should wait for."""
    if not text.strip():
        raise InvalidInput(say("the text is empty"), right=say("at least one word"))
    if len(text) > MOST_SIGNS:
        raise InvalidInput(
            say("the text is too long for the studio"),
            given=len(text),
            right=say("at most {count} signs", count=MOST_SIGNS),
        )
