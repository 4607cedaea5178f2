"""The studies of Painters on models small enough for a test, its figures and its report."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from glassworks.anatomy import Alphabet, Subject
from glassworks.core.errors import InvalidSpec, NotFound
from glassworks.core.events import EventLog, Progressed
from glassworks.evaluation import Perplexity, evaluate
from glassworks.evidence.claims import Evidence, Outcome, Scale, judge
from glassworks.evidence.measurements import load_measurements
from glassworks.experiments import EXPERIMENTS, Painters
from glassworks.experiments.base import Bench
from glassworks.experiments.painters.measure import beside, start_near
from glassworks.experiments.painters.tables import Strategies, Table
from glassworks.experiments.run import RunOptions, run_experiment
from glassworks.models.load import load
from glassworks.report.page import Page
from glassworks.report.render import render
from glassworks.surgery.operate import operated
from tests.assets import asset, gallery_model
from tests.experiments.painters_numbers import everything
from tests.families import VOCABULARY, tiny

LAYERS = 7
SIGNS = tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,:;?!-(")[:VOCABULARY]


@pytest.fixture(scope="module")
def painters(tmp_path_factory: pytest.TempPathFactory) -> Painters:
    """The smoke settings on a tiny random decoder that reads what it wrote itself, so that it is better than chance."""
    folder = tmp_path_factory.mktemp("tiny")
    model = tiny("llama", layers=LAYERS)
    model.save_pretrained(folder)
    (folder / "world.json").write_text(json.dumps({"alphabet": SIGNS}))
    subject = Subject.of(model, Alphabet(SIGNS))
    # Each window of 24 is what the model says after the token before it.
    ids = [0]
    for seed in range(12):
        ids += subject.generate([ids[-1:]], 24, temperature=0.3, seed=seed)[0, 1:].tolist()
    text = folder / "text.txt"
    text.write_text("".join(SIGNS[token] for token in ids))
    return Painters.at(Scale.SMOKE).replaced("decoder", str(folder)).replaced("text", str(text)).replaced("window", 24)


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench({}, tmp_path / "store", torch.device("cpu"), EventLog(), "study")


def evidence(found) -> Evidence:
    return Evidence({one.name: one for one in found}, Scale.SMOKE)


def test_a_plans_parts_sum_to_its_normalised_score(painters, bench):
    table = Table.of(evidence(painters.measure("single", bench)), "single")
    subject = load(painters.decoder)
    prepared = Perplexity(text_file=painters.text, window=painters.window, limit=painters.windows).prepare(subject)
    whole = evaluate(subject, prepared)["nll"].value
    with operated(subject, "0..2 4..6"):
        cut = evaluate(subject, prepared)["nll"].value
    assert whole < prepared.chance
    assert table.quantity("full") == pytest.approx(whole, abs=1e-5)
    expected = (cut - prepared.chance) / (whole - prepared.chance)
    assert table.scores(strategy="skip_one", layer=3) == pytest.approx(expected, abs=1e-4)
    assert table.value(expected) == pytest.approx(cut)
    assert table.full.sum() == pytest.approx(1.0)


def test_with_two_layers_in_the_middle_reverse_and_switch_are_one_plan(painters, bench):
    found = evidence([*painters.measure("single", bench), *painters.measure("strategies", bench)])
    strategies, single = Strategies.of(found, "strategies"), Table.of(found, "single")
    assert strategies.affected.tolist() == [2, 4, 6]
    assert strategies.scores("reverse")[0] == pytest.approx(single.scores(strategy="switch", layer=3), abs=1e-6)
    assert strategies.random.parts.seeds == painters.seeds


def test_an_equal_sweep_is_found_and_not_run_again(painters, bench):
    heard = []
    bench.events.listen(heard.append)
    first = painters.measure("order", bench)
    assert {event.label.split(":")[0] for event in heard} == {"study"}
    assert all(isinstance(event, Progressed) for event in heard)
    heard.clear()
    again = painters.measure("order", bench)
    assert heard == []
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.values, other.values, equal_nan=True)


def test_the_exact_cache_decodes_as_without_one_and_the_averaged_one_does_not(painters, bench):
    found = evidence(painters.measure("cache", bench))
    nats, checks = found["cache"], found["fidelity"]
    assert checks.at(check="identity plan").values == checks.at(check="after plans").values == 0.0
    assert checks.at(check="decoding").values < 2e-4
    exact, mean = (nats.at(mode=mode).values for mode in ("exact", "mean"))
    assert np.allclose(exact, nats.at(mode="uncached").values, atol=1e-4)
    assert np.abs(mean - exact).max() > 1e-3


def test_loops_one_is_the_scaled_step_with_factor_one(painters, bench):
    found = evidence([*painters.measure("loops", bench), *painters.measure("strategies", bench)])
    loops, strategies = Table.of(found, "loops"), Strategies.of(found, "strategies")
    # Both studies score the first windows of the same text here.
    assert loops.scores(loops=1) == pytest.approx(strategies.scores("parallel"), abs=1e-6)
    assert loops.scores(loops=3) == pytest.approx(strategies.scores("looped"), abs=1e-6)


def test_a_control_keeps_as_many_layers_none_of_them_the_sinks():
    assert beside((2, 11, 28, 29), 30) == (3, 12, 26, 27)
    assert beside((), 30) == ()
    assert beside((1, 2, 3), 4) == ()


@pytest.mark.parametrize(
    ("depth", "middle", "start"), [(30, 7.5, 11), (30, 15, 7), (32, 8, 11), (5, 1.25, 1), (2, 1, 0)]
)
def test_the_start_nearest_to_a_middle(depth, middle, start):
    assert start_near(depth, middle) == start


def test_a_missing_model_is_named_with_the_command_that_fetches_it_before_any_work(tmp_path):
    missing = Painters.at(Scale.PAPER)
    with pytest.raises(NotFound) as problem:
        run_experiment(missing, RunOptions(out=tmp_path, only=("single",)))
    assert problem.value.next_command == "glassworks models get llama-2-7b"
    assert not (tmp_path / "store").exists()


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InvalidSpec, match="loop counts"):
        Painters().replaced("loops", [2, 3])
    with pytest.raises(InvalidSpec, match="3"):
        Painters().replaced("loops", [1, 2])


def test_less_effort_is_a_smaller_scale():
    assert EXPERIMENTS["painters"] is Painters
    assert [Painters.at(scale).reached_scale() for scale in Scale] == list(Scale)
    assert Painters().replaced("windows", 4).reached_scale() is Scale.SMOKE
    assert Painters().replaced("windows", 100).reached_scale() is Scale.LAPTOP


@pytest.mark.slow
def test_every_figure_and_every_sentence_of_the_report_can_be_made_from_numbers():
    found = everything()
    settings = Painters()
    figures = {figure.name: figure for figure in settings.draw(found)}
    sections = settings.sections(found, figures)
    shown = [figure.name for section in sections for figure in section.figures]
    assert sorted(shown) == sorted(figures)
    assert len(shown) >= 23
    page = Page(
        figures["loop-map"].title,
        summary=tuple(settings.summary(found)),
        sections=tuple(replace(section, figures=()) for section in sections),
        limits=tuple(settings.limits()),
    )
    assert "question-8" in render(page)
    assert {table.key for section in sections for table in section.tables} == {
        "plateau", "retained", "cuts", "benchmarks", "areas", "nats", "kept-in-place",
    }  # fmt: skip


def test_the_loop_map_frames_the_best_count_of_each_row():
    [figure] = [one for one in Painters().draw(everything()) if one.name == "loop-map"]
    assert figure.png() != b""
    assert '"3"' in json.dumps(figure.table["row"])


def test_the_published_numbers_stand_beside_ours_only_for_the_papers_model():
    measured = everything().measurements
    tasks = Evidence({name: one for name, one in measured.items() if name.startswith("tasks_")}, Scale.PAPER)

    def keys(decoder: str) -> set[str]:
        return {t.key for section in Painters(decoder=decoder).sections(tasks, {}) for t in section.tables}

    assert "published" in keys("llama-2-7b")
    assert "published" not in keys("smollm2-135m")


def test_without_measurements_the_report_still_asks_every_question():
    nothing = Evidence({}, Scale.LAPTOP)
    sections = Painters().sections(nothing, {})
    assert Painters().draw(nothing) == []
    assert len(sections) == 12
    assert all("not measured" in section.paragraphs[2].en for section in sections[:8])


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """All studies on a real model of five layers."""
    settings = Painters.at(Scale.SMOKE).replaced("decoder", str(asset("lm/stories260K/stories260K.bin")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLASSWORKS_ASSETS", str(asset("bench").parent))
        return run_experiment(settings, RunOptions(out=tmp_path_factory.mktemp("smoke")))


@pytest.mark.slow
class TestSmokeRun:
    def test_it_leaves_a_whole_folder_and_a_report(self, smoke):
        assert smoke.run.verify() == []
        assert len(list((smoke.run.path / "figures").glob("*.png"))) >= 15
        page = smoke.run.report.read_text(encoding="utf-8")
        assert "https://" not in page
        assert len(page) < 5_000_000

    def test_every_claim_is_undecided_at_smoke_scale(self, smoke):
        assert {v.outcome for v in smoke.verdicts} == {Outcome.UNDECIDED}

    def test_verdicts_come_again_from_the_disk(self, smoke):
        found = Evidence(load_measurements(smoke.run.path), Scale.SMOKE)
        assert [v.to_json() for v in judge(Painters.claims, found)] == [v.to_json() for v in smoke.verdicts]

    def test_plans_did_what_was_said(self, smoke):
        assert smoke.measurements["fidelity"].at(check="decoding").values < 2e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "field", "name"),
    [
        pytest.param("encoder", "encoder", "minilm", marks=pytest.mark.nightly),
        pytest.param("encoder_decoder", "encoder_decoder", "t5-title", marks=pytest.mark.nightly),
    ],
)
def test_encoders_and_encoder_decoders(study, field, name, bench, monkeypatch):
    gallery_model(name)
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(asset("bench").parent))
    settings = (
        Painters.at(Scale.SMOKE).replaced(field, name).replaced("classifier_tasks", ["rte"]).replaced("queries", 16)
    )
    found = evidence(settings.measure(study, bench))
    for table in ("encoder",) if study == "encoder" else ("stack_encoder", "stack_decoder"):
        strategies = Strategies.of(found, table)
        # One layer in the middle: all but skipping and looping are the whole model.
        assert strategies.affected[0] == 1
        assert strategies.scores("reverse")[0] == pytest.approx(1.0, abs=1e-6)
    assert settings.draw(found)
