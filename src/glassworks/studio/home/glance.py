"""One sentence at a glance: what would come next, and the head that looked at what followed the last time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from glassworks.anatomy import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.instruments.attention_maps import AttentionMaps
from glassworks.instruments.base import unnumbered
from glassworks.instruments.examine import batch_of
from glassworks.instruments.head_scores import head_targets, uniform_map
from glassworks.studio.words.next_word import candidates
from glassworks.studio.words.prompts import Prompt

# A line of a page, and quick to read.
MOST_TOKENS = 48
CANDIDATES = 6


def glance(subject: Subject, text: str) -> dict[str, Any]:
    """Tokens, the likeliest next ones, and the head with most weight on what followed earlier copies of the last token.

    `milliseconds` is what one pass took; `map` is that head's (query key) in float32; `head` is None where the last token is
    new. Raises InvalidInput for an empty text, one that is too long, and models that read no text from left to right.
    """
    if subject.tokenizer is None or not all(layer.causal for layer in subject.anatomy.layers):
        raise InvalidInput(say("this model does not go on with a text"), right=say("a decoder with a tokenizer"))
    if not text.strip():
        raise InvalidInput(say("there is no text"), right=say("a few words"))
    batch = batch_of(subject, text)
    count = batch.ids.shape[1]
    if count > MOST_TOKENS:
        raise InvalidInput(
            say("{count} tokens are more than this page shows", count=count),
            right=say("at most {count}; the Walk-through takes more", count=MOST_TOKENS),
        )
    maps = AttentionMaps().read(subject, batch)
    seen = _looking_back(maps.values, maps.coords, batch)
    return {"tokens": unnumbered(maps.coords["key"])} | _next(subject, batch) | seen


def _next(subject: Subject, batch: TokenBatch) -> dict[str, Any]:
    begun = time.perf_counter()
    with torch.no_grad():
        logits = subject.forward(batch)[0, -1].float()
    milliseconds = 1000 * (time.perf_counter() - begun)
    chances = torch.softmax(logits, 0)
    rows = candidates(subject, Prompt(tuple(batch.ids[0].tolist())), (), logits, CANDIDATES)["rows"]
    found = [{"id": row["id"], "text": row["text"], "chance": float(chances[row["id"]])} for row in rows]
    return {"next": found, "milliseconds": milliseconds}


def _looking_back(values: Float[np.ndarray, "layer head query key"], coords: Any, batch: TokenBatch) -> dict[str, Any]:
    target = head_targets(batch)["induction"][0, -1].numpy()
    if not target.any():
        return {"head": None}
    weights = np.nansum(values[:, :, -1, :] * target, axis=-1)
    layer, head = (int(place) for place in np.unravel_index(int(weights.argmax()), weights.shape))
    even = float((uniform_map(batch, causal=True)[0, 0, -1].numpy() * target).sum())
    return {
        "head": {
            "layer": int(coords["layer"][layer]),
            "head": int(coords["head"][head]),
            "weight": float(weights[layer, head]),
            "even": even,
            "targets": [int(place) for place in np.flatnonzero(target)],
        },
        "map": values[layer, head].astype(np.float32),
    }
