"""Papers as values: claims, trainings, measurements and figures of each reproduction; this page needs no torch."""

from glassworks.core.shelf import Shelf
from glassworks.experiments.base import Experiment
from glassworks.experiments.birth.spec import Birth

EXPERIMENTS: Shelf[Experiment] = Shelf("experiment", Birth)

__all__ = ["EXPERIMENTS", "Birth", "Experiment"]
