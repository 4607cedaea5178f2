import base64
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from glassworks.core.errors import InvalidInput
from glassworks.core.files import read_json
from glassworks.mixers import Linear
from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.models.llama2c import read_llama2c, tokenizer_beside
from glassworks.models.load import load
from glassworks.models.min_gpt import read_min_gpt
from glassworks.models.weights import from_transformers, spec_of, to_transformers
from glassworks.tensors.seeds import Seed
from tests.assets import asset, gallery_model

IDS = torch.randint(0, 29, (2, 11), generator=torch.Generator().manual_seed(0))

# Beginning of sequence, then 200 tokens: the text that llama2.c's own tests expect of this model.
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" "
    "Lily was sad and didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily "
    "was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\nLily didn't want "
    "to help her mom, so she"
)


SIZES: dict[str, Any] = {
    "vocab_size": 29, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 32,
}  # fmt: skip
SHARED: dict[str, Any] = SIZES | {"num_key_value_heads": 2, "head_dim": 8}
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
# Between its two windows one layer that sees all, with a rotation of its own.
GEMMA3: dict[str, Any] = SHARED | {
    "num_hidden_layers": 3, "query_pre_attn_scalar": 8, "sliding_window": 4,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}  # fmt: skip


def llama(**fields: Any) -> LlamaForCausalLM:
    return random(LlamaForCausalLM, LlamaConfig(**(SIZES | fields)))


def gpt2(**fields: Any) -> GPT2LMHeadModel:
    sizes: dict[str, Any] = {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 32}
    return random(GPT2LMHeadModel, GPT2Config(vocab_size=29, **(sizes | fields)))


def random(kind: Any, config: Any) -> Any:
    """Weights large enough that a wrong place for any of them shows in the logits; norms and biases too."""
    config.bos_token_id = config.eos_token_id = None
    model = kind(config).eval()
    chance = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.3, generator=chance)
    return model


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS, use_cache=False).logits


OTHERS = {
    "llama": lambda: llama(),
    "llama with shared keys": lambda: llama(num_key_value_heads=2),
    "llama with wide heads and biases": lambda: llama(head_dim=10, attention_bias=True, mlp_bias=True),
    "llama, tied, slow rotation": lambda: llama(
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 5e5}
    ),
    "llama 3, stretched": lambda: llama(num_key_value_heads=2, rope_parameters=LLAMA3),
    "llama, stretched evenly": lambda: llama(rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}),
    "mistral": lambda: random(MistralForCausalLM, MistralConfig(**SHARED, sliding_window=4)),
    "mistral without a window": lambda: random(MistralForCausalLM, MistralConfig(**SHARED, sliding_window=None)),
    "qwen 2": lambda: random(Qwen2ForCausalLM, Qwen2Config(**SIZES, num_key_value_heads=2)),
    "qwen 3": lambda: random(Qwen3ForCausalLM, Qwen3Config(**SHARED)),
    "gemma": lambda: random(GemmaForCausalLM, GemmaConfig(**SHARED)),
    "gemma 3": lambda: random(Gemma3ForCausalLM, Gemma3TextConfig(**GEMMA3)),
    "gpt2": lambda: gpt2(),
    "gpt2, untied, narrow, relu": lambda: gpt2(tie_word_embeddings=False, n_inner=30, activation_function="relu"),
    "gpt2 with exact gelu": lambda: gpt2(activation_function="gelu"),
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_another_librarys_weights_give_its_logits_and_the_way_back_restores_every_number(make: Any) -> None:
    theirs = make()
    ours, expected = from_transformers(theirs), logits(theirs)
    assert isinstance(ours, GlassworksForCausalLM)
    assert_close(logits(ours), expected, atol=1e-5, rtol=1e-5)
    assert expected.std() > 0.2
    again = to_transformers(ours)
    # A Mistral without a window is a Llama.
    assert type(again) is type(theirs) or (type(theirs) is MistralForCausalLM and type(again) is LlamaForCausalLM)
    assert again.state_dict().keys() == theirs.state_dict().keys()
    # Gains that were kept as differences from 1 come back rounded.
    step = 2e-7 if type(theirs).__name__.startswith("Gemma") else 0.0
    for name, tensor in theirs.state_dict().items():
        assert_close(again.state_dict()[name], tensor, atol=step, rtol=0)
    assert_close(logits(again), expected, atol=1e-5 if step else 1e-6, rtol=0)


def test_our_own_model_becomes_a_llama_with_the_same_logits() -> None:
    spec = TransformerSpec(
        vocabulary=29, width=16, depth=2, heads=4, kv_heads=1, context=32, norm="rms", feedforward=("swiglu",),
        positions="rotary",
    )  # fmt: skip
    ours = build_model(spec, Seed(0))
    theirs = to_transformers(ours)
    assert isinstance(theirs, LlamaForCausalLM)
    assert_close(logits(theirs), logits(ours), atol=1e-5, rtol=1e-5)


