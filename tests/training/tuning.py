"""What the tests of the later stages share: a small tokenizer, small models and the folder of one that talks."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from glassworks.models import TransformerSpec, build_model
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.tokenizer import finished

WORDS = "the cat sat on the mat and the dog said hello to the small red bird. what is your name? my name is tom. "


def talker() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 320 tokens with the marks of conversations."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    from tokenizers import decoders

    backend.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([WORDS] * 3, trainer)
    return finished(backend)


def decoder(**changes: Any) -> Any:
    """Our decoder for that tokenizer."""
    choices: dict[str, Any] = {
        "vocabulary": 320, "width": 32, "depth": 2, "heads": 4, "context": 64, "positions": "rotary", "norm": "rms",
        "feedforward": ("swiglu",), "weight_scale": 0.1,
    }  # fmt: skip
    return build_model(TransformerSpec(**(choices | changes)), Seed(0))


def llama() -> LlamaForCausalLM:
    """The library's, of like size."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip


def folder_of_talker(path: Path, model: Any = None) -> Path:
    """A model folder from elsewhere that brings a chat template."""
    (model if model is not None else decoder()).save_pretrained(path)
    talker().save_pretrained(path)
    return path
