"""The pieces of a sweep, scored by other processes."""

from pathlib import Path

import pytest

from glassworks.core.errors import InvalidInput
from glassworks.executors import Local
from glassworks.surgery.choice import SweepChoice
from glassworks.surgery.elsewhere import model_elsewhere, opened, score
from glassworks.surgery.sweep import SweepOptions, SweepOrder, run_sweep
from tests.surgery.letters import lettered, lettered_folder, perplexity


def test_a_live_model_cannot_be_sent_to_other_processes():
    with pytest.raises(InvalidInput, match="live model"):
        model_elsewhere(lettered(), None)


def test_a_model_is_named_by_its_folder_wherever_it_was_typed(tmp_path):
    lettered_folder(tmp_path / "letters")
    subject = opened(str(tmp_path / "letters"))
    assert model_elsewhere(subject, "letters", device="cpu") == {"source": str(tmp_path / "letters"), "device": "cpu"}
    assert model_elsewhere(lettered(), "some/name") == {"source": "some/name"}


@pytest.mark.slow
def test_a_sweep_by_two_processes_has_the_same_rows_bit_for_bit(tmp_path):
    lettered_folder(tmp_path / "letters")
    subject = opened(str(tmp_path / "letters"))
    choice = SweepChoice(plans="skip,reverse", evals=perplexity(tmp_path), seeds=2)
    tables: list[bytes] = []
    for place, executor in (("here", None), ("local", Local(workers=2))):
        model = model_elsewhere(subject, None)
        options = SweepOptions(out=tmp_path / place, tokens_per_piece=48, executor=executor, model=model)
        done = run_sweep(SweepOrder.of(subject, choice), options)
        tables.append((done.run.path / "tables" / "rows.csv").read_bytes())
        assert done.run.verify() == []
    assert tables[0] == tables[1]


def test_a_worker_that_reads_another_model_refuses_to_score(tmp_path):
    lettered_folder(tmp_path / "letters")
    choice = SweepChoice(plans="skip", evals=perplexity(tmp_path))
    with pytest.raises(InvalidInput, match="not the same here"):
        score({"source": str(tmp_path / "letters")}, choice.to_json(), "0" * 16, str(Path()), ["x", 0])
