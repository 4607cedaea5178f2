import math
import sys

import pytest
import torch
from benchmarks.environments import ENVIRONMENTS, NotInstalled
from benchmarks.peers import SUITES
from benchmarks.sides import Side, WorkerFailed, largest_difference, rows_of

from benchmarks import environments, sides

MIXER = {"batch": 1, "heads": 2, "width": 4, "tokens": 8}


def saved(path, **tensors):
    torch.save(tensors, path)
    return path


def test_a_difference_is_a_share_of_the_largest_number_of_each_tensor(tmp_path):
    ours = saved(tmp_path / "a", x=torch.tensor([100.0, 1.0]), y=torch.tensor([0.5]))
    theirs = saved(tmp_path / "b", x=torch.tensor([100.0, 2.0]), z=torch.tensor([9.0]))
    assert largest_difference(ours, theirs) == (pytest.approx(0.01), 1)


def test_a_number_that_is_none_is_a_difference(tmp_path):
    ours, theirs = (
        saved(tmp_path / name, x=torch.tensor([value, 1.0])) for name, value in (("a", torch.nan), ("b", 0.0))
    )
    assert largest_difference(ours, theirs)[0] == math.inf


def test_results_without_a_name_in_common_are_no_comparison(tmp_path):
    with pytest.raises(WorkerFailed, match="no result in common"):
        largest_difference(saved(tmp_path / "a", x=torch.ones(1)), saved(tmp_path / "b", y=torch.ones(1)))


def test_a_peer_that_cannot_be_installed_is_a_row_that_says_why(monkeypatch):
    def refuse(_):
        raise NotInstalled("no matching distribution")

    monkeypatch.setattr(sides, "ready", refuse)
    duel = SUITES["peer-mixers"][0]
    (found,) = rows_of(duel, 1)
    assert found.ratio is None
    assert found.reason == "not installed: no matching distribution"


def test_what_the_installer_says_last_is_the_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("GLASSWORKS_BENCH", str(tmp_path))
    with pytest.raises(NotInstalled, match="boom"):
        environments._run([sys.executable, "-c", "raise SystemExit('boom')"])


def test_an_environment_that_was_cut_off_is_not_ready(monkeypatch, tmp_path):
    monkeypatch.setenv("GLASSWORKS_BENCH", str(tmp_path))
    one = ENVIRONMENTS["infini"]
    one.python.parent.mkdir(parents=True)
    one.python.touch()
    assert not one.is_ready


def test_every_comparison_names_an_environment_and_modules_that_exist():
    workers = environments.ROOT / "benchmarks" / "workers"
    for duel in (duel for suite in SUITES.values() for duel in suite):
        assert duel.environment in ENVIRONMENTS
        assert (workers / f"{duel.ours[0]}.py").is_file()
        assert (workers / f"{duel.theirs[0]}.py").is_file()


def test_what_runs_in_a_peers_environment_imports_nothing_of_ours():
    workers = environments.ROOT / "benchmarks" / "workers"
    theirs = {duel.theirs[0] for suite in SUITES.values() for duel in suite} | {"harness", "drawn", "sites", "written"}
    assert [name for name in sorted(theirs) if "glassworks" in (workers / f"{name}.py").read_text("utf-8")] == []


@pytest.mark.slow
def test_a_worker_answers_and_tells_of_its_failures(tmp_path):
    asked = {"folder": str(tmp_path), "options": MIXER}
    with Side(sys.executable, "our_mixers") as side:
        side.ask("load", job="prepare", **asked)
        assert side.ask("load", job="linear", **asked)["seconds"] > 0
        assert side.ask("answer", path=str(tmp_path / "out.pt"))["tensors"] == 4
        assert side.ask("run", times=2)["seconds"] > 0
        assert side.ask("peak")["peak"] > 50
        with pytest.raises(WorkerFailed, match="KeyError"):
            side.ask("load", job="nothing", **asked)
        assert side.ask("run", times=1)["seconds"] > 0


@pytest.mark.slow
def test_a_worker_that_dies_is_a_failure_with_its_last_words():
    with Side(sys.executable, "no_such_module") as side, pytest.raises(WorkerFailed, match="no_such_module"):
        side.ask("load", job="x", folder="", options={})
