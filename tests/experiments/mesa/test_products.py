"""Products of planted and random networks: coefficients, block means, compression, interpolation."""

import pytest
import torch

from glassworks.core.errors import InvalidInput
from glassworks.experiments.mesa.compression import compressed, interpolated_products, network
from glassworks.experiments.mesa.losses import losses, predictions
from glassworks.experiments.mesa.products import (
    TERMS,
    block_means,
    coefficients,
    from_block_means,
    off_diagonal,
    products_of,
)
from glassworks.mixers import AnyMixer, Linear, Mesa, Softmax
from glassworks.models.hub import VectorTransformer
from glassworks.models.planted_descent import one_step, preconditioned, preconditioned_tokens
from glassworks.models.spec import VectorSpec
from glassworks.models.transformer import build_model
from glassworks.tasks.dynamics import Dynamics
from glassworks.tasks.preconditioning import PUBLISHED
from glassworks.tensors.seeds import Seed

SIZE, LENGTH = 3, 9
WORLD = Dynamics(hidden=SIZE, length=LENGTH, tokens="constructed")
BATCH = WORLD.sample(8, Seed(0))


def random_network(*mixers: AnyMixer, seed: int = 0, **choices: object) -> VectorTransformer:
    fields: dict[str, object] = {
        "inputs": 4 * SIZE, "outputs": SIZE, "width": 4 * SIZE, "depth": len(mixers), "heads": 2, "head_width": 5,
        "mixers": [mixer.to_json() for mixer in mixers], "norm": "none", "feedforward": ["none"], "positions": "none",
        "embedding": "none", "readout": "first", "score_scale": "softmax_only", "weight_scale": 0.3, "context": LENGTH,
    }  # fmt: skip
    return build_model(VectorSpec.parse({"kind": "vector_decoder"} | fields | choices), Seed(seed)).eval()


def test_a_planted_step_has_its_rate_and_nothing_else():
    found = coefficients(products_of(one_step(0.25, SIZE, LENGTH))[0], SIZE)
    expected = [0.25 if term == "s_i (s_i-1 . s_t)" else 0.0 for term in TERMS]
    assert found.tolist() == expected


def test_a_step_from_other_weights_writes_the_second_term_too():
    # P W_v = (0, rate, -rate Phi_0): with Phi_0 = 2 I the value s_{i-1} counts -2 times as much.
    found = coefficients(products_of(one_step(0.5, SIZE, LENGTH, 2 * torch.eye(SIZE)))[0], SIZE)
    terms = dict(zip(TERMS, found.tolist(), strict=True))
    assert terms.pop("s_i (s_i-1 . s_t)") == 0.5
    assert terms.pop("s_i-1 (s_i-1 . s_t)") == -1.0
    assert set(terms.values()) == {0.0}


@pytest.mark.parametrize("value", [0, 1])
@pytest.mark.parametrize("key", [0, 1])
@pytest.mark.parametrize("query", [0, 1])
def test_every_term_is_the_weight_between_its_channels(value: int, key: int, query: int):
    model = one_step(0.0, SIZE, LENGTH)
    eye = torch.eye(SIZE)
    with torch.no_grad():
        decoder = model.model
        for matrix, place in (
            (decoder.matrix(0, "query"), query),
            (decoder.matrix(0, "key"), key),
            (decoder.matrix(0, "value"), value),
        ):
            matrix.zero_()
            matrix[:, (2 + place) * SIZE : (3 + place) * SIZE] = eye
        model.model.matrix(0, "output")[:SIZE] = 0.5 * eye
    found = coefficients(products_of(model)[0], SIZE)
    place = TERMS.index(f"{('s_i', 's_i-1')[value]} ({('s_i', 's_i-1')[key]} . {('s_t', 's_t-1')[query]})")
    assert found[place] == 0.5
    assert found.count_nonzero() == 1


def test_block_means_and_what_lies_outside():
    means = torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64)
    matrix = from_block_means(means, 2)
    torch.testing.assert_close(block_means(matrix, 2), means)
    assert off_diagonal(matrix, 2) == 0.0
    matrix[0, 1] += 13.0
    # Eight entries lie off the blocks' diagonals, the mean absolute block mean is 6.5 / 4.
    assert off_diagonal(matrix, 2) == pytest.approx(13.0 / 8 / (6.5 / 4))
    with pytest.raises(InvalidInput):
        block_means(matrix, 3)


