import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    DynamicCache,
    Trainer,
    TrainingArguments,
)

from glassworks.core.errors import InvalidInput, Unavailable
from glassworks.models import (
    GlassworksConfig,
    GlassworksForCausalLM,
    GlassworksModel,
    TransformerSpec,
    build_model,
)
from glassworks.tensors.seeds import Seed
from tests.models.tiny import SPECS

each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
CHANCE = torch.Generator().manual_seed(0)
# Without token 0: the library takes the padding token in a prompt for padding.
IDS = torch.randint(1, 13, (3, 7), generator=CHANCE)
# One prompt alone, then padded by 2 and 4 on one side.
LENGTHS = (7, 5, 3)
GREEDY = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}


def built(spec: TransformerSpec, dtype: torch.dtype = torch.float64) -> GlassworksForCausalLM:
    return build_model(spec, Seed(2), dtype).eval()


def padded(side: str) -> tuple[Tensor, Tensor]:
    ids, mask = torch.zeros_like(IDS), torch.zeros_like(IDS)
    for row, length in enumerate(LENGTHS):
        place = slice(7 - length, 7) if side == "left" else slice(0, length)
        ids[row, place] = IDS[row, :length]
        mask[row, place] = 1
    return ids, mask


@each_spec
@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.slow
def test_generation_with_a_cache_equals_generation_without(spec: TransformerSpec, beams: int, cache: str) -> None:
    model = built(spec)
    plain = model.generate(IDS, num_beams=beams, use_cache=False, **GREEDY)
    cached = model.generate(IDS, num_beams=beams, cache_implementation=cache, **GREEDY)
    assert plain.shape == (3, 13)
    assert torch.equal(plain, cached)


@each_spec
def test_a_cache_filled_in_chunks_is_the_same_cache(spec: TransformerSpec) -> None:
    model = built(spec)
    whole = model.generate(IDS, **GREEDY)
    assert torch.equal(model.generate(IDS, prefill_chunk_size=3, **GREEDY), whole)
    cache = DynamicCache(config=model.config)
    logits = [model(IDS[:, part], past_key_values=cache, use_cache=True).logits for part in (slice(0, 4), slice(4, 7))]
    assert_close(torch.cat(logits, 1), model(IDS, use_cache=False).logits)
    assert cache.get_seq_length() == 7


@each_spec
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.slow
def test_padded_prompts_are_continued_as_if_alone(spec: TransformerSpec, side: str) -> None:
    model = built(spec)
    ids, mask = padded(side)
    together = model.generate(ids, attention_mask=mask, **GREEDY)
    for row, length in enumerate(LENGTHS):
        alone = model.generate(IDS[row : row + 1, :length], **GREEDY)
        assert torch.equal(together[row, 7:], alone[0, length:])
        assert torch.equal(together[row, 7 - length :], alone[0])


@each_spec
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_logit_of_a_real_token(spec: TransformerSpec, side: str) -> None:
    model = built(spec)
    ids, mask = padded(side)
    logits = model(ids, attention_mask=mask, use_cache=False).logits
    assert logits.isfinite().all()
    for row, length in enumerate(LENGTHS):
        alone = model(IDS[row : row + 1, :length], use_cache=False).logits
        assert_close(logits[row][mask[row] == 1], alone[0])


@each_spec
def test_several_continuations_of_one_prompt_and_a_second_turn(spec: TransformerSpec) -> None:
    model = built(spec)
    many = model.generate(IDS[:1], num_return_sequences=3, num_beams=3, **GREEDY)
    assert many.shape == (3, 13)
    first = model.generate(IDS, return_dict_in_generate=True, **GREEDY)
    longer = torch.cat([first.sequences, IDS[:, :2]], 1)
    second = model.generate(longer, past_key_values=first.past_key_values, **GREEDY)
    assert torch.equal(second, model.generate(longer, use_cache=False, **GREEDY))


@each_spec
def test_a_saved_folder_is_read_back_by_the_library_bit_for_bit(spec: TransformerSpec, tmp_path: Path) -> None:
    model = built(spec, torch.float32)
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {"config.json", "model.safetensors"}
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(again, GlassworksForCausalLM)
    assert again.config.spec == spec
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == spec.tie_output
    body = AutoModel.from_pretrained(tmp_path)
    assert isinstance(body, GlassworksModel)
    assert torch.equal(body(IDS).last_hidden_state, model.model(IDS).last_hidden_state)
    half = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half(IDS).logits.isfinite().all()


