"""Worlds with known answers, from which models are trained and judged."""

from typing import Annotated

from pydantic import Field

from glassworks.core.shelf import Shelf
from glassworks.tasks.base import Batch, Task, TokenTask, VectorBatch, VectorTask
from glassworks.tasks.bigram import Bigram, BigramBatch
from glassworks.tasks.dynamics import Dynamics, DynamicsBatch
from glassworks.tasks.facts import Facts
from glassworks.tasks.haystacks import Haystacks, HaystackTask
from glassworks.tasks.passkey import Passkey
from glassworks.tasks.regression import FewShot, FewShotBatch
from glassworks.tasks.text import TextWindows

TASKS: Shelf[Task] = Shelf("task", Bigram, Dynamics, Facts, FewShot, Passkey, TextWindows)
AnyTask = Annotated[Bigram | Dynamics | Facts | FewShot | Passkey | TextWindows, Field(discriminator="kind")]

__all__ = [
    "TASKS",
    "AnyTask",
    "Batch",
    "Bigram",
    "BigramBatch",
    "Dynamics",
    "DynamicsBatch",
    "Facts",
    "FewShot",
    "FewShotBatch",
    "HaystackTask",
    "Haystacks",
    "Passkey",
    "Task",
    "TextWindows",
    "TokenTask",
    "VectorBatch",
    "VectorTask",
]
