"""The shelf of executors."""

from __future__ import annotations

from glassworks.core.shelf import Shelf
from glassworks.executors.base import Executor
from glassworks.executors.here import Here
from glassworks.executors.local import Local
from glassworks.executors.ray import Ray
from glassworks.executors.slurm import Slurm

EXECUTORS: Shelf[Executor] = Shelf("executor", Here, Local, Slurm, Ray)
