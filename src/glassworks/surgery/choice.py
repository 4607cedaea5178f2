"""What a sweep is, as values: which plans are scored on what, and of which model; no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from glassworks.core.errors import InvalidInput
from glassworks.core.spec import Spec
from glassworks.core.text import say
from glassworks.surgery.families import parse_families, variants_of
from glassworks.surgery.plans import Variant

SWEEP = "sweep"


class SweepChoice(Spec):
    """Which plans are scored on what, for any model."""

    kind: Literal["sweep_choice"] = "sweep_choice"
    plans: str = "painters"
    """Plan families with commas between; "painters" is the published set."""
    evals: str = "ppl"
    """Benchmarks with commas between."""
    limit: int | None = Field(default=None, ge=1)
    """Documents of each benchmark; None for all."""
    seeds: int = Field(default=10, ge=1)
    """Random orders for each start: seeds 0, 1, ..."""
    protect: tuple[int, ...] = ()
    """Layers that stay in their place."""
    stack: str | None = None
    """Of an encoder-decoder: "encoder" or "decoder"."""

    def variants(self, depth: int) -> list[Variant]:
        """All its plans for a stack of `depth` layers, each with its reason."""
        beyond = [layer for layer in self.protect if not 0 <= layer < depth]
        if beyond:
            raise InvalidInput(
                say("this model has no layer {number}", number=beyond[0]),
                right=say("layers 0 to {last}", last=depth - 1),
            )
        return variants_of(parse_families(self.plans, self.seeds), depth, frozenset(self.protect))


class SweepSpec(Spec):
    """A sweep as a value: equal specs give equal numbers.

    `model` is a name for people; `weights` is the digest of every parameter, `items` that of every scored token.
    """

    kind: Literal["sweep"] = SWEEP
    model: str
    weights: str
    dtype: str
    items: str
    choice: SweepChoice
