"""The whole mesa study at smoke scale: every part trains, measures, is drawn and told, in both languages, and goes on."""

import pytest

from glassworks.core.runs import RunFolder
from glassworks.evidence.claims import Outcome, Scale
from glassworks.experiments import MesaOptimization
from glassworks.experiments.mesa.claims import CLAIMS
from glassworks.experiments.run import RunOptions, run_experiment


@pytest.mark.slow
@pytest.mark.nightly
def test_a_smoke_run_ends_in_a_whole_report_and_the_next_one_repeats_nothing(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("to be, or not to be: that is the question. " * 60, encoding="utf-8")
    study = MesaOptimization.at(Scale.SMOKE).replaced("text", str(text))
    first = run_experiment(study, RunOptions(out=tmp_path, only=("one-layer", "language")))
    whole = run_experiment(study, RunOptions(out=tmp_path))
    assert whole.run.path == first.run.path
    assert RunFolder.open(whole.run.path).verify() == []
    # Nothing is decided at this scale, and nothing is missing either.
    assert {verdict.outcome for verdict in whole.verdicts} == {Outcome.UNDECIDED}
    assert len(whole.verdicts) == len(CLAIMS)
    assert not any("not measured" in verdict.because.en for verdict in whole.verdicts)
    report = (whole.run.path / "report.html").read_text(encoding="utf-8")
    for part in ("one-layer-study", "deep-study", "binding-study", "few-shot-study", "control-study", "language-study"):
        assert f'id="{part}"' in report
    assert "一层，一步" in report or "一个层" in report or "语言" in report
    trained = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/done.json")}
    again = run_experiment(study, RunOptions(out=tmp_path))
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "store").glob("*/done.json")} == trained
    assert [v.to_json() for v in again.verdicts] == [v.to_json() for v in whole.verdicts]
