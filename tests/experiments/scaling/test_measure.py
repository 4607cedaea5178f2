import numpy as np
import pytest

from glassworks.evidence.claims import Outcome, Scale
from glassworks.experiments.run import RunOptions, run_experiment
from glassworks.experiments.scaling.fitting import Points, fit_law
from glassworks.experiments.scaling.measure_compression import compressors
from glassworks.experiments.scaling.measure_families import cell_of, operations_per_byte, points_of
from glassworks.experiments.scaling.spec import Scaling
from glassworks.experiments.scaling.trainings import Cell, bytes_of, cells, parameters_of, trainings
from tests.experiments.scaling.scaling_numbers import LAW, STUDY, grid, losses


def test_each_budget_begins_one_size_later_and_labels_name_their_cell():
    grid_cells = cells(STUDY)
    assert len(grid_cells) == 20
    assert [cell.shape for cell in grid_cells if cell.budget == 2] == [2, 3, 4, 5, 6]
    assert cell_of("2-5/1") == (Cell(2, 5), 1)
    assert Cell(2, 5).label == "2-5"


def test_every_cell_of_the_laptop_scale_spends_its_budget():
    for cell in cells(STUDY):
        spent = 6 * parameters_of(STUDY.shapes[cell.shape]) * bytes_of(STUDY, cell)
        assert spent == pytest.approx(STUDY.budgets[cell.budget], rel=2e-3)


def test_every_training_is_a_point_of_the_fit_and_gaps_are_none():
    values = losses(noise=0.0)
    points = points_of(values, grid().values)
    assert len(points.loss) == 3 * 15 + 5
    found = fit_law(Points(points.parameters, points.tokens, points.loss), LAW.unit)
    np.testing.assert_allclose(found.numbers(), LAW.numbers(), rtol=1e-4)


def test_operations_of_attention_grow_with_the_length():
    shape = STUDY.shapes[0]
    short, long = (operations_per_byte(shape, 1000, length) for length in (1, 129))
    assert short == 6000 + 12 * shape.depth * shape.width
    assert long - 6000 == 65 * (short - 6000)


def test_compressors_make_a_repeated_text_small_and_absent_ones_are_none():
    data = b"a stitch in time saves nine. " * 200
    for name, tool in compressors().items():
        assert name == "zstd" or tool is not None
        assert tool is None or tool(data) < len(data) / 20


def test_trainings_end_their_cosine_with_their_steps_and_cost_their_budget(tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(b"once upon a time " * 400)
    study = Scaling.at(Scale.SMOKE).replaced("text", str(text))
    assert trainings(study, "published") == {}
    found = trainings(study, "families")
    assert found == trainings(study, "compression")
    assert sorted(found) == ["0-0/0", "0-1/0", "0-2/0", "1-1/0", "1-2/0", "1-3/0"]
    for spec in found.values():
        assert spec.schedule.until == spec.steps
        assert spec.schedule.final == pytest.approx(spec.optimiser.rate / 10)
    by_width = {spec.model.width: spec.optimiser.rate for spec in found.values()}
    assert by_width[8] == pytest.approx(2 * by_width[16])


@pytest.mark.slow
def test_a_smoke_run_ends_in_a_report_that_decides_nothing(tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(b"".join(f"story {n}: a cat met {n % 7} mice and ran. ".encode() for n in range(2000)))
    study = Scaling.at(Scale.SMOKE).replaced("text", str(text))
    outcome = run_experiment(study, RunOptions(out=tmp_path, device="cpu"))
    assert {verdict.outcome for verdict in outcome.verdicts} == {Outcome.UNDECIDED}
    assert (outcome.run.path / "report.html").stat().st_size > 50_000
    found = outcome.measurements
    assert found["scaling_loss"].values.shape == (2, 3, 1)
    assert np.isfinite(found["scaling_loss"].values).all()
    coding = found["coding"]
    assert coding.at(number="wrong_bytes").values == 0
    ideal, code = (float(coding.at(number=number).values) for number in ("ideal_bits", "code_bits"))
    assert ideal - 1 <= code <= 1.01 * ideal + 16
    again = run_experiment(study, RunOptions(out=tmp_path, device="cpu"))
    assert [verdict.outcome for verdict in again.verdicts] == [verdict.outcome for verdict in outcome.verdicts]
