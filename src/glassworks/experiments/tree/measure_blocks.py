"""Blocks of equal size: what they lose by position, what a hasty training makes of them, how long a step takes them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from glassworks.core.errors import Diverged
from glassworks.core.text import say
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.curves import on_common_steps, stack_histories
from glassworks.experiments.tree.blocks import BEYOND, BLOCKS, block, hasty, parameters
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.quiet import quiet_bars
from glassworks.models.transformer import build_model
from glassworks.tasks import TextWindows
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import Trained, TrainingOptions, train
from glassworks.training.store import History

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.tree.spec import FamilyTree

BITS = "bits per byte"
# What knowing nothing costs; a training that met NaN counts as that.
IGNORANT = 8.0
# Positions are measured in bins of a quarter of a training window.
BINS = 4
# Of the losses that a hasty training logs the last so many count.
LAST = 0.2
# Windows that are read at a time.
SIDE_BY_SIDE = 8


def measure(study: FamilyTree, bench: Bench) -> Sequence[Measurement]:
    """Curves, losses by position, hasty trainings, seconds per step and sizes."""
    return [_training(study, bench), _by_position(study, bench), *_hasty(study, bench), _speed(study), _sizes(study)]


def _training(study: FamilyTree, bench: Bench) -> Measurement:
    histories: dict[tuple[Label, ...], History] = {
        (label, seed): bench.trained[f"{label}/{seed}"].history for label in BLOCKS for seed in study.seeds
    }
    says = say("blocks while they learn")
    return stack_histories("blocks_training", says, on_common_steps(histories), ("block", "seed"), ("loss",))


def _by_position(study: FamilyTree, bench: Bench) -> Measurement:
    ends = tuple(round(study.length * place / BINS) for place in range(1, BEYOND * BINS + 1))
    values = np.full((len(BLOCKS), len(study.seeds), len(ends)), np.nan)
    for column, seed in enumerate(study.seeds):
        windows = held_out(study, seed)
        for row, label in enumerate(BLOCKS):
            bits = read(_load(bench.trained[f"{label}/{seed}"]), windows)
            values[row, column] = in_bins(bits, ends)
    return Measurement(
        "blocks_by_position", say("loss on held-out bytes by their place in the text"), values, ("block", "seed", "position"),
        {"block": BLOCKS, "seed": study.seeds, "position": ends}, BITS,
        (
            say("a bin is named by its last byte; texts of training have {length}", length=study.length),
            say("{count} windows of {length} bytes for each seed", count=study.held_out, length=ends[-1]),
            say("a learned table has no place beyond its length, and refuses"),
        ),
    )  # fmt: skip


def held_out(study: FamilyTree, seed: int) -> Int[Tensor, "window position_and_last"]:
    """Windows of the held-out tenth, four training lengths long; those of a seed are the same for all blocks."""
    task = TextWindows.of(study.text_path(), length=BEYOND * study.length, split="held_out")
    batch = task.sample(study.held_out, Seed(seed).child("held out"))
    return torch.cat([batch.inputs, batch.targets[:, -1:]], 1)


@torch.no_grad()
def read(
    model: GlassworksForCausalLM, windows: Int[Tensor, "window position_and_last"]
) -> Float[Tensor, "window position"]:
    """The bits of every byte of the windows but the first; NaN from where the model has no places."""
    longest = model.config.decoder_spec.longest or windows.shape[1]
    bits = torch.full(windows[:, 1:].shape, math.nan)
    for first in range(0, len(windows), SIDE_BY_SIDE):
        part = windows[first : first + SIDE_BY_SIDE]
        inputs, targets = part[:, :-1][:, :longest], part[:, 1:][:, :longest]
        logits = model(input_ids=inputs, use_cache=False).logits.float()
        lost = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)
        bits[first : first + len(part), : lost.shape[1]] = lost / math.log(2)
    return bits


def in_bins(bits: Float[Tensor, "window position"], ends: Sequence[int]) -> NDArray[np.float64]:
    """The mean over windows and the bytes of each bin."""
    curve = bits.double().mean(0).numpy()
    return np.array([curve[first:last].mean() for first, last in zip((0, *ends), ends, strict=False)])


def _load(trained: Trained) -> GlassworksForCausalLM:
    with quiet_bars():
        model = GlassworksForCausalLM.from_pretrained(trained.path)
    model.eval()
    return model


def _hasty(study: FamilyTree, bench: Bench) -> list[Measurement]:
    """Trainings that may break, so they are made here: one that does must not stop the study."""
    values = np.full((len(BLOCKS), len(study.seeds)), IGNORANT)
    histories: dict[tuple[Label, ...], History] = {}
    for row, label in enumerate(BLOCKS):
        for column, seed in enumerate(study.seeds):
            history = hasty_history(study, bench, label, seed)
            histories[label, seed] = history
            values[row, column] = last_bits(history, study.hasty_steps)
    says = say(
        "the end of a training at {times} times the rate, at once and throughout", times=f"{study.hasty_factor:g}"
    )
    caveats = (
        say("mean of the last fifth of the logged losses of fresh batches"),
        say("a training that met NaN counts as knowing nothing, 8 bits"),
    )
    found = Measurement(
        "blocks_hasty", says, values, ("block", "seed"), {"block": BLOCKS, "seed": study.seeds}, BITS, caveats
    )
    curves = stack_histories(
        "blocks_hasty_training",
        say("blocks in hasty trainings"),
        on_common_steps(histories),
        ("block", "seed"),
        ("loss",),
    )
    return [found, curves]


def hasty_history(study: FamilyTree, bench: Bench, label: str, seed: int) -> History:
    """What a hasty training logged; an empty history where it met NaN."""
    options = TrainingOptions(bench.store, bench.device, label=f"{bench.study}: {label}, hasty/{seed}")
    try:
        return train(hasty(study, label, seed), options, bench.events).history
    except Diverged:
        return History([0], {"loss": [math.nan]})


def last_bits(history: History, steps: int) -> float:
    """The mean of the last fifth of the logged losses, in bits; knowing nothing where there is none."""
    late = np.asarray(history.steps) >= (1 - LAST) * (steps - 1)
    found = history.curve("loss")[late] / math.log(2)
    return float(found.mean()) if found.size and np.isfinite(found).all() else IGNORANT


@dataclass(frozen=True)
class _Stand:
    """A fresh model with its optimiser, to be timed."""

    model: GlassworksForCausalLM
    optimiser: torch.optim.Optimizer

    def step(self, inputs: Tensor, targets: Tensor) -> float:
        """Processor seconds of one step of training."""
        begun = time.process_time()
        self.optimiser.zero_grad(set_to_none=True)
        logits = self.model(input_ids=inputs, use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        self.optimiser.step()
        return time.process_time() - begun


def _speed(study: FamilyTree) -> Measurement:
    """One step of each block in turns, so that whatever else the machine does meets all alike; the first round warms up."""
    stands = {label: _stand(study, label) for label in BLOCKS}
    batch = TextWindows.of(study.text_path(), length=study.length).sample(study.batch, Seed(0))
    rounds = [
        [stand.step(batch.inputs, batch.targets) for stand in stands.values()] for _ in range(study.timed_steps + 1)
    ]
    values = np.array(rounds[1:]).T
    return Measurement(
        "blocks_speed", say("processor time of a training step"), values, ("block", "round"),
        {"block": BLOCKS, "round": tuple(range(study.timed_steps))}, "seconds",
        (say("{batch} windows of {length} bytes, float32, on the CPU; blocks in turns", batch=study.batch, length=study.length),),
    )  # fmt: skip


def _stand(study: FamilyTree, label: str) -> _Stand:
    model = build_model(block(study, label), Seed(0))
    assert isinstance(model, nn.Module)
    return _Stand(model, torch.optim.AdamW(model.parameters(), lr=study.rate))


def _sizes(study: FamilyTree) -> Measurement:
    models = [block(study, label) for label in BLOCKS]
    values = np.array([[parameters(model), model.width_of_feedforward] for model in models], dtype=np.float64)
    return Measurement(
        "blocks_sizes", say("trained numbers of each block's model, and of its feed-forward's hidden layer"), values,
        ("block", "number"), {"block": BLOCKS, "number": ("parameters", "hidden")}, "numbers",
    )  # fmt: skip
