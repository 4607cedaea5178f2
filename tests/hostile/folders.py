"""Model folders, whole and spoiled: what a stranger may send."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = ("[UNK]", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k")


def tokenizer(words: tuple[str, ...] = WORDS) -> PreTrainedTokenizerFast:
    """Whole words between blanks."""
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=words[0]))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token=words[0])


def gpt2(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    """A tiny GPT-2 with a tokenizer of words."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(words), n_embd=8, n_layer=2, n_head=2, n_positions=32)
    config.bos_token_id = config.eos_token_id = None
    GPT2LMHeadModel(config).eval().save_pretrained(folder)
    tokenizer(words).save_pretrained(folder)
    return folder


def llama(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    """A tiny Llama with a tokenizer of words."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).eval().save_pretrained(folder)
    tokenizer(words).save_pretrained(folder)
    return folder


def with_json(path: Path, change: Callable[[Any], Any]) -> None:
    """A JSON file changed as a stranger might."""
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
