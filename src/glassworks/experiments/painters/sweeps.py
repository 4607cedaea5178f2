"""The sweeps behind the studies: which plans on which benchmarks, run or found again, and their scores as parts.

A part is what one document (or a group of them) adds to a plan's normalised score: weight * (score - chance), over the
same sum for the whole model. Parts of a plan sum to its normalised score, those of the whole model to 1 (painters.md 3);
areas are means of parts, and a bootstrap over documents needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glassworks.anatomy import Subject
from glassworks.core.events import Event, Progressed
from glassworks.core.text import Text, say
from glassworks.evaluation import Prepared, Scores, VectorPrepared, parse_benchmarks
from glassworks.evaluation.data import needed_file
from glassworks.evidence.measurements import Label, Measurement
from glassworks.models.gallery import GALLERY, located
from glassworks.models.load import load
from glassworks.surgery.choice import SweepChoice
from glassworks.surgery.plans import Plan, Variant
from glassworks.surgery.sweep import SweepOptions, SweepOrder, run_sweep, scores_of

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.painters.spec import Painters

# Documents are dealt out in turn to at most so many parts: enough for a bootstrap, and a file stays small.
MOST_PARTS = 100
PUBLISHED = ("skip", "middle_repeat", "reverse", "random", "parallel", "looped")

Parts = NDArray[np.float64]
Labels = tuple[Label, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """A finished sweep: what was asked, and the scores of every plan by benchmark."""

    order: SweepOrder
    scores: Mapping[str, Mapping[Plan, Scores]]

    @property
    def depth(self) -> int:
        """Layers of the stack that was operated on."""
        return len(self.order.subject.anatomy.stacks[self.order.stack])


def check(painters: Painters, studies: Sequence[str]) -> None:
    """Raises NotFound for a model of the gallery that is not on this machine, UnknownName for a benchmark."""
    needed = {name: painters.decoder for name in studies} | {
        name: model
        for name, model in (("encoder", painters.encoder), ("encoder_decoder", painters.encoder_decoder))
        if name in studies
    }
    for name in dict.fromkeys(needed.values()):
        entry = None if name is None else GALLERY.get(name.lower())
        if entry is not None and located(entry) is None:
            load(entry.name)
    if "tasks" in studies:
        parse_benchmarks(task_evals(painters))


def loaded(name: str, bench: Bench, precision: str = "float32") -> Subject:
    """A model on the device of the run."""
    return load(name, device=str(bench.device), dtype=precision)


def text_evals(painters: Painters, windows: int) -> str:
    """So many windows of running text."""
    return f"{_text(painters)}:limit={windows}:window={painters.window}"


def _text(painters: Painters) -> str:
    if painters.text is None:
        return "ppl"
    given = Path(painters.text).expanduser()
    return f"ppl:text_file={given if given.is_file() else needed_file(painters.text)}"


def task_evals(painters: Painters) -> str:
    """The benchmarks of the tasks study."""
    return ",".join(f"{task}:limit={painters.questions}" for task in painters.tasks)


def published(seeds: Sequence[int]) -> str:
    """The strategies of the paper's all-in-one figure, with these random orders."""
    return ",".join(f"random:seeds={numbers(seeds)}" if name == "random" else name for name in PUBLISHED)


def numbers(values: Sequence[int | float]) -> str:
    """Numbers as a setting of a plan family takes them."""
    return f"[{','.join(f'{value:g}' for value in values)}]"


def windows_of(subject: Subject, painters: Painters, count: int, length: int | None = None) -> list[tuple[int, ...]]:
    """The token ids of windows of running text, spread evenly over it."""
    [benchmark] = parse_benchmarks(f"{_text(painters)}:limit={count}:window={length or painters.window}")
    prepared = benchmark.prepare(subject)
    assert isinstance(prepared, Prepared), "perplexity is read from log-probabilities"
    return [item.ids for item in prepared.items]


def swept(subject: Subject, choice: SweepChoice, bench: Bench) -> Found:
    """Runs a sweep in a run folder of its own, or goes on with it; an equal one is found as it is."""

    def tell(event: Event) -> None:
        if isinstance(event, Progressed):
            bench.events.emit(event.model_copy(update={"label": f"{bench.study}: {event.label}"}))

    order = SweepOrder.of(subject, choice)
    done = run_sweep(order, SweepOptions(out=bench.store.parent, listeners=(tell,)))
    return Found(order, scores_of(order, done.run))


