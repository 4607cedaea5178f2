"""The engine's hand-written passes against modules, autograd and torch.optim."""

from itertools import product
from typing import Any, get_args

import pytest
import torch

from glassworks.studio.playground.data import make_data
from glassworks.studio.playground.settings import ActivationName, PlaygroundSettings
from glassworks.studio.playground.trainer import Trainer
from tests.studio.playground.plain import Plain

SETS = ("circle", "xor", "gauss", "spiral", "reg-plane", "reg-gauss")
REGULARIZATIONS = {"none": 0.0, "L1": 0.03, "L2": 0.03}


def settings_of(dataset: str, **others: Any) -> PlaygroundSettings:
    which = "regression_dataset" if dataset.startswith("reg-") else "dataset"
    problem = "regression" if dataset.startswith("reg-") else "classification"
    return PlaygroundSettings.parse({"seed": "0.40217", "problem": problem, which: dataset} | others)


def assert_equal_after(settings: PlaygroundSettings, epochs: int) -> Trainer:
    data = make_data(settings)
    engine = Trainer(settings, data)
    plain = Plain(settings, data, engine.layout.matrices(engine.first))
    for _ in range(epochs):
        plain.epoch()
    engine.train(epochs, float("inf"))
    assert engine.epoch == epochs
    assert (engine.weights - plain.weights()).abs().max() < 1e-6
    found = engine.losses()
    assert (found.train, found.test) == pytest.approx(plain.losses(), abs=1e-6)
    return engine


def test_two_epochs_equal_a_plain_loop() -> None:
    # 30 does not divide 250: the rest carries its gradient on.
    assert_equal_after(settings_of("circle", activations=["gelu", "tanh"], shape=[3, 2], batch_size=30), 2)


PAIRS = list(product(SETS, get_args(ActivationName)))


def _turn(dataset: str, activation: str, sets: int = 1) -> int:
    return sets * SETS.index(dataset) + get_args(ActivationName).index(activation)


# Every third with each set, each activation and each regularisation at least once; the others nightly.
SOME_PAIRS = [pytest.param(*pair, marks=() if _turn(*pair, sets=2) % 3 == 0 else pytest.mark.nightly) for pair in PAIRS]


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "activation"), SOME_PAIRS)
def test_a_hundred_epochs_equal_a_plain_loop_with_every_activation(dataset: str, activation: str) -> None:
    # Each set meets each activation and each regularisation, and each activation each regularisation.
    kind, rate = list(REGULARIZATIONS.items())[_turn(dataset, activation) % len(REGULARIZATIONS)]
    others = {"batch_size": 30, "noise": 10, "regularization": kind, "regularization_rate": rate}
    assert_equal_after(settings_of(dataset, activation=activation, **others), 100)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize(("dataset", "activation"), PAIRS)
def test_a_hundred_epochs_equal_a_plain_loop_with_every_regularisation(dataset: str, activation: str) -> None:
    for kind, rate in REGULARIZATIONS.items():
        others = {"batch_size": 30, "noise": 10, "regularization": kind, "regularization_rate": rate}
        assert_equal_after(settings_of(dataset, activation=activation, **others), 100)


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "regularization"), list(product(("momentum", "adam"), REGULARIZATIONS)))
@pytest.mark.parametrize(
    "dataset", ["spiral", *(pytest.param(one, marks=pytest.mark.nightly) for one in ("reg-gauss", "blobs"))]
)
def test_a_hundred_epochs_equal_a_plain_loop_with_other_optimizers(
    dataset: str, optimizer: str, regularization: str
) -> None:
    rates = {"learning_rate": 0.003, "regularization_rate": REGULARIZATIONS[regularization]}
    others = {"optimizer": optimizer, "regularization": regularization, "batch_size": 20}
    assert_equal_after(settings_of(dataset, **rates, **others), 100)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [3, 4, 5])
def test_several_classes_equal_softmax_and_cross_entropy(classes: int) -> None:
    for dataset in ("rings", "blobs", "arms"):
        engine = assert_equal_after(settings_of(dataset, classes=classes, activations=["gelu", "sine"]), 100)
        assert engine.layout.sizes[-1] == classes


@pytest.mark.slow
def test_deep_nets_no_hidden_layer_and_all_features_equal_a_plain_loop() -> None:
    features = ["x", "y", "xSquared", "ySquared", "xTimesY", "sinX", "sinY", "cosX", "cosY"]
    rates = {"learning_rate": 0.001, "batch_size": 25}
    for shape in ([], [1], [32] * 12, [8, 7, 6, 5, 4, 3]):
        assert_equal_after(settings_of("xor", shape=shape, features=features, **rates), 10)


def test_each_slope_is_the_derivative_that_autograd_finds() -> None:
    from glassworks.studio.playground.activations import ACTIVATIONS
    from tests.studio.playground.plain import MODULES

    sums = torch.linspace(-4, 4, 81, dtype=torch.float64, requires_grad=True)
    for name, activation in ACTIVATIONS.items():
        said = MODULES[name](sums)
        (slope,) = torch.autograd.grad(said.sum(), sums)
        outputs, slopes = torch.empty_like(said), torch.empty_like(said)
        activation.apply(sums.detach(), outputs)
        activation.slope(sums.detach(), outputs, slopes)
        torch.testing.assert_close(outputs, said.detach(), rtol=0, atol=1e-14)
        torch.testing.assert_close(slopes, slope, rtol=0, atol=1e-14)
