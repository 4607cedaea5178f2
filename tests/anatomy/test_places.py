from dataclasses import replace

import pytest
import torch
from torch import nn

from glassworks.anatomy import Subject, TokenBatch, find_anatomy
from glassworks.anatomy.tokens import padded
from glassworks.core.errors import InvalidInput, StrangeModel, UnknownName
from tests.families import CONTEXT, FAMILIES, LOOKS_AHEAD, VOCABULARY, shared, tiny
from tests.families import subject as examined
from tests.planted.models import POSITIONS, induction_head

STACKS = {
    "llama": ("model.layers", "model.norm", "lm_head", "model.embed_tokens", "self_attn"),
    "gpt2": ("transformer.h", "transformer.ln_f", "lm_head", "transformer.wte", "attn"),
    "neox": ("gpt_neox.layers", "gpt_neox.final_layer_norm", "lm_head", "gpt_neox.embed_in", "attention"),
    "bert": ("bert.encoder.layer", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder",
             "bert.embeddings.word_embeddings", "attention"),
    "qwen3": ("model.layers", "model.norm", "lm_head", "model.embed_tokens", "self_attn"),
    "gemma3": ("model.layers", "model.norm", "lm_head", "model.embed_tokens", "self_attn"),
    "mistral": ("model.layers", "model.norm", "lm_head", "model.embed_tokens", "self_attn"),
    "opt": ("model.decoder.layers", "model.decoder.final_layer_norm", "lm_head", "model.decoder.embed_tokens", "self_attn"),
    "phi": ("model.layers", "model.final_layernorm", "lm_head", "model.embed_tokens", "self_attn"),
    "falcon": ("transformer.h", "transformer.ln_f", "lm_head", "transformer.word_embeddings", "self_attention"),
    "bloom": ("transformer.h", "transformer.ln_f", "lm_head", "transformer.word_embeddings", "self_attention"),
    "qwen2": ("model.layers", "model.norm", "lm_head", "model.embed_tokens", "self_attn"),
    "olmo2": ("model.layers", "model.norm", "lm_head", "model.embed_tokens", "self_attn"),
    "mixtral": ("model.layers", "model.norm", "lm_head", "model.embed_tokens", "self_attn"),
    "olmoe": ("model.layers", "model.norm", "lm_head", "model.embed_tokens", "self_attn"),
    "gptj": ("transformer.h", "transformer.ln_f", "lm_head", "transformer.wte", "attn"),
    "roberta": ("roberta.encoder.layer", "lm_head.layer_norm", "lm_head.decoder", "roberta.embeddings.word_embeddings",
                "attention"),
    "distilbert": ("distilbert.transformer.layer", "vocab_layer_norm", "vocab_projector",
                   "distilbert.embeddings.word_embeddings", "attention"),
    "electra": ("electra.encoder.layer", "generator_predictions.LayerNorm", "generator_lm_head",
                "electra.embeddings.word_embeddings", "attention"),
}  # fmt: skip
GROUPED = ("llama", "qwen2", "qwen3", "gemma3", "mistral", "mixtral", "olmo2", "olmoe")
KV_HEADS = {"falcon": 1} | dict.fromkeys(GROUPED, 2)
PARALLEL = ("neox", "phi", "falcon", "gptj")


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_all_parts_of_a_public_family_are_found(family: str, attention: str) -> None:
    found = examined(family, attention).anatomy
    assert found.stacks == {"layers": tuple(f"{STACKS[family][0]}.{index}" for index in range(3))}
    stack, norm, head, embedding, mixer = STACKS[family]
    assert (found.stack, found.norm, found.head, found.embedding) == (stack, norm, head, embedding)
    assert found.depth == 3
    assert found.width == 32
    assert found.vocabulary == VOCABULARY
    assert found.readout_exact
    assert found.causal == (family not in LOOKS_AHEAD)
    for index, layer in enumerate(found.layers):
        assert layer.path == f"{stack}.{index}"
        assert layer.mixer == f"{stack}.{index}.{mixer}"
        assert layer.feedforward
        assert layer.heads == 4
        assert layer.kv_heads == KV_HEADS.get(family, 4)
        assert layer.head_width == 8


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stream_between_the_halves_exists_where_the_block_is_not_parallel(family: str) -> None:
    layer = examined(family).anatomy.layers[1]
    assert ("mid" in layer.taps) == (family not in PARALLEL)
    if family in PARALLEL:
        assert "parallel block" in layer.missing["mid"].en


def test_positions_are_found_where_a_module_adds_them_and_only_there() -> None:
    assert examined("gpt2").anatomy.positions == "transformer.wpe"
    assert examined("bert").anatomy.positions == "bert.embeddings.position_embeddings"
    assert examined("opt").anatomy.positions == "model.decoder.embed_positions"
    assert examined("llama").anatomy.positions is None


