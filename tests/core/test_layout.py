"""What is written about the folders is what lies in them."""

from pathlib import Path

import pytest

from glassworks.core import layout


def test_a_file_that_no_line_speaks_of_is_named(tmp_path):
    (tmp_path / "figures").mkdir()
    for name in ("spec.json", "stray.bin", "figures/one.light.svg"):
        (tmp_path / name).touch()
    assert layout.unknown(tmp_path, layout.RUN) == ["stray.bin"]
    assert "report.html" in layout.missing(tmp_path, layout.RUN)
    assert "spec.json" not in layout.missing(tmp_path, layout.RUN)


@pytest.mark.slow
def test_a_run_and_its_models_hold_the_files_that_are_told_of(smoke_run):
    run: Path = smoke_run.run.path
    assert layout.unknown(run, layout.RUN) == []
    assert layout.missing(run, layout.RUN) == []
    trained = [path for path in (run.parents[2] / "store").iterdir() if path.is_dir()]
    assert trained
    for folder in trained:
        assert layout.unknown(folder, layout.TRAINED) == []
        assert layout.missing(folder, layout.TRAINED) == []
