"""What each study of scaling measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glassworks.evidence.measurements import Measurement
from glassworks.experiments.scaling import measure_compression, measure_families, measure_published

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.scaling.spec import Scaling


def measure(study: Scaling, name: str, bench: Bench) -> Sequence[Measurement]:
    """The measurements of one study."""
    match name:
        case "published":
            return measure_published.measure()
        case "families":
            return measure_families.measure(study, bench)
        case _:
            return measure_compression.measure(study, bench)
