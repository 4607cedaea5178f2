"""What each study of Infini-attention measures once its models are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini import capacity, measure_books, measure_language, measure_passkey, measure_sizes

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.infini.spec import InfiniAttention


def measure(study: InfiniAttention, name: str, bench: Bench) -> Sequence[Measurement]:
    """The measurements of one study."""
    match name:
        case "memory-table":
            return measure_sizes.measure(study)
        case "language":
            return measure_language.language(study, bench)
        case "gates":
            return measure_language.gates(study, bench)
        case "passkey":
            return measure_passkey.measure(study, bench)
        case "books":
            return measure_books.measure(study, bench)
        case _:
            return capacity.measure(study)
