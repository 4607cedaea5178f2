"""Tiny random models of public families, built offline from their configs, never downloaded."""

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

VOCABULARY = 61
CONTEXT = 48
# Weights well above the usual 0.02: at that scale layers are near the identity, and wrong maps pass by
# chance.
SCALE = 0.2

FAMILIES = ("llama", "gpt2", "neox", "bert", "qwen3", "gemma3", "mistral", "opt", "phi", "falcon", "bloom")
FOUR = FAMILIES[:4]


def _makers(layers: int, common: dict[str, object], usual: dict[str, object]) -> dict[str, Callable[[], nn.Module]]:
    """How each family is built at the same small size."""
    import transformers as t

    grouped = usual | {"num_key_value_heads": 2}
    return {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**grouped)),
        "gpt2": lambda: t.GPT2LMHeadModel(
            t.GPT2Config(
                n_embd=32,
                n_layer=layers,
                n_head=4,
                n_positions=CONTEXT,
                initializer_range=SCALE,
                bos_token_id=0,
                eos_token_id=0,
                **common,
            )
        ),
        "neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**usual)),
        "bert": lambda: t.BertForMaskedLM(t.BertConfig(**usual)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(head_dim=8, **grouped)),
        "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(head_dim=8, sliding_window=5, **grouped)),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(sliding_window=5, **grouped)),
        "opt": lambda: t.OPTForCausalLM(
            t.OPTConfig(
                hidden_size=32,
                num_hidden_layers=layers,
                num_attention_heads=4,
                ffn_dim=52,
                max_position_embeddings=CONTEXT,
                word_embed_proj_dim=32,
                init_std=SCALE,
                **common,
            )
        ),
        "phi": lambda: t.PhiForCausalLM(t.PhiConfig(**usual)),
        "falcon": lambda: t.FalconForCausalLM(
            t.FalconConfig(
                hidden_size=32,
                num_hidden_layers=layers,
                num_attention_heads=4,
                initializer_range=SCALE,
                **common,
            )
        ),
        "bloom": lambda: t.BloomForCausalLM(
            t.BloomConfig(hidden_size=32, n_layer=layers, n_head=4, initializer_range=SCALE, vocab_size=VOCABULARY)
        ),
    }


def tiny(family: str, attention: str = "sdpa", layers: int = 3) -> nn.Module:
    """A fresh random model in evaluation mode; equal arguments, equal weights."""
    common = {"vocab_size": VOCABULARY, "attn_implementation": attention}
    usual = common | {
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 52,
        "max_position_embeddings": CONTEXT,
        "initializer_range": SCALE,
    }
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return _makers(layers, common, usual)[family]().eval()


@cache
def subject(family: str, attention: str = "sdpa"):
    """The same model as a Subject, its anatomy found once."""
    from glassworks.anatomy import Subject

    return Subject.of(shared(family, attention))


@cache
def shared(family: str, attention: str = "sdpa") -> nn.Module:
    """The same tiny model for all tests that only read it."""
    return tiny(family, attention)
