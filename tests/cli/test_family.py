import json

import pytest

import glassworks as gw
from glassworks.cli.main import main


def test_presets_as_data_have_parameters_parts_and_branch(capsys) -> None:
    assert main(["presets", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["presets"]
    llama = found["llama-7b"]
    assert (llama["parameters"], llama["branch"], llama["agrees"]) == (6_738_415_616, "decoder", True)
    assert sum(llama["parts"].values()) == llama["parameters"]
    assert llama["parts"]["feedforward"] == 32 * 3 * 4096 * 11008
    assert found["chatglm-6b"]["form"] == "prefix decoder"
    assert set(found) == set(gw.presets())


def test_one_preset_shows_its_parts_its_settings_and_that_it_was_built(capsys) -> None:
    assert main(["presets", "Gopher-44M"]) == 0
    told = capsys.readouterr().out
    assert "43,663,872 parameters, as by formula" in told
    assert "published as 44M: when rounded" in told
    assert "positions=relative_xl" in told
    assert main(["presets", "tiny-t5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["presets"]["tiny-t5"]
    assert found["built"] == found["parameters"]
    assert found["spec"]["kind"] == "encoder_decoder"


def test_the_list_says_which_counts_are_exact_and_which_rounded(capsys) -> None:
    assert main(["presets"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "exactly" in rows["bert-base"]
    assert "“280B”" in rows["gopher"]
    assert "64 (8)" in rows["llama-2-70b"]
    assert "6 + 6" in rows["t5-small"]


def test_the_tree_is_drawn_by_branch_with_signs_and_words(capsys) -> None:
    assert main(["tree", "--branch", "encoder-decoder"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    place = {name: next(i for i, line in enumerate(lines) if f"{name}  " in line) for name in ("T5", "Flan-T5")}
    assert lines[place["Flan-T5"]].index("Flan-T5") > lines[place["T5"]].index("T5")
    assert "BERT  " not in told.out
    assert "● open weights, ○ closed" in told.err
    assert main(["tree", "--lang", "zh", "--branch", "encoder"]) == 0
    assert "编码器" in capsys.readouterr().out


def test_the_tree_as_data_is_what_the_studio_draws(capsys) -> None:
    assert main(["tree", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in found["tree"]}
    assert len(rows) == len(found["tree"]) == len(gw.tree())
    assert rows["LLaMA"]["parents"][0] == "GPT-3"
    assert rows["GPT-4"]["weights"] == "closed"
    assert rows["ChatGLM-6B"]["prefix_decoder"] is True
    assert all(parent in rows for row in rows.values() for parent in row["parents"])


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["presets", "gpt-2"], "gpt2 (nearest)"),
        (["presets", " "], "NAME is empty"),
        (["tree", "--branch", "decoders"], "decoder (nearest)"),
        (["tree", "--branch", ""], "--branch is empty"),
    ],
)
def test_what_does_not_exist_is_answered_with_the_nearest(capsys, words: list[str], answer: str) -> None:
    assert main(words) == 1
    assert answer in capsys.readouterr().err


@pytest.mark.slow
def test_from_python_a_preset_is_built_by_name() -> None:
    model = gw.build("stories260k", seed=3)
    assert sum(number.numel() for number in model.parameters()) == gw.presets()["stories260k"].parameters
    assert next(gw.build("llama-65b", device="meta").parameters()).is_meta
