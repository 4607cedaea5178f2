"""Labelled sentences in the manner of GLUE: read from their files, and graded as GLUE grades them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from glassworks.anatomy import Subject
from glassworks.core.errors import BrokenFile, UnknownName
from glassworks.core.text import say
from glassworks.evaluation.base import MetricScore
from glassworks.evaluation.data import fingerprint, needed_file, read_text
from glassworks.evaluation.items import Item
from glassworks.evaluation.spelling import Spelling
from glassworks.evidence.statistics import Interval, bootstrap_interval

GradeName = Literal["acc", "mcc"]


@dataclass(frozen=True)
class Example:
    """A sentence, or a pair of them, and the number of its label."""

    first: str
    second: str | None
    label: int


@dataclass(frozen=True, eq=False)
class LabelledTexts:
    """A classification data set: what to learn from, what to be graded on, and by which metric it is compared.

    `data` names the files with the first digits of their digests.
    """

    name: str
    metric: GradeName
    labels: tuple[str, ...]
    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    data: str

    @property
    def chance(self) -> float:
        """What always naming the commonest label of the dev part reaches; 0 for Matthews correlation."""
        counts = np.bincount([example.label for example in self.dev])
        return 0.0 if self.metric == "mcc" else float(counts.max() / counts.sum())


@dataclass(frozen=True, eq=False)
class Graded:
    """Predicted and true labels of a dev set, and the metrics of GLUE with 95 % intervals over its items (bootstrap)."""

    metric: GradeName
    predicted: Int[np.ndarray, " item"]
    labels: Int[np.ndarray, " item"]

    @property
    def accuracy(self) -> Interval:
        """Share of items named rightly."""
        return self._interval(lambda table: float(np.trace(table)))

    @property
    def matthews(self) -> Interval:
        """Matthews correlation, for any number of labels; 0 where all items are named alike."""
        return self._interval(matthews)

    @property
    def score(self) -> Interval:
        """The metric by which the data set is compared."""
        return self.matthews if self.metric == "mcc" else self.accuracy

    @property
    def correct(self) -> MetricScore:
        """Accuracy item by item, to be set against chance and the whole model."""
        return MetricScore.mean((self.predicted == self.labels).astype(np.float64), higher_is_better=True)

    def _interval(self, statistic: Callable[[NDArray[np.float64]], float]) -> Interval:
        """Every metric here is a function of the confusion table, whose cells are means over items."""
        size = int(max(self.predicted.max(), self.labels.max())) + 1
        cells = np.eye(size * size)[self.labels * size + self.predicted]
        return bootstrap_interval(lambda means: statistic(means.reshape(size, size)), list(cells.T))


def matthews(table: NDArray[np.float64]) -> float:
    """Matthews correlation of a confusion table [true, predicted] of counts or shares (Gorodkin's for many labels)."""
    true, predicted, total = table.sum(1), table.sum(0), table.sum()
    covariance = np.trace(table) * total - true @ predicted
    spread = (total**2 - true @ true) * (total**2 - predicted @ predicted)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0


def labelled_texts(name: str) -> LabelledTexts:
    """A data set by its name in GLUE; raises UnknownName, NotFound where its files are nowhere, BrokenFile.

    The official train part is what is learned from (some copies come cut in two: both parts are taken), the official dev
    part what is graded; GLUE's own test labels are not public.
    """
    if name not in GLUE:
        raise UnknownName("data set", name, GLUE)
    return GLUE[name]()


def pair_items(
    subject: Subject, examples: tuple[Example, ...], most: int, first_token: str = "auto"
) -> tuple[Item, ...]:
    """The examples as token ids, at most so many tokens each, pairs one after the other as BERT reads them.

    The longer sentence of a pair is cut first. Both sentences have the same segment embedding. Every token is read.
    """
    spelling = Spelling.of(subject, first_token)
    return tuple(_item(spelling, example, min(most, subject.anatomy.context or most)) for example in examples)


def _item(spelling: Spelling, example: Example, most: int) -> Item:
    first = spelling.plain(example.first)
    second = [] if example.second is None else spelling.plain(example.second)
    room = most - len(spelling.front) - len(spelling.back) * (1 if example.second is None else 2)
    while len(first) + len(second) > room:
        (first if len(first) >= len(second) else second).pop()
    ids = (*spelling.front, *first, *spelling.back)
    if example.second is not None:
        ids = (*ids, *second, *spelling.back)
    return Item(ids, tuple(range(len(ids))), ids)


def _cola() -> LabelledTexts:
    def example(cells: list[str]) -> Example:
        return Example(cells[3], None, int(cells[1]))

    return _read(
        "cola", "mcc", ("unacceptable", "acceptable"), ("CoLA-train.tsv", "CoLA-val.tsv"), "CoLA-dev.tsv", example
    )


def _pairs(name: str, labels: Mapping[str, int]) -> LabelledTexts:
    def example(cells: list[str]) -> Example:
        return Example(cells[1], cells[2], labels[cells[3]])

    stem = name.upper()
    return _read(name, "acc", tuple(labels), (f"{stem}-train.tsv", f"{stem}-val.tsv"), f"{stem}-dev.tsv", example)


def _sentiment() -> LabelledTexts:
    def example(cells: list[str]) -> Example:
        label, _, sentence = cells[0].partition(" ")
        return Example(sentence, None, int(label))

    return _read("sst2", "acc", ("negative", "positive"), ("stsa.binary.train",), "stsa.binary.dev", example)


GLUE: Mapping[str, Callable[[], LabelledTexts]] = {
    "cola": _cola,
    "rte": partial(_pairs, "rte", {"entailment": 0, "not_entailment": 1}),
    "wnli": partial(_pairs, "wnli", {"0": 0, "1": 1}),
    "sst2": _sentiment,
}
"""CoLA, RTE and WNLI from their TSV files, SST-2 (whole sentences) from `stsa.binary.*`, by their names in GLUE."""


def _read(
    name: str,
    metric: GradeName,
    labels: tuple[str, ...],
    train: tuple[str, ...],
    dev: str,
    example: Callable[[list[str]], Example],
) -> LabelledTexts:
    paths = [needed_file(file) for file in (*train, dev)]
    parts = [tuple(_examples(path, example)) for path in paths]
    learned = tuple(one for part in parts[:-1] for one in part)
    return LabelledTexts(name, metric, labels, learned, parts[-1], ", ".join(fingerprint(path) for path in paths))


def _examples(path: Path, example: Callable[[list[str]], Example]) -> Iterator[Example]:
    """The examples of a file; raises BrokenFile naming the line that is none."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        cells = line.split("\t")
        # Some of these files begin with the names of their columns.
        if not line.strip() or cells[0] == "index":
            continue
        try:
            yield example(cells)
        except (IndexError, KeyError, ValueError):
            raise BrokenFile(
                say("line {number} of {path} is no labelled sentence", number=number, path=str(path))
            ) from None
