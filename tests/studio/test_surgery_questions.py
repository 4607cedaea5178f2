"""What the surgery page is told: presets, typed plans, texts and continuations under a plan, kept plans, commands."""

import dataclasses
import json
import math
import random
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.studio.surgery import saving, stage_tree
from glassworks.studio.surgery.benchmark_scores import OFFERED, benchmarks_told, prepared_for
from glassworks.studio.surgery.continuing import continued_told
from glassworks.studio.surgery.layer_cards import influence, layers_told
from glassworks.studio.surgery.opened import Opened, kind_of
from glassworks.studio.surgery.texts import Typed, many_told, text_told
from glassworks.surgery import Plan, operated
from glassworks.surgery.families import parse_families, variants_of
from glassworks.surgery.plan_files import SavedPlan, read_plan
from tests.surgery.letters import LAYERS, TEXT, lettered

PLANS = ("0 2..4", "0 3 2 1 4", "0 (1 | 2 | 3)x2 4", "0 2*(1..2 | 3) 4", "4..0")
SHORT = Typed(TEXT[:30])


def _silent(done: float, total: float) -> None:
    return


@pytest.fixture(scope="module")
def opened() -> Callable[[str], Opened]:
    return lambda plan: Opened.of(lettered(), "", plan)


@pytest.mark.parametrize("depth", [1, 2, 5, 12, 13])
def test_presets_are_the_published_strategies_at_every_size(depth: int) -> None:
    published = variants_of(parse_families("painters", seeds=1), depth)
    expected = {(one.strategy, one.affected): one.plan for one in published if one.strategy != "full"}
    made = {
        (one.name, size): stage_tree.preset(one.name, depth, size)
        for one in stage_tree.PRESETS
        for size in stage_tree.starts_of(depth)
    }
    assert made == expected


def test_a_preset_without_a_middle_of_that_size_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no middle of 4 layers"):
        stage_tree.preset("skip", 6, 4)
    with pytest.raises(UnknownName, match="skipp"):
        stage_tree.preset("skipp", 6, 5)


def test_a_typed_plan_is_told_in_its_one_text_with_what_it_leaves_out() -> None:
    told = stage_tree.told(stage_tree.read("0, 1 (3|2) x2", 5), 5)
    assert told["plan"] == "0..1 (2 | 3)x2"
    assert (told["layer_runs"], told["critical_depth"], told["unused"]) == (6, 4, [4])
    assert not told["is_sequential"]
    assert not told["is_whole"]


def test_a_mistake_is_marked_at_its_place_and_a_plan_too_long_to_try_is_refused() -> None:
    with pytest.raises(InvalidInput, match="position 2") as problem:
        stage_tree.read("0 9", 5)
    assert problem.value.given == "0 ▶9"
    with pytest.raises(InvalidInput, match="too long"):
        stage_tree.read("0x5000", 5)
    with pytest.raises(InvalidInput, match="too long"):
        stage_tree.read("0 " * 20_000, 5)


@pytest.mark.parametrize("plan", PLANS)
def test_the_nats_of_a_text_are_those_of_the_model_run_by_the_plan(opened: Callable[[str], Opened], plan: str) -> None:
    subject = lettered()
    found = text_told(opened(plan), SHORT, _silent)
    ids = subject.batch(SHORT.text).ids
    with operated(subject, plan), torch.no_grad():
        logits = subject.forward(subject.batch(SHORT.text))[0]
    expected = -logits[:-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0].numpy()
    np.testing.assert_allclose(found["nats"], expected, rtol=1e-5, atol=1e-5)
    assert found["tokens"] == list(subject.labels(ids[0, 1:].tolist()))
    likeliest = logits[-1].softmax(-1)
    assert found["next"]["plan"].max() == pytest.approx(float(likeliest.max()), rel=1e-5)


def test_the_whole_model_differs_from_itself_by_nothing(opened: Callable[[str], Opened]) -> None:
    summary = text_told(opened(""), SHORT, _silent)["summary"]
    assert summary["difference"] == summary["low"] == summary["high"] == summary["divergence"] == 0.0
    assert summary["agreement"] == 1.0
    assert summary["perplexity"] == pytest.approx(math.exp(summary["nats"]))


