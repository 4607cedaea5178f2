"""Equal sizes, positions, haste and translations measured on tiny models; the whole study at smoke scale."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from glassworks.core.events import EventLog
from glassworks.evidence.claims import Outcome, Scale
from glassworks.experiments.base import Bench
from glassworks.experiments.run import RunOptions, run_experiment
from glassworks.experiments.tree import blocks, branches, measure_blocks, measure_branches
from glassworks.experiments.tree.spec import FamilyTree
from glassworks.models.spec import EncoderDecoderSpec, TransformerSpec
from glassworks.models.transformer import build_model
from glassworks.tasks import Pairs
from glassworks.tensors.seeds import Seed
from glassworks.training.objectives import objective_of
from glassworks.training.store import History
from tests.assets import ROOT, asset


@pytest.fixture
def study(tmp_path):
    text = tmp_path / "book.txt"
    text.write_bytes(b"In the beginning was the word, and the word was small. " * 200)
    return FamilyTree.at(Scale.SMOKE).replaced_all({"text": str(text), "seeds": [0, 1]})


@pytest.mark.parametrize("label", blocks.BLOCKS)
def test_blocks_are_counted_right_and_equal_within_one_per_cent(label):
    laptop = FamilyTree.at(Scale.LAPTOP)
    model = blocks.block(laptop, label)
    built = build_model(model.replaced("depth", 1), Seed(0))
    assert blocks.parameters(model.replaced("depth", 1)) == sum(p.numel() for p in built.parameters())
    assert abs(blocks.parameters(model) / blocks.parameters(blocks.block(laptop, "llama")) - 1) < 0.01


def test_each_block_undoes_the_choice_it_is_named_for():
    laptop = FamilyTree.at(Scale.LAPTOP)
    ours = blocks.block(laptop, "llama")
    changed = {
        label: {
            name
            for name in TransformerSpec.model_fields
            if getattr(blocks.block(laptop, label), name) != getattr(ours, name) and name != "feedforward_width"
        }
        for label in blocks.BLOCKS
    }
    assert changed["llama"] == set()
    assert changed["layer norm"] == {"norm", "norm_epsilon"}
    assert changed["rms after"] == {"norm_placement", "final_norm"}
    assert changed["relu"] == changed["gelu"] == {"feedforward"}
    assert changed["alibi"] == changed["learned"] == changed["none"] == {"positions"}
    assert changed["2017"] >= {"norm", "norm_placement", "feedforward", "positions", "bias"}


def test_branches_have_equal_sizes():
    laptop = FamilyTree.at(Scale.LAPTOP)
    task = Pairs(source="a", target="b", held_out_source="c", held_out_target="d")
    sizes = [branches.count(branches.model_of(laptop, b, task)) for b in branches.BRANCHES if b != "encoder"]
    assert max(sizes) / min(sizes) - 1 < 0.01
    assert isinstance(branches.model_of(laptop, "encoder-decoder", task), EncoderDecoderSpec)


def test_bits_are_those_of_the_model_and_missing_beyond_a_learned_table(study):
    windows = measure_blocks.held_out(study, 0)
    assert windows.shape == (study.held_out, 4 * study.length + 1)
    free, table = (build_model(blocks.block(study, label), Seed(0)).eval() for label in ("none", "learned"))
    bits = measure_blocks.read(free, windows)
    with torch.no_grad():
        logits = free(input_ids=windows[:1, :-1]).logits[0]
    wanted = torch.nn.functional.cross_entropy(logits, windows[0, 1:], reduction="none") / math.log(2)
    torch.testing.assert_close(bits[0], wanted)
    short = measure_blocks.read(table, windows)
    assert torch.isfinite(short[:, : study.length]).all()
    assert torch.isnan(short[:, study.length :]).all()
    ends = (8, 16)
    assert measure_blocks.in_bins(bits, ends)[1] == pytest.approx(float(bits[:, 8:16].double().mean()))


def test_a_training_that_breaks_counts_as_knowing_nothing(study, tmp_path):
    wild = study.replaced_all({"rate": 1e30, "hasty_steps": 4})
    bench = Bench({}, tmp_path / "store", torch.device("cpu"), EventLog(), "blocks")
    history = measure_blocks.hasty_history(wild, bench, "llama", 0)
    assert measure_blocks.last_bits(history, 4) == measure_blocks.IGNORANT
    calm = History([0, 25, 50, 80, 99], {"loss": [9.0, 3.0, 2.0, 1.0, 2.0]})
    assert measure_blocks.last_bits(calm, 100) == pytest.approx(1.5 / math.log(2))


def test_greedy_goes_the_models_own_way_for_every_kind(study, tmp_path):
    (tmp_path / "lines").write_text("".join(f"line {n} of {'many ' * (n % 3)}lines\n" for n in range(30)))
    task = Pairs.of((tmp_path / "lines",) * 4, pieces=300, source_length=24, target_length=10)
    batch = task.first(5)
    for branch in ("decoder", "prefix decoder", "encoder-decoder"):
        spec = branches.model_of(study, branch, task)
        model, objective = build_model(spec, Seed(0)).eval(), objective_of(spec, task)
        written = measure_branches.greedy(model, objective, batch)
        # Fed what was written, the model would write it again.
        filled = batch.inputs.clone()
        filled[:, 24:] = written[:, :-1]
        told = type(batch)(filled, batch.targets, {}, real=batch.real | (torch.arange(33) >= 24), given=24)
        with torch.no_grad():
            again = objective.read(model, told, slice(None))[:, 23:].argmax(-1)
        assert written.shape == (5, 10)
        assert torch.equal(again, written), branch


def test_scores_of_parts_are_those_of_the_whole(study, tmp_path):
    (tmp_path / "lines").write_text("".join(f"line {n} of lines\n" for n in range(100)))
    task = Pairs.of((tmp_path / "lines",) * 4, pieces=300)
    spec = branches.model_of(study, "decoder", task)
    model, objective, batch = build_model(spec, Seed(0)).eval(), objective_of(spec, task), task.first(90)
    found = measure_branches.scores(model, objective, batch)
    with torch.no_grad():
        whole = objective.score(objective.read(model, batch, slice(None)), batch)
    assert found["loss/all"] == pytest.approx(whole["loss/all"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.nightly
def test_the_whole_study_runs_at_smoke_scale(tmp_path, study, monkeypatch):
    asset("bench/sent-conv/stsa.binary.train")
    asset("text/multi30k/train.en.gz")
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(ROOT))
    run = run_experiment(study.replaced("seeds", [0]), RunOptions(out=tmp_path, device="cpu"))
    assert {verdict.outcome for verdict in run.verdicts} == {Outcome.UNDECIDED}
    assert Path(run.run.path / "report.html").stat().st_size > 100_000
    found = run.measurements
    assert found["blocks_by_position"].values.shape == (12, 1, 16)
    assert np.isnan(found["blocks_by_position"].at(block="learned").values[:, 4:]).all()
    assert np.isfinite(found["branches_understanding"].values).all()
    assert np.isfinite(found["branches_translating"].values).all()
    assert (found["blocks_speed"].values > 0).all()
