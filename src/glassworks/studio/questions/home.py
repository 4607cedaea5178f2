"""One sentence at a glance, for the home page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from glassworks.studio.questions.base import Answer, Question

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk


class Glance(Question):
    """What would come next after a sentence, and the head that looked at what followed the last time."""

    kind: Literal["glance"] = "glance"
    model: str
    text: str = Field(max_length=400)

    def answer(self, desk: Desk) -> Answer:
        """`tokens`, `next`, `head` with its `map`."""
        from glassworks.studio.home.glance import glance

        return glance(desk.subject(self.model), self.text)


ALL: tuple[type[Question], ...] = (Glance,)
