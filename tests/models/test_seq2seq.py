from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForSeq2SeqLM, DynamicCache

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.fidelity import Fidelity
from glassworks.core.errors import InvalidInput
from glassworks.mixers import Linear, Softmax
from glassworks.models import (
    EncoderDecoderModel,
    EncoderDecoderSpec,
    EncoderSpec,
    GlassworksConfig,
    GlassworksForSeq2SeqLM,
    build_model,
)
from glassworks.models.load import load
from glassworks.tensors.seeds import Seed

SIZES: dict[str, Any] = {"vocabulary": 13, "width": 8, "depth": 2, "heads": 2, "context": 16}
SPECS = {
    "t5": EncoderDecoderSpec(
        **SIZES, encoder_depth=3, norm="rms", feedforward=("geglu_tanh",), positions="relative_bias",
        relative_buckets=8, relative_distance=6, score_scale="none", tied_factor="inverse_sqrt_width",
    ),
    "bart": EncoderDecoderSpec(
        **SIZES, bias=True, norm_placement="post", final_norm=False, embedding_norm=True, embedding_factor=8**0.5,
        feedforward=("gelu",), position_offset=2, start_token=2, tie_output=False,
    ),
    "2017": EncoderDecoderSpec(
        **SIZES, encoder_depth=1, norm_placement="post", positions="sinusoidal", embedding_factor=8**0.5
    ),
    "sums": EncoderDecoderSpec(
        **SIZES, encoder_depth=3, mixers=(Linear(), Softmax()), kv_heads=1, norm_placement="both", positions="rotary"
    ),
}  # fmt: skip


def fast_for(*names: str) -> pytest.MarkDecorator:
    """All specs, of which those that are not named go with the slow tests."""
    marks = {name: () if name in names else (pytest.mark.slow,) for name in SPECS}
    return pytest.mark.parametrize("spec", [pytest.param(SPECS[name], id=name, marks=marks[name]) for name in SPECS])


CHANCE = torch.Generator().manual_seed(0)
SOURCE = torch.randint(3, 13, (3, 7), generator=CHANCE)
TARGET = torch.randint(3, 13, (3, 5), generator=CHANCE)
LENGTHS = (7, 5, 3)
GREEDY: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}


def built(spec: EncoderDecoderSpec, dtype: torch.dtype = torch.float64) -> GlassworksForSeq2SeqLM:
    return build_model(spec, Seed(2), dtype).eval()


def padded(side: str) -> tuple[Tensor, Tensor]:
    ids, mask = torch.zeros_like(SOURCE), torch.zeros_like(SOURCE)
    for row, length in enumerate(LENGTHS):
        place = slice(7 - length, 7) if side == "left" else slice(0, length)
        ids[row, place], mask[row, place] = SOURCE[row, :length], 1
    return ids, mask


@fast_for("t5")
@pytest.mark.parametrize("side", ["left", pytest.param("right", marks=pytest.mark.slow)])
def test_a_padded_source_is_read_and_answered_as_if_alone(spec: EncoderDecoderSpec, side: str) -> None:
    model = built(spec)
    ids, mask = padded(side)
    logits = model(ids, attention_mask=mask, decoder_input_ids=TARGET).logits
    texts = model.generate(ids, attention_mask=mask, **GREEDY)
    for row, length in enumerate(LENGTHS):
        alone = SOURCE[row : row + 1, :length]
        assert_close(logits[row], model(alone, decoder_input_ids=TARGET[row : row + 1]).logits[0])
        assert torch.equal(texts[row], model.generate(alone, **GREEDY)[0])
    assert (texts[:, 0] == spec.start_token).all()


