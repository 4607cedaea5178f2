"""Every head of a model small, with its scores, and one of them large."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from glassworks.anatomy import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.instruments.attention_maps import LOOKS_AHEAD, AttentionMaps
from glassworks.instruments.base import Instrument, Stack, unnumbered
from glassworks.instruments.examine import standard_instruments
from glassworks.instruments.head_scores import SCORES, HeadScores, not_measurable, score_name
from glassworks.instruments.repeated_tokens import RepeatedTokens
from glassworks.instruments.summary import head_line
from glassworks.instruments.visit import Visit
from glassworks.studio.questions.base import Answer

Which = Literal["", "encoder", "cross"]
# A small map is at most so many cells wide; longer texts show the largest weight of each block.
WIDEST = 64


def wall_of(subject: Subject, batch: TokenBatch, which: Which) -> Answer:
    """All maps as bytes (255 times the square root of the share of the largest), and the scores of every head.

    `tiles` is (head query key), `scores` (head score quantity) with NaN where a score is not defined; `block` is how many
    tokens one cell stands for. Raises InvalidInput where the model has no such attention.
    """
    look = _maps(which)
    chosen: dict[str, Instrument] = {"maps": look}
    if which != "cross":
        chosen["scores"] = HeadScores(stack=which)
    visit = Visit(subject, batch, chosen)
    visit.read(lambda _: None)
    if "maps" not in visit.measurements:
        raise visit.skipped["maps"]
    maps = visit.measurements["maps"]
    places = _heads_in(maps.values)
    queries, keys = (unnumbered(maps.coords[name]) for name in ("query", "key"))
    block = max(1, -(-max(len(queries), len(keys)) // WIDEST))
    values = np.stack([maps.values[place] for place in places])
    answer: Answer = {
        "tiles": as_bytes(pooled(np.abs(values), block)),
        "largest": float(np.nanmax(np.abs(values))),
        "block": block,
        "queries": queries,
        "keys": keys,
        "layers": [int(maps.coords["layer"][layer]) for layer, _ in places],
        "heads": [int(maps.coords["head"][head]) for _, head in places],
        "looks_ahead": maps.columns.get(LOOKS_AHEAD) == "yes",
        "scores": None,
        "is_repeatable": any(isinstance(one, RepeatedTokens) for one in standard_instruments(subject)),
        "caveats": maps.caveats,
    }
    if "scores" in visit.measurements:
        answer |= _scored(visit.measurements["scores"], places, is_random=False)
    return answer


def repeated_of(subject: Subject, seed: int) -> Answer:
    """The scores of every head on random tokens said twice; they depend on model and seed alone.

    Raises InvalidInput for models that look ahead or know too few tokens to draw from.
    """
    fitting = [one for one in standard_instruments(subject, seed) if isinstance(one, RepeatedTokens)]
    if not fitting:
        raise InvalidInput(
            say("random tokens said twice show nothing of this model"),
            right=say("a model that reads from left to right and knows 50 tokens at least"),
        )
    # The text plays no part in it.
    found = fitting[0].read(subject, TokenBatch(torch.zeros(1, 1, dtype=torch.long)))
    places = _heads_in(found.values[..., 0].transpose(1, 2, 0))
    answer = _scored(found, places, is_random=True)
    return answer | {
        "says": found.says,
        "layers": [int(found.coords["layer"][layer]) for layer, _ in places],
        "heads": [int(found.coords["head"][head]) for _, head in places],
    }


def large_map_of(subject: Subject, batch: TokenBatch, which: Which, layer: int, head: int) -> Answer:
    """The exact weights of one head (query key) in float32, with the tokens of both sides."""
    look = _maps(which).replaced_all({"layer": layer, "head": head})
    found = look.read(subject, batch)
    return {
        "map": found.values[0, 0].astype(np.float32),
        "queries": unnumbered(found.coords["query"]),
        "keys": unnumbered(found.coords["key"]),
        "looks_ahead": found.columns.get(LOOKS_AHEAD) == "yes",
        "unit": found.unit,
    }


def _maps(which: Which) -> AttentionMaps:
    if which == "cross":
        return AttentionMaps(cross=True)
    stack: Stack = which
    return AttentionMaps(stack=stack)


def _heads_in(values: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Indices of layer and head (the first two axes) where there is a head; layers may differ in how many they have."""
    every = [(layer, head) for layer in range(values.shape[0]) for head in range(values.shape[1])]
    return [place for place in every if not np.isnan(values[place]).all()]


def _scored(found: Measurement, places: list[tuple[int, int]], *, is_random: bool) -> dict[str, Any]:
    values = np.stack([found.values[:, layer, head] for layer, head in places]).astype(np.float32)
    lines: list[Text | None] = [head_line(found, score, random=is_random) for score in ("induction", "previous_token")]
    lines.append(not_measurable(found))
    return {
        "scores": values,
        "score_names": [score_name(score) for score in SCORES],
        "best": [_best(values[:, index]) for index in range(len(SCORES))],
        "told": [line for line in lines if line is not None],
        "score_caveats": found.caveats,
    }


def _best(values: Float[np.ndarray, "head quantity"]) -> int | None:
    """The head that is furthest above chance, if its whole interval is; None where none is."""
    above = values[:, 0] - values[:, 3]
    if np.isnan(above).all():
        return None
    best = int(np.nanargmax(above))
    return best if values[best, 1] > values[best, 3] else None


def pooled(values: Float[np.ndarray, "head query key"], block: int) -> Float[np.ndarray, "head row column"]:
    """The largest weight of each block of queries and keys."""
    if block == 1:
        return values
    heads, queries, keys = values.shape
    rows, columns = -(-queries // block), -(-keys // block)
    padded = np.zeros((heads, rows * block, columns * block))
    padded[:, :queries, :keys] = values
    return padded.reshape(heads, rows, block, columns, block).max((2, 4))


def as_bytes(values: Float[np.ndarray, "head row column"]) -> UInt8[np.ndarray, "head row column"]:
    """255 times the square root of the share of the largest of all, so that thin attention is seen too."""
    most = float(np.nanmax(values)) or 1.0
    return np.round(255 * np.sqrt(np.nan_to_num(values) / most)).astype(np.uint8)
