import pytest

from glassworks.core.errors import InvalidSpec, UnknownName
from glassworks.evaluation import BENCHMARKS, Benchmark, Harness, Perplexity, parse_benchmarks


def test_names_and_settings_become_specs():
    found = parse_benchmarks("ppl:window=64, arc_easy:limit=50,lambada", limit=20)
    assert found == (
        Perplexity(window=64, limit=20),
        Harness(task="arc_easy", limit=50),
        Harness(task="lambada_openai", limit=20),
    )
    assert [one.name for one in found] == ["ppl", "arc_easy", "lambada_openai"]


def test_every_kind_and_its_data_travel_through_json():
    for kind in BENCHMARKS.kinds:
        made: Benchmark = BENCHMARKS.parse({"kind": kind} | ({"task": "piqa"} if kind == "harness" else {}))
        assert BENCHMARKS.parse(made.to_json()) == made


def test_an_unknown_name_is_answered_with_the_nearest(monkeypatch):
    monkeypatch.setattr("glassworks.evaluation.benchmarks.harness_names", lambda: ["truthfulqa_mc1", "mmlu_anatomy"])
    with pytest.raises(UnknownName) as problem:
        parse_benchmarks("arc_esy")
    assert problem.value.nearest == "arc_easy"
    with pytest.raises(UnknownName) as problem:
        parse_benchmarks("truthfulqa_mc")
    assert problem.value.nearest == "truthfulqa_mc1"
    assert len(problem.value.known) < 40
    with pytest.raises(UnknownName):
        parse_benchmarks("blimp_no_such_paradigm")
    assert parse_benchmarks("mmlu_anatomy") == (Harness(task="mmlu_anatomy"),)


def test_what_cannot_be_meant_is_refused():
    with pytest.raises(InvalidSpec, match="named twice"):
        parse_benchmarks("ppl,ppl:limit=3")
    with pytest.raises(InvalidSpec, match="limits"):
        parse_benchmarks("ppl:limits=3")
    with pytest.raises(InvalidSpec, match="limit"):
        parse_benchmarks("arc_easy:limit=0")