def test_given_tokens_are_read_and_not_scored(opened: Callable[[str], Opened]) -> None:
    whole = text_told(opened("0 2..4"), SHORT, _silent)
    part = text_told(opened("0 2..4"), dataclasses.replace(SHORT, given=10), _silent)
    assert part["given"] == 9  # the first token is scored by no model without a token in front
    assert part["summary"]["tokens"] == whole["summary"]["tokens"] - 9
    assert part["summary"]["nats"] == pytest.approx(float(np.mean(whole["nats"][9:])), rel=1e-6)


def test_a_text_longer_than_the_context_is_read_in_windows_that_score_every_token_once(
    opened: Callable[[str], Opened],
) -> None:
    found = text_told(opened("0 2..4"), Typed(TEXT), _silent)
    context = lettered().anatomy.context
    assert context is not None
    windows = math.ceil(len(TEXT) / context)
    assert found["summary"]["tokens"] == len(TEXT) - windows
    assert any("windows" in str(note) for note in found["notes"])


def test_many_plans_at_once_give_what_each_gives_alone(opened: Callable[[str], Opened]) -> None:
    rows = many_told(opened(""), SHORT, [Plan.parse(text) for text in PLANS], _silent)["rows"]
    assert [row["plan"] for row in rows] == [str(Plan.parse(text)) for text in (*PLANS, "0..4")]
    for row in rows:
        alone = text_told(opened(row["plan"]), SHORT, _silent)["summary"]
        assert row["summary"]["nats"] == pytest.approx(alone["nats"], rel=1e-6)
        assert row["summary"]["low"] == pytest.approx(alone["low"], abs=1e-6)


def test_what_is_written_is_what_the_operated_model_writes(opened: Callable[[str], Opened]) -> None:
    subject = lettered()
    found = continued_told(opened("0 3..1 4"), TEXT[:12], 0, 7)
    batch = subject.batch(TEXT[:12])
    with operated(subject, "0 3..1 4"):
        expected = subject.generate(batch, 7)[0, 12:].tolist()
    plain = subject.generate(batch, 7)[0, 12:].tolist()
    assert found["plan"]["ids"] == expected
    assert found["plain"]["ids"] == plain
    parts = next((at for at in range(7) if plain[at] != expected[at]), None)
    assert found["parts_at"] == parts
    begun = continued_told(opened("0 3..1 4"), TEXT[:12], 5, 7)
    assert begun["given"] == list(subject.labels(batch.ids[0, :5].tolist()))


def test_an_encoder_is_told_by_its_vectors_and_has_no_perplexity() -> None:
    encoder = Opened.of(lettered("bert"), "", "1 0 2..4")
    assert kind_of(encoder.subject) == "turns"  # letters have no mask token
    found = continued_told(encoder, TEXT[:9], 0, 7)
    assert found["kind"] == "vectors"
    assert len(found["cosines"]) == 9
    with pytest.raises(InvalidInput, match="no perplexity"):
        text_told(encoder, SHORT, _silent)


@pytest.mark.slow
def test_an_encoder_decoder_is_scored_on_its_target_in_either_stack() -> None:
    subject = lettered("t5")
    for stack in ("encoder", "decoder"):
        found = text_told(Opened.of(subject, stack, "0 2..4"), Typed(TEXT[:9], TEXT[20:26]), _silent)
        assert found["tokens"] == list(TEXT[20:26])
        assert found["summary"]["difference"] != 0.0


def test_layers_are_told_with_their_parts_and_parameters() -> None:
    told = layers_told(lettered())
    [stack] = told["stacks"]
    assert [card["number"] for card in stack["layers"]] == list(range(LAYERS))
    assert [part["role"] for part in stack["layers"][0]["parts"]] == ["norm", "attention", "norm", "feed-forward"]
    counted = sum(card["parameters"] for card in stack["layers"])
    assert counted == sum(p.numel() for p in lettered().model.get_submodule("model.layers").parameters())
    assert stack["sizes"] == [2, 4]
    assert stack["refusal"] is None
    assert len(influence(Opened.of(lettered(), "", ""), SHORT.text)["influence"]) == LAYERS


