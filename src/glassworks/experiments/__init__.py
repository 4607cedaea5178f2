"""Papers as values: claims, trainings, measurements, figures, report; one file or folder a study."""

from glassworks.core.shelf import Shelf
from glassworks.experiments.base import Experiment
from glassworks.experiments.birth.spec import Birth
from glassworks.experiments.infini.spec import InfiniAttention
from glassworks.experiments.mesa.spec import MesaOptimization
from glassworks.experiments.painters.spec import Painters

EXPERIMENTS: Shelf[Experiment] = Shelf("experiment", Birth, Painters, MesaOptimization, InfiniAttention)

__all__ = ["EXPERIMENTS", "Birth", "Experiment", "InfiniAttention", "MesaOptimization", "Painters"]