def test_half_precision_stays_half_precision() -> None:
    ours = from_transformers(llama().to(torch.bfloat16))
    assert ours.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: random(GPTJForCausalLM, GPTJConfig(vocab_size=29, n_embd=8, n_head=2, n_layer=1, rotary_dim=4)), "gptj"),
        (lambda: random(Qwen2ForCausalLM, Qwen2Config(**SIZES, use_sliding_window=True, sliding_window=4,
                        max_window_layers=1)), "window"),
        (lambda: llama(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}), "dynamic"),
        (lambda: llama(hidden_act="gelu"), "gelu"),
        (lambda: llama(attention_bias=True), "differ"),
        (lambda: gpt2(scale_attn_by_inverse_layer_idx=True), "scaled by layer"),
        (lambda: gpt2(activation_function="tanh"), "tanh"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_by_name(make: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        spec_of(make())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"mixers": (Linear(),)}, "not softmax"),
        ({"query": "identity"}, "identity"),
        ({"norm_placement": "post"}, "wired"),
        ({"norm": "none"}, "root mean square"),
    ],
)
def test_what_neither_family_computes_is_refused_with_the_reason(fields: dict[str, Any], says: str) -> None:
    spec = TransformerSpec(vocabulary=29, width=16, depth=1, **fields)
    with pytest.raises(InvalidInput, match=says):
        to_transformers(build_model(spec, Seed(0)))


@pytest.mark.slow
def test_stories260k_tells_the_known_story_in_their_model_and_in_ours() -> None:
    path = asset("lm/stories260K/stories260K.bin")
    theirs, tokenizer = read_llama2c(path), tokenizer_beside(path, 512)
    assert tokenizer is not None
    ours = from_transformers(theirs)
    ids = ours.generate(torch.tensor([[1]]), max_new_tokens=200, do_sample=False, pad_token_id=0)
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == STORY
    assert len(STORY) == 464
    with torch.no_grad():
        assert torch.equal(theirs(ids).logits[0, :-1].argmax(-1), ids[0, 1:])
        assert_close(ours(ids).logits, theirs(ids).logits, atol=1e-5, rtol=1e-5)


def test_its_tokenizer_returns_what_it_was_given() -> None:
    tokenizer = tokenizer_beside(asset("lm/stories260K/stories260K.bin"), 512)
    assert tokenizer is not None
    for text in ("Once upon a time, there was a girl.", "naïve 中文 ✓", "  two  spaces\n"):
        assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text
    assert len(tokenizer) == 512


def test_the_sorting_model_sorts_every_input_in_gpt2_and_in_ours() -> None:
    theirs = read_min_gpt(asset("lm/gpt-nano-sort/gpt-nano-sort-model.json"))
    ours = from_transformers(theirs)
    given = torch.tensor(list(itertools.product(range(3), repeat=6)))
    ids = given
    with torch.no_grad():
        for _ in range(6):
            ids = torch.cat([ids, ours(ids[:, :11], use_cache=False).logits[:, -1:].argmax(-1)], 1)
        assert torch.equal(ids[:, 6:], given.sort(1).values)
        assert_close(ours(ids[:, :11]).logits, theirs(ids[:, :11]).logits, atol=1e-5, rtol=1e-5)


def test_our_model_has_the_sorting_models_own_activations() -> None:
    """Its author's queries, keys, values, maps, feed-forward, streams and logits, of three sequences."""
    theirs = read_min_gpt(asset("lm/gpt-nano-sort/gpt-nano-sort-model.json"))
    partials = read_json(asset("lm/gpt-nano-sort/gpt-nano-sort-t0-partials.json"))

    def known(name: str) -> torch.Tensor:
        numbers = np.frombuffer(base64.b64decode(partials[name]["data"]), "<f4").copy()
        return torch.from_numpy(numbers).view(partials[name]["shape"])

    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, given, out: seen.__setitem__(name, out[0] if isinstance(out, tuple) else out)

    ours = from_transformers(theirs)
    block = ours.model.layers[0]
    parts = {"ln1": block.input_layernorm, "q": block.self_attn.q_proj, "k": block.self_attn.k_proj,
             "v": block.self_attn.v_proj, "yProj": block.self_attn.o_proj, "ln2": block.post_attention_layernorm,
             "fc": block.mlp.up_proj, "mlp": block.mlp, "block0": block, "block1": ours.model.layers[1],
             "block2": ours.model.layers[2], "ln_f": ours.model.norm}  # fmt: skip
    for name, part in parts.items():
        part.register_forward_hook(keep(name))
    with torch.no_grad():
        found = ours(known("idx").long(), output_attentions=True, use_cache=False)
    for name in ("q", "k", "v"):
        seen[name] = seen[name].unflatten(-1, (3, 16)).transpose(1, 2)
    seen |= {"lm_head": found.logits, "attSm": found.attentions[0], "probs": found.logits.softmax(-1)}
    for name, tensor in seen.items():
        assert_close(tensor, known(name), atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.slow
def test_smollm2_goes_into_our_model_and_back() -> None:
    subject = load(shelved("smollm2-135m"), device="cpu", dtype="float32")
    theirs: Any = subject.model
    ours = from_transformers(theirs)
    assert sum(number.numel() for number in ours.parameters()) == 134_515_008
    ids = subject.batch("The capital of France is").ids
    with torch.no_grad():
        expected, found = theirs(ids, use_cache=False).logits, ours(ids, use_cache=False).logits
        # Logits reach 31 here, of which float32 resolves 2e-6; thirty layers add such steps up.
        assert_close(found, expected, atol=3e-5, rtol=1e-6)
        assert_close(found.softmax(-1), expected.softmax(-1), atol=1e-5, rtol=0)
    again = to_transformers(ours)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def shelved(name: str) -> str:
    """A gallery model that is on this machine; the test is skipped where it is not."""
    gallery_model(name)
    return name
