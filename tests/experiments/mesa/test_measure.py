"""Every study that looks inside models measures what was agreed, end to end on hardly trained models."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from glassworks.core.events import EventLog
from glassworks.evidence.claims import Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.base import Bench
from glassworks.experiments.mesa.losses import Workbench, along_training, losses
from glassworks.experiments.mesa.measure import measure
from glassworks.experiments.mesa.solving import fitted_solvers
from glassworks.experiments.mesa.spec import MesaOptimization
from glassworks.experiments.mesa.trainings import trainings
from glassworks.tasks.dynamics import Dynamics
from glassworks.tasks.preconditioning import PUBLISHED
from glassworks.tasks.solvers import half_squared_error
from glassworks.training.loop import TrainingOptions, train

STUDY = MesaOptimization.at(Scale.SMOKE)
CURVE = ("model", "seed", "position")
PROBE = ("target", "layer", "seed", "position")


def probes(name: str) -> dict[str, tuple[str, ...]]:
    return {name: PROBE, f"{name}_r2": PROBE, f"{name}_in_sample": PROBE}


AGREED: dict[str, dict[str, tuple[str, ...]]] = {
    "one-layer": {
        "one_layer_loss": CURVE,
        "one_layer_coefficients": ("term", "seed"),
        "one_layer_rate": ("seed",),
        "one_layer_blocks": ("model", "product", "row", "column", "head"),
        "one_layer_interpolation": ("model", "network", "seed", "step"),
    },
    "deep": {
        "deep_loss": CURVE,
        "deep_offdiagonal": ("layer", "seed"),
        "deep_interpolation": ("model", "network", "seed", "step"),
        **probes("deep_probe"),
    },
    "softmax": {"softmax_loss": CURVE, **probes("softmax_probe")},
    "binding": {
        "binding_decode": ("model", "seed", "back"),
        "binding_variance": (),
        "binding_attention": ("model", "head", "seed", "back"),
        "binding_maps": ("model", "head", "query", "key"),
        "binding_sensitivity": ("model", "seed", "step", "back"),
    },
    "linearise": {"linearise": ("dimension", "layer", "seed"), "kernels": ("solver", "dimension")},
    "partial": {
        "partial_loss": CURVE,
        "partial_decode": ("model", "seed", "back"),
        "partial_variance": (),
        **probes("partial_probe"),
    },
    "nonlinear": {"nonlinear_loss": CURVE, **probes("nonlinear_probe")},
    "contracting": {"contracting_loss": CURVE, **probes("contracting_probe")},
    "fixed-teacher": {"fixed_teacher_loss": CURVE, **probes("fixed_teacher_probe")},
}


def bench(study: str, store: Path) -> Bench:
    device, events = torch.device("cpu"), EventLog(store / "events.jsonl")
    trained = {
        label: train(spec, TrainingOptions(store=store, label=label), events)
        for label, spec in trainings(STUDY, study).items()
    }
    return Bench(trained, store, device, events, study)


def found(study: str, store: Path) -> dict[str, Measurement]:
    return {m.name: m for m in measure(STUDY, study, bench(study, store))}


@pytest.mark.parametrize("study", AGREED)
@pytest.mark.slow
def test_a_study_measures_what_was_agreed(study: str, tmp_path: Path):
    measured = found(study, tmp_path)
    agreed = AGREED[study] | {f"training_{study.replace('-', '_')}": ("model", "seed", "step", "metric")}
    assert {name: m.dims for name, m in measured.items()} == agreed
    for name, measurement in measured.items():
        if "probe" in name and "in_sample" not in name:
            # The control has one row.
            assert np.isnan(measurement.at(target="control").values[1:]).all()
            assert np.isfinite(measurement.at(target="control").values[0]).all()
            for target in ("next", "input", "polynomial", "exact"):
                assert np.isfinite(measurement.at(target=target).values).all(), (name, target)
        elif not name.startswith("training_"):
            assert np.isfinite(measurement.values).all(), name


def test_losses_of_theory_are_ordered_as_theory_says(tmp_path: Path):
    measured = found("one-layer", tmp_path)["one_layer_loss"]
    mean = {str(model): float(measured.at(model=model).values.mean()) for model in measured.coords["model"]}
    assert mean["ridge"] < mean["one step, best rate"] < mean["zero"]
    assert mean["construction"] == pytest.approx(mean["one step, best rate"], rel=1e-5)
    # Networks that start next to nothing predict next to nothing after a few steps.
    assert mean["LSA-1"] == pytest.approx(mean["zero"], rel=0.02)


@pytest.mark.slow
def test_the_network_set_by_hand_is_the_published_solver(tmp_path: Path):
    measured = found("deep", tmp_path)["deep_loss"]
    assert {f"Prop. 2, {k} steps, {lag}" for k in (2, 4, 6) for lag in ("all pairs", "one late")} <= set(
        measured.coords["model"]
    )
    by_hand = measured.at(model="constructed network, 6 steps").values.mean()
    assert by_hand < measured.at(model="zero").values.mean()
    # At the first position nothing is known.
    first = measured.at(position=1, seed=0)
    assert first.at(model="constructed network, 6 steps").values == pytest.approx(first.at(model="zero").values)


def test_the_interpolated_network_is_the_trained_one_at_the_end_of_a_compressible_training(tmp_path: Path):
    measured = found("one-layer", tmp_path)["one_layer_interpolation"].at(model="LSA-1", seed=0)
    construction = measured.at(network="construction").values
    assert (construction == construction[0]).all()
    last = measured.at(step=measured.coords["step"][-1])
    # After six steps from next to nothing all three predict next to nothing.
    assert last.at(network="interpolated").values == pytest.approx(last.at(network="trained").values, rel=1e-3)


@pytest.mark.slow
@pytest.mark.nightly
def test_a_short_fit_of_the_solver_comes_near_the_published_rates():
    # mesa.md 9: six published steps, one pair late, 0.2317; the short fit is a tenth as long.
    world = Dynamics(length=50)
    study = MesaOptimization(seeds=(0,), solver_steps=600)
    work = Workbench(study, Bench({}, Path(), torch.device("cpu"), EventLog()))
    solver = fitted_solvers(work, world, (6,))[6]
    batch = work.held_out(world, 0, 1280)
    fitted = half_squared_error(solver.predictions(batch.observations, lag=1), batch.targets).mean().item()
    published = half_squared_error(PUBLISHED["linear"].predictions(batch.observations, lag=1), batch.targets).mean()
    assert fitted < 1.03 * published.item()


def test_weights_along_training_are_those_of_their_steps(tmp_path: Path):
    work = Workbench(STUDY, bench("one-layer", tmp_path))
    trained, device = work.trained("LSA-1", 0), torch.device("cpu")
    batch = work.held_out(work.world("LSA-1"), 0)
    rows = {step: float(losses(model, batch).mean()) for step, model in along_training(trained, device, 99)}
    assert list(rows) == sorted(rows)
    assert max(rows) == STUDY.one_layer_steps
    assert rows[max(rows)] == float(losses(work.model("LSA-1", 0), batch).mean())
    assert [step for step, _ in along_training(trained, device, 2)] == [0, max(rows)]


def test_held_out_sequences_are_the_same_for_every_kind_of_token(tmp_path: Path):
    work = Workbench(STUDY, Bench({}, tmp_path, torch.device("cpu"), EventLog(tmp_path / "events.jsonl")))
    raw, built = Dynamics(hidden=4, length=6), Dynamics(hidden=4, length=6, tokens="constructed")
    first, second = work.held_out(raw, 3), work.held_out(built, 3)
    assert torch.equal(first.observations, second.observations)
    assert not torch.equal(first.observations, work.for_fitting(raw, 3).observations)
    assert math.isfinite(float(first.observations.sum()))
