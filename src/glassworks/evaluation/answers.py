"""Scores of written answers against the right ones: shared words, shared pairs of words, longest common order.

Words are runs of ASCII letters and digits in lower case, without stemming: the way ROUGE is usually computed (Lin 2004).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Overlap:
    """How much of an answer is right and how much of the right one was given, each 0..1; 0 where there is nothing."""

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def words(text: str) -> list[str]:
    """Runs of a-z and 0-9, in lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())


def word_overlap(answer: str, right: str, run: int = 1) -> Overlap:
    """Shared runs of `run` words, each counted as often as both have it: ROUGE-1 and, with run 2, ROUGE-2.

    The F1 of run 1 is the token F1 of question answering, without that measure's removal of articles.
    """
    given, wanted = (Counter(_runs(words(text), run)) for text in (answer, right))
    return _overlap((given & wanted).total(), given.total(), wanted.total())


def order_overlap(answer: str, right: str) -> Overlap:
    """The longest sequence of words that both have in this order, not necessarily side by side: ROUGE-L."""
    given, wanted = words(answer), words(right)
    # lengths[j]: the longest common sequence of the given words so far and the first j wanted ones.
    lengths = [0] * (len(wanted) + 1)
    for word in given:
        diagonal = 0
        for j, other in enumerate(wanted, 1):
            above = lengths[j]
            lengths[j] = diagonal + 1 if word == other else max(above, lengths[j - 1])
            diagonal = above
    return _overlap(lengths[-1], len(given), len(wanted))


def rouge(answer: str, right: str) -> dict[str, float]:
    """F1 of ROUGE-1, ROUGE-2 and ROUGE-L, and "overall", their geometric mean (infini.md 2)."""
    scores = {
        "rouge1": word_overlap(answer, right).f1,
        "rouge2": word_overlap(answer, right, run=2).f1,
        "rougeL": order_overlap(answer, right).f1,
    }
    product = scores["rouge1"] * scores["rouge2"] * scores["rougeL"]
    return scores | {"overall": product ** (1 / 3)}


def mean_rouge(answers: Sequence[str], right: Sequence[str]) -> dict[str, float]:
    """Means of `rouge` over answers; "overall" is the geometric mean of the three means, as tables of papers have it."""
    assert len(answers) == len(right) > 0, "there is one right answer for each"
    scores = [rouge(*pair) for pair in zip(answers, right, strict=True)]
    means = {name: sum(s[name] for s in scores) / len(scores) for name in ("rouge1", "rouge2", "rougeL")}
    return means | {"overall": (means["rouge1"] * means["rouge2"] * means["rougeL"]) ** (1 / 3)}


def _runs(found: list[str], run: int) -> list[tuple[str, ...]]:
    return [tuple(found[i : i + run]) for i in range(len(found) - run + 1)]


def _overlap(shared: int, given: int, wanted: int) -> Overlap:
    return Overlap(shared / given if given else 0.0, shared / wanted if wanted else 0.0)