def test_a_benchmark_is_offered_with_the_reason_where_its_data_are_absent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(tmp_path))
    monkeypatch.setenv("GLASSWORKS_MODELS", str(tmp_path))
    offered = benchmarks_told(lettered())["benchmarks"]
    assert [one["name"] for one in offered] == [one.name for one in OFFERED if "writes" in one.kinds]
    with pytest.raises(UnknownName, match="gsm8k"):
        prepared_for(lettered(), "gsm8k", 4)


@pytest.mark.parametrize("name", ["", "..", "../up", "a/b", "a\\b", ".hidden", "x" * 61, "con\x00trol", "a..b"])
def test_a_plan_is_kept_under_a_plain_name_only(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be called so"):
        saving.save(tmp_path, name, SavedPlan(Plan.identity(2)))
    assert list(tmp_path.iterdir()) == []


def test_a_kept_plan_is_read_back_by_the_command_line_and_listed(tmp_path: Path) -> None:
    saved = SavedPlan(Plan.parse("0 (1 | 2)x3 3"), "m", "/m", "0" * 16, "layers", 4)
    told = saving.save(tmp_path, "my plan", saved)
    assert read_plan(told["path"]).plan == saved.plan
    assert not told["replaced"]
    assert saving.save(tmp_path, "my plan.json", saved)["replaced"]
    (tmp_path / "plans" / "broken.json").write_text("{")
    (tmp_path / "plans" / "other.json").write_text(json.dumps([1]))
    [row] = saving.kept_plans(tmp_path)
    assert (row["name"], row["plan"], row["depth"]) == ("my plan", str(saved.plan), 4)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "plans").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidInput, match="is a link"):
        saving.save(tmp_path, "plan", SavedPlan(Plan.identity(2)))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", 'it\'s "so" $HOME `x` \\ 中文', "-v", "--json", "two\nlines"])
@pytest.mark.parametrize("plan", ["0 2..4", "0 sum(1 | 2)x2 4"])
def test_the_commands_are_read_by_the_command_line_as_they_were_meant(plan: str, text: str) -> None:
    from glassworks.cli.options import Export, Surgery, Sweep, read

    lines = saving.commands("/a folder/model", "decoder", Plan.parse(plan), text, "ppl:window=128")
    found = {one["what"]: read(shlex.split(one["line"])[1:]) for one in lines}
    surgery, sweep = found["surgery"], found["sweep"]
    assert isinstance(surgery, Surgery)
    assert isinstance(sweep, Sweep)
    assert (surgery.source, surgery.stack, surgery.prompt) == ("/a folder/model", "decoder", text or None)
    assert Plan.parse(surgery.plan) == Plan.parse(plan)
    assert (sweep.plans, sweep.eval) == ("painters", "ppl:window=128")
    assert ("export" in found) == Plan.parse(plan).is_sequential
    for one in ("export", "mergekit"):
        if one in found:
            assert isinstance(found[one], Export)


def random_plan(chance: random.Random, depth: int, nested: int = 2) -> str:
    """The text of a plan, written as people write: ranges, blanks, sets, gains, repeats."""
    words: list[str] = []
    for _ in range(chance.randint(1, 4)):
        kind = chance.choice(["layer", "range", "set", "loop"] if nested else ["layer", "range"])
        first, last = chance.randrange(depth), chance.randrange(depth)
        match kind:
            case "layer":
                word = f"{chance.choice(['', '', '0.5*'])}{first}"
            case "range":
                word = f"{first}{chance.choice(['..', '-'])}{last}"
            case "loop":
                word = f"({random_plan(chance, depth, nested - 1)})"
            case _:
                branches = list(
                    dict.fromkeys(random_plan(chance, depth, nested - 1) for _ in range(chance.randint(2, 3)))
                )
                word = f"{chance.choice(['', '2*'])}{chance.choice(['', 'sum', 'mean '])}({' | '.join(branches)})"
        words.append(word + chance.choice(["", "", "x2", " x3"]))
    text = chance.choice([" ", ", "]).join(words)
    try:
        Plan.parse(text, depth)
    except InvalidInput:
        return random_plan(chance, depth, nested)  # two branches were one after all
    return text
