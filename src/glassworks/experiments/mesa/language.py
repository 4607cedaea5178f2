"""The mixers of the study on text: two-layer decoders of bytes that differ in the second layer (mesa.md 7).

Losses are bits per byte on windows of the held-out tenth of the text, the same for all models of a seed; every window
counts as a document. The in-context-learning score is the loss late in the window minus the loss early in it (Kaplan et
al. 2020; Olsson et al. 2022, tokens 500 and 50 of a long context), here as shares of windows of any length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.mesa.losses import Workbench, training_curves
from glassworks.mixers.mesa import MesaMixer, Solve
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.quiet import quiet_bars
from glassworks.tasks.text import TextWindows
from glassworks.tensors.seeds import Seed

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.mesa.spec import MesaOptimization
    from glassworks.training.loop import Trained

BITS = "bits per byte"
# Held-out bytes of a measurement, and the most windows they are cut into.
MOST_BYTES, MOST_WINDOWS = 2**17, 512
# Sequences that go through a model at a time.
PIECE = 32
# Bins of the curve by position: enough to see it fall, few enough that each holds many bytes.
BINS = 16
# Shares of the window between which bytes count as early and late; the first bytes have nothing to go by.
EARLY, LATE = (0.05, 0.15), (0.9, 1.0)
BACK = ("0", "1", "2", "3", "others")
# Attention maps are queries x keys of every head: fewer windows do, from a place on where every distance exists.
MAPPED_WINDOWS, FIRST_MAPPED = 16, 8


@dataclass(frozen=True, eq=False)
class Reading:
    """What one model made of the held-out windows: bits by window and byte, attention mass by head and distance."""

    bits: Float[Tensor, "window position"]
    mass: Float[Tensor, "head back"]
    parameters: int
    solve: Solve | None


def measure(study: MesaOptimization, bench: Bench) -> Sequence[Measurement]:
    """Bits per byte by window and by position, the in-context-learning score, and what the first layers look at."""
    workbench = Workbench(study, bench)
    models, seeds = workbench.labels(), workbench.seeds
    readings = {
        (model, seed): read(load_decoder(workbench.trained(model, seed), bench.device), held_out(workbench, seed))
        for model in models
        for seed in seeds
    }
    bits = np.stack([[readings[model, seed].bits.double().numpy() for seed in seeds] for model in models])
    mass = np.stack([[readings[model, seed].mass.double().numpy() for seed in seeds] for model in models])
    caveats = (sizes({model: readings[model, seeds[0]].parameters for model in models}), *solves(readings))
    places, by_position = in_bins(bits)
    says = say("models of text while they train")
    grid: dict[str, tuple[Any, ...]] = {"model": models, "seed": seeds}
    windows, heads = tuple(range(bits.shape[2])), tuple(range(mass.shape[2]))
    return [
        replace(training_curves("training_language", says, workbench), unit="nats per byte"),
        Measurement(
            "language_loss", say("loss on held-out windows of the text"), bits.mean(axis=3), ("model", "seed", "part"),
            grid | {"part": windows}, BITS, caveats,
        ),
        Measurement(
            "language_by_position", say("loss on held-out windows by the place of a byte"), by_position,
            ("model", "seed", "position"), grid | {"position": places}, BITS, caveats,
        ),
        Measurement(
            "language_icl", say("loss late in a window minus loss early in it"), late_minus_early(bits),
            ("model", "seed"), grid, BITS, (*caveats, _what_is_late(bits.shape[3])),
        ),
        Measurement(
            "language_copy", say("attention of the first layer by distance"), mass.swapaxes(1, 2),
            ("model", "head", "seed", "back"), {"model": models, "head": heads, "seed": seeds, "back": BACK}, "mass",
            (say("bytes from place {first} of the window on; others: farther back", first=_first_mapped(bits.shape[3])),),
        ),
    ]  # fmt: skip


def held_out(workbench: Workbench, seed: int) -> Int[Tensor, "window position"]:
    """Windows of the held-out part with one byte more than the models read; those of a seed are the same for all models."""
    task = workbench.trained(workbench.labels()[0], seed).spec.task
    assert isinstance(task, TextWindows), "the study's models are trained on text"
    batch = task.replaced("split", "held_out").sample(
        window_count(workbench.study, task.length), Seed(seed).child("held out")
    )
    return torch.cat([batch.inputs, batch.targets[:, -1:]], 1)


def window_count(study: MesaOptimization, length: int) -> int:
    """How many windows are measured on."""
    return max(2, min(study.held_out, MOST_WINDOWS, MOST_BYTES // length))


def load_decoder(trained: Trained, device: torch.device) -> GlassworksForCausalLM:
    """The model of a finished training on text, in evaluation mode."""
    with quiet_bars():
        model = GlassworksForCausalLM.from_pretrained(trained.path)
    model.eval()
    nn.Module.to(model, device)
    return model


@torch.no_grad()
def read(model: GlassworksForCausalLM, windows: Int[Tensor, "window position"]) -> Reading:
    """Bits of every byte but the first of each window, and the first layer's attention by distance."""
    device, solve = model.device, None
    bits: list[Tensor] = []
    for piece in windows.to(device).split(PIECE):
        logits = model(input_ids=piece[:, :-1], use_cache=False).logits.float()
        lost = F.cross_entropy(logits.flatten(0, 1), piece[:, 1:].flatten(), reduction="none")
        bits.append(lost.view(len(piece), -1).cpu() / math.log(2))
        solve = worst_solve(model, solve)
    found = model(input_ids=windows[:MAPPED_WINDOWS, :-1].to(device), use_cache=False, output_attentions=True)
    assert found.attentions is not None, "attention was asked for"
    mass = mass_by_distance(found.attentions[0].float().cpu())
    return Reading(torch.cat(bits), mass, sum(p.numel() for p in model.parameters()), solve)


