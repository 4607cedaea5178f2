"""Probes, binding and linearisation find what was planted, and nothing where nothing was."""

import math
from dataclasses import replace

import pytest
import torch

from glassworks.experiments.mesa.binding import attention_mass, decode_earlier, felt, first_attention, sensitivity
from glassworks.experiments.mesa.linearise import Fitting, best_losses, linear_twins, replaced
from glassworks.experiments.mesa.losses import losses, predictions
from glassworks.experiments.mesa.probing import (
    TARGETS,
    layer_states,
    ordinary,
    preconditioned_inputs,
    probe_all,
    published_solver,
    read_out,
)
from glassworks.mixers import Softmax
from glassworks.models.hub import VectorTransformer
from glassworks.models.planted_descent import one_step, with_fixed_coefficients
from glassworks.models.spec import VectorSpec
from glassworks.models.transformer import build_model
from glassworks.tasks.dynamics import Dynamics
from glassworks.tasks.preconditioning import PUBLISHED
from glassworks.tasks.solvers import Pairs, correlate
from glassworks.tensors.seeds import Seed

LENGTH = 12


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=Seed(seed).generator())


def test_a_probe_reads_what_is_there_and_not_what_is_not():
    states, other = draw(2, 400, 3, 6), draw(400, 3, 4, seed=1)
    target = states[1, :, :, :4] @ draw(4, 4, seed=2)
    found = read_out(states, target)
    assert found.error[1].max() < 1e-10
    assert found.r2[1].min() > 1 - 1e-10
    # The first layer is independent of the target: held out it says nothing, in sample it flatters itself.
    assert found.r2[0].max() < 0.1
    assert (found.in_sample[0] < found.error[0]).all()
    nothing = read_out(states, other)
    assert nothing.r2.max() < 0.1
    assert nothing.error.mean().item() == pytest.approx(2.0, rel=0.15)


def test_a_probe_scores_half_the_squared_error():
    states, noise = draw(1, 4000, 1, 2), 0.1 * draw(4000, 1, 2, seed=3)
    found = read_out(states, states[0] + noise)
    assert found.error.item() == pytest.approx(0.01, rel=0.1)
    assert found.r2.item() == pytest.approx(1 / 1.01, abs=2e-3)


def test_left_out_sequences_are_neither_fitted_nor_scored():
    states = draw(1, 200, 2, 3)
    target = states[0].clone()
    target[::7, 1] += 1e3
    kept = torch.ones(200, 2, dtype=torch.bool)
    kept[::7, 1] = False
    found = read_out(states, target, kept)
    assert found.error.max() < 1e-9
    assert read_out(states, target).error[0, 1] > 1e3


def test_features_of_zeros_give_a_probe_of_zeros():
    target = draw(50, 1, 2)
    found = read_out(torch.zeros(1, 50, 1, 3), target)
    assert found.error.item() == pytest.approx(0.5 * target[25:].square().sum(-1).mean().item(), rel=1e-5)
    assert found.r2.item() == 0


def test_the_longest_targets_are_no_ordinary_ones():
    target = torch.ones(100, 2, 3)
    target[7, 1] = 50.0
    kept = ordinary(target)
    assert not kept[7, 1]
    assert kept.sum() == 199


def test_a_preconditioned_input_is_found_in_the_layer_that_makes_it():
    world = Dynamics(hidden=3, length=LENGTH, tokens="constructed")
    batch = world.sample(300, Seed(0))
    pairs = Pairs.of(batch.observations)
    # What the first of two layers of the network set by hand has computed: a_1 s + a_2 G s, with a = (0.5, 1, -0.2).
    product = correlate(Pairs(pairs.keys, pairs.keys, pairs.queries), pairs.queries)
    target = (pairs.queries - 0.2 * product).float()
    states = layer_states(with_fixed_coefficients((0.5, 1.0, -0.2), 3, LENGTH), batch.inputs)
    found = read_out(states, target)
    assert found.r2[1, 3:].min() > 0.9999
    assert found.r2[0, 3:].max() < 0.99


