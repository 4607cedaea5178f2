"""Question: what a page can ask, as a frozen spec; `answer` runs in the worker, at a desk that keeps models open."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from glassworks.core.spec import Spec

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk

Answer = dict[str, Any]
"""Plain data: names to texts, numbers, lists, tables; numpy arrays travel as bytes beside it."""
Tell = Callable[[str, float, float], None]
"""Progress: what is being done, how much is done, of how much."""


class Question(Spec):
    """Something a page wants to know. Importing it stays cheap: torch and models load inside `answer`."""

    seconds: ClassVar[float] = 60.0
    """Time after which the answer is given up; the person is told so."""

    @abstractmethod
    def answer(self, desk: Desk) -> Answer:
        """What is shown; GlassworksError where the question cannot be answered."""
