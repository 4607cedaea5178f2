"""Patching for a page: which activation of the clean run brings its answer back into the corrupted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from glassworks.anatomy import Subject
from glassworks.core.text import say
from glassworks.instruments.base import unnumbered
from glassworks.instruments.patching import EMBEDDED, QUANTITIES, Patching
from glassworks.studio.examine.given import passes_of, tokens_of, told_calls
from glassworks.studio.questions.base import Answer

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk

# Every position of every layer is a pass of its own.
MOST_TOKENS = 64


def patched(desk: Desk, subject: Subject, clean: str, look: Patching) -> Answer:
    """Recovery by layer and position or head (float32, layer 0 first), 0 as corrupted and 1 as clean, and the metric.

    Raises InvalidInput where the prompts differ in length, or the corruption changes nothing.
    """
    batch = tokens_of(subject, clean, most=MOST_TOKENS)
    places = subject.anatomy.heads if look.where == "heads" else batch.read_by_encoder.ids.shape[1]
    rows = (subject.anatomy.depth + 1) * places
    passes = rows if look.corrupted is not None else rows * look.samples
    label = say("putting clean activations back")
    with told_calls(desk, subject.model, label, passes_of(subject, batch, passes)):
        found = look.read(subject, batch)
    across = found.dims[1]
    names = found.coords[across]
    given = None if look.corrupted is None or not isinstance(look.corrupted, str) else subject.batch(look.corrupted)
    return {
        "recovery": found.at(quantity="recovery").values.astype(np.float32),
        "low": found.at(quantity="low").values.astype(np.float32),
        "high": found.at(quantity="high").values.astype(np.float32),
        "metric": found.values[..., QUANTITIES.index("metric")].astype(np.float32),
        "layers": [
            say("embedding") if layer == EMBEDDED else say("layer {number}", number=layer)
            for layer in found.coords["layer"]
        ],
        "columns": [f"H{head}" for head in names] if across == "head" else list(unnumbered(names)),
        "corrupted": [] if given is None else list(given.read_by_encoder.labels),
        "across": across,
        "says": found.says,
        "caveats": found.caveats,
    }
