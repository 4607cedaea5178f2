"""What both sides of scoring and tuning read: a small byte-level Llama and texts of random words. transformers alone."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = (
    "the", "a", "one", "some", "river", "stone", "child", "window", "garden", "small", "bright", "quiet", "old", "green",
    "walks", "sees", "takes", "holds", "finds", "under", "over", "near", "with", "from", "because", "although", "water",
    "light", "house", "morning", "winter", "letter",
)  # fmt: skip
TEMPLATE = (
    "{{ bos_token }}{%- for message in messages -%}{%- if message['role'] == 'assistant' -%}{{ 'Answer:' }}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{%- else -%}"
    "{{ 'Question: ' + message['content'] + '\n' }}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ 'Answer:' }}{%- endif -%}"
)


def write_model(folder: Path, width: int, depth: int, length: int) -> None:
    """A Llama with random weights whose tokens are bytes, and its tokenizer with a chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<s>", "</s>", *letters])}
    spelling = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    spelling.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spelling.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=spelling, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=length
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 32,
        intermediate_size=4 * width * 2 // 3, max_position_embeddings=length, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


def sentence(chance: random.Random, fewest: int, most: int) -> str:
    """Some random words."""
    return " ".join(chance.choices(WORDS, k=chance.randint(fewest, most)))


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of such a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
