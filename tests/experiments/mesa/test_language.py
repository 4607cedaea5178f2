import numpy as np
import pytest
import torch

from glassworks.core.errors import NotFound
from glassworks.core.events import EventLog
from glassworks.evidence.claims import Scale
from glassworks.experiments.base import Bench
from glassworks.experiments.mesa import language
from glassworks.experiments.mesa.spec import MesaOptimization
from glassworks.experiments.mesa.trainings import trainings
from glassworks.mixers.mesa import Mesa, Solve
from glassworks.models import TransformerSpec, build_model
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import TrainingOptions, train

SPEC = TransformerSpec(vocabulary=256, width=8, depth=2, heads=2, context=32)
WINDOWS = torch.randint(256, (5, 33), generator=Seed(3).generator())


def test_a_model_that_knows_nothing_needs_eight_bits_per_byte() -> None:
    model = build_model(SPEC, Seed(0)).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    found = language.read(model, WINDOWS)
    assert found.bits.shape == (5, 32)
    torch.testing.assert_close(found.bits, torch.full((5, 32), 8.0))
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.solve is None


def test_a_solver_in_the_model_is_reported_with_its_worst_residual() -> None:
    gated = Mesa(regulariser="diagonal", floor=0.25, keep="data_only", write=True, iterations=2)
    spec = SPEC.replaced_all({"mixers": [{"kind": "softmax"}, gated.to_json()]})
    found = language.read(build_model(spec, Seed(0)).eval(), WINDOWS)
    assert found.solve is not None
    assert found.solve.iterations == 2
    worse = Solve(iterations=1, residual=1.0, converged=False)
    model = build_model(spec, Seed(0)).eval()
    assert language.worst_solve(model, worse) is worse
    assert language.worst_solve(model, None) is None


def test_bits_are_those_of_the_byte_that_follows() -> None:
    model = build_model(SPEC, Seed(0)).eval()
    law = model(input_ids=WINDOWS[:, :-1]).logits.log_softmax(-1)
    expected = -law[2, 7, WINDOWS[2, 8]] / np.log(2)
    torch.testing.assert_close(language.read(model, WINDOWS).bits[2, 7], expected)


def test_a_copy_head_has_all_its_mass_one_back() -> None:
    maps = torch.zeros(2, 3, 20, 20)
    maps[:, 0] = torch.diag_embed(torch.ones(19), offset=-1)
    maps[:, 1] = torch.tril(torch.ones(20, 20)) / torch.arange(1, 21)[:, None]
    maps[:, 2, :, 0] = 1.0
    mass = language.mass_by_distance(maps)
    torch.testing.assert_close(mass[0], torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0]))
    torch.testing.assert_close(mass[2], torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]))
    torch.testing.assert_close(mass.sum(1), torch.ones(3))
    even = torch.tensor([1 / (query + 1) for query in range(8, 20)]).mean()
    torch.testing.assert_close(mass[1, :4], even.expand(4))


def test_the_score_of_learning_in_context_is_late_minus_early() -> None:
    falling = np.linspace(5, 4, 100).reshape(1, 1, 1, 100)
    score = language.late_minus_early(falling)
    assert score.shape == (1, 1)
    assert score == pytest.approx(falling[0, 0, 0, 90:].mean() - falling[0, 0, 0, 5:15].mean())
    assert language.late_minus_early(np.ones((2, 3, 4, 2))).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("length", [1, 7, 16, 250])
def test_bins_hold_all_positions_and_keep_their_mean(length: int) -> None:
    bits = np.random.default_rng(0).random((2, 1, 3, length))
    places, found = language.in_bins(bits)
    assert len(places) == min(language.BINS, length) == found.shape[-1]
    assert places[-1] == length
    sizes = np.diff([0, *places])
    assert (found * sizes).sum(-1) / length == pytest.approx(bits.mean((-1, -2)))


def test_sizes_are_said_and_the_worst_solve_too() -> None:
    assert "all models have 1,000" in language.sizes({"a": 1000, "b": 1000}).en
    assert "a 1,000, b 1,001" in language.sizes({"a": 1000, "b": 1001}).en

    def reading(solve: Solve | None) -> language.Reading:
        return language.Reading(torch.zeros(1, 1), torch.zeros(1, 5), 1, solve)

    told = language.solves(
        {
            ("exact", 0): reading(None),
            ("gated", 0): reading(Solve(iterations=9, residual=1e-5, converged=True)),
            ("gated", 1): reading(Solve(iterations=30, residual=2e-2, converged=False)),
        }
    )
    assert [text.en for text in told] == [
        "gated solves by conjugate gradient: after 30 steps the largest relative residual of a byte is 2.0e-02",
        "gated did not reach the solver's tolerance everywhere",
    ]


def test_the_study_is_measured_end_to_end(tmp_path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat; " * 200, encoding="utf-8")
    study = MesaOptimization.at(Scale.SMOKE).replaced("text", str(text))
    trained = {
        label: train(spec, TrainingOptions(store=tmp_path / "store", label=label), EventLog())
        for label, spec in trainings(study, "language").items()
    }
    bench = Bench(trained, tmp_path, torch.device("cpu"), EventLog(), "language")
    found = {m.name: m for m in language.measure(study, bench)}
    models = ("softmax", "linear", "mesa", "gated mesa")
    for name, dims in (
        ("language_loss", ("model", "seed", "part")),
        ("language_by_position", ("model", "seed", "position")),
        ("language_icl", ("model", "seed")),
        ("language_copy", ("model", "head", "seed", "back")),
    ):
        assert found[name].dims == dims
        assert found[name].coords["model"] == models
        assert np.isfinite(found[name].values).all()
    assert found["language_loss"].values.mean() == pytest.approx(found["language_by_position"].values.mean())
    assert found["language_copy"].values.sum(-1) == pytest.approx(1.0)
    assert found["language_copy"].coords["back"] == ("0", "1", "2", "3", "others")
    caveats = [caveat.en for caveat in found["language_loss"].caveats]
    # Forgetting that takes the regulariser along has an exact solution, so there is no solver to speak of.
    assert len(caveats) == 1
    assert "parameters" in caveats[0]


def test_a_text_that_is_nowhere_is_named() -> None:
    study = MesaOptimization.at(Scale.SMOKE).replaced("text", "nowhere-at-all.txt")
    with pytest.raises(NotFound, match="nowhere-at-all"):
        trainings(study, "language")
