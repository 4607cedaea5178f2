"""Linear probes: what can be read off the stream by a linear map, layer by layer, on documents it was not trained on.

Multinomial logistic regression on standardised states, with a small L2 penalty, by L-BFGS. The split is by document;
beside the accuracy stand the accuracy of always saying the commonest class (chance) and that of a control task, random
classes for each type of token (each document, where documents are labelled): accuracy less control is the
selectivity (Hewitt and Liang 2019). Intervals are over the held-out documents.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval, interval_over_seeds, wilson_interval
from glassworks.figures import Axes, Figure, Heading, Panel, Series, panels
from glassworks.instruments.base import Instrument, Stack, gather, stacked_heading, stacked_name, stream_sites, text_of
from glassworks.instruments.probe_labels import (
    TOKEN_TASKS,
    TokenTask,
    classes_of,
    control_labels,
    read_labelled,
    task_name,
    token_labels,
)
from glassworks.instruments.states import StateGatherer, digest_of, held_out_documents
from glassworks.tensors.seeds import Seed

QUANTITIES = ("accuracy", "control", "selectivity", "chance")
SPREAD = ("value", "low", "high")
HELD_OUT = 0.3
# On standardised states and the mean loss; weak, for the split tells what is overfitted.
PENALTY = 1e-2
# L-BFGS is near its end by then on all tasks here; more moves no accuracy by a hundredth.
STEPS = 40
FILE = "file"


class LinearProbe(Instrument):
    """Accuracy of linear probes on the stream after each layer, with control task and chance, on held-out documents."""

    kind: Literal["linear_probe"] = "linear_probe"
    stack: Stack = ""
    """Which stack of an encoder-decoder: its decoder's, or "encoder"."""
    tasks: tuple[TokenTask, ...] = TOKEN_TASKS
    """What is asked of each token; tasks with one class only are left out."""
    file: str = ""
    """A file of labelled texts (TEXT<TAB>LABEL, or .jsonl); they are probed instead of the text given."""
    represent: Literal["mean", "last"] = "mean"
    """What stands for a labelled text: the mean of its tokens' states, or its last token's."""
    seed: int = 0
    """Which documents are held out, and the classes of the control task."""
    tokens: int = Field(default=4096, ge=2)
    """At most this many tokens are probed, whole documents in the order given."""
    texts: int = Field(default=1000, ge=4)
    """At most this many labelled texts, drawn by the seed."""

    def sites(self, anatomy: Anatomy) -> tuple[Site, ...]:
        """The stream before layer 0 and after each layer; none of the shared pass where a file is probed."""
        return () if self.file else stream_sites(anatomy, self.stack)

    def fold(self, subject: Subject) -> "_Tokens | None":
        """An empty gathering of tokens; None where a file is probed."""
        return None if self.file else _Tokens(self, subject)

    def read(self, subject: Subject, batch: TokenBatch, activations: Activations | None = None) -> Measurement:
        """Accuracies by task, state and quantity; raises InvalidInput where no document can be held out."""
        return self._file_measurement(subject) if self.file else super().read(subject, batch, activations)

    def draw(self, measurement: Measurement) -> Figure:
        """A panel for each task: accuracy and control with intervals, and chance."""
        heading = Heading(
            "linear-probe",
            say("What a linear probe reads off each layer"),
            say(
                "Accuracy on held-out documents of a probe after each layer, beside the same probe on random classes (control task) and the commonest class (chance), with 95 % intervals over documents. What can be read is there; whether the model uses it, a probe does not tell."
            ),
        )
        layers = measurement.along("state")
        plots: list[Panel] = []
        for task in measurement.coords["task"]:
            part = measurement.at(task=task)
            series: list[Series] = []
            for style, (name, words) in enumerate(
                (("accuracy", say("accuracy")), ("control", say("control task")), ("chance", say("chance")))
            ):
                mean, low, high = (part.at(quantity=name, spread=spread).values for spread in SPREAD)
                series.append(Series(words, layers, mean, low, high, style=style))
            plots.append(Panel(task_name(str(task)), tuple(series)))
        axes = Axes(say("after layer (−1: the embedding)"), say("accuracy"), y_range=(0.0, 1.02))
        return panels(
            stacked_heading(heading, self.stack),
            plots,
            axes,
            columns=min(2, len(plots)),
            height=220 if len(plots) > 1 else 320,
        )

    def _file_measurement(self, subject: Subject) -> Measurement:
        seed = Seed(self.seed)
        found = read_labelled(Path(self.file), self.texts, seed.child("texts"))
        batch = subject.batch(list(found.texts))
        sites = stream_sites(subject.anatomy, self.stack)
        documents = _Documents(sites, self.represent, self.stack)
        gather(documents, sites, subject, batch)
        labels = torch.tensor(found.labels)
        everyone = torch.arange(len(labels))
        control = control_labels(labels, everyone, seed.child("control", FILE))
        held = held_out_documents(documents.digests, seed.child("held out"), HELD_OUT)
        questions = Questions(labels, control, everyone, held)
        if not questions.can_be_asked:
            raise InvalidInput(say("the labelled texts have fewer than two labels"), right=say("more texts"))
        results = {FILE: probed(documents.states(), questions)}
        return measured(results, (int((~held).sum()), int(held.sum())), self.stack)


