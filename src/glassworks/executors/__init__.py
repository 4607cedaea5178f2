"""Where jobs are done: in this process, by processes of this machine, by a cluster; one value, one call. No torch."""

from glassworks.executors.base import WORK, Executor
from glassworks.executors.here import Here
from glassworks.executors.jobs import Finished, Job
from glassworks.executors.local import Local
from glassworks.executors.ray import Ray
from glassworks.executors.reading import executor_of
from glassworks.executors.shelf import EXECUTORS
from glassworks.executors.slurm import Slurm

__all__ = ["EXECUTORS", "WORK", "Executor", "Finished", "Here", "Job", "Local", "Ray", "Slurm", "executor_of"]