def test_the_targets_are_the_solvers_own():
    world = Dynamics(hidden=3, length=LENGTH, tokens="constructed")
    seen = world.sample(4, Seed(0)).observations.double()
    polynomial, exact = preconditioned_inputs(world, replace(world.sample(4, Seed(0)), observations=seen))
    # The exact input at t = 8 from the inputs before it, s_1 .. s_7.
    before, now = seen[:, :7], seen[:, 7]
    inverse = torch.linalg.inv(before.mT @ before + 0.001 * torch.eye(3, dtype=seen.dtype))
    torch.testing.assert_close(exact[:, 7], (inverse @ now[..., None])[..., 0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(polynomial, PUBLISHED["constructed"].inputs(seen))


def test_control_and_shapes_of_all_probes():
    world = Dynamics(hidden=3, length=LENGTH, tokens="constructed")
    batch = world.sample(256, Seed(1))
    found = probe_all(one_step(0.1, 3, LENGTH), world, batch)
    assert tuple(found) == TARGETS
    assert found["next"].error.shape == (2, LENGTH)
    assert found["control"].error.shape == (1, LENGTH)
    # Without knowledge of the law the next state cannot be read from the preconditioned one.
    assert found["control"].r2[0, 2:].mean() < 0.2
    assert found["input"].r2[0].min() > 0.999
    # The layer that takes the step makes the next state more readable than the token does.
    assert (found["next"].error[1, 3:] < found["next"].error[0, 3:]).all()


def test_each_world_is_probed_for_its_own_published_steps():
    assert published_solver(Dynamics()) is PUBLISHED["linear"]
    assert published_solver(Dynamics(tokens="constructed")) is PUBLISHED["constructed"]
    assert published_solver(Dynamics.partial()) is PUBLISHED["partial/probe"]
    assert published_solver(Dynamics.nonlinear_world()) is PUBLISHED["nonlinear"]
    assert published_solver(Dynamics.contracting()) is PUBLISHED["contracting"]
    assert published_solver(Dynamics.fixed_teacher()) is PUBLISHED["fixed_teacher"]


def back_looking(back: int, sharpness: float = 2000.0, tokens: int = LENGTH) -> VectorTransformer:
    """A softmax layer that adds the token `back` places before to the channels beside the present one."""
    size, width = 3, 8
    spec = VectorSpec(
        inputs=size, outputs=size, width=width, depth=2, heads=1, head_width=width, mixers=(Softmax(),), norm="none",
        feedforward=("none",), positions="concatenated", score_scale="softmax_only", context=tokens,
    )  # fmt: skip
    model = build_model(spec, Seed(0))
    decoder = model.model
    # The code of place t is (sin w t, cos w t, ..): turning every pair by w `back` makes the code of t - back the nearest.
    turn = torch.zeros(width, width)
    for pair in range(width // 2):
        angle = back * 10000.0 ** (-2 * pair / width)
        a, b = 2 * pair, 2 * pair + 1
        turn[a, a], turn[a, b], turn[b, a], turn[b, b] = (
            math.cos(angle),
            -math.sin(angle),
            math.sin(angle),
            math.cos(angle),
        )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        next(decoder.embed_tokens.parameters())[:size] = torch.eye(size)
        decoder.matrix(0, "query")[:, width:] = sharpness * turn
        decoder.matrix(0, "key")[:, width:] = torch.eye(width)
        decoder.matrix(0, "value")[:size, :size] = torch.eye(size)
        decoder.matrix(0, "output")[size : 2 * size, :size] = torch.eye(size)
    return model.eval()


def test_a_planted_copy_is_decoded_and_nothing_else():
    inputs = draw(400, LENGTH, 3)
    found = decode_earlier(back_looking(1), inputs)
    assert found[:2].max() < 1e-6
    assert found[2:].min() > 0.8


def test_a_planted_copy_is_seen_in_the_maps():
    maps = first_attention(back_looking(2), draw(5, LENGTH, 3))
    mass = attention_mass(maps)
    assert mass.shape == (1, 5)
    assert mass[0, 2].item() == pytest.approx(1.0, abs=1e-4)
    assert mass.sum().item() == pytest.approx(1.0, abs=1e-5)


def test_the_sensitivity_to_a_planted_copy_is_exact():
    # Eight channels: three follow the present token, three the one before, two nothing. Gradients of length 1 each.
    found = sensitivity(back_looking(1), draw(11, LENGTH, 3))
    expected = torch.zeros(LENGTH, dtype=torch.float64)
    expected[-1] = expected[-2] = 3 / 8
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    back = felt(found)
    torch.testing.assert_close(back, torch.tensor([3 / 8, 3 / 8, 0, 0, 0, 0, 0]).double(), atol=1e-5, rtol=0)


def test_tokens_that_do_not_exist_are_not_measured():
    assert torch.isnan(felt(torch.ones(3).double())[3:]).all()
    assert torch.isnan(decode_earlier(back_looking(1, tokens=4), draw(40, 4, 3))[4:]).all()


def small_softmax(scale: float) -> VectorTransformer:
    spec = VectorSpec(
        inputs=3, outputs=3, width=12, depth=2, heads=2, head_width=6, mixers=(Softmax(),), norm="none",
        feedforward=("none",), positions="concatenated", score_scale="softmax_only", context=LENGTH, weight_scale=scale,
    )  # fmt: skip
    return build_model(spec, Seed(2)).eval()


def test_a_softmax_layer_that_says_nothing_is_replaced_for_nothing():
    # With weights next to zero the layer's answer is next to zero, and so is its twin's.
    model, world = small_softmax(1e-4), Dynamics(hidden=3, length=LENGTH)
    batch = world.sample(64, Seed(0))
    twins = linear_twins(model, world, (0, 1), Fitting(0), Seed(1))
    whole = losses(model, batch).mean()
    for layer in (0, 1):
        assert float(losses(replaced(model, layer, twins[layer]), batch).mean() / whole) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.slow
def test_fitting_brings_a_linear_layer_closer_to_the_softmax_layer():
    model, world = small_softmax(0.4), Dynamics(hidden=3, length=LENGTH)
    batch = world.sample(64, Seed(0))
    whole = predictions(model, batch.inputs)

    def distance(updates: int) -> float:
        twin = linear_twins(model, world, (1,), Fitting(updates, 64, 3e-3), Seed(1))[1]
        return float((predictions(replaced(model, 1, twin), batch.inputs) - whole).square().mean())

    start, fitted = distance(0), distance(60)
    assert fitted < 0.7 * start
    # The model itself is untouched.
    torch.testing.assert_close(predictions(model, batch.inputs), whole)


@pytest.mark.slow
def test_a_layer_that_is_linear_already_is_recovered():
    spec = small_softmax(0.1).model.spec.replaced("mixers", [{"kind": "linear"}])
    assert isinstance(spec, VectorSpec)
    model, world = build_model(spec, Seed(4)).eval(), Dynamics(hidden=3, length=LENGTH)
    batch = world.sample(64, Seed(0))
    whole = predictions(model, batch.inputs)

    def distance(updates: int) -> float:
        twin = linear_twins(model, world, (1,), Fitting(updates, 16, 1e-2, falls=True), Seed(1))[1]
        return float((predictions(replaced(model, 1, twin), batch.inputs) - whole).square().mean())

    assert distance(100) < 0.05 * distance(0)


def test_ridge_beats_the_kernel_and_both_beat_nothing():
    found = best_losses(4, Seed(0))
    zero = 0.5 / 3
    assert 0 < found["ridge"] < found["softmax kernel"] < zero
    # mesa.md 5: 0.0328 and 0.0798 in four dimensions.
    assert found["ridge"] == pytest.approx(0.0328, abs=0.008)
    assert found["softmax kernel"] == pytest.approx(0.0798, abs=0.015)