def measured(results: Mapping[str, NDArray[np.float64]], documents: tuple[int, int], stack: Stack) -> Measurement:
    """The results by task as one measurement; `documents` counts those of the training and those held out."""
    values = np.stack(list(results.values()))
    return Measurement(
        name=stacked_name("linear_probe", stack),
        says=say("share of held-out cases that a linear probe names rightly, after each layer"),
        values=values,
        dims=("task", "state", "quantity", "spread"),
        coords={
            "task": tuple(results), "state": tuple(range(-1, values.shape[1] - 1)), "quantity": QUANTITIES,
            "spread": SPREAD,
        },
        unit="share of cases",
        caveats=(
            say("A probe shows what can be read off a layer, not what the model uses."),
            say("The probes were trained on {trained} documents and judged on {held} others.", trained=documents[0], held=documents[1]),
        ),
        columns={
            "state": "after this layer; -1 is the embedding",
            "quantity": "accuracy; accuracy on the control task of random classes; accuracy less control; accuracy of the commonest class",
            "spread": "mean over held-out documents and its 95 % interval",
        },
    )  # fmt: skip


class _Tokens:
    """Gathers the states of tokens, then probes them."""

    def __init__(self, settings: LinearProbe, subject: Subject) -> None:
        self._settings, self._subject = settings, subject
        self._gathered = StateGatherer(settings.sites(subject.anatomy), settings.tokens, settings.stack)

    def add(self, batch: TokenBatch, seen: Activations) -> None:
        """Takes in the documents of a piece."""
        self._gathered.add(batch, seen)

    def measurement(self) -> Measurement:
        """Accuracies by task, state and quantity."""
        found, seed = self._gathered.states(), Seed(self._settings.seed)
        held = held_out_documents(found.digests, seed.child("held out"), HELD_OUT)
        results: dict[str, NDArray[np.float64]] = {}
        for task in self._settings.tasks:
            labels = token_labels(self._subject, task, found)
            if not bool((labels >= 0).any()):
                continue
            control = control_labels(labels, found.ids, seed.child("control", task))
            questions = Questions(labels, control, found.document, held[found.document])
            if questions.can_be_asked:
                results[task] = probed(found.states, questions)
        if not results:
            raise InvalidInput(
                say("nothing can be asked of these tokens: every task has one class only"),
                right=say("more or longer documents"),
            )
        return measured(results, (int((~held).sum()), int(held.sum())), self._settings.stack)


