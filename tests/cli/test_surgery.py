import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import glassworks as gw
from glassworks.cli.main import main
from glassworks.cli.sinks import named_layers, refuse_moved, sample_of, warning
from glassworks.core.errors import InvalidInput, InvalidSpec
from glassworks.instruments.sinks import Sinks
from glassworks.models.quiet import quiet_bars
from glassworks.surgery.plans import Plan
from tests.surgery.letters import LAYERS, lettered, lettered_folder, perplexity

PLAN = "0..1 (2 | 3)x3 4"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(lettered_folder(tmp_path_factory.mktemp("model") / "letters"))


def asked(capsys, *arguments: str) -> dict:
    assert main(["surgery", *arguments, "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_json_tells_plan_text_tokens_scores_and_whether_the_cache_is_right(model, tmp_path, capsys):
    found = asked(
        capsys, model, "--plan", "0-1,[2|3]x3,4", "--prompt", "ABC", "--new-tokens", "6", "--check-cache",
        "--eval", perplexity(tmp_path), "--limit", "3",
    )  # fmt: skip
    assert (found["plan"], found["layer_runs"], found["cache"]) == (PLAN, 9, "exact")
    assert found["cached_equals_uncached"] is True
    assert len(found["tokens"]) == found["prompt_tokens"] + 6 == 9
    assert found["text"].startswith("ABC")
    assert found["text"] == lettered().to_string(found["tokens"])
    assert found["plain"]["tokens"] != found["tokens"]
    [scores] = found["scores"].values()
    assert scores["nll"]["documents"] == 3
    assert scores["nll"]["low"] <= scores["nll"]["value"] <= scores["nll"]["high"]
    assert scores["nll"]["plain"] != scores["nll"]["value"]


def test_the_tokens_are_those_of_the_plan_by_hand(model, capsys):
    found = asked(capsys, model, "--plan", PLAN, "--tokens", "1,2,3", "--new-tokens", "5")
    subject = lettered()
    ids = [1, 2, 3]
    layers = {number: layer for number, layer in enumerate(subject.model.model.layers)}
    seen: dict[str, object] = {}
    handle = layers[0].register_forward_hook(lambda _m, args, kwargs, _out: seen.update(kwargs), with_kwargs=True)
    for _ in range(5):
        with torch.no_grad():
            subject.model(torch.tensor([ids]), use_cache=False)
            stream = subject.model.model.embed_tokens(torch.tensor([ids]))
            for step in (0, 1, (2, 3), (2, 3), (2, 3), 4):
                outs = [layers[n](stream, **seen) for n in (step if isinstance(step, tuple) else (step,))]
                stream = torch.stack(outs).mean(0)
            logits = subject.model.lm_head(subject.model.model.norm(stream))
        ids.append(int(logits[0, -1].argmax()))
    handle.remove()
    assert found["tokens"] == ids


def test_a_saved_plan_is_taken_up_again_and_exported(model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = asked(capsys, model, "--plan", "0..2 2..4", "--prompt", "ABC", "--new-tokens", "4", "--save", "plan.json")
    assert first["saved"] == "plan.json"
    again = asked(capsys, model, "--plan", "plan.json", "--prompt", "ABC", "--new-tokens", "4")
    assert again["tokens"] == first["tokens"]
    assert main(["export", "--plan", "plan.json", "--to", "hf", "--out", "out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == ["out"]
    with quiet_bars():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    prompt = torch.tensor([[0, 1, 2]])
    tokens = plain.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=4, do_sample=False, pad_token_id=0
    )
    assert tokens[0].tolist() == first["tokens"]
    assert main(["export", "--plan", "plan.json", "--to", "mergekit", "--model", "org/name", "--out", "recipe"]) == 0
    assert capsys.readouterr().out == "recipe/mergekit.yml\n"
    assert main(["export", "--plan", "0..2 2..", "--to", "hf", "--model", model, "--out", "open"]) == 0
    assert (tmp_path / "open" / "plan.json").read_text() == (tmp_path / "out" / "plan.json").read_text()
    assert main(["export", "--plan", "0..2 2..4", "--to", "mergekit", "--model", "m", "--out", "own.yml"]) == 0
    assert (tmp_path / "own.yml").is_file()
    capsys.readouterr()
    assert asked(capsys, model, "--plan", "recipe/mergekit.yml")["plan"] == first["plan"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--plan", "0..9"], "0..▶9"),
        (["--plan", ""], "empty"),
        (["--plan", "0..4", "--stack", "encoder"], "unknown stack"),
        (["--plan", "absent.json"], "absent.json is not there"),
        (["--plan", "0..4", "--prompt", ""], "the prompt is empty"),
        (["--plan", "0..4", "--prompt", "A", "--tokens", "1"], "one prompt at a time"),
        (["--plan", "0..4", "--prompt", "A" * 60], "longer than the model's context"),
        (["--plan", "0..4", "--prompt", "A", "--new-tokens", "90"], "longer than the model's context"),
        (["--plan", "0..4", "--prompt", "A", "--new-tokens", "0"], "new_tokens"),
        (["--plan", "0..4", "--check-cache"], "only written text"),
        (["--plan", "0..4", "--prompt", "A", "--temperature", "1", "--cache", "mean"], "without a cache"),
        (["--plan", "0..4", "--eval", "ppl:windw=3"], "window (nearest)"),
        (["--plan", "0 2..4", "--protect", "1"], "protected: 1"),
        (["--plan", "0..4", "--protect", "9"], "no layer 9"),
        (["--plan", "0..4", "--protect", "first"], "are numbers"),
        (["--plan", "0..4", "--protect", "auto"], "--prompt or --eval"),
    ],
)
def test_bad_input_is_one_message(model, tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(["surgery", model, *arguments]) == 1
    printed = capsys.readouterr()
    assert says in printed.err
    assert printed.err.count("error:") == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_plan_for_another_depth_and_a_model_without_a_tokenizer_are_named(model, tmp_path, capsys):
    saved = tmp_path / "plan.json"
    saved.write_text(json.dumps({"plan": "0..2", "depth": 7, "stack": "layers"}))
    assert main(["surgery", model, "--plan", str(saved)]) == 1
    assert "7 layers, and this one has 5" in capsys.readouterr().err
    bare = tmp_path / "bare"
    with quiet_bars():
        lettered().model.save_pretrained(bare)
    assert main(["surgery", str(bare), "--plan", "0..4", "--prompt", "A"]) == 1
    assert "--tokens 1,2,3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--plan", "0 (1 | 2) 3", "--model", "m", "--to", "mergekit"], "parallel stages"),
        (["--plan", "0..3", "--to", "hf"], "which model"),
        (["--plan", "0..3", "--model", "m", "--to", "csv"], "cannot be taken along as csv"),
        (["birth", "--plan", "0..3", "--to", "hf"], "not both"),
        (["--to", "html"], "which run?"),
    ],
)
def test_exports_that_cannot_be_are_refused(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *arguments]) == 1
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_shows_how_its_vectors_turn(tmp_path, capsys):
    folder = str(lettered_folder(tmp_path / "bert", "bert"))
    found = asked(capsys, folder, "--plan", "0 2..4", "--prompt", "ABCDEF")
    assert (found["text"], found["tokens"], found["cache"]) == (None, [], "none")
    assert len(found["vectors"]["cosine_per_token"]) == 6
    assert -1 <= found["vectors"]["cosine_of_mean"] < 1
    same = asked(capsys, folder, "--plan", "0..4", "--prompt", "ABCDEF")
    assert same["vectors"]["cosine_of_mean"] == pytest.approx(1)


