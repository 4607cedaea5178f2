"""Worlds with known answers, from which models are trained and judged."""

from typing import Annotated

from pydantic import Field

from glassworks.core.shelf import Shelf
from glassworks.tasks.base import Batch, Task, TokenTask, VectorBatch, VectorTask
from glassworks.tasks.bigram import Bigram, BigramBatch
from glassworks.tasks.dynamics import Dynamics, DynamicsBatch
from glassworks.tasks.facts import Facts
from glassworks.tasks.haystacks import Haystacks, HaystackTask
from glassworks.tasks.pairs import Pairs
from glassworks.tasks.passkey import Passkey
from glassworks.tasks.regression import FewShot, FewShotBatch
from glassworks.tasks.sentences import Sentences
from glassworks.tasks.text import TextWindows
from glassworks.tasks.windows_asked import Continuations, MaskedText

TASKS: Shelf[Task] = Shelf(
    "task", Bigram, Continuations, Dynamics, Facts, FewShot, MaskedText, Pairs, Passkey, Sentences, TextWindows
)
AnyTask = Annotated[
    Bigram | Continuations | Dynamics | Facts | FewShot | MaskedText | Pairs | Passkey | Sentences | TextWindows,
    Field(discriminator="kind"),
]

__all__ = [
    "TASKS",
    "AnyTask",
    "Batch",
    "Bigram",
    "BigramBatch",
    "Continuations",
    "Dynamics",
    "DynamicsBatch",
    "Facts",
    "FewShot",
    "FewShotBatch",
    "HaystackTask",
    "Haystacks",
    "MaskedText",
    "Pairs",
    "Passkey",
    "Sentences",
    "Task",
    "TextWindows",
    "TokenTask",
    "VectorBatch",
    "VectorTask",
]
