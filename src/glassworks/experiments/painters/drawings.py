"""The figures of Painters, drawn from its measurements; each measurement that is missing leaves its figure out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from glassworks.evidence.claims import Evidence
from glassworks.experiments.painters import drawings_beyond as beyond
from glassworks.experiments.painters import drawings_published as published
from glassworks.experiments.painters.tables import benchmarks
from glassworks.figures import Figure

Painter = Callable[[Evidence], Sequence[Figure]]

# What each needs, in the order of the report.
_PAINTERS: tuple[tuple[tuple[str, ...], Painter], ...] = (
    (("single",), published.single),
    (("similarity",), published.similarity),
    (("sinks",), published.sinks),
    (("strategies", "strategies_random"), published.each_strategy),
    (("strategies", "strategies_random"), published.all_in_one),
    (("strategies", "strategies_random"), published.equal_effort),
    (("loops",), published.loop_map),
    (("strategies",), beyond.variants),
    (("loops", "scaled"), beyond.rescaling),
    (("order", "inversions"), beyond.disorder),
    (("strategies", "strategies_random", "protected", "protected_random"), beyond.protected),
    (("dropped", "repeated"), beyond.blocks),
    (("cache", "cache_full"), beyond.caches),
    (("encoder", "encoder_random", "encoder_loops"), beyond.encoder),
    (("classifier", "classifier_chance"), beyond.classifiers),
    (("healing",), beyond.healing),
)


def draw(evidence: Evidence) -> list[Figure]:
    """Every figure whose measurements are at hand, in the order of the report."""
    drawn = [
        figure for needs, paint in _PAINTERS if all(name in evidence for name in needs) for figure in paint(evidence)
    ]
    if benchmarks(evidence):
        drawn += published.tasks(evidence)
    if any(name.startswith("stack_") for name in evidence.measurements):
        drawn += beyond.stacks(evidence)
    return drawn