def test_the_verb_is_a_room_too_and_its_result_shows_itself(model, tmp_path):
    trial = gw.surgery(model, PLAN, prompt=[0, 1, 2], new_tokens=3)
    assert trial.plan == gw.surgery.Plan.parse(PLAN)
    assert trial.says.given == 3
    scored = gw.surgery(trial.subject, Plan.of([0, 1, 3, 4]), evals=perplexity(tmp_path), limit=2)
    assert scored.says is None
    assert set(scored.to_pandas()["metric"]) >= {"nll", "ppl"}
    assert "0..1 3..4" in scored._repr_html_()
    assert json.loads(scored.save(tmp_path / "p.json").read_text())["depth"] == LAYERS
    with pytest.raises(InvalidSpec, match="unknown field promt"):
        gw.surgery(trial.subject, PLAN, promt="A")


def test_a_plan_that_touches_the_sink_is_told_of(tmp_path):
    sinks = Sinks((2,), (4,), ((0,),), np.ones((1, 6)))
    assert warning(Plan.of([0, 1, 2, 4]), sinks) is None
    assert "(2, 4)" in str(warning(Plan.parse("0..1 (2 | 3)x2"), sinks))
    refuse_moved(Plan.of([0, 1, 2, 4]), (2, 4), 5)
    with pytest.raises(InvalidInput, match="protected: 4"):
        refuse_moved(Plan.of([0, 1, 2]), (2, 4), 5)
    assert [named_layers(text) for text in ("auto", "none", "11, 2,2")] == [None, (), (2, 11)]
    sample = sample_of(lettered(), perplexity(tmp_path))
    assert sample.ids.shape[0] > 1
    assert sample.ids.shape[1] > 5
