"""Running a prepared benchmark the plain way: the whole model as it is now, once."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from glassworks.anatomy import Subject
from glassworks.evaluation.base import AnyPrepared, GenerativePrepared, Prepared, Scores, VectorPrepared
from glassworks.evaluation.generate import generate_texts
from glassworks.evaluation.items import (
    TOKENS_PER_BATCH,
    Item,
    batches,
    is_causal,
    plain_stream,
    pool_vectors,
    score_items,
)


def evaluate(subject: Subject, prepared: AnyPrepared, tokens_per_batch: int = TOKENS_PER_BATCH) -> Scores:
    """The scores of a model, with whatever is done to it at the moment (a plan, hooks)."""
    match prepared:
        case Prepared():
            return prepared.score(score_items(subject, prepared.items, tokens_per_batch))
        case VectorPrepared():
            return prepared.score(item_vectors(subject, prepared.items, tokens_per_batch))
        case GenerativePrepared():
            texts = generate_texts(
                subject,
                prepared.prompts,
                prepared.until,
                prepared.max_new_tokens,
                first_token=prepared.first_token,
            )
            return prepared.score(texts)


def item_vectors(
    subject: Subject, items: Sequence[Item], tokens_per_batch: int = TOKENS_PER_BATCH
) -> NDArray[np.float32]:
    """The mean of the last stream over each item's positions, [item, width]."""
    found: dict[int, NDArray[np.float32]] = {}
    with torch.no_grad():
        for group in batches(items, tokens_per_batch, causal=is_causal(subject)):
            vectors = pool_vectors(group.read(plain_stream(subject, group)), group)
            found.update(zip(group.items, vectors, strict=True))
    return np.stack([found[number] for number in range(len(items))])
