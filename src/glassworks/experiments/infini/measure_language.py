"""Models of a book by position, far beyond their training length, and what they cost; the gates while they learn.

Losses are bits per byte on windows of the held-out tenth of the book, the same for all models of a seed; every window
counts as a text of its own. Models of bounded memory read a window piece by piece, full attention reads it whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini.probes import gates as gates_now
from glassworks.experiments.infini.workbench import (
    Progress,
    Workbench,
    keeps_keys,
    pieces,
    refusals,
    refused,
    streams_of,
)
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.sizes import values_of
from glassworks.tasks import TextWindows
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.infini.spec import InfiniAttention

BITS = "bits per byte"
# How many training lengths the windows span.
BEYOND = 8
# Windows of the gates study are of the training length; so many for each of those that are eight times as long.
GATE_WINDOWS = 4
NUMBERS = ("parameters", "kept", "bytes", "seconds")
# Windows that a model of bounded memory reads side by side.
SIDE_BY_SIDE = 8


def language(study: InfiniAttention, bench: Bench) -> Sequence[Measurement]:
    """Curves of training, loss by position up to eight training lengths, and what each model costs."""
    work = Workbench(study, bench)
    models, seeds, ends = work.labels(), work.seeds, bins(study.segment, study.text_length)
    progress = Progress(bench.events, "language", len(bench.trained) * study.held_out * ends[-1])
    by_position = np.full((len(models), len(seeds), len(ends)), np.nan)
    for seed in seeds:
        windows = held_out(work, seed, ends[-1], study.held_out)
        for model in (model for model in models if seed in work.seeds_of(model)):
            found = in_bins(read(work.model(model, seed), windows, progress), ends)
            by_position[models.index(model), seeds.index(seed)] = found
    stopped = [m for m, rows in zip(models, by_position, strict=True) if np.isnan(rows[: len(work.seeds_of(m))]).any()]
    return [
        work.training_curves("training_language", say("models of the book while they train"), ("loss/all", "loss")),
        Measurement(
            "language_by_position", say("loss on held-out bytes by their place in the text"), by_position,
            ("model", "seed", "position"), {"model": models, "seed": seeds, "position": ends}, BITS,
            (
                say("a bin is named by its last byte: bins of one segment up to {length}, longer ones beyond", length=study.text_length),
                say("{count} windows of {length} bytes for each seed", count=study.held_out, length=ends[-1]),
                *refused(stopped),
            ),
        ),
        _costs(work),
    ]  # fmt: skip


def gates(study: InfiniAttention, bench: Bench) -> Sequence[Measurement]:
    """Every gate at every logged step and after the last, and what the models then cost."""
    work = Workbench(study, bench)
    settings, seeds = work.labels(), work.seeds
    steps = work.trained(settings[0], seeds[0]).history.steps
    paths = np.array([[_path(work, setting, seed, steps) for seed in seeds] for setting in settings])
    windows = {s: held_out(work, s, study.text_length, GATE_WINDOWS * study.held_out) for s in seeds}
    progress = Progress(bench.events, "gates", len(settings) * sum(w[:, 1:].numel() for w in windows.values()))
    losses = [
        [float(read(work.model(g, s), windows[s], progress)[:, study.segment :].mean()) for s in seeds]
        for g in settings
    ]
    layers, heads = tuple(range(1, study.depth + 1)), tuple(range(1, study.heads + 1))
    return [
        Measurement(
            "gates_path", say("the gate of every head while it is trained: the weight of the memory"),
            paths.transpose(0, 2, 3, 1, 4), ("setting", "layer", "head", "seed", "step"),
            {"setting": settings, "layer": layers, "head": heads, "seed": seeds, "step": (*steps, _steps(work))}, "weight",
            (say("before each step that is logged, and after the last one"),),
        ),
        Measurement(
            "gates_loss", say("loss on held-out bytes beyond the first segment"), np.array(losses), ("setting", "seed"),
            {"setting": settings, "seed": seeds}, BITS,
            (say("{count} windows of {length} bytes for each seed", count=GATE_WINDOWS * study.held_out, length=study.text_length),),
        ),
    ]  # fmt: skip


def bins(segment: int, length: int) -> tuple[int, ...]:
    """The last byte of each bin: one segment wide up to the training length, one training length wide beyond it."""
    near = [*range(segment, length, segment), length]
    return (*near, *(length * times for times in range(2, BEYOND + 1)))


def in_bins(bits: Float[Tensor, "window position"], ends: Sequence[int]) -> NDArray[np.float64]:
    """The mean over windows and the bytes of each bin."""
    curve = bits.double().mean(0).numpy()
    return np.array([curve[first:last].mean() for first, last in zip((0, *ends), ends, strict=False)])


def held_out(work: Workbench, seed: int, length: int, count: int) -> Int[Tensor, "window position"]:
    """Windows of the held-out tenth with one byte more than is read; those of a seed are the same for all models."""
    task = work.trained(work.labels()[0], seed).spec.task
    assert isinstance(task, TextWindows), "the study's models are trained on text"
    windows = task.replaced_all({"split": "held_out", "length": length})
    batch = windows.sample(count, Seed(seed).child("held out"))
    return torch.cat([batch.inputs, batch.targets[:, -1:]], 1)


@torch.no_grad()
def read(
    model: GlassworksForCausalLM, windows: Int[Tensor, "window position_and_last"], progress: Progress | None = None
) -> Float[Tensor, "window position"]:
    """The bits of every byte of the windows but the first; NaN from where a mesa layer refuses to read on."""
    rows: list[Tensor] = []
    for some in windows.split(1 if keeps_keys(model) else SIDE_BY_SIDE):
        inputs, targets = some[:, :-1], some[:, 1:]
        size = inputs.shape[1] if keeps_keys(model) else pieces(len(some))
        bits = torch.full(targets.shape, math.nan)
        with refusals(model):
            for place, (stream, _) in enumerate(streams_of(model, inputs.split(size, 1))):
                part = slice(place * size, (place + 1) * size)
                bits[:, part] = _bits(model.lm_head(stream), targets[:, part])
        rows.append(bits)
        if progress is not None:
            progress.add(targets.numel())
    return torch.cat(rows)


def _bits(logits: Tensor, targets: Tensor) -> Tensor:
    right = targets.to(logits.device)
    lost = F.cross_entropy(logits.float().flatten(0, 1), right.flatten(), reduction="none")
    return lost.view_as(right).cpu() / math.log(2)


def _costs(work: Workbench) -> Measurement:
    models, seeds = work.labels(), work.seeds
    # To the middle of a segment: between two, RMT keeps nothing but the vectors that stand before the next one, where they
    # are the keys and values that its formula counts.
    window = held_out(work, seeds[0], work.study.text_length + work.study.segment // 2, 1)[:, :-1]
    rows: list[list[float]] = []
    for label in models:
        trainings = [work.trained(label, seed) for seed in work.seeds_of(label)]
        spec = trainings[0].spec
        model = work.model(label, seeds[0])
        parameters = sum(parameter.numel() for parameter in model.parameters())
        kept = _kept(model, window)
        seconds = sum(training.seconds for training in trainings) / len(trainings)
        rows.append([parameters, kept, spec.steps * spec.batch * spec.task.longest, seconds])
    return Measurement(
        "language_cost",
        say("what each model of the book costs"),
        np.array(rows),
        ("model", "number"),
        {"model": models, "number": NUMBERS},
        "parameters; numbers; bytes; seconds",
        (say("kept: across segments, half a segment beyond {length} bytes; seconds: on the clock, mean over seeds", length=work.study.text_length),),
    )  # fmt: skip


def _kept(model: GlassworksForCausalLM, window: Int[Tensor, "window position"]) -> int:
    """Numbers that a model keeps across segments once it has read a window."""
    ((_, cache),) = streams_of(model, [window])
    return values_of(cache, model.config.decoder_spec).kept


def _steps(work: Workbench) -> int:
    return work.trained(work.labels()[0], work.seeds[0]).spec.steps


def _path(work: Workbench, setting: str, seed: int, steps: Sequence[int]) -> NDArray[np.float64]:
    """The gates of one training: layer, head, step; the last column is those of the finished model."""
    trained, study = work.trained(setting, seed), work.study
    assert list(trained.history.steps) == list(steps), "all settings are logged at the same steps"
    last = gates_now(work.model(setting, seed))
    return np.array(
        [
            [
                [*trained.history.curve(name), last[name]]
                for name in (f"gate/{layer}/{head}" for head in range(1, study.heads + 1))
            ]
            for layer in range(1, study.depth + 1)
        ]
    )
