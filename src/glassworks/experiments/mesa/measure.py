"""What each study of the mesa reproduction measures once its models are trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa import measure_linear, measure_raw
from glassworks.experiments.mesa.losses import Workbench

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.mesa.spec import MesaOptimization

_LINEAR = {
    "one-layer": measure_linear.one_layer,
    "deep": measure_linear.deep,
    "contracting": measure_linear.contracting,
    "fixed-teacher": measure_linear.fixed_teacher,
}
_RAW = {
    "softmax": measure_raw.softmax,
    "binding": measure_raw.binding_of_tokens,
    "linearise": measure_raw.linearised,
    "partial": measure_raw.partial,
    "nonlinear": measure_raw.nonlinear,
}


def measure(study: MesaOptimization, name: str, bench: Bench) -> Sequence[Measurement]:
    """The measurements of one study."""
    match name:
        case "few-shot":
            from glassworks.experiments.mesa import few_shot

            return few_shot.measure(study, bench)
        case "language":
            from glassworks.experiments.mesa import language

            return language.measure(study, bench)
        case _:
            return (_LINEAR | _RAW)[name](Workbench(study, bench))