@pytest.mark.parametrize("mixers", [(Linear(),), (Linear(), Linear()), (Mesa(),), (Mesa(strength=3.0), Linear())])
def test_a_network_of_products_is_the_network(mixers: tuple[AnyMixer, ...]):
    if any(isinstance(mixer, Mesa) and mixer != Mesa() for mixer in mixers):
        # lambda that training has moved, rather than another start.
        model = random_network(Mesa(), Linear())
        with torch.no_grad():
            next(model.model.block(0).self_attn.mixer.parameters()).fill_(2.0)
    else:
        model = random_network(*mixers)
    spec = model.model.spec
    assert isinstance(spec, VectorSpec)
    again = network(spec, products_of(model))
    torch.testing.assert_close(predictions(again, BATCH.inputs), predictions(model, BATCH.inputs), atol=1e-4, rtol=1e-4)


def test_products_of_grouped_heads_repeat_what_they_share():
    model = random_network(Linear(), heads=4, kv_heads=2)
    spec = model.model.spec
    assert isinstance(spec, VectorSpec)
    again = network(spec, products_of(model))
    torch.testing.assert_close(predictions(again, BATCH.inputs), predictions(model, BATCH.inputs), atol=1e-4, rtol=1e-4)


def test_compressing_a_planted_network_changes_nothing():
    batch = Dynamics(tokens="constructed").sample(16, Seed(1))
    step = one_step(0.03, 10, 50)
    torch.testing.assert_close(losses(compressed(step), batch), losses(step, batch))
    solver = PUBLISHED["linear/2"]
    deep, tokens = preconditioned(2, 10, 50), preconditioned_tokens(batch.observations, solver)
    torch.testing.assert_close(predictions(compressed(deep), tokens), predictions(deep, tokens), atol=1e-4, rtol=1e-4)


def test_compressing_a_random_network_keeps_its_block_means_only():
    model = random_network(Linear())
    before, after = products_of(model)[0], products_of(compressed(model))[0]
    torch.testing.assert_close(
        block_means(after.query_key, SIZE), block_means(before.query_key, SIZE), atol=1e-6, rtol=1e-5
    )
    assert off_diagonal(before.query_key, SIZE) > 0.1
    assert off_diagonal(after.query_key, SIZE) < 1e-6
    assert not torch.allclose(losses(compressed(model), BATCH), losses(model, BATCH))


@pytest.mark.parametrize("mixer", [Linear(), Mesa()])
def test_the_mean_of_a_network_with_itself_is_the_network(mixer: AnyMixer):
    model = random_network(mixer)
    spec = model.model.spec
    assert isinstance(spec, VectorSpec)
    products = products_of(model)
    mean = network(spec, interpolated_products(products, products))
    torch.testing.assert_close(predictions(mean, BATCH.inputs), predictions(model, BATCH.inputs), atol=1e-4, rtol=1e-4)


def test_the_mean_of_two_steps_averages_scores_and_outputs():
    # Rates 0.1 and 0.3 on the output side, equal scores: the mean network steps with 0.2.
    first, second = one_step(0.1, SIZE, LENGTH), one_step(0.3, SIZE, LENGTH)
    spec = first.model.spec
    assert isinstance(spec, VectorSpec)
    mean = network(spec, interpolated_products(products_of(first), products_of(second)))
    middle = one_step(0.2, SIZE, LENGTH)
    torch.testing.assert_close(predictions(mean, BATCH.inputs), predictions(middle, BATCH.inputs))


def test_networks_that_products_do_not_describe_are_refused():
    with pytest.raises(InvalidInput):
        products_of(random_network(Softmax()))
    with pytest.raises(InvalidInput):
        products_of(random_network(Linear(), feedforward=["relu"]))
    with pytest.raises(InvalidInput):
        interpolated_products(products_of(random_network(Linear())), products_of(random_network(Linear(), Linear())))
    embedded = one_step(0.1, SIZE, LENGTH, torch.eye(SIZE))
    spec = embedded.model.spec
    assert isinstance(spec, VectorSpec)
    with pytest.raises(InvalidInput):
        network(spec, products_of(embedded))