def mass_by_distance(maps: Float[Tensor, "window head query key"]) -> Float[Tensor, "head back"]:
    """The mean mass on the present byte, on those 1, 2 and 3 back, and on all others; early queries are left out."""
    first = _first_mapped(maps.shape[2])
    near = [maps.diagonal(-back, dim1=2, dim2=3)[..., first - back :].mean((0, 2)) for back in range(len(BACK) - 1)]
    whole = maps[:, :, first:].sum(-1).mean((0, 2))
    return torch.stack([*near, whole - torch.stack(near).sum(0)], -1)


def in_bins(bits: NDArray[np.float64]) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """The mean over windows and over neighbouring positions; each bin is named by its last byte, counted from 1."""
    length = bits.shape[-1]
    ends = np.unique(np.linspace(0, length, min(BINS, length) + 1).round().astype(int))[1:]
    parts = np.split(bits.mean(axis=-2), ends[:-1], axis=-1)
    return tuple(int(end) for end in ends), np.stack([part.mean(axis=-1) for part in parts], axis=-1)


def late_minus_early(bits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The in-context-learning score: negative where late bytes are easier."""
    length, curve = bits.shape[-1], bits.mean(axis=-2)
    return curve[..., _share(LATE, length)].mean(axis=-1) - curve[..., _share(EARLY, length)].mean(axis=-1)


def worst_solve(model: nn.Module, before: Solve | None) -> Solve | None:
    """The solve with the largest residual among the model's layers now and what was seen before; None without solver."""
    reports = [module.last_solve for module in model.modules() if isinstance(module, MesaMixer)]
    known = [report for report in (*reports, before) if report is not None]
    return max(known, key=lambda report: report.residual, default=None)


def solves(readings: dict[tuple[str, int], Reading]) -> tuple[Text, ...]:
    """What to know of the solver: how far its worst solution was from the exact one, for each model that has one."""
    found: list[Text] = []
    for model in dict.fromkeys(model for model, _ in readings):
        reports = [r.solve for (name, _), r in readings.items() if name == model and r.solve is not None]
        if not reports:
            continue
        worst = max(reports, key=lambda report: report.residual)
        found.append(
            say(
                "{model} solves by conjugate gradient: after {iterations} steps the largest relative residual of a byte is {residual}",
                model=model,
                iterations=worst.iterations,
                residual=f"{worst.residual:.1e}",
            )
        )
        if not worst.converged:
            found.append(say("{model} did not reach the solver's tolerance everywhere", model=model))
    return tuple(found)


def sizes(parameters: dict[str, int]) -> Text:
    """How many parameters the models have; equal ones are said once."""
    if len(set(parameters.values())) == 1:
        return say("all models have {count} parameters", count=f"{next(iter(parameters.values())):,}")
    listed = ", ".join(f"{model} {count:,}" for model, count in parameters.items())
    return say("the models differ in size: {counts} parameters", counts=listed)


def _share(part: tuple[float, float], length: int) -> slice:
    """Positions of a share of the window, at least one."""
    first = min(math.floor(part[0] * length), length - 1)
    return slice(first, max(first + 1, math.ceil(part[1] * length)))


def _first_mapped(length: int) -> int:
    return max(len(BACK) - 2, min(FIRST_MAPPED, length // 2))


def _what_is_late(length: int) -> Text:
    early, late = _share(EARLY, length), _share(LATE, length)
    return say(
        "early: bytes {early} to {early_end} of {length}; late: bytes {late} to {length}",
        early=early.start + 1, early_end=early.stop, late=late.start + 1, length=length,
    )  # fmt: skip
