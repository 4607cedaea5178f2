"""The evolution tree hangs together: parents are there and older, presets exist and stand on the same branch."""

import pytest

from glassworks.core.errors import UnknownName
from glassworks.models.lineage import BRANCHES, LINEAGE, drawn_under, lineage
from glassworks.models.presets import PRESETS


def test_every_model_builds_on_older_ones_and_all_grow_from_one() -> None:
    roots = [model.name for model in LINEAGE.values() if not model.parents]
    assert roots == ["Transformer"]
    for model in LINEAGE.values():
        for parent in model.parents:
            assert LINEAGE[parent].date <= model.date, (model.name, parent)


def test_presets_are_there_and_on_the_branch_of_their_model() -> None:
    for model in LINEAGE.values():
        for name in model.presets:
            assert PRESETS[name].branch == model.branch, name
        assert model.is_prefix == any(PRESETS[name].form == "prefix decoder" for name in model.presets) or (
            model.is_prefix and not model.presets
        )
    of_models = {name for model in LINEAGE.values() for name in model.presets}
    ours = {name for name, preset in PRESETS.items() if preset.is_ours}
    # Shapes between the published sizes, and demonstrations, stand in no tree.
    left = {"gpt3-medium", "gpt3-large", "gpt3-2.7b", "stories260k", "gpt-nano-sort"}
    assert set(PRESETS) - of_models == ours | left


def test_every_model_says_what_it_changed_in_both_languages() -> None:
    for model in LINEAGE.values():
        assert model.changed.zh != model.changed.en
        assert model.organisation
        assert model.paper
        assert 1 <= model.month <= 12


def test_the_page_names_are_all_there_by_branch_and_age() -> None:
    assert [model.date for model in lineage()] == sorted(model.date for model in lineage())
    assert {model.branch for model in lineage()} == set(BRANCHES)
    assert {model.name for model in lineage("encoder")} >= {"BERT", "RoBERTa", "ALBERT", "DistilBERT", "ELECTRA"}
    assert {model.name for model in lineage("encoder-decoder")} >= {
        "Transformer",
        "T5",
        "BART",
        "GLM-130B",
        "ChatGLM-6B",
    }
    decoders = {model.name for model in lineage("decoder")}
    assert decoders >= {
        "GPT", "GPT-2", "GPT-3", "Gopher", "Chinchilla", "InstructGPT", "ChatGPT", "OPT", "BLOOM", "PaLM", "LLaMA",
        "LLaMA 2", "GPT-4", "Pythia", "Mistral", "Qwen", "Llama 3", "Gemma", "OLMo", "SmolLM", "Infini-Transformer",
    }  # fmt: skip
    assert LINEAGE["GPT-3"].weights == "closed"
    assert LINEAGE["GPT-4"].sizes == ()


def test_the_tree_draws_a_model_under_its_first_parent_on_the_same_branch() -> None:
    assert drawn_under(LINEAGE["LLaMA 2"]) == "LLaMA"
    assert drawn_under(LINEAGE["GPT"]) is None
    with pytest.raises(UnknownName):
        lineage("decoders")