@pytest.mark.slow
def test_a_fresh_process_knows_the_folder_after_one_import(tmp_path: Path) -> None:
    build_model(SPECS["plain"], Seed(0)).save_pretrained(tmp_path)
    program = (
        "import sys, glassworks; assert 'torch' not in sys.modules\n"
        "import glassworks.models; from transformers import AutoConfig\n"
        f"print(AutoConfig.from_pretrained({str(tmp_path)!r}).spec.width)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "8"


@each_spec
def test_the_library_can_make_a_model_from_a_config_alone(spec: TransformerSpec) -> None:
    model = AutoModelForCausalLM.from_config(GlassworksConfig.from_spec(spec))
    for name, tensor in {**model.state_dict(), **dict(model.named_buffers())}.items():
        assert tensor.isfinite().all(), name
        assert "norm" in name or tensor.std() > 0, name


def test_a_config_survives_its_file(tmp_path: Path) -> None:
    config = GlassworksConfig.from_spec(SPECS["hybrid"], eos_token_id=4)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.spec == SPECS["hybrid"]
    assert (again.eos_token_id, again.num_hidden_layers, again.hidden_size) == (4, 3, 8)
    assert again.layer_types == ["glassworks_memory", "full_attention", "glassworks_memory"]


def test_resized_embeddings_are_part_of_the_spec(tmp_path: Path) -> None:
    model = built(SPECS["llama"], torch.float32)
    model.resize_token_embeddings(20, mean_resizing=False)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.spec.vocabulary == 20
    assert again(IDS).logits.shape[-1] == 20


@each_spec
def test_checkpointed_gradients_are_bit_equal(spec: TransformerSpec) -> None:
    model = built(spec).train()
    model(IDS, labels=IDS, use_cache=False).loss.backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.activation_checkpointing_enable()
    model(IDS, labels=IDS).loss.backward()
    assert plain
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, plain[name]), name


@pytest.mark.parametrize("name", ["plain", "hybrid"])
@pytest.mark.slow
def test_the_librarys_trainer_takes_a_step(name: str, tmp_path: Path) -> None:
    model = build_model(SPECS[name], Seed(0))
    before = model.lm_head.weight.detach().clone()
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    rows = [{"input_ids": row, "labels": row} for row in IDS]
    result = Trainer(model, arguments, train_dataset=rows).train()
    assert result.training_loss > 0
    assert not torch.equal(before, model.lm_head.weight)


@each_spec
def test_maps_and_streams_can_be_asked_for(spec: TransformerSpec) -> None:
    model = built(spec)
    plain = model(IDS, use_cache=False)
    shown = model(IDS, use_cache=False, output_attentions=True, output_hidden_states=True)
    assert torch.equal(shown.logits, plain.logits)
    assert plain.attentions is None
    assert len(shown.hidden_states) == spec.depth + 1
    assert [tuple(seen.shape) for seen in shown.attentions] == [(3, spec.heads, 7, 7)] * spec.depth
    for layer, seen in enumerate(shown.attentions):
        assert not seen.triu(1).any()
        if spec.mixer(layer).kind == "softmax":
            assert_close(seen.sum(-1), torch.ones_like(seen.sum(-1)))


def test_a_map_over_tokens_kept_as_a_sum_is_refused() -> None:
    model = built(SPECS["sum"])
    cache = model(IDS, use_cache=True).past_key_values
    with pytest.raises(Unavailable, match="only as a sum"):
        model(IDS[:, :1], past_key_values=cache, output_attentions=True)


def test_packed_texts_are_refused_where_sums_would_mix_them() -> None:
    with pytest.raises(InvalidInput, match="packed"):
        built(SPECS["sum"])(IDS, position_ids=torch.tensor([[0, 1, 2, 0, 1, 2, 3]]), use_cache=False)


def test_more_tokens_than_positions_are_refused() -> None:
    model = built(SPECS["plain"])
    with pytest.raises(InvalidInput, match="25 tokens are more than the model's 24"):
        model(torch.zeros(1, 25, dtype=torch.long))
    assert built(SPECS["sum"])(torch.zeros(1, 24, dtype=torch.long)).logits.isfinite().all()


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(InvalidInput, match="does not fit 7 tokens"):
        built(SPECS["plain"])(IDS, attention_mask=torch.ones(3, 6, dtype=torch.long))


def test_neither_or_both_inputs_are_refused() -> None:
    with pytest.raises(InvalidInput, match="either"):
        built(SPECS["plain"])()


def test_embeddings_may_be_given_instead_of_tokens() -> None:
    model = built(SPECS["hybrid"])
    embedded = model.get_input_embeddings()(IDS)
    assert torch.equal(model(inputs_embeds=embedded).logits, model(IDS).logits)


def test_a_cache_that_cannot_hold_a_memory_is_refused() -> None:
    with pytest.raises(InvalidInput, match="cannot hold a memory"):
        built(SPECS["sum"])(IDS, past_key_values=DynamicCache())


def test_a_sum_cannot_be_cropped() -> None:
    cache = built(SPECS["sum"])(IDS, use_cache=True).past_key_values
    cache.crop(0)
    with pytest.raises(InvalidInput, match="cannot forget"):
        cache.crop(-2)
    cache.reset()
    assert cache.get_seq_length() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simplified", "llama", "hybrid"])
def test_training_compiles_without_a_graph_break(name: str) -> None:
    model = build_model(SPECS[name], Seed(0))
    # Tracing alone finds graph breaks; making machine code of it takes a minute.
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    loss = compiled(IDS, labels=IDS, use_cache=False).loss
    loss.backward()
    assert_close(loss.detach(), model(IDS, labels=IDS, use_cache=False).loss.detach())
