"""What a raw text has to begin with, told to a saved tokenizer."""

from pathlib import Path
from typing import Any

from tokenizers import processors
from transformers import AutoTokenizer

from glassworks.core.errors import BrokenFile
from glassworks.core.files import read_json, write_json
from glassworks.core.text import say


def begin_texts_with(token: str, folder: Path) -> None:
    """Makes the saved tokenizer put this token before a text, and name it as beginning of sequence.

    Chat templates write their own tokens and stay as they are.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    number = tokenizer.convert_tokens_to_ids(token)
    if number is None or tokenizer.convert_ids_to_tokens(number) != token:
        raise BrokenFile(say("the tokenizer in {folder} has no token {token}", folder=str(folder), token=token))
    tokenizer.bos_token = token
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A $B", special_tokens=[(token, number)]
    )
    tokenizer.save_pretrained(folder)
    for path in (folder / "config.json", folder / "generation_config.json"):
        if path.is_file():
            write_json(path, read_json(path) | {"bos_token_id": number})
