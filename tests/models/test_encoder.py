from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForMaskedLM

from glassworks.anatomy import Subject
from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.tokens import padded as padded_batch
from glassworks.core.errors import InvalidInput
from glassworks.models import (
    EncoderModel,
    EncoderSpec,
    GlassworksConfig,
    GlassworksForCausalLM,
    GlassworksForMaskedLM,
    TransformerSpec,
    build_model,
)
from glassworks.tensors.seeds import Seed

SIZES: dict[str, Any] = {"vocabulary": 13, "width": 8, "depth": 2, "heads": 2, "context": 12}
SPECS = {
    "bert": EncoderSpec(
        **SIZES, bias=True, norm_placement="post", final_norm=False, embedding_norm=True, feedforward=("gelu",),
        token_types=2, pooler=True,
    ),
    "before": EncoderSpec(
        **SIZES, kv_heads=1, norm="rms", feedforward=("swiglu",), positions="rotary", tie_output=False,
        prediction_transform=False,
    ),
    "relative": EncoderSpec(**SIZES, norm="rms", positions="relative_bias", relative_buckets=8, relative_distance=6),
    "alibi": EncoderSpec(**SIZES, positions="alibi", norm_placement="both"),
}  # fmt: skip
# The others go with the slow tests.
first_spec = pytest.mark.parametrize(
    "spec",
    [pytest.param(spec, id=name, marks=() if name == "bert" else pytest.mark.slow) for name, spec in SPECS.items()],
)
IDS = torch.randint(1, 13, (3, 7), generator=torch.Generator().manual_seed(0))
# One text alone, then padded by 2 and 4 on one side.
LENGTHS = (7, 5, 3)


def built(spec: EncoderSpec, dtype: torch.dtype = torch.float64) -> GlassworksForMaskedLM:
    model = build_model(spec, Seed(2), dtype).eval()
    for name, parameter in model.named_parameters():
        if "bias" in name:
            parameter.data.normal_(generator=torch.Generator().manual_seed(3))
    return model


def padded(side: str) -> tuple[Tensor, Tensor]:
    ids, mask = torch.zeros_like(IDS), torch.zeros_like(IDS)
    for row, length in enumerate(LENGTHS):
        place = slice(7 - length, 7) if side == "left" else slice(0, length)
        ids[row, place], mask[row, place] = IDS[row, :length], 1
    return ids, mask


@first_spec
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing_of_a_text(spec: EncoderSpec, side: str) -> None:
    model = built(spec)
    ids, mask = padded(side)
    together = model(ids, attention_mask=mask)
    assert together.logits.isfinite().all()
    body = EncoderModel(model.config).double().eval()
    pooled = body(ids, attention_mask=mask).pooler_output
    assert (pooled is None) != spec.pooler
    for row, length in enumerate(LENGTHS):
        alone = IDS[row : row + 1, :length]
        assert_close(together.logits[row][mask[row] == 1], model(alone).logits[0])
        if pooled is not None:
            assert_close(pooled[row], body(alone).pooler_output[0])


@first_spec
def test_every_token_reads_every_real_one_and_the_maps_show_it(spec: EncoderSpec) -> None:
    model = built(spec)
    ids, mask = padded("right")
    found = model(ids, attention_mask=mask, output_attentions=True, output_hidden_states=True)
    assert [map_.shape for map_ in found.attentions] == [(3, 2, 7, 7)] * 2
    assert len(found.hidden_states) == 3
    for map_ in found.attentions:
        assert_close(map_.sum(-1), torch.ones(3, 2, 7, dtype=map_.dtype))
        assert (map_[1, :, :5, :5] > 0).all()
        assert (map_[1, :, :5, 5:] == 0).all()
    changed = IDS.clone()
    changed[:, -1] = changed[:, -1] % 12 + 1
    assert not torch.allclose(model(IDS).logits[:, 0], model(changed).logits[:, 0])


def test_the_loss_is_that_of_labelled_tokens_alone() -> None:
    model = built(SPECS["bert"])
    labels = torch.full_like(IDS, -100)
    labels[0, 2], labels[2, 5] = 4, 9
    found = model(IDS, labels=labels)
    expected = F.cross_entropy(torch.stack([found.logits[0, 2], found.logits[2, 5]]), torch.tensor([4, 9]))
    # The library computes losses in float32.
    assert_close(found.loss.double(), expected, atol=1e-6, rtol=1e-6)
    # The trainer counts the labels of several batches that make one step.
    parted = model(IDS, labels=labels, num_items_in_batch=8).loss
    assert_close(parted.double(), expected * 2 / 8, atol=1e-6, rtol=1e-6)


def test_the_kind_of_a_token_matters_and_is_the_first_unless_told() -> None:
    model = built(SPECS["bert"])
    first, second = torch.zeros_like(IDS), torch.ones_like(IDS)
    assert torch.equal(model(IDS).logits, model(IDS, token_type_ids=first).logits)
    assert not torch.allclose(model(IDS).logits, model(IDS, token_type_ids=second).logits)


@first_spec
def test_a_saved_folder_is_read_back_by_the_library_bit_for_bit(spec: EncoderSpec, tmp_path: Path) -> None:
    model = built(spec, torch.float32)
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert isinstance(again, GlassworksForMaskedLM)
    assert again.config.spec == spec
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == spec.tie_output
    body = AutoModel.from_pretrained(tmp_path)
    assert isinstance(body, EncoderModel)
    assert torch.equal(body(IDS).last_hidden_state, model.model(IDS).last_hidden_state)


@first_spec
def test_the_parts_are_found_by_watching(spec: EncoderSpec) -> None:
    subject = Subject.of(built(spec, torch.float32))
    assert subject.anatomy.depth == 2
    assert not subject.anatomy.causal
    found = Fidelity.check(subject, padded_batch([[5, 9, 7, 2, 3], [8, 3, 1]]))
    assert found.holds


def test_new_tokens_get_a_constant_of_their_own() -> None:
    model = built(SPECS["bert"], torch.float32)
    before = model(IDS).logits
    model.resize_token_embeddings(15)
    after = model(IDS).logits
    assert after.shape == (3, 7, 15)
    assert_close(after[..., :13], before)
    assert model.prediction is not None
    assert (model.prediction.bias[13:] == 0).all()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"input_ids": torch.ones(1, 13, dtype=torch.long)}, "more than the model's 12 positions"),
        ({"input_ids": IDS, "token_type_ids": torch.full_like(IDS, 2)}, "knows 2 kinds"),
        ({"input_ids": IDS, "position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3]])}, "packed"),
        ({"input_ids": IDS, "attention_mask": torch.ones(3, 6)}, "does not fit 7 tokens"),
        ({}, "either input_ids or inputs_embeds"),
    ],
)
def test_impossible_input_is_refused_in_one_sentence(given: dict[str, Tensor], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        built(SPECS["bert"])(**given)


def test_a_class_for_another_kind_of_model_is_refused() -> None:
    with pytest.raises(InvalidInput, match="only an encoder"):
        GlassworksForMaskedLM(GlassworksConfig.from_spec(TransformerSpec(**SIZES)))
    with pytest.raises(InvalidInput, match="only a decoder"):
        GlassworksForCausalLM(GlassworksConfig.from_spec(SPECS["bert"]))
