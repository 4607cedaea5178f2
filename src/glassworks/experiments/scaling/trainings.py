"""The trainings of the scaling study: small decoders of bytes over sizes and budgets of compute (lifecycle.md 5, 7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glassworks.models.spec import TransformerSpec
from glassworks.tasks import TextWindows
from glassworks.training.schedules import ClipNorm, WarmupCosine
from glassworks.training.spec import AdamW, TrainingSpec

if TYPE_CHECKING:
    from glassworks.experiments.scaling.spec import Scaling, Shape

BYTES = 256
DECAY = 0.1
# The width at which the highest learning rate is `rate`; wider models learn more slowly.
STANDARD_WIDTH = 32
# Multiply-adds of forward and backward pass per parameter and token (lifecycle.md 5).
FLOP_PER_PARAMETER_AND_TOKEN = 6


@dataclass(frozen=True)
class Cell:
    """One model of the grid: which budget, which of its shapes."""

    budget: int
    shape: int

    @property
    def label(self) -> str:
        """The name of its trainings, before the seed."""
        return f"{self.budget}-{self.shape}"


def cells(study: Scaling) -> tuple[Cell, ...]:
    """The grid: each budget is spent on `sizes_each` shapes in a row, beginning one further than the budget before.

    Budgets grow by a factor and sizes by its root, so that cells along a diagonal read equally many bytes.
    """
    return tuple(
        Cell(budget, budget + place) for budget in range(len(study.budgets)) for place in range(study.sizes_each)
    )


def trainings(study: Scaling, name: str) -> Mapping[str, TrainingSpec]:
    """The trainings of a study by label, "budget-shape/seed"; both studies that train use the same ones.

    The largest budget's middle size comes first: it is the run's main model.
    """
    if name not in ("families", "compression"):
        return {}
    middle = study.sizes_each // 2
    order = sorted(cells(study), key=lambda cell: (-cell.budget, abs(cell.shape - cell.budget - middle)))
    return {f"{cell.label}/{seed}": training(study, cell, seed) for cell in order for seed in seeds_of(study, cell)}


def seeds_of(study: Scaling, cell: Cell) -> tuple[int, ...]:
    """The seeds of a cell: dear budgets are repeated less often."""
    return study.seeds[: study.repeats[cell.budget]]


def parameters_of(shape: Shape) -> int:
    """N: parameters that are multiplied with, which leaves out the table of embeddings; gains of norms included."""
    width, depth, hidden = shape.width, shape.depth, shape.hidden
    layer = 4 * width * width + 3 * width * hidden + 2 * width
    return depth * layer + width + BYTES * width


def steps_of(study: Scaling, cell: Cell) -> int:
    """Steps that spend the cell's budget, counted as six operations per parameter and byte."""
    per_step = FLOP_PER_PARAMETER_AND_TOKEN * parameters_of(study.shapes[cell.shape]) * study.batch * study.length
    return max(2, round(study.budgets[cell.budget] / per_step))


def bytes_of(study: Scaling, cell: Cell) -> int:
    """D: bytes that a model of the cell reads while it is trained, repeated ones counted each time."""
    return steps_of(study, cell) * study.batch * study.length


def model_of(study: Scaling, shape: Shape) -> TransformerSpec:
    """A decoder of bytes with LLaMA's choices (lifecycle.md 3)."""
    return TransformerSpec(
        vocabulary=BYTES, width=shape.width, depth=shape.depth, heads=shape.heads, context=study.length, norm="rms",
        feedforward=("swiglu",), feedforward_width=shape.hidden, positions="rotary", embedding_scale=0.3,
    )  # fmt: skip


def rate_of(study: Scaling, shape: Shape) -> float:
    """The highest learning rate of a shape: fixed by its width alone, before the runs."""
    return study.rate * (STANDARD_WIDTH / shape.width) ** study.rate_power


def training(study: Scaling, cell: Cell, seed: int) -> TrainingSpec:
    """One training: the cosine ends with the last step, whatever the number of steps (lifecycle.md 5)."""
    shape, steps = study.shapes[cell.shape], steps_of(study, cell)
    rate = rate_of(study, shape)
    return TrainingSpec(
        task=TextWindows.of(study.text_path(), length=study.length), model=model_of(study, shape),
        optimiser=AdamW(rate=rate, betas=(0.9, 0.95), weight_decay=DECAY),
        schedule=WarmupCosine(warmup=max(1, steps // 20), until=steps, final=rate / 10), clip=ClipNorm(limit=1.0),
        steps=steps, batch=study.batch, probe_every=max(1, steps // 50), precision="float32", seed=seed,
    )  # fmt: skip
