"""Known architectures have exactly the parameters that their authors or a library state, part by part."""

import pytest
import torch
from torch import nn

from glassworks.core.errors import InvalidInput, Unavailable, UnknownName
from glassworks.mixers import Infini, Mesa
from glassworks.models import EncoderDecoderSpec, RecurrentMemorySpec, TransformerSpec, VectorSpec
from glassworks.models.counts import counted, on_meta, parts_of
from glassworks.models.families import Family
from glassworks.models.presets import PRESETS, Preset, preset
from glassworks.models.presets.building import build_preset
from glassworks.models.weights import FAMILIES

# lifecycle.md 2, exact numbers.
EXACT = {
    "bert-base": 109_482_240, "bert-large": 335_141_888,
    "gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
    "t5-small": 60_506_624, "t5-base": 222_903_552, "t5-large": 737_668_096, "t5-3b": 2_851_598_336,
    "t5-11b": 11_307_321_344,
    "llama-7b": 6_738_415_616, "llama-13b": 13_015_864_320, "llama-33b": 32_528_943_616, "llama-65b": 65_285_660_672,
    "llama-2-70b": 68_976_648_192, "llama-3-8b": 8_030_261_248, "mistral-7b": 7_241_732_096,
    "chatglm-6b": 6_173_286_400, "smollm2-135m": 134_515_008,
}  # fmt: skip
ROUNDED = {"gopher": 280e9, "chinchilla": 70e9, "gpt3": 175e9}
# One of each kind of part: token types and pooler, bias of distances, two sides, maps of relative places, normed heads, ...
KINDS = (
    "bert-base", "roberta-base", "t5-small", "flan-t5-small", "bart-base", "transformer-base", "gpt", "gpt2", "bloom-560m",
    "pythia-70m", "gopher", "chatglm-6b", "llama-7b", "mistral-7b", "qwen2-0.5b", "qwen3-0.6b", "gemma-2b",
    "gemma-3-270m",
)  # fmt: skip


def cut(preset: Preset) -> Preset:
    """The same with two layers on each side."""
    spec = preset.spec.replaced_all(
        {"depth": 2, "mixers": [mixer.to_json() for mixer in preset.spec.mixers[-2:]]}  # the last pair has both kinds
    )
    return Preset(preset.name, spec, with_head=preset.with_head)


def test_the_numbers_of_the_page_are_those_of_the_presets() -> None:
    assert {name: PRESETS[name].parameters for name in EXACT} == EXACT
    for name, about in ROUNDED.items():
        assert abs(PRESETS[name].parameters - about) < 0.005 * about, name


@pytest.mark.parametrize("one", [one for one in PRESETS.values() if one.stated], ids=lambda one: one.name)
def test_every_count_is_the_published_one_and_the_sum_of_its_parts(one: Preset) -> None:
    assert one.agrees is True
    assert one.parameters == sum(one.parts.values())
    assert one.source


@pytest.mark.parametrize("name", KINDS)
def test_the_formula_counts_what_the_built_model_has_part_by_part(name: str) -> None:
    one = cut(PRESETS[name])
    assert parts_of(on_meta(one.spec, body=not one.with_head)) == one.parts


@pytest.mark.slow
@pytest.mark.parametrize("one", PRESETS.values(), ids=PRESETS)
def test_every_preset_is_built_whole_and_counts_the_same(one: Preset) -> None:
    assert parts_of(on_meta(one.spec, body=not one.with_head)) == one.parts


def family_of(one: Preset) -> Family | None:
    """The family of the library that computes what the preset says."""
    if isinstance(one.spec, EncoderDecoderSpec) and not one.spec.tie_output:
        # An untied T5 of the library has its shared embedding three times until weights are loaded.
        return None
    return next((family for family in FAMILIES if family.why_not(one.spec) is None), None)


@pytest.mark.slow
@pytest.mark.parametrize("one", [one for one in PRESETS.values() if family_of(one)], ids=lambda one: one.name)
def test_the_librarys_own_class_counts_the_same(one: Preset) -> None:
    family = family_of(one)
    assert family is not None
    alone = {"BertModel", "RobertaModel"}
    kind = next(kind for kind in family.classes if one.with_head == (kind.__name__ not in alone))
    with torch.device("meta"):
        theirs = kind(family.config_of(one.spec, on_meta(cut(one).spec).config))
        theirs.tie_weights()
    assert sum(parameter.numel() for parameter in theirs.parameters()) == one.parameters


def test_mixers_with_parameters_of_their_own_are_counted_too() -> None:
    for mixers in ((Infini(segment=4),), (Mesa(regulariser="diagonal", keep="data_only"),)):
        spec = TransformerSpec(vocabulary=7, width=8, depth=2, heads=2, context=16, mixers=mixers, head_norm=True)
        assert counted(spec) == parts_of(on_meta(spec))
    spec = RecurrentMemorySpec(vocabulary=7, width=8, depth=1, heads=2, context=64, segment=8, memory_tokens=3)
    assert counted(spec) == parts_of(on_meta(spec))
    assert counted(spec)["other"] == 3 * 8
    with pytest.raises(InvalidInput, match="vectors"):
        counted(VectorSpec(width=8, depth=1, heads=2, inputs=3, outputs=3))


def test_a_small_preset_is_built_with_numbers_from_its_seed() -> None:
    one, same, other = (build_preset(preset("stories260K"), seed) for seed in (0, 0, 1))
    assert sum(number.numel() for number in one.parameters()) == 260_032
    assert torch.equal(one.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
    with torch.no_grad():
        assert bool(one(torch.tensor([[1, 2, 3]])).logits.isfinite().all())


def test_a_large_one_has_no_numbers_on_the_meta_device_and_is_refused_elsewhere() -> None:
    with pytest.raises(Unavailable, match="memory") as caught:
        build_preset(preset("llama-3.1-405b"))
    assert "1623.4 GB" in str(caught.value)
    model = build_preset(preset("bert-base"), device="meta")
    assert isinstance(model, nn.Module)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName) as caught:
        preset("lama-7b")
    assert caught.value.nearest == "llama-7b"


def test_prefix_decoders_stand_on_the_branch_where_the_tree_draws_them() -> None:
    one = PRESETS["chatglm-6b"]
    assert (one.branch, one.form) == ("encoder-decoder", "prefix decoder")
    assert {PRESETS[name].branch for name in ("bert-base", "t5-small", "gpt2")} == {
        "encoder",
        "encoder-decoder",
        "decoder",
    }
