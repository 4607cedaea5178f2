"""Many small operations on a model in few passes: each row of a batch has its own tensors replaced.

Rows do not see each other, so one pass answers as many questions as fit into memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.anatomy.edits import Edit, HookPoint, edited
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site, SiteName, why_missing
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.instruments.base import Stack

# Cells of a matrix that are few enough to write their numbers into them.
MOST_NUMBERS = 240
# Numbers that one pass may hold for logits (256 MB in float32), and rows beyond which nothing is gained.
MOST_LOGITS = 2**26
MOST_ROWS = 128


@dataclass(frozen=True, eq=False)
class Replacement:
    """What one row changes: the part of a site's tensor at `place` (an index without the batch) becomes `value`."""

    site: Site
    place: tuple[int | slice, ...]
    value: Tensor


@dataclass(frozen=True, eq=False)
class Row:
    """One question to the model: which sequence of the batch, and what is replaced in it."""

    sequence: int
    changes: tuple[Replacement, ...]


def replaced_logits(
    subject: Subject, batch: TokenBatch, rows: Sequence[Row]
) -> Iterator[Float[Tensor, "position vocabulary"]]:
    """The logits of each row, in order; a row costs one sequence of a pass, and those of one pass are gone before the next."""
    together = rows_together(subject, batch)
    for first in range(0, len(rows), together):
        chunk = rows[first : first + together]
        changes: dict[Site, list[tuple[int, Replacement]]] = {}
        for number, row in enumerate(chunk):
            for change in row.changes:
                changes.setdefault(change.site, []).append((number, change))
        edits: Mapping[SiteName, Edit] = {site.name: partial(_put, own) for site, own in changes.items()}
        with torch.no_grad(), edited(subject, edits):
            logits = list(subject.forward(sequences_of(batch, [row.sequence for row in chunk])))
        # Copies, one at a time: whoever still looks at the last row would hold the whole pass while the next one runs.
        while logits:
            yield logits.pop(0).clone()


def rows_together(subject: Subject, batch: TokenBatch) -> int:
    """How many rows one pass of the model takes."""
    return max(1, min(MOST_ROWS, MOST_LOGITS // (batch.ids.shape[1] * subject.anatomy.vocabulary)))


def _put(changes: Sequence[tuple[int, Replacement]], tensor: Tensor, hook: HookPoint) -> Tensor:
    new = tensor.clone()
    for number, change in changes:
        new[(number, *change.place)] = change.value.to(new)
    return new


def sequences_of(batch: TokenBatch, numbers: Sequence[int]) -> TokenBatch:
    """Some sequences of a batch, each as often as it is named."""
    chosen = list(numbers)
    mask = None if batch.mask is None else batch.mask[chosen]
    source = None if batch.source is None else sequences_of(batch.source, numbers)
    return replace(batch, ids=batch.ids[chosen], mask=mask, source=source)


def sites_of(part: str, anatomy: Anatomy, stack: Stack = "") -> list[Site]:
    """The site of a part in every layer that has it; InvalidInput with the reason where none has."""
    layers = anatomy.depth if not stack or anatomy.encoder is None else len(anatomy.encoder.layers)
    asked = [Site(part, index, stack=stack) for index in range(layers)]
    found = [site for site in asked if why_missing(site, anatomy) is None]
    if not found:
        reason = why_missing(asked[0], anatomy)
        raise InvalidInput(say("{site} is not in this model: {reason}", site=asked[0].name, reason=reason))
    return found


def part_words(part: str) -> Text:
    """Which part of a model is operated on, in words."""
    match part:
        case "heads":
            return say("single heads")
        case "attention":
            return say("attention outputs")
        case "cross":
            return say("outputs of the attention to the source")
        case "feedforward":
            return say("feed-forward outputs")
        case "layers":
            return say("whole layers")
        case _:
            return say("the residual stream")
