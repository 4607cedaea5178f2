"""A tokenizer of a stranger's folder, before it meets a text: what it must not do to one."""

import json
from typing import Any

from transformers import PreTrainedTokenizerFast

# A text is a few times as long once its signs are written out; a bomb, a million times.
MOST_GROWTH = 4096


def tamed(tokenizer: Any) -> Any:
    """The same tokenizer, which neither cuts nor fills up texts unless it is told to.

    Raises ValueError for one that lets a text grow without measure, or whose settings are of a wrong type.
    """
    longest = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float):
        raise ValueError(f"model_max_length is {longest!r}")
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return tokenizer
    backend: Any = tokenizer.backend_tokenizer
    for name, part in (("normalizer", backend.normalizer), ("decoder", backend.decoder)):
        if (growth := growth_of(_state_of(part))) > MOST_GROWTH:
            raise ValueError(f"its {name} makes a text {growth:.0e} times as long")
    # Files say so for one use of a tokenizer, and whoever spells a corpus would lose its texts without a word.
    backend.no_truncation()
    backend.no_padding()
    return tokenizer


def _state_of(part: Any) -> Any:
    try:
        return None if part is None else json.loads(part.__getstate__())
    except (
        Exception
    ):  # the bare class: a step written in Python has no state, and comes from a library, not from a file
        return None


def growth_of(step: Any) -> float:
    """How many times as long a text can be after a step."""
    match step:
        case {"type": "Sequence", "normalizers": [*steps]} | {"type": "Sequence", "decoders": [*steps]}:
            grown = 1.0
            for one in steps:
                grown *= growth_of(one)
            return grown
        case {"type": "Replace", "pattern": {"String": str(sign)}, "content": str(content)}:
            return max(1.0, len(content) / max(1, len(sign)))
        case {"type": "Replace", "content": str(content)}:
            return max(1.0, float(len(content)))
        case {"type": "Prepend", "prepend": str(content)}:
            return 1.0 + len(content)
        case _:
            return 1.0