@pytest.mark.parametrize("family", ["gpt2", "roberta", "opt", "distilbert"])
def test_the_longest_text_is_one_that_the_table_of_positions_still_holds(family: str) -> None:
    # RoBERTa states two more than it can read.
    assert examined(family).anatomy.context == CONTEXT
    ids = torch.full((1, CONTEXT), 5)
    assert examined(family).forward(TokenBatch(ids)).shape == (1, CONTEXT, VOCABULARY)
    with pytest.raises(InvalidInput, match="longer than the model's context"):
        examined(family).forward(TokenBatch(torch.full((1, CONTEXT + 1), 5)))


def test_a_plain_decoder_of_nobodys_shape_is_found() -> None:
    found = find_anatomy(induction_head())
    assert (found.stack, found.embedding, found.positions, found.head) == ("blocks", "tokens", "places", "unembed")
    assert found.norm is None
    assert found.context == POSITIONS
    assert [layer.mixer for layer in found.layers] == ["blocks.0.attention", "blocks.1.attention"]
    assert "no feed-forward" in found.layers[0].missing["mid"].en


class Named(nn.Module):
    """Layers as attributes, attention by softmax inside the block itself, logits by the tied embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.one, self.two = Block(), Block()

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(self.table(ids))) @ self.table.weight.T


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (part(x).unflatten(-1, (2, 4)).transpose(1, 2) for part in (self.query, self.key, self.value))
        return x + (torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ v).transpose(1, 2).flatten(2)


def test_named_layers_with_bare_softmax_and_tied_logits_are_found() -> None:
    found = find_anatomy(Named())
    assert [layer.path for layer in found.layers] == ["one", "two"]
    assert found.tied_head
    assert found.head is None
    assert not found.causal
    assert found.layers[0].attention == "softmax"
    assert found.layers[0].mixer is None
    assert "no submodule" in found.layers[0].missing["mixer.out"].en
    subject = Subject.of(Named())
    ids = torch.tensor([[1, 2, 3]])
    logits, cache = subject.run_with_cache(ids)
    assert torch.allclose(subject.read_stream(cache["layers.1.out"]), logits, atol=1e-6)


def test_a_model_without_attention_has_streams_and_says_what_it_lacks() -> None:
    subject = examined("mamba")
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2]])
    logits, cache = subject.run_with_cache(ids)
    with torch.no_grad():
        assert torch.equal(logits, subject.model(ids).logits)
    assert subject.anatomy.layers[1].mixer == "backbone.layers.1.mixer"
    for layer in range(3):
        assert torch.allclose(
            cache["resid_pre", layer] + cache["attn_out", layer], cache["resid_post", layer], atol=1e-6
        )
    assert subject.anatomy.heads == 0
    with pytest.raises(InvalidInput, match="no attention was seen in this layer"):
        cache["pattern", 0]


def test_layers_that_share_their_weights_are_one_clear_message() -> None:
    with pytest.raises(StrangeModel, match="the same layer is called 3 times") as problem:
        find_anatomy(tiny("albert"))
    assert "albert.encoder.albert_layer_groups.0" in str(problem.value)
    assert "copy.deepcopy" in str(problem.value)
    tied = tiny("gpt2")
    tied.transformer.h[2] = tied.transformer.h[1]
    with pytest.raises(StrangeModel, match=r"the same layer is called 2 times: transformer\.h\.1"):
        find_anatomy(tied)


def test_a_model_without_a_head_gives_its_last_stream() -> None:
    subject = examined("bert_bare")
    logits, cache = subject.run_with_cache([5, 6, 7])
    assert torch.equal(logits, cache["layers.2.out"])
    with pytest.raises(InvalidInput, match="the model has no head"):
        cache["logits"]
    assert examined("t5_encoder").anatomy.norm == "encoder.final_layer_norm"


@pytest.mark.parametrize("family", ["bert_classifier", "llama_classifier"])
def test_a_classifier_answers_once_a_text(family: str) -> None:
    subject = examined(family)
    batch = padded([[5, 6, 7, 8], [9, 10]])
    logits, cache = subject.run_with_cache(batch)
    with torch.no_grad():
        plain = subject.model(batch.ids, attention_mask=batch.real.long()).logits
    assert logits.shape == (2, 1, 3)
    assert torch.equal(logits[:, 0], plain)
    assert subject.anatomy.answers_once
    assert "3 labels" in subject.anatomy.notes[0].en
    assert cache["pattern", 2].shape == (2, 4, 4, 4)


@pytest.mark.filterwarnings("ignore")
def test_packed_weights_of_quantised_layers_count_as_matrices() -> None:
    quantised = torch.ao.quantization.quantize_dynamic(tiny("llama"), {nn.Linear})
    subject = Subject.of(quantised)
    assert [layer.feedforward for layer in subject.anatomy.layers] == [(f"model.layers.{i}.mlp",) for i in range(3)]
    logits, cache = subject.run_with_cache([1, 2, 3])
    assert torch.equal(logits, subject.forward(cache.batch))


@pytest.mark.filterwarnings("ignore")
def test_a_head_with_adapters_is_the_whole_head() -> None:
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(tiny("llama"), LoraConfig(target_modules=["q_proj", "lm_head"], task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.constant_(weight, 0.1)
    found = find_anatomy(model.eval())
    assert found.head == "base_model.model.lm_head"
    assert found.readout_exact


@pytest.mark.parametrize("family", ["gemma2", "granite"])
def test_a_model_that_caps_or_scales_its_logits_has_a_head_and_a_note(family: str) -> None:
    import transformers as t

    sizes = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 52, "num_key_value_heads": 2, "initializer_range": 0.2}
    if family == "gemma2":
        model = t.Gemma2ForCausalLM(t.Gemma2Config(head_dim=8, attn_implementation="eager", **sizes))
    else:
        model = t.GraniteForCausalLM(t.GraniteConfig(logits_scaling=3.0, residual_multiplier=0.5, **sizes))
    found = find_anatomy(model.eval())
    assert found.head == "lm_head"
    assert found.norm == "model.norm"
    assert not found.readout_exact
    assert "lenses leave it out" in found.notes[0].en
    assert ("mid" in found.layers[0].taps) == (family == "gemma2")


def test_a_model_with_one_layer_is_found() -> None:
    assert find_anatomy(tiny("gpt2", layers=1)).depth == 1


def test_a_model_without_attention_says_what_was_seen() -> None:
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9))
    with pytest.raises(StrangeModel, match="found no stack of layers") as problem:
        find_anatomy(model)
    assert "attention seen in: -" in str(problem.value)


class Looped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.blocks, self.head = nn.Embedding(11, 8), nn.ModuleList([Block()]), nn.Linear(8, 11)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        for _ in range(3):
            x = self.blocks[0](x)
        return self.head(x)


def test_a_layer_called_in_a_loop_is_reported_by_name() -> None:
    with pytest.raises(StrangeModel, match=r"the same layer is called 3 times: blocks\.0"):
        find_anatomy(Looped())


class TwoStacks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.left = nn.ModuleList([Block(), Block()])
        self.right = nn.ModuleList([Block(), Block()])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        for block in (*self.left, *self.right):
            x = block(x)
        return self.head(x)


def test_two_stacks_are_named_and_one_can_be_chosen() -> None:
    with pytest.raises(StrangeModel, match="found 2 stacks of 2 layers") as problem:
        find_anatomy(TwoStacks())
    assert "left" in str(problem.value)
    assert find_anatomy(TwoStacks(), layers="right").stack == "right"
    with pytest.raises(UnknownName, match="layer stack"):
        find_anatomy(TwoStacks(), layers="rigth")


def test_a_model_that_cannot_run_on_ids_gives_its_reason() -> None:
    class NeedsMore(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(5, 2)

        def forward(self, ids: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
            return self.table(ids) + picture

    with pytest.raises(StrangeModel, match="picture"):
        find_anatomy(NeedsMore())


def test_watching_leaves_no_hook_and_no_mode_behind() -> None:
    model = tiny("llama").train()
    find_anatomy(model)
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_the_printed_anatomy_names_every_part() -> None:
    text = str(find_anatomy(shared("gpt2")))
    for part in ("transformer.h", "transformer.wpe", "transformer.ln_f", "lm_head", "transformer.h.{i}.attn (all 3)"):
        assert part in text


def test_layers_that_differ_are_listed_by_kind() -> None:
    found = find_anatomy(shared("gpt2"))
    layers = list(found.layers)
    layers[1] = replace(layers[1], mixer="transformer.h.1.recurrent", attention="linear", heads=2)
    rows = {name.en: value for name, value in replace(found, layers=tuple(layers)).rows()}
    assert rows["attention"] == "transformer.h.{i}.attn (layers 0, 2); transformer.h.{i}.recurrent (layer 1)"
    assert rows["attention, as computed"] == "sdpa (layers 0, 2); linear (layer 1)"
    assert rows["feed-forward"] == "transformer.h.{i}.mlp (all 3)"
    assert rows["query heads, key-value heads, head width"].startswith("4, 4, 8 (layers 0, 2)")
