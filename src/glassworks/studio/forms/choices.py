"""What is filled in for verbs whose choices are options of the command line and no spec of their own."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from glassworks.core.spec import Spec
from glassworks.surgery.choice import SweepChoice


class ExamineForm(Spec):
    """A look inside a model, with a report."""

    kind: Literal["examine"] = "examine"
    model: str = ""
    """The model that is looked into."""
    text: str = Field(default="", max_length=20_000)
    """The prompt; without one the model's own kind of text is drawn."""
    instruments: tuple[str, ...] = ()
    """Instruments by name; all that fit unless some are named."""
    seed: int = 0
    """Chance of whatever is drawn."""


class SweepForm(SweepChoice):
    """Many plans of a model's layers, scored."""

    kind: Literal["sweep_form"] = "sweep_form"  # type: ignore[assignment] - another form of the same choices
    model: str = ""
    """The model whose layers are run by the plans."""
    seeds: int = Field(default=3, ge=1, le=1000)
    """Random orders for each start: seeds 0, 1, ..."""
    limit: int | None = Field(default=20, ge=1)
    """Documents of each benchmark; None for all."""
