"""What a person chooses in the playground. Importing this file stays cheap: the web process reads addresses with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import say

ActivationName = Literal["relu", "tanh", "sigmoid", "linear", "gelu", "silu", "leaky_relu", "sine", "step"]
Regularization = Literal["none", "L1", "L2"]
Optimizer = Literal["sgd", "momentum", "adam"]
Feature = Literal["x", "y", "xSquared", "ySquared", "xTimesY", "sinX", "sinY", "cosX", "cosY"]
Dataset = Literal["circle", "xor", "gauss", "spiral", "moons", "curve", "rings", "blobs", "arms", "own"]
RegressionDataset = Literal["reg-plane", "reg-gauss", "own"]
Curve = Literal["line", "parabola", "cubic", "sine", "absolute"]

FEATURES: tuple[Feature, ...] = ("x", "y", "xSquared", "ySquared", "xTimesY", "sinX", "sinY", "cosX", "cosY")
# Sets whose number of classes is a choice.
MANY_CLASSES: frozenset[Dataset] = frozenset({"rings", "blobs", "arms"})
MOST_CLASSES = 5
MOST_POINTS = 5000
MOST_LAYERS, MOST_NEURONS = 12, 32
MOST_BATCH = 1200
MOST_NOISE = 80
# Beyond it a coordinate or value is no measurement but a slip; squared it still is far from overflow.
LARGEST_NUMBER = 1e9

Coordinate = Annotated[float, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
Rate = Annotated[float, Field(ge=0, le=1000)]


class PlaygroundSettings(Spec):
    """Everything that fixes the numbers of one network; with the same settings the same epochs follow."""

    kind: Literal["playground"] = "playground"
    problem: Literal["classification", "regression"] = "classification"
    dataset: Dataset = "circle"
    regression_dataset: RegressionDataset = "reg-plane"
    curve: Curve = "parabola"
    """Of the set `curve`: the line above which a point is positive."""
    classes: Annotated[int, Field(ge=2, le=MOST_CLASSES)] = 3
    """Of rings, blobs and arms."""
    points: Annotated[tuple[tuple[Coordinate, Coordinate, Coordinate], ...], Field(max_length=MOST_POINTS)] = ()
    """Own points: x1, x2 and the label, -1 and 1 or class numbers; in regression any number."""
    noise: Annotated[float, Field(ge=0, le=MOST_NOISE)] = 0
    """Per cent."""
    train_percent: Annotated[float, Field(ge=1, le=99)] = 50
    batch_size: Annotated[int, Field(ge=1, le=MOST_BATCH)] = 10
    features: Annotated[tuple[Feature, ...], Field(max_length=len(FEATURES))] = ("x", "y")
    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_NEURONS)], ...], Field(max_length=MOST_LAYERS)] = (4, 2)
    """Neurons by hidden layer."""
    activation: ActivationName = "tanh"
    activations: Annotated[tuple[ActivationName | None, ...], Field(max_length=MOST_LAYERS)] = ()
    """By hidden layer, where one differs from `activation`."""
    regularization: Regularization = "none"
    regularization_rate: Rate = 0
    learning_rate: Rate = 0.03
    optimizer: Optimizer = "sgd"
    dropout: Annotated[float, Field(ge=0, le=0.9)] = 0
    """Share of hidden outputs that is set to zero at each pass of training."""
    seed: Annotated[str, Field(max_length=200)] = ""
    """Data and first weights come from this text."""
    draw: Annotated[int, Field(ge=0, le=999_999)] = 0
    """Networks drawn from this seed before this one."""
    init_zero: bool = False

    # What makes other points; everything else makes another network on the same ones.
    of_data: ClassVar[frozenset[str]] = frozenset(
        {"problem", "dataset", "regression_dataset", "curve", "classes", "points", "noise", "train_percent", "seed"}
    )
    # What a running network takes without starting anew.
    live: ClassVar[frozenset[str]] = frozenset({"learning_rate", "dropout"})

    @field_validator("features")
    @classmethod
    def _in_order(cls, found: Sequence[Feature]) -> tuple[Feature, ...]:
        return tuple(name for name in FEATURES if name in found)

    @model_validator(mode="after")
    def _classes_of_own_points(self) -> PlaygroundSettings:
        if self.has_own_points and self.problem == "classification" and not _are_labels({p[2] for p in self.points}):
            raise ImpossibleValue(
                say("labels of own points name no classes"),
                say("-1 and 1, or class numbers from 0 to {most}", most=MOST_CLASSES - 1),
            )
        return self

    @property
    def has_own_points(self) -> bool:
        """Whether the points are those that the person gave."""
        return (self.dataset if self.problem == "classification" else self.regression_dataset) == "own"

    @property
    def outputs(self) -> int:
        """1 where a number is predicted or a sign tells two classes apart; the number of classes otherwise."""
        if self.problem == "regression":
            return 1
        count = _classes_in({p[2] for p in self.points}) if self.has_own_points else self.classes
        return count if count > 2 and (self.has_own_points or self.dataset in MANY_CLASSES) else 1

    @property
    def hidden(self) -> tuple[ActivationName, ...]:
        """The activation of each hidden layer."""
        own = (*self.activations, *([None] * len(self.shape)))
        return tuple(own[layer] or self.activation for layer in range(len(self.shape)))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, neurons by hidden layer, outputs."""
        return (len(self.features), *self.shape, self.outputs)

    @property
    def weight_count(self) -> int:
        """Weights without biases."""
        return sum(a * b for a, b in zip(self.sizes, self.sizes[1:], strict=False))


def _are_labels(labels: set[float]) -> bool:
    return labels <= {-1.0, 1.0} or all(label in range(MOST_CLASSES) for label in labels)


def _classes_in(labels: set[float]) -> int:
    if labels <= {-1.0, 1.0}:
        return 2
    return max(2, int(max(labels)) + 1)