def stacked(
    found: Found, name: str, says: Text, dims: Sequence[str], label: Callable[[Variant], Labels | None]
) -> list[Measurement]:
    """The parts of a sweep's plans as a measurement over `dims` and `part`, for each benchmark, with its scale.

    `label` places a variant, or leaves it out (None); `{benchmark}` in the name becomes the benchmark's. Beside each,
    `…_full` holds the whole model's parts and `…_scale` its score, chance and size.
    """
    made: list[Measurement] = []
    placed = [(labels, one.plan) for one in found.order.variants if (labels := label(one)) is not None]
    for prepared in found.order.prepared:
        own = name.format(benchmark=prepared.name)
        by_plan = found.scores[prepared.name]
        whole = Plan.identity(found.depth)
        parts = _Parts.of(prepared, by_plan[whole])
        made.append(_table(own, says, dims, {labels: parts.of_scores(by_plan[plan]) for labels, plan in placed}))
        made += [_full(own, parts.of_scores(by_plan[whole])), _scale(own, found, prepared, by_plan[whole])]
    return made


@dataclass(frozen=True, eq=False)
class _Parts:
    """Turns the scores of documents into parts."""

    metric: str
    chance: float
    weights: Parts
    total: float

    @classmethod
    def of(cls, prepared: Prepared | VectorPrepared, whole: Scores) -> _Parts:
        score = whole[prepared.metric]
        weights = np.ones(len(score.per_document)) if score.weights is None else score.weights
        total = float((weights * (score.per_document - prepared.chance)).sum())
        better = total if score.higher_is_better else -total
        # Where the whole model is no better than chance there is no scale.
        return cls(prepared.metric, prepared.chance, weights, total if better > 0 else float("nan"))

    def of_scores(self, scores: Scores) -> Parts:
        """One number a part; they sum to the normalised score."""
        shares = self.weights * (scores[self.metric].per_document - self.chance) / self.total
        groups = np.arange(len(shares)) % min(MOST_PARTS, len(shares))
        return np.asarray(np.bincount(groups, weights=shares), dtype=np.float64)


def _table(name: str, says: Text, dims: Sequence[str], cells: Mapping[Labels, Parts]) -> Measurement:
    coords: dict[str, Labels] = {
        dim: tuple(dict.fromkeys(labels[place] for labels in cells)) for place, dim in enumerate(dims)
    }
    for dim, labels in coords.items():
        if all(isinstance(label, int | float) for label in labels):
            coords[dim] = tuple(sorted(labels))
    count = len(next(iter(cells.values())))
    values = np.full((*(len(labels) for labels in coords.values()), count), np.nan)
    for labels, parts in cells.items():
        values[tuple(coords[dim].index(label) for dim, label in zip(dims, labels, strict=True))] = parts
    return Measurement(
        name, says, values, (*dims, "part"), coords | {"part": tuple(range(count))}, "share of the whole model's score",
        columns={
            "part": "documents dealt out in turn; the parts of a plan sum to its normalised score (1 whole model, 0 chance)",
            "affected": "M, the number of layers in the rearranged middle",
        },
    )  # fmt: skip


def _full(name: str, parts: Parts) -> Measurement:
    return Measurement(
        f"{name}_full", say("the whole model's parts, which sum to 1"), parts, ("part",),
        {"part": tuple(range(len(parts)))}, "share of the whole model's score",
    )  # fmt: skip


def _scale(name: str, found: Found, prepared: Prepared | VectorPrepared, whole: Scores) -> Measurement:
    counts = {
        "full": whole[prepared.metric].value,
        "chance": prepared.chance,
        "documents": float(prepared.documents),
        "targets": float(sum(len(item.targets) for item in prepared.items)),
        "layers": float(found.depth),
    }
    return Measurement(
        f"{name}_scale", say("what 1 and 0 stand for"), np.array(list(counts.values())), ("quantity",),
        {"quantity": tuple(counts)}, f"{prepared.name}, {prepared.metric}", tuple(prepared.notes),
        {"quantity": "score of the whole model, of chance; documents and targets scored; layers of the stack"},
    )  # fmt: skip
