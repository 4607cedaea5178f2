"""Losses of all models on the same held-out windows, and what is fitted to them (lifecycle.md 5, 7)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from glassworks.core.events import Progressed
from glassworks.core.text import say
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.scaling.fitting import Parabola, Points, fit_law, fit_parabola, resampled_laws
from glassworks.experiments.scaling.laws import BITS_PER_BYTE, NUMBERS, Law
from glassworks.experiments.scaling.trainings import Cell, bytes_of, cells, parameters_of, seeds_of, steps_of
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.quiet import quiet_bars
from glassworks.tasks import Batch, TextWindows
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.scaling.spec import Scaling, Shape
    from glassworks.training.loop import Trained

FIT = "fit"
GRID_NUMBERS = ("parameters", "bytes", "steps", "epochs", "operations", "counted", "seconds")
LAW_NUMBERS = (*NUMBERS, "a", "b")
OPTIMUM_NUMBERS = ("parameters", "bytes", "loss", "curvature")
# Windows that are read at once.
SIDE_BY_SIDE = 64
# A law has five numbers: fewer trainings cannot hold it.
FEWEST_POINTS = 6
# Times the largest size, or a part of the smallest: a lowest point beyond is no finding about sizes.
BEYOND = 100.0


def measure(study: Scaling, bench: Bench) -> Sequence[Measurement]:
    """Losses, what each cell costs, and the fits."""
    losses = _losses(study, bench)
    grid = _grid(study, bench)
    return [losses, grid, *_fits(study, losses.values, grid.values)]


def load_model(trained: Trained, device: torch.device) -> GlassworksForCausalLM:
    """The decoder that a finished training left, in evaluation mode."""
    with quiet_bars():
        model = GlassworksForCausalLM.from_pretrained(trained.path)
    model.eval()
    nn.Module.to(model, device)
    return model


def held_out(task: TextWindows, count: int) -> Batch:
    """Windows of the held-out tenth, the same for all models."""
    return task.replaced_all({"split": "held_out"}).sample(count, Seed(0).child("held out"))


@torch.no_grad()
def bits_per_byte(model: GlassworksForCausalLM, windows: Batch) -> float:
    """Mean bits of every byte of the windows but the first, each given those before it in its window."""
    total = 0.0
    pairs = zip(windows.inputs.split(SIDE_BY_SIDE), windows.targets.split(SIDE_BY_SIDE), strict=True)
    for inputs, targets in pairs:
        logits = model(input_ids=inputs.to(model.device), use_cache=False).logits
        right = targets.to(model.device).flatten()
        total += float(F.cross_entropy(logits.float().flatten(0, 1), right, reduction="sum"))
    return total / windows.targets.numel() / math.log(2)


def _losses(study: Scaling, bench: Bench) -> Measurement:
    values = np.full((len(study.budgets), study.sizes_each, len(study.seeds)), np.nan)
    windows: Batch | None = None
    for done, (label, trained) in enumerate(bench.trained.items(), 1):
        cell, seed = cell_of(label)
        task = trained.spec.task
        assert isinstance(task, TextWindows), "the study's models are trained on text"
        windows = windows or held_out(task, study.held_out)
        place = (cell.budget, cell.shape - cell.budget, study.seeds.index(seed))
        values[place] = bits_per_byte(load_model(trained, bench.device), windows)
        bench.events.emit(Progressed(label=bench.study, done=done, total=len(bench.trained), seconds=0.0))
    coords: dict[str, tuple[Label, ...]] = {"budget": study.budgets, **_places(study), "seed": study.seeds}
    return Measurement(
        "scaling_loss", say("loss on held-out bytes by budget and size"), values, ("budget", "place", "seed"), coords,
        BITS_PER_BYTE,
        (
            say("{count} windows of {length} bytes, the same for all models", count=study.held_out, length=study.length),
            say("place: a budget's sizes from the smallest; each budget begins one size later than the one before"),
        ),
    )  # fmt: skip


def cell_of(label: str) -> tuple[Cell, int]:
    """The cell and seed of a training's label."""
    name, _, seed = label.partition("/")
    budget, _, shape = name.partition("-")
    return Cell(int(budget), int(shape)), int(seed)


def _places(study: Scaling) -> dict[str, tuple[int, ...]]:
    return {"place": tuple(range(study.sizes_each))}


def _grid(study: Scaling, bench: Bench) -> Measurement:
    values = np.full((len(study.budgets), study.sizes_each, len(GRID_NUMBERS)), np.nan)
    text = next(iter(bench.trained.values())).spec.task
    assert isinstance(text, TextWindows), "the study's models are trained on text"
    size = len(text.data())
    for cell in cells(study):
        shape, read = study.shapes[cell.shape], bytes_of(study, cell)
        parameters = parameters_of(shape)
        seconds = [bench.trained[f"{cell.label}/{seed}"].seconds for seed in seeds_of(study, cell)]
        values[cell.budget, cell.shape - cell.budget] = (
            parameters, read, steps_of(study, cell), read / size, 6.0 * parameters * read,
            operations_per_byte(shape, parameters, study.length) * read, sum(seconds) / len(seconds),
        )  # fmt: skip
    coords: dict[str, tuple[Label, ...]] = {"budget": study.budgets, **_places(study), "number": GRID_NUMBERS}
    return Measurement(
        "scaling_grid", say("what is spent on each model"), values, ("budget", "place", "number"), coords,
        "parameters; bytes; steps; times the text; operations; seconds",
        (
            say("parameters: all but the table of embeddings; operations: 6 N D"),
            say("counted: with the products of attention scores and values, which 6 N D leaves out"),
            say("seconds: on the clock, mean over seeds, whatever else the machine did"),
        ),
    )  # fmt: skip


