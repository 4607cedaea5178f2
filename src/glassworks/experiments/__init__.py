"""Papers as values: claims, trainings, measurements, figures, report; one file or folder a study."""

from glassworks.core.shelf import Shelf
from glassworks.experiments.base import Experiment
from glassworks.experiments.birth.spec import Birth
from glassworks.experiments.infini.spec import InfiniAttention
from glassworks.experiments.life.spec import Life
from glassworks.experiments.mesa.spec import MesaOptimization
from glassworks.experiments.painters.spec import Painters
from glassworks.experiments.scaling.spec import Scaling
from glassworks.experiments.tree.spec import FamilyTree

EXPERIMENTS: Shelf[Experiment] = Shelf(
    "experiment", Birth, Painters, MesaOptimization, InfiniAttention, Life, Scaling, FamilyTree
)

__all__ = [
    "EXPERIMENTS",
    "Birth",
    "Experiment",
    "FamilyTree",
    "InfiniAttention",
    "Life",
    "MesaOptimization",
    "Painters",
    "Scaling",
]
