"""Worlds with known answers, from which models are trained and judged."""

from glassworks.core.shelf import Shelf
from glassworks.tasks.base import Batch, Task
from glassworks.tasks.bigram import Bigram, BigramBatch

TASKS: Shelf[Task] = Shelf("task", Bigram)
AnyTask = Bigram

__all__ = ["TASKS", "AnyTask", "Batch", "Bigram", "BigramBatch", "Task"]