def operations_per_byte(shape: Shape, parameters: int, length: int) -> float:
    """Operations of training per byte, scores and mixed values of the causal attention included.

    Each of the two takes 2 · width operations per pair of bytes; a byte sees (length + 1) / 2 on average, and the backward pass
    costs twice the forward pass.
    """
    return 6.0 * parameters + 3 * shape.depth * 4.0 * shape.width * (length + 1) / 2


def _fits(study: Scaling, losses: NDArray[np.float64], grid: NDArray[np.float64]) -> list[Measurement]:
    draws = (FIT, *range(1, study.resamples + 1))
    generator = Seed(0).child("scaling", "bootstrap").numpy()
    found = optima(losses, grid, study, generator)
    fits = [
        Measurement(
            "scaling_optimum", say("the lowest point of each budget's parabola over the logarithm of the size"), found,
            ("draw", "budget", "number"), {"draw": draws, "budget": study.budgets, "number": OPTIMUM_NUMBERS},
            "parameters; bytes; bits per byte; bits per byte per squared unit of log N",
            (say("draws: the mean losses moved by as much as seeds differ"),),
        )
    ]  # fmt: skip
    everything = points_of(losses, grid)
    if len(everything.loss) >= FEWEST_POINTS:
        laws = _laws(everything, study.resamples, generator)
        fits.append(
            Measurement(
                "scaling_law", say("constants of L(N, D) fitted to all trainings"),
                np.array([[*law.numbers(), law.size_power, law.data_power] for law in laws]), ("draw", "number"),
                {"draw": draws, "number": LAW_NUMBERS}, "constants; losses in bits per byte",
                (say("draws: fits of trainings drawn with replacement"),),
            )
        )  # fmt: skip
    smaller = points_of(losses[:-1], grid[:-1])
    if len(smaller.loss) >= FEWEST_POINTS:
        laws = _laws(smaller, study.resamples, generator)
        sizes = grid[-1, :, 0], grid[-1, :, 1]
        foretold = np.array([[law.loss(n, d) for n, d in zip(*sizes, strict=True)] for law in laws])
        fits.append(
            Measurement(
                "scaling_foretold", say("losses of the largest budget as a fit of the smaller ones foretells them"),
                foretold, ("draw", "place"), {"draw": draws, **_places(study)}, BITS_PER_BYTE,
            )
        )  # fmt: skip
    return fits


def points_of(losses: Float[np.ndarray, "budget place seed"], grid: Float[np.ndarray, "budget place spent"]) -> Points:
    """Every training by itself: a cell that was repeated counts as often."""
    known = ~np.isnan(losses)
    parameters, read = (np.broadcast_to(grid[:, :, i, None], losses.shape)[known] for i in (0, 1))
    return Points(parameters, read, losses[known])


def _laws(points: Points, draws: int, generator: np.random.Generator) -> list[Law]:
    law = fit_law(points, BITS_PER_BYTE)
    return [law, *resampled_laws(points, law, draws, generator)]


def optima(
    losses: Float[np.ndarray, "budget place seed"],
    grid: Float[np.ndarray, "budget place spent"],
    study: Scaling,
    generator: np.random.Generator,
) -> Float[np.ndarray, "draw budget number"]:
    """Parabolas through each budget's mean losses, and through means moved by noise as large as seeds differ."""
    counts = np.maximum((~np.isnan(losses)).sum(axis=2), 1)
    means = np.nansum(losses, axis=2) / counts
    spread = seed_spread(losses)
    moved = spread / np.sqrt(counts) * generator.standard_normal((study.resamples, *means.shape))
    found = np.full((study.resamples + 1, len(study.budgets), len(OPTIMUM_NUMBERS)), np.nan)
    for draw, shift in enumerate((np.zeros_like(means), *moved)):
        for budget, flop in enumerate(study.budgets):
            loss = means[budget] + shift[budget]
            if len(loss) < 3 or np.isnan(loss).any():
                continue
            parabola = fit_parabola(grid[budget, :, 0], loss)
            best = lowest_size(parabola, grid[budget, :, 0])
            found[draw, budget] = best, flop / (6 * best), parabola.lowest, parabola.curvature
    return found


def lowest_size(parabola: Parabola, sizes: Float[np.ndarray, " size"]) -> float:
    """The size with the lowest loss; NaN where there is none, or where it is so far beyond all sizes that it says nothing."""
    far = math.log(BEYOND)
    is_near = math.log(sizes.min()) - far <= parabola.centre <= math.log(sizes.max()) + far
    return math.exp(parabola.centre) if parabola.curvature > 0 and is_near else math.nan


def seed_spread(losses: Float[np.ndarray, "budget place seed"]) -> float:
    """The standard deviation between seeds of one cell, over all cells that were repeated; NaN where none was."""
    repeated = [row[~np.isnan(row)] for row in losses.reshape(-1, losses.shape[-1])]
    variances = [row.var(ddof=1) for row in repeated if row.size > 1]
    return math.sqrt(float(np.mean(variances))) if variances else math.nan
