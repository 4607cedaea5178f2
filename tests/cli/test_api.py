import pytest

import glassworks as gw
from glassworks import catalog
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.shelf import Shelf
from glassworks.experiments.results import main_model
from tests.cli.folders import BIRTH, finished_run, stored_main_model


def test_the_catalogue_shows_every_shelf_and_knows_no_other():
    assert set(catalog.SHELVES) == {"mixers", "tasks", "evaluation", "instruments", "training", "experiments"}
    assert all(isinstance(shelf, Shelf) and shelf.kinds for shelf in catalog.SHELVES.values())
    assert catalog.offer()["experiments"] == ("birth", "painters", "mesa", "infini", "life", "scaling", "tree")
    assert "softmax" in catalog.offer()["mixers"]
    with pytest.raises(UnknownName) as caught:
        catalog.SHELVES["mixer"]
    assert caught.value.nearest == "mixers"


def test_results_come_from_a_folder_and_show_themselves(tmp_path):
    run = finished_run(tmp_path)
    for given in (run.path, BIRTH.digest(), "birth"):
        assert gw.results(given, out=tmp_path).run == run.path
    found = gw.results(run.path)
    assert found.report == run.report
    assert found.measurements["wide"].seeds == (0, 1)
    shown = found._repr_html_()
    assert "undecided" in shown
    assert all(verdict.claim in shown for verdict in found.verdicts)
    assert list(found.to_pandas()["value"]) == [0.5, 0.7]
    assert str(found).splitlines()[-1] == str(run.report)


def test_results_are_saved_as_page_or_table(tmp_path):
    found = gw.results(finished_run(tmp_path).path)
    assert found.save(tmp_path / "x.html").read_bytes() == b"<!doctype html>"
    assert "0.7" in found.save(tmp_path / "x.csv").read_text()
    assert found.save(tmp_path / "x.parquet").is_file()
    with pytest.raises(InvalidInput):
        found.save(tmp_path / "x.xlsx")


def test_an_unknown_setting_scale_or_experiment_is_named_from_python_too(tmp_path):
    with pytest.raises(UnknownName):
        gw.reproduce("brith", out=tmp_path)
    with pytest.raises(UnknownName):
        gw.reproduce("birth", scale="huge", out=tmp_path)
    with pytest.raises(gw.errors.GlassworksError, match="widht"):
        gw.reproduce("birth", scale="smoke", out=tmp_path, widht=3)
    assert list(tmp_path.iterdir()) == []


def test_the_main_model_of_a_run_is_the_first_that_it_trains(tmp_path):
    run = finished_run(tmp_path)
    stored = stored_main_model(tmp_path)
    assert main_model(BIRTH, run) == stored
    with pytest.raises(AttributeError):
        gw.reprdouce  # noqa: B018 - asking is the test


@pytest.mark.slow
@pytest.mark.nightly
def test_a_run_at_smoke_scale_from_python_can_be_taken_up_again(tmp_path, capsys):
    first = gw.reproduce("birth", scale="smoke", only=["main"], out=tmp_path, device="cpu")
    again = gw.reproduce("birth", scale="smoke", only=["main"], out=tmp_path, device="cpu", progress=False)
    assert first.run == again.run
    assert first.report.is_file()
    assert "trainings" in capsys.readouterr().err
    assert gw.load(first.run).world is not None
