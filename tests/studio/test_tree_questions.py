"""The family tree's questions: the tree as it stands in the lineage, and presets that are built and counted."""

from pathlib import Path
from typing import Any

import pytest

from glassworks.core.errors import UnknownName
from glassworks.models.lineage import LINEAGE
from glassworks.models.presets import PRESETS
from glassworks.studio.family.blueprint import blueprint, summaries, tree
from glassworks.studio.frames import decode, encode
from glassworks.studio.questions.desk import Desk, Places
from glassworks.studio.questions.tree import Blueprint, Lineage


def _desk(tmp_path: Path) -> Desk:
    return Desk(Places(tmp_path))


def _leaves(modules: list[dict[str, Any]]) -> int:
    return sum(module["parameters"] for module in modules)


def test_the_tree_shows_every_model_with_its_parents(tmp_path: Path) -> None:
    answer = Lineage().answer(_desk(tmp_path))
    names = [one["name"] for one in answer["models"]]
    assert names == list(LINEAGE)
    assert all(set(one["parents"]) <= set(names) for one in answer["models"])
    assert {one["name"] for one in answer["presets"]} == set(PRESETS)


def test_a_model_is_drawn_under_a_parent_of_its_own_branch_only() -> None:
    branches = {one["name"]: one["branch"] for one in tree()}
    assert all(one["drawn_under"] is None or branches[one["drawn_under"]] == one["branch"] for one in tree())


def test_sentences_of_the_tree_follow_the_language() -> None:
    english, chinese = (decode(encode({"tree": tree()}, language))["tree"] for language in ("en", "zh"))
    assert english[0]["name"] == chinese[0]["name"]
    assert english[0]["changed"] != chinese[0]["changed"]


@pytest.mark.parametrize("name", ["gpt2", "bert-tiny", "t5-small", "tiny-glm", "pythia-70m", "gpt-nano-sort"])
def test_modules_parts_and_formula_count_the_same_numbers(name: str) -> None:
    found = blueprint(PRESETS[name])
    assert _leaves(found["modules"]) == found["built"] == found["parameters"]
    assert sum(part["parameters"] for part in found["parts"]) == found["parameters"]


def test_a_block_names_its_norms_where_they_stand() -> None:
    before, after = (blueprint(PRESETS[name])["blocks"][0]["sublayers"] for name in ("gpt2", "bert-tiny"))
    assert [one["after_sum"] for one in before] == [False, False]
    assert [one["after_sum"] for one in after] == [True, True]
    assert [one["norm"] for one in before] == ["input_layernorm", "post_attention_layernorm"]


def test_an_encoder_decoder_shows_both_stacks_and_the_look_across() -> None:
    blocks = blueprint(PRESETS["t5-small"])["blocks"]
    assert [[one["part"] for one in block["sublayers"]] for block in blocks] == [
        ["self_attn", "mlp"],
        ["self_attn", "cross_attn", "mlp"],
    ]


def test_a_feedforward_beside_attention_reads_the_block_input() -> None:
    assert blueprint(PRESETS["pythia-70m"])["blocks"][0]["sublayers"][1]["reads_block_input"]


def test_memory_is_two_bytes_a_parameter_in_bfloat16() -> None:
    found = blueprint(PRESETS["gpt2"])
    assert found["bytes"] == {"float32": 4 * found["parameters"], "bfloat16": 2 * found["parameters"]}
    # Keys and values of 12 layers, 768 numbers each, two bytes a number.
    assert found["kept_per_token"] == 2 * 12 * 768 * 2
    assert blueprint(PRESETS["bert-tiny"])["kept_per_token"] is None


def test_layers_that_are_alike_are_drawn_together() -> None:
    model = blueprint(PRESETS["gpt2"])["modules"][0]
    layers = [one for one in model["children"] if one["kind"] == "Block"]
    assert [(one["path"], one["times"]) for one in layers] == [("model.layers.0-11", 12)]
    assert layers[0]["parameters"] == 12 * layers[0]["each"]


def test_a_head_that_shares_the_embedding_is_said_to_share() -> None:
    head = blueprint(PRESETS["gpt2"])["modules"][-1]
    assert (head["path"], head["parameters"], head["shared"]) == ("lm_head", 0, True)


def test_a_preset_that_is_not_there_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="gpt22"):
        Blueprint(name="gpt22").answer(_desk(tmp_path))


def test_summaries_are_plain_data() -> None:
    assert decode(encode({"presets": summaries()}, "en"))["presets"][0]["parameters"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_can_be_built_and_counted(name: str) -> None:
    found = blueprint(PRESETS[name])
    assert _leaves(found["modules"]) == found["built"] == found["parameters"]
    assert found["agrees"] is not False
