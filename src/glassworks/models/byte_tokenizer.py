"""A tokenizer of the 256 bytes as a Hugging Face file: any text is spelled exactly, token ids are the bytes of its UTF-8."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from glassworks.core.files import write_json


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer itself; it adds no tokens of its own and changes no blanks."""
    return PreTrainedTokenizerFast(tokenizer_object=_backend(), clean_up_tokenization_spaces=False)


def save_byte_tokenizer(folder: Path) -> None:
    """Writes it into a model's folder, so that `AutoTokenizer` and `gw.load` find it there."""
    write_json(folder / "tokenizer.json", json.loads(_backend().to_str()))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    write_json(folder / "tokenizer_config.json", settings)


def _backend() -> Tokenizer:
    # Byte-level files write each byte as a printable sign (Radford et al. 2019); without merges each stays a token.
    vocabulary = {sign: byte for byte, sign in enumerate(_signs())}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _signs() -> list[str]:
    """The printable stand-in of each byte: itself where Latin-1 prints it, else the next sign from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
