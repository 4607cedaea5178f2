"""Questions of the page."""

from glassworks.studio.questions.base import Question

ALL: tuple[type[Question], ...] = ()