@fast_for("sums")
@pytest.mark.parametrize("beams", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_generation_with_a_cache_equals_generation_without(spec: EncoderDecoderSpec, beams: int) -> None:
    model = built(spec)
    ids, mask = padded("left")
    options = GREEDY | {"num_beams": beams, "num_return_sequences": beams, "attention_mask": mask}
    plain = model.generate(ids, use_cache=False, **options)
    cached = model.generate(ids, return_dict_in_generate=True, **options)
    assert torch.equal(plain, cached.sequences)
    # What was kept of the source are its keys, in every layer; sums are kept of the text alone.
    kept = cached.past_key_values.cross_attention_cache.layers
    assert [layer.keys.shape[2] for layer in kept] == [7, 7]
    assert torch.equal(plain, model.generate(ids, cache_implementation="static", **options))


@fast_for("2017")
def test_the_decoder_read_in_pieces_gives_the_same_logits(spec: EncoderDecoderSpec) -> None:
    model = built(spec)
    whole = model(SOURCE, decoder_input_ids=TARGET, use_cache=False)
    first = model(SOURCE, decoder_input_ids=TARGET[:, :2], past_key_values=DynamicCache(config=model.config))
    read = (first.encoder_last_hidden_state,)
    second = model(encoder_outputs=read, decoder_input_ids=TARGET[:, 2:], past_key_values=first.past_key_values)
    assert_close(torch.cat([first.logits, second.logits], 1), whole.logits)


@fast_for("bart")
def test_labels_are_predicted_from_the_start_token_and_the_labels_before(spec: EncoderDecoderSpec) -> None:
    model = built(spec)
    labels = TARGET.clone()
    labels[1, 3:] = -100
    found = model(SOURCE, labels=labels)
    read = torch.cat([torch.full((3, 1), spec.start_token), TARGET[:, :-1]], 1)
    logits = model(SOURCE, decoder_input_ids=read).logits
    kept = labels != -100
    expected = F.cross_entropy(logits[kept], labels[kept])
    # The library computes losses in float32.
    assert_close(found.loss.double(), expected, atol=1e-6, rtol=1e-6)
    parted = model(SOURCE, labels=labels, num_items_in_batch=26).loss
    assert_close(parted.double(), expected / 2, atol=1e-6, rtol=1e-6)


@fast_for("bart")
def test_a_saved_folder_is_read_back_by_the_library_bit_for_bit(spec: EncoderDecoderSpec, tmp_path: Path) -> None:
    model = built(spec, torch.float32)
    model.save_pretrained(tmp_path)
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert isinstance(again, GlassworksForSeq2SeqLM)
    assert again.config.spec == spec
    expected = model(SOURCE, decoder_input_ids=TARGET)
    assert torch.equal(again(SOURCE, decoder_input_ids=TARGET).logits, expected.logits)
    assert isinstance(load(tmp_path, device="cpu").model, GlassworksForSeq2SeqLM)
    body = AutoModel.from_pretrained(tmp_path)
    assert isinstance(body, EncoderDecoderModel)
    found = body(SOURCE, decoder_input_ids=TARGET)
    assert torch.equal(found.encoder_last_hidden_state, expected.encoder_last_hidden_state)


@fast_for("sums")
def test_maps_and_streams_of_both_sides_are_shown(spec: EncoderDecoderSpec) -> None:
    model = built(spec)
    ids, mask = padded("left")
    shown: dict[str, Any] = {"output_attentions": True, "output_hidden_states": True}
    found = model(ids, attention_mask=mask, decoder_input_ids=TARGET, use_cache=False, **shown)
    assert [map_.shape for map_ in found.encoder_attentions] == [(3, 2, 7, 7)] * spec.depth_of_encoder
    assert [map_.shape for map_ in found.decoder_attentions] == [(3, 2, 5, 5)] * 2
    assert [map_.shape for map_ in found.cross_attentions] == [(3, 2, 5, 7)] * 2
    assert (len(found.encoder_hidden_states), len(found.decoder_hidden_states)) == (spec.depth_of_encoder + 1, 3)
    for map_ in found.cross_attentions:
        assert_close(map_.sum(-1), torch.ones(3, 2, 5, dtype=map_.dtype))
        assert (map_[2, ..., :4] == 0).all()
        assert (map_[2, ..., 4:] > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t5", "bart", "2017"])
def test_both_stacks_are_found_by_watching(name: str) -> None:
    subject = Subject.of(built(SPECS[name], torch.float32))
    depth = SPECS[name].depth_of_encoder
    assert subject.anatomy.stacks == {
        "encoder": tuple(f"model.encoder.layers.{layer}" for layer in range(depth)),
        "decoder": tuple(f"model.decoder.layers.{layer}" for layer in range(2)),
    }
    crosses = [layer.cross and layer.cross.path for layer in subject.anatomy.layers]
    assert crosses == [f"model.decoder.layers.{layer}.cross_attn" for layer in range(2)]
    assert Fidelity.check(subject, TokenBatch(TARGET, source=TokenBatch(SOURCE))).holds


def test_checkpointed_gradients_are_the_same() -> None:
    model = built(SPECS["t5"]).train()
    model(SOURCE, labels=TARGET).loss.backward()
    plain = [parameter.grad for parameter in model.parameters()]
    model.zero_grad()
    model.activation_checkpointing_enable()
    model(SOURCE, labels=TARGET).loss.backward()
    for before, parameter in zip(plain, model.parameters(), strict=True):
        assert before is not None
        assert_close(parameter.grad, before)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"input_ids": SOURCE}, "the decoder has nothing to read"),
        ({"decoder_input_ids": TARGET}, "either input_ids or inputs_embeds"),
        ({"input_ids": torch.ones(1, 17, dtype=torch.long), "decoder_input_ids": TARGET[:1]}, "17 tokens are more"),
        ({"input_ids": SOURCE, "decoder_input_ids": torch.ones(3, 17, dtype=torch.long)}, "17 tokens are more"),
        ({"input_ids": SOURCE, "attention_mask": torch.ones(3, 5), "labels": TARGET}, "does not fit 7 tokens"),
    ],
)
def test_impossible_input_is_refused_in_one_sentence(given: dict[str, Tensor], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        built(SPECS["bart"])(**given)


def test_a_spec_that_fits_no_encoder_is_refused() -> None:
    with pytest.raises(InvalidInput, match="2 kinds of feed-forward for 3 layers"):
        built(EncoderDecoderSpec(**SIZES, encoder_depth=3, feedforward=("relu", "gelu")))
    with pytest.raises(InvalidInput, match="only an encoder-decoder"):
        GlassworksForSeq2SeqLM(GlassworksConfig.from_spec(EncoderSpec(**SIZES)))
