"""Training in slices and steps, going back, edits, the guard against numbers without end, and the exported program."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassworks.core.errors import InvalidInput
from glassworks.studio.playground.data import make_data
from glassworks.studio.playground.history import Curve, History, Moment
from glassworks.studio.playground.program import program
from glassworks.studio.playground.settings import PlaygroundSettings
from glassworks.studio.playground.trainer import Trainer

ENDLESS = float("inf")


def trainer_of(**given: Any) -> Trainer:
    settings = PlaygroundSettings.parse({"seed": "0.40217"} | given)
    return Trainer(settings, make_data(settings))


def after(epochs: int, **given: Any) -> Trainer:
    trainer = trainer_of(**given)
    trainer.train(epochs, ENDLESS)
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize(
    "given", [{"batch_size": 30}, {"regularization": "L1", "regularization_rate": 0.1}, {"optimizer": "adam"}]
)
def test_steps_by_sample_and_batch_and_slices_end_where_whole_epochs_do(given: dict[str, Any]) -> None:
    whole, stepped, sliced = after(2, **given), trainer_of(**given), trainer_of(**given)
    for _ in range(7):
        stepped.step("sample")
    assert (stepped.epoch, stepped.sample, stepped.updates) == (0, 7, 0)
    stepped.step("batch")
    assert (stepped.sample, stepped.updates) == (given.get("batch_size", 10), 1)
    stepped.train(2, ENDLESS)
    while not sliced.train(2, time.perf_counter()):
        pass
    for other in (stepped, sliced):
        assert other.epoch == 2
        torch.testing.assert_close(other.weights, whole.weights, rtol=0, atol=1e-12)


def test_samples_after_the_last_full_batch_carry_their_gradient_into_the_next_epoch() -> None:
    points = [[1.0, 2.0, 1.0], [-1.0, 0.5, -1.0], [2.0, -1.0, 1.0], [0.3, 0.4, -1.0]]
    trainer = trainer_of(
        dataset="own",
        points=points,
        train_percent=99,
        batch_size=2,
        shape=[],
        problem="regression",
        regression_dataset="own",
    )
    rows = trainer.data.train
    assert len(rows) == 3
    w = trainer.first.numpy().copy()
    waiting: list[np.ndarray[Any, Any]] = []
    for _ in range(3):
        for number, (x, y, label) in enumerate(rows.tolist()):
            inputs = np.array([x, y, 1.0])
            waiting.append((w @ inputs - label) * inputs)
            if (number + 1) % 2 == 0:
                w -= 0.03 * np.mean(waiting, axis=0)
                waiting = []
    trainer.train(3, ENDLESS)
    np.testing.assert_allclose(trainer.weights.numpy(), w, atol=1e-14)
    assert trainer.state.carried == 1


@pytest.mark.slow
def test_a_weight_that_l1_takes_across_zero_is_zero_for_good_until_it_is_edited() -> None:
    trainer = after(40, regularization="L1", regularization_rate=0.3)
    alive = trainer.state.row("alive")
    frozen = alive == 0
    assert frozen.any()
    assert (trainer.weights[frozen] == 0).all()
    trainer.train(60, ENDLESS)
    assert (trainer.weights[frozen] == 0).all()
    matrix = trainer.layout.matrices(alive)[0]
    assert (matrix[:, -1] == 1).all()  # biases are never pulled
    layer, to, from_ = next(
        (n, *p) for n, m in enumerate(trainer.layout.matrices(alive)) for p in (m == 0).nonzero().tolist()
    )
    trainer.edit(layer, to, from_, 4.0)
    trainer.train(61, ENDLESS)
    assert trainer.layout.matrices(trainer.weights)[layer][to, from_] not in (0.0, 4.0)


@pytest.mark.slow
def test_going_back_gives_the_very_state_of_that_epoch() -> None:
    for given in ({}, {"optimizer": "adam", "batch_size": 30}):
        trainer = after(30, **given)
        trainer.back_to(20)
        assert trainer.epoch == 20
        assert torch.equal(trainer.weights, after(20, **given).weights)
        assert trainer.curve.rows()[-1][0] == 20
        trainer.train(30, ENDLESS)
        assert torch.equal(trainer.weights, after(30, **given).weights)


def test_a_history_stays_within_its_bound_and_keeps_every_one_of_the_last_epochs() -> None:
    history, table = History(capacity=16), torch.zeros(1, 1)
    for epoch in range(1000):
        history.keep(Moment(epoch, table, epoch, 0))
    assert (history.first, history.last, history.every) == (0, 999, 64)
    assert all(history.at(epoch) == Moment(epoch, table, epoch, 0) for epoch in range(980, 1000))
    moment = history.nearest(500)
    assert moment is not None
    assert moment.epoch in (448, 512)
    history.forget_after(100)
    assert history.at(10**6) == history.at(64)


def test_a_curve_is_sent_in_parts_and_whole_again_when_it_was_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassworks.studio.playground.history.MOST_ROWS", 10)
    curve = Curve()
    for epoch in range(8):
        curve.add(epoch, 1.0, 2.0)
    assert curve.unsent()[0] == 0
    curve.add(8, 1.0, 2.0)
    begin, rows = curve.unsent()
    assert (begin, rows.tolist()) == (8, [[8.0, 1.0, 2.0]])
    curve.forget_after(5)
    curve.add(6, 3.0, 3.0)
    begin, rows = curve.unsent()
    assert (begin, rows.tolist()) == (6, [[6.0, 3.0, 3.0]])
    for epoch in range(7, 12):
        curve.add(epoch, 1.0, 2.0)
    begin, rows = curve.unsent()
    assert (begin, rows[:, 0].tolist()) == (0, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "cause", "suggestion"),
    [
        ({"problem": "regression", "learning_rate": 10.0}, "rate", 3),
        ({"problem": "regression", "learning_rate": 0.3, "regularization": "L2", "regularization_rate": 10.0}, "regularization", 3),
        ({"dataset": "own", "points": [[1e6, 1, 1], [-1e6, 2, -1]] * 9, "activation": "linear"}, None, None),
        ({"problem": "regression", "regression_dataset": "own", "points": [[900, 1, 1], [-800, 2, -1]] * 9, "activation": "linear"}, "input", None),
    ],
)  # fmt: skip
def test_training_that_runs_away_stops_before_it_and_names_the_cause(
    given: dict[str, Any], cause: str | None, suggestion: float | None
) -> None:
    trainer = after(300, **({"activation": "relu"} | given))
    assert bool(torch.isfinite(trainer.weights).all())
    if cause is None:  # tanh at the output bounds every step
        assert trainer.trouble is None
        return
    assert trainer.trouble is not None
    assert (trainer.trouble.cause, trainer.trouble.suggestion) == (cause, suggestion)
    assert trainer.epoch == trainer.trouble.epoch - 1
    losses = trainer.losses()
    assert losses.train is not None
    assert losses.train < 1e12
    trainer.back_to(trainer.epoch - 10)
    assert trainer.trouble is None


@pytest.mark.slow
def test_dropout_changes_training_and_not_what_is_shown() -> None:
    plain, dropping = trainer_of(), trainer_of(dropout=0.5)
    assert plain.losses() == dropping.losses()
    for trainer in (plain, dropping):
        trainer.train(5, ENDLESS)
    assert not torch.equal(plain.weights, dropping.weights)
    assert torch.equal(dropping.weights, after(5, dropout=0.5).weights)


def test_an_edit_has_effect_at_once_and_places_that_are_not_there_are_refused() -> None:
    trainer = trainer_of()
    before = trainer.losses()
    trainer.edit(2, 0, None, -3.0)
    assert trainer.losses() != before
    assert trainer.layout.matrices(trainer.weights)[2][0, -1] == -3.0
    for layer, to, from_ in ((3, 0, 0), (0, 4, 0), (0, 0, 2), (2, 0, 2)):
        with pytest.raises(InvalidInput):
            trainer.edit(layer, to, from_, 1.0)


def test_without_points_nothing_can_be_learned_and_no_loss_is_invented() -> None:
    trainer = trainer_of(dataset="own")
    assert trainer.losses().train is None
    with pytest.raises(InvalidInput, match="no points"):
        trainer.train(1, ENDLESS)


@pytest.mark.slow
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"dataset": "arms", "classes": 3, "activation": "sine", "optimizer": "adam", "batch_size": 30, "features": ["x", "sinY"]},
        {"regularization": "L1", "regularization_rate": 0.03, "activations": ["step", "gelu"], "optimizer": "momentum", "batch_size": 7},
        {"problem": "regression", "regularization": "L2", "regularization_rate": 0.1, "shape": [], "features": []},
    ],
)  # fmt: skip
def test_the_exported_program_prints_the_losses_of_the_page(given: dict[str, Any], tmp_path: Path) -> None:
    trainer = after(12, **given)
    losses = trainer.losses()
    path = tmp_path / "network.py"
    path.write_text(program(trainer), encoding="utf-8")
    printed = subprocess.run([sys.executable, path], capture_output=True, text=True, check=True).stdout.splitlines()
    expected = f"training loss {losses.train:.6f}, test loss {losses.test:.6f}"
    assert printed[-1] == f"as on the page: {expected}"
    assert f"epoch 12: {expected}" in printed
