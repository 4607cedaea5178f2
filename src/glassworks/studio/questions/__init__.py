"""Everything that a page can ask the worker: each file lists its questions, and this shelf lists the files."""

from glassworks.core.shelf import Shelf
from glassworks.studio.questions import examine, forms, home, models, needs, surgery, tree, walk, words
from glassworks.studio.questions.base import Answer, Question

QUESTIONS: Shelf[Question] = Shelf(
    "question",
    *models.ALL,
    *walk.ALL,
    *words.ALL,
    *examine.ALL,
    *surgery.ALL,
    *forms.ALL,
    *tree.ALL,
    *home.ALL,
    *needs.ALL,
)

__all__ = ["QUESTIONS", "Answer", "Question"]
