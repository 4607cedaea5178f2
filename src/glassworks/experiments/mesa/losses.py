"""Losses by position of models and solvers on held-out sequences, and the models of a study's trainings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassworks.core.text import Text
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.curves import on_common_steps, stack_histories
from glassworks.models.hub import VectorTransformer
from glassworks.models.quiet import quiet_bars
from glassworks.tasks.base import VectorBatch
from glassworks.tasks.dynamics import Dynamics, DynamicsBatch
from glassworks.tasks.solvers import half_squared_error
from glassworks.tensors.seeds import Seed
from glassworks.training.store import History, snapshots

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.mesa.spec import MesaOptimization
    from glassworks.training.loop import Trained

UNIT = "half squared error"
PIECE = 256  # sequences at a time, so that memory stays small

Curve = Float[Tensor, " position"]
# Loss by position of each model or solver (first key) and seed.
Curves = Mapping[str, Mapping[int, Curve]]


@dataclass(frozen=True)
class Workbench:
    """A study's settings with the models it trained, found by model label and seed."""

    study: MesaOptimization
    bench: Bench

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the trainings."""
        return self.study.seeds

    def trained(self, label: str, seed: int) -> Trained:
        """The finished training of a label, e.g. LSA-1 with seed 0."""
        return self.bench.trained[f"{label}/{seed}"]

    def labels(self) -> tuple[str, ...]:
        """The model labels of the study, in the order of its trainings."""
        return tuple(dict.fromkeys(label.rpartition("/")[0] for label in self.bench.trained))

    def model(self, label: str, seed: int) -> VectorTransformer:
        """The trained model, on the bench's device."""
        return load_vectors(self.trained(label, seed), self.bench.device)

    def world(self, label: str) -> Dynamics:
        """The world that a label was trained in."""
        task = self.trained(label, self.seeds[0]).spec.task
        assert isinstance(task, Dynamics), "the studies measured here train in worlds of dynamics"
        return task

    def held_out(self, world: Dynamics, seed: int, size: int | None = None) -> DynamicsBatch:
        """Fresh sequences that no training saw; the same observations for every kind of token of a world."""
        return world.sample(size or self.study.held_out, Seed(seed).child("held out"))

    def for_fitting(self, world: Dynamics, seed: int) -> DynamicsBatch:
        """Other fresh sequences, on which the constants of solvers are chosen."""
        return world.sample(self.study.held_out, Seed(seed).child("for fitting"))

    def model_curves(self, *labels: str) -> dict[str, dict[int, Curve]]:
        """The losses of trained models on the held-out sequences of their worlds."""
        return {
            label: {
                seed: losses(self.model(label, seed), self.held_out(self.world(label), seed)) for seed in self.seeds
            }
            for label in labels
        }


def load_vectors(trained: Trained, device: torch.device) -> VectorTransformer:
    """The model of a finished training, in evaluation mode."""
    with quiet_bars():
        model = VectorTransformer.from_pretrained(trained.path)
    nn.Module.to(model, device)
    return model.eval()


def along_training(trained: Trained, device: torch.device, most: int) -> Iterator[tuple[int, VectorTransformer]]:
    """The model after each kept step, first and last included, at most `most` of them, evenly spread.

    One model whose weights change: what is wanted of a step is to be taken before the next.
    """
    model = load_vectors(trained, device)
    steps = sorted(int(path.stem) for path in (trained.path / "snapshots").glob("*.safetensors"))
    chosen = set(_spread(steps, most))
    for step, weights in snapshots(trained.path):
        if step in chosen:
            model.load_state_dict(weights)
            yield step, model


def _spread(steps: list[int], most: int) -> list[int]:
    places = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)) if steps else []
    return [steps[i] for i in places]


@torch.no_grad()
def predictions(
    model: nn.Module, inputs: Float[Tensor, "batch position channel"]
) -> Float[Tensor, "batch position output"]:
    """What a decoder of vectors predicts, piece by piece, on the CPU."""
    device = next(model.parameters()).device
    pieces = [model(inputs_embeds=piece.to(device), use_cache=False).logits.cpu() for piece in inputs.split(PIECE)]
    return torch.cat(pieces)


def losses(model: nn.Module, batch: VectorBatch) -> Curve:
    """Half the squared error by position, averaged over the sequences."""
    return half_squared_error(predictions(model, batch.inputs), batch.targets).double().mean(0)


def losses_of(found: Float[Tensor, "batch position output"], batch: VectorBatch) -> Curve:
    """The same for predictions that a solver made."""
    return half_squared_error(found, batch.targets).double().mean(0)


def loss_measurement(name: str, says: Text, curves: Curves, caveats: tuple[Text, ...] = ()) -> Measurement:
    """Losses with dimensions model, seed and position; positions are counted from 1."""
    models = tuple(curves)
    seeds = tuple(next(iter(curves.values())))
    values = np.stack([[np.asarray(curves[model][seed]) for seed in seeds] for model in models])
    coords: dict[str, tuple[Label, ...]] = {
        "model": models, "seed": seeds, "position": tuple(range(1, values.shape[-1] + 1))
    }  # fmt: skip
    return Measurement(name, says, values, ("model", "seed", "position"), coords, UNIT, caveats)


def training_curves(name: str, says: Text, workbench: Workbench) -> Measurement:
    """The losses logged while training: model, seed, step, metric; NaN where a model was not logged at a step."""
    histories: dict[tuple[Label, ...], History] = {
        (label, seed): workbench.trained(label, seed).history
        for label in workbench.labels()
        for seed in workbench.seeds
    }
    filled = on_common_steps(histories)
    return replace(stack_histories(name, says, filled, ("model", "seed"), ("loss/all", "loss")), unit=UNIT)
