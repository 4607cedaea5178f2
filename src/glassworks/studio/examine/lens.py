"""The lens grid of a page: some positions of a text, every stage of the model."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from glassworks.anatomy import Subject
from glassworks.anatomy.capture import capture
from glassworks.anatomy.places import module_at
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.instruments.base import unnumbered
from glassworks.instruments.logit_lens import QUANTITIES, LogitLens, stage_label
from glassworks.instruments.readout import Readout
from glassworks.studio.examine.given import told_calls
from glassworks.studio.questions.base import Answer

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk


def lens_of(desk: Desk, subject: Subject, batch: TokenBatch, window: slice, look: LogitLens) -> Answer:
    """What each stage says at the positions of a window: arrays (stage position), tokens (stage position top).

    Raises InvalidInput for a model without a head and for a first position that is not there.
    """
    Readout.of(subject)  # refuses before the pass, not after
    first, count = window.start, window.stop - window.start
    places: list[int] = batch.real[0].nonzero()[:, 0].tolist()
    if not 0 <= first < len(places):
        raise InvalidInput(
            say("there is no such position"),
            given=first,
            right=say("0 to {last}; counted from 0", last=len(places) - 1),
        )
    sites = look.sites(subject.anatomy)
    seen = capture(subject, batch, sites)
    # One position more is read, only to know which token comes after the last that is shown.
    chosen = replace(batch, mask=_only(batch, places[first : first + count + 1]))
    norm = subject.anatomy.norm
    with (
        told_calls(desk, module_at(subject.model, norm), say("reading each stage"), len(sites) + 1)
        if norm
        else nullcontext()
    ):
        found = look.read(subject, chosen, seen)
    shown = min(count, len(places) - first)
    return _answer(found, shown) | {
        "first": first,
        "in_all": len(places),
        "next": [
            batch.labels[place] if subject.anatomy.causal else "" for place in places[first + 1 : first + shown + 1]
        ],
        "causal": subject.anatomy.causal,
    }


def _only(batch: TokenBatch, places: list[int]) -> Bool[Tensor, "batch position"]:
    """True on some positions of the first sequence: the instrument reads what is real."""
    mask = batch.real.clone()
    mask[0] = False
    mask[0, places] = True
    return mask


def _answer(found: Measurement, shown: int) -> Answer:
    values, quantities = found.values[:, :shown], found.coords["quantity"]
    stages = [str(stage) for stage in found.coords["stage"]]

    def column(name: str) -> np.ndarray:
        return values[..., quantities.index(name)]

    top = sum(str(name).startswith("token ") for name in quantities)
    words = {name.removeprefix("token "): text for name, text in found.columns.items() if name.startswith("token ")}
    return {
        "stages": [stage_label(stage) for stage in stages],
        "is_end": [not stage.endswith("attention") for stage in stages],
        "positions": unnumbered(found.coords["position"][:shown]),
        "tokens": np.stack([column(f"token {place}") for place in range(1, top + 1)], -1).astype(np.int32),
        "chances": np.stack([column(f"probability {place}") for place in range(1, top + 1)], -1).astype(np.float32),
        "words": words,
        "caveats": found.caveats,
    } | {name.replace(" ", "_"): column(name).astype(np.float32) for name in QUANTITIES}
