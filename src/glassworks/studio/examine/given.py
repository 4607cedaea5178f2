"""What the Examine page was given: the model, its tokens, the command that makes the whole report of them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

from glassworks.anatomy import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.instruments.examine import batch_of
from glassworks.instruments.replacing import rows_together
from glassworks.tasks.base import Task
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk, Shelved

# All maps of a 30-layer model for so many tokens take 280 MB.
MOST_TOKENS = 512
# Ids for a model that has no tokenizer and no world.
DRAWN = 10
# Words that come back, so that heads which look for repetition have something to find.
SAMPLE = (
    "The old lamp stood by the window. When the wind came, the old lamp stood by the window and did not fall. "
    "Mr. Dorsey saw it, and Mr. Dorsey smiled."
)


def tokens_of(subject: Subject, text: str, *, most: int = MOST_TOKENS) -> TokenBatch:
    """The batch that `glassworks examine` would read of one text.

    A model without a tokenizer is given ids, as `0 1 2`. Without a text one is chosen: a sequence of the model's own world,
    the sample, or ids drawn at random. Raises InvalidInput for more tokens than a page shows.
    """
    if text.strip():
        batch = batch_of(subject, _ids(text) if subject.tokenizer is None else text)
    elif isinstance(subject.world, Task):
        # Trainings draw from other names, so this sequence was not seen.
        batch = batch_of(subject, subject.world.sample(1, Seed(0).child("examine")).inputs)
    else:
        batch = batch_of(subject, _drawn(subject) if subject.tokenizer is None else SAMPLE)
    count = max(batch.ids.shape[1], batch.read_by_encoder.ids.shape[1])
    if count > most:
        raise InvalidInput(
            say("{count} tokens are more than this page shows", count=count),
            right=say("at most {count}; the command line takes more", count=most),
        )
    return batch


def text_of(subject: Subject, text: str) -> str:
    """The text that `tokens_of` reads: the one given, or the one chosen where none was."""
    if text.strip():
        return text
    if subject.tokenizer is not None and not isinstance(subject.world, Task):
        return SAMPLE
    ids: list[int] = tokens_of(subject, "").read_by_encoder.ids[0].tolist()
    return subject.to_string(ids)


def _drawn(subject: Subject) -> list[int]:
    count = DRAWN if subject.anatomy.context is None else min(DRAWN, subject.anatomy.context)
    drawn = torch.randint(0, subject.anatomy.vocabulary, (count,), generator=Seed(0).child("examine").generator())
    return drawn.tolist()


def documents_of(subject: Subject, text: str) -> TokenBatch:
    """Several documents, with empty lines between them, as one batch; InvalidInput where there are none."""
    documents = [part.strip() for part in re.split(r"\n[ \t\r]*\n", text) if part.strip()]
    if subject.tokenizer is None or not documents:
        raise InvalidInput(
            say("there are no documents to read"), right=say("texts with an empty line between them, and a tokenizer")
        )
    return batch_of(subject, documents)


def _ids(text: str) -> list[int]:
    try:
        return [int(part) for part in re.split(r"[\s,]+", text.strip()) if part]
    except ValueError:
        raise InvalidInput(
            say("this model has no tokenizer: it reads token ids"),
            given=text,
            right=say("for example {example}", example="2 1 0 1"),
        ) from None


def command_of(shelved: Shelved, subject: Subject, text: str) -> str:
    """The command that writes the whole report of this model and text; without a text a world draws the same one."""
    words = ["glassworks", "examine", str(shelved.folder)]
    if subject.tokenizer is None and (text.strip() or not isinstance(subject.world, Task)):
        words += ["--tokens", ",".join(map(str, _ids(text) if text.strip() else _drawn(subject)))]
    elif text.strip() or not isinstance(subject.world, Task):
        words += ["--text", text if text.strip() else SAMPLE]
    return shlex.join(words)


@contextmanager
def told_calls(desk: Desk, module: nn.Module, label: Text, total: int) -> Generator[None]:
    """Tells the desk of every call of a module, of about so many."""
    done = 0

    def step(*_: object) -> None:
        nonlocal done
        done += 1
        desk.tell(label.in_language(desk.language), float(min(done, total)), float(total))

    handle = module.register_forward_hook(step)
    try:
        yield
    finally:
        handle.remove()


def passes_of(subject: Subject, batch: TokenBatch, rows: int) -> int:
    """How often the model is called for so many changed sequences, with the pass before them."""
    return 1 - (-rows // rows_together(subject, batch))
