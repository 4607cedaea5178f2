"""Items: token sequences with the places where a target is scored, and how they are run together.

Tokenising and running are apart, so that many plans can be run over the same items. The plain way is `score_items`; whoever
computes logits otherwise takes `batches`, reads the logits at `ItemBatch.read` and gives them to `read_scores`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.capture import capture
from glassworks.anatomy.tokens import padded

# The plain run keeps all logits of a batch: 2048 tokens of a vocabulary of 49k are 400 MB.
TOKENS_PER_BATCH = 2048
# Positions whose logits are widened to float32 at once; a vocabulary of 262k then takes 270 MB.
_CHUNK = 256


@dataclass(frozen=True)
class Item:
    """One sequence: read the logits at `positions`, score `targets` there.

    Causal: a position is one before its target's place. Masked language model: the masked places. Encoder-decoder:
    `source` are the encoder's ids, `ids` the decoder's. A position may be named more than once (several targets compared).
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    targets: tuple[int, ...]
    source: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        assert len(self.positions) == len(self.targets), "each position has its target"
        assert all(0 <= place < len(self.ids) for place in self.positions), "positions lie in the sequence"

    @property
    def length(self) -> int:
        """Tokens that are run, the source's included."""
        return len(self.ids) + len(self.source or ())


@dataclass(frozen=True, eq=False)
class Scored:
    """What was read at an item's positions: log-probability of each target in nats, and whether it was the likeliest."""

    logprobs: NDArray[np.float64]
    top: NDArray[np.bool_]

    @property
    def logprob(self) -> float:
        """The log-probability of all targets together, in nats."""
        return float(self.logprobs.sum())

    @property
    def is_greedy(self) -> bool:
        """Whether every target was the likeliest token at its position."""
        return bool(self.top.all())


@dataclass(frozen=True, eq=False)
class ItemBatch:
    """Items that are run together, padded on the right; `items` are their numbers, one per row.

    `batch.source` holds what the encoder of an encoder-decoder reads. Target k of the batch stands at `rows[k]`, `positions[k]`; `counts` is the number of targets of each row.
    """

    batch: TokenBatch
    rows: Int[Tensor, " target"]
    positions: Int[Tensor, " target"]
    targets: Int[Tensor, " target"]
    items: tuple[int, ...]
    counts: tuple[int, ...]

    def read(self, tensor: Float[Tensor, "batch position feature"]) -> Float[Tensor, "target feature"]:
        """The rows of a stream or of logits at the scored positions."""
        return tensor[self.rows.to(tensor.device), self.positions.to(tensor.device)]


def batches(items: Sequence[Item], tokens_per_batch: int, *, causal: bool = True, pad: int = 0) -> list[ItemBatch]:
    """Items grouped by length, the longest first, so that a batch with its padding holds at most so many tokens.

    An item longer than that is a batch alone. Behind a causal model's last token padding changes nothing, so no mask is
    made for it; other models get one.
    """
    order = sorted(range(len(items)), key=lambda number: (-items[number].length, number))
    groups: list[list[int]] = []
    for number in order:
        if not groups or _tokens(items, [*groups[-1], number]) > tokens_per_batch:
            groups.append([])
        groups[-1].append(number)
    return [_together([items[number] for number in group], tuple(group), causal, pad) for group in groups]


def read_scores(logits: Float[Tensor, "target vocabulary"], batch: ItemBatch) -> list[Scored]:
    """The scores of a batch's items, in the order of its rows, from the logits at the scored positions.

    Log-softmax in float32 (float64 for float64 logits), whatever the model runs in.
    """
    logprobs: list[Tensor] = []
    top: list[Tensor] = []
    for part, targets in zip(logits.split(_CHUNK), batch.targets.to(logits.device).split(_CHUNK), strict=True):
        wide = part if part.dtype == torch.float64 else part.float()
        logprobs.append(wide.gather(-1, targets[:, None])[:, 0] - wide.logsumexp(-1))
        top.append(wide.argmax(-1) == targets)
    ends = np.cumsum(batch.counts)[:-1]
    values = np.split(torch.cat(logprobs).double().cpu().numpy(), ends)
    return [Scored(v, t) for v, t in zip(values, np.split(torch.cat(top).cpu().numpy(), ends), strict=True)]


def pool_vectors(rows: Float[Tensor, "target width"], batch: ItemBatch) -> NDArray[np.float32]:
    """The mean of each item's rows of a stream, [item, width] in the order of the batch's rows."""
    parts = rows.float().cpu().numpy()
    ends = np.cumsum(batch.counts)[:-1]
    return np.stack([part.mean(0) for part in np.split(parts, ends)]).astype(np.float32)


def score_items(subject: Subject, items: Sequence[Item], tokens_per_batch: int = TOKENS_PER_BATCH) -> list[Scored]:
    """The plain way: every item through the whole model, scores in the order of the items."""
    found: dict[int, Scored] = {}
    with torch.no_grad():
        for group in batches(items, tokens_per_batch, causal=is_causal(subject)):
            logits = group.read(subject.forward(group.batch))
            found.update(zip(group.items, read_scores(logits, group), strict=True))
    return [found[number] for number in range(len(items))]


def plain_stream(subject: Subject, group: ItemBatch) -> Float[Tensor, "batch position width"]:
    """The untouched model's stream after its last layer, before any norm that follows the stack."""
    stream = capture(subject, group.batch, (), stop_at_layer=subject.anatomy.depth).stream
    assert stream is not None, "the pass stops behind the last layer"
    return stream


def is_causal(subject: Subject) -> bool:
    """Whether padding behind the last token cannot be seen: no layer of the (decoder's) stack looks ahead."""
    return subject.anatomy.causal


def _tokens(items: Sequence[Item], numbers: Sequence[int]) -> int:
    own = max(len(items[number].ids) for number in numbers)
    return len(numbers) * (own + max(len(items[number].source or ()) for number in numbers))


def _together(items: Sequence[Item], numbers: tuple[int, ...], causal: bool, pad: int) -> ItemBatch:
    made = padded([item.ids for item in items], filler=pad)
    sources = [item.source for item in items if item.source is not None]
    assert len(sources) in (0, len(items)), "all items have a source, or none has"
    source = padded(sources, filler=pad) if sources else None
    return ItemBatch(
        TokenBatch(made.ids, None if causal else made.mask, made.labels, source),
        torch.tensor([row for row, item in enumerate(items) for _ in item.positions], dtype=torch.long),
        torch.tensor([place for item in items for place in item.positions], dtype=torch.long),
        torch.tensor([target for item in items for target in item.targets], dtype=torch.long),
        numbers,
        tuple(len(item.positions) for item in items),
    )
