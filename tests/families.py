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

FOUR = ("llama", "gpt2", "neox", "bert")
# One stack of layers with attention, read by norm and head alone.
FAMILIES = (
    *FOUR, "qwen3", "gemma3", "mistral", "opt", "phi", "falcon", "bloom", "qwen2", "olmo2", "roberta", "distilbert",
    "mixtral", "olmoe", "gptj", "electra",
)  # fmt: skip
# The same, with logits that are capped after the head.
CAPPED = ("gemma2",)
ENCODER_DECODERS = ("t5", "bart", "marian", "mbart")
# Families whose library code knows no fused attention.
EAGER_ONLY = ("gptj", "gemma2")
LOOKS_AHEAD = ("bert", "roberta", "distilbert", "electra")

_Makers = dict[str, Callable[[], nn.Module]]


def _decoders(layers: int, common: dict[str, object], usual: dict[str, object]) -> _Makers:
    import transformers as t

    grouped = usual | {"num_key_value_heads": 2}
    without_ends = {"bos_token_id": 0, "eos_token_id": 0}
    few = {"hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 4, "initializer_range": SCALE}
    old = {"n_embd": 32, "n_layer": layers, "n_head": 4, "n_positions": CONTEXT, "initializer_range": SCALE}
    experts = grouped | {"num_experts_per_tok": 2}
    return {
        "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**grouped)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**old, **without_ends, **common)),
        "neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**usual)),
        "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(head_dim=8, **grouped)),
        # Layer 0 sees everything, the layers above it a window of five.
        "qwen2": lambda: t.Qwen2ForCausalLM(
            t.Qwen2Config(use_sliding_window=True, max_window_layers=1, sliding_window=5, **grouped)
        ),
        "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(head_dim=8, sliding_window=5, **grouped)),
        "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(head_dim=8, sliding_window=5, **grouped)),
        "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(sliding_window=5, **grouped)),
        "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(num_local_experts=4, **experts)),
        "olmo2": lambda: t.Olmo2ForCausalLM(t.Olmo2Config(pad_token_id=0, eos_token_id=0, **grouped)),
        "olmoe": lambda: t.OlmoeForCausalLM(t.OlmoeConfig(num_experts=4, pad_token_id=0, eos_token_id=0, **experts)),
        "opt": lambda: t.OPTForCausalLM(
            t.OPTConfig(
                **{name: value for name, value in few.items() if name != "initializer_range"},
                ffn_dim=52,
                max_position_embeddings=CONTEXT,
                word_embed_proj_dim=32,
                init_std=SCALE,
                **common,
            )
        ),
        "phi": lambda: t.PhiForCausalLM(t.PhiConfig(**usual)),
        "falcon": lambda: t.FalconForCausalLM(t.FalconConfig(**few, **common)),
        "bloom": lambda: t.BloomForCausalLM(
            t.BloomConfig(hidden_size=32, n_layer=layers, n_head=4, initializer_range=SCALE, vocab_size=VOCABULARY)
        ),
        "gptj": lambda: t.GPTJForCausalLM(t.GPTJConfig(rotary_dim=4, **old, **without_ends, **common)),
        "mamba": lambda: t.MambaForCausalLM(
            t.MambaConfig(
                vocab_size=VOCABULARY, hidden_size=32, state_size=4, num_hidden_layers=layers, time_step_rank=4
            )
        ),
    }


def _encoders(layers: int, common: dict[str, object], usual: dict[str, object]) -> _Makers:
    import transformers as t

    # RoBERTa counts positions from its padding token (1) on.
    shifted = usual | {"max_position_embeddings": CONTEXT + 2}
    return {
        "bert": lambda: t.BertForMaskedLM(t.BertConfig(**usual)),
        "roberta": lambda: t.RobertaForMaskedLM(t.RobertaConfig(**shifted)),
        "distilbert": lambda: t.DistilBertForMaskedLM(
            t.DistilBertConfig(
                dim=32,
                hidden_dim=52,
                n_layers=layers,
                n_heads=4,
                max_position_embeddings=CONTEXT,
                initializer_range=SCALE,
                **common,
            )
        ),
        "electra": lambda: t.ElectraForMaskedLM(t.ElectraConfig(embedding_size=16, **usual)),
        "albert": lambda: t.AlbertForMaskedLM(t.AlbertConfig(embedding_size=16, **usual)),
        "bert_bare": lambda: t.BertModel(t.BertConfig(**usual)),
        "bert_classifier": lambda: t.BertForSequenceClassification(t.BertConfig(num_labels=3, **usual)),
        "llama_classifier": lambda: t.LlamaForSequenceClassification(
            t.LlamaConfig(num_labels=3, pad_token_id=0, num_key_value_heads=2, **usual)
        ),
    }


def _encoder_decoders(layers: int, common: dict[str, object]) -> _Makers:
    import transformers as t

    bart = common | {
        "d_model": 32,
        "encoder_layers": layers + 1,
        "decoder_layers": layers,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 52,
        "decoder_ffn_dim": 52,
        "max_position_embeddings": CONTEXT,
        "init_std": SCALE,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": None,
    }
    t5 = common | {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 52,
        "num_layers": layers + 1,
        "num_decoder_layers": layers,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 12,
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }
    return {
        "t5": lambda: t.T5ForConditionalGeneration(t.T5Config(**t5)),
        "t5_encoder": lambda: t.T5EncoderModel(t.T5Config(**t5)),
        "bart": lambda: t.BartForConditionalGeneration(t.BartConfig(**bart)),
        "marian": lambda: t.MarianMTModel(t.MarianConfig(**bart)),
        "mbart": lambda: t.MBartForConditionalGeneration(t.MBartConfig(**bart)),
    }


def tiny(family: str, attention: str = "sdpa", layers: int = 3) -> nn.Module:
    """A fresh random model in evaluation mode; equal arguments, equal weights.

    An encoder has one layer more than its decoder.
    """
    kind = "eager" if family in EAGER_ONLY else attention
    common: dict[str, object] = {"vocab_size": VOCABULARY, "attn_implementation": kind}
    usual = common | {
        "hidden_size": 32,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 52,
        "max_position_embeddings": CONTEXT,
        "initializer_range": SCALE,
    }
    makers = _decoders(layers, common, usual) | _encoders(layers, common, usual) | _encoder_decoders(layers, common)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return makers[family]().eval()


@cache
def subject(family: str, attention: str = "sdpa"):
    """The same model as a Subject, its anatomy found once."""
    from glassworks.anatomy import Subject

    return Subject.of(shared(family, attention))


@cache
def shared(family: str, attention: str = "sdpa") -> nn.Module:
    """The same tiny model for all tests that only read it."""
    return tiny(family, attention)


def free_of_hooks(model: nn.Module) -> bool:
    """No hook is left but those of transformers, which stay, idle, once a model was asked for its hidden states."""
    kept = (hooks for m in model.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks))
    return all(hook.__module__.startswith("transformers.") for hooks in kept for hook in hooks.values())