@dataclass(frozen=True, eq=False)
class Questions:
    """The classes of all cases and their control, the document of each, and which are held out; -1 is not asked."""

    labels: Int[Tensor, " case"]
    control: Int[Tensor, " case"]
    document: Int[Tensor, " case"]
    held: Bool[Tensor, " case"]

    @property
    def asked(self) -> Bool[Tensor, " case"]:
        """Where there is a class."""
        return self.labels >= 0

    @property
    def can_be_asked(self) -> bool:
        """Whether the training has two classes at least, and something is held out."""
        return len(self.labels[self.asked & ~self.held].unique()) > 1 and bool((self.asked & self.held).any())


def probed(
    states: Float[Tensor, "state case width"], questions: Questions
) -> Float[np.ndarray, "state quantity spread"]:
    """Accuracy, control, selectivity and chance of every state, each with its interval over documents."""
    asked = questions.asked
    training, test = asked & ~questions.held, asked & questions.held
    count = classes_of([questions.labels, questions.control])
    documents = questions.document[test]
    commonest = questions.labels[training].mode().values
    guessed = (questions.labels[test] == commonest).double()
    values = np.full((len(states), len(QUANTITIES), len(SPREAD)), np.nan)
    for row, state in enumerate(states):
        mean, scale = state[training].mean(0), state[training].std(0).clamp_min(1e-6)
        inputs, others = ((state[part] - mean) / scale for part in (training, test))
        right: list[Tensor] = []
        for labels in (questions.labels, questions.control):
            weights = _fitted(inputs, labels[training], count)
            right.append(((others @ weights[:-1] + weights[-1]).argmax(-1) == labels[test]).double())
        for column, hits in enumerate((*right, right[0] - right[1], guessed)):
            interval = _interval(hits, documents)
            values[row, column] = (interval.mean, interval.low, interval.high)
    return values


def _fitted(
    inputs: Float[Tensor, "case width"], labels: Int[Tensor, " case"], classes: int
) -> Float[Tensor, "weight class"]:
    """Weights of the logistic regression, the offsets in the last row."""
    weights = torch.zeros(inputs.shape[1] + 1, classes, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        said = inputs @ weights[:-1] + weights[-1]
        value = torch.nn.functional.cross_entropy(said, labels) + PENALTY / 2 * weights[:-1].square().sum()
        (weights.grad,) = torch.autograd.grad(value, [weights])
        return value

    with torch.enable_grad():
        solver.step(loss)  # pyright: ignore[reportArgumentType] - torch's stub wants a float where its code takes the tensor
    return weights.detach()


def _interval(hits: Float[Tensor, " case"], documents: Int[Tensor, " case"]) -> Interval:
    """Over documents; of single cases (a hit or none) Wilson's, which is honest near 0 and 1."""
    numbers = documents.unique()
    means = np.array([float(hits[documents == number].mean()) for number in numbers])
    if len(numbers) == len(documents) and bool((hits >= 0).all()):
        return wilson_interval(int(means.sum()), len(means))
    return interval_over_seeds(means)


class _Documents:
    """One state for each document and place."""

    def __init__(self, sites: tuple[Site, ...], represent: Literal["mean", "last"], stack: Stack) -> None:
        self._sites, self._represent = sites, represent
        self._stack: Stack = stack
        self._rows: list[Tensor] = []
        self.digests: list[str] = []

    def add(self, batch: TokenBatch, seen: Activations) -> None:
        """Takes in the documents of a piece."""
        batch = text_of(batch, self._stack)
        for row, real in enumerate(batch.real):
            self.digests.append(digest_of(batch.ids[row][real].cpu()))
            kept = torch.stack([seen[s.name][row][real.to(seen[s.name].device)].float().cpu() for s in self._sites])
            self._rows.append(kept[:, -1] if self._represent == "last" else kept.mean(1))

    def states(self) -> Float[Tensor, "state case width"]:
        """All of them."""
        return torch.stack(self._rows, 1)
