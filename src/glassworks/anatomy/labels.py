"""Byte-true token texts: a character split over tokens is shown whole, with a badge."""

from collections.abc import Sequence
from functools import cache

from glassworks.anatomy.tokens import Tokenizer

_UNKNOWN = "\ufffd"
_LONGEST = 4  # bytes of the longest UTF-8 character, so tokens of the longest split one


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The text of each token, blanks as they are; parts of one character read 界⟨1/3⟩, 界⟨2/3⟩, 界⟨3/3⟩."""
    texts: list[str] = []
    start = 0
    while start < len(ids):
        end, text = _whole(tokenizer, ids, start)
        if text is None:
            texts.append(_bytes_of(tokenizer, ids[start]))
        elif end - start == 1:
            texts.append(text)
        else:
            texts.extend(f"{text}⟨{part}/{end - start}⟩" for part in range(1, end - start + 1))
        start = end
    return texts


def _whole(tokenizer: Tokenizer, ids: Sequence[int], start: int) -> tuple[int, str | None]:
    """The end of the shortest run of tokens from `start` that is whole characters, and its text."""
    # One token of context keeps the blank that tokenizers strip from the front of a text.
    context = list(ids[max(0, start - 1) : start])
    before = _decode(tokenizer, context)
    for end in range(start + 1, min(len(ids), start + _LONGEST) + 1):
        both = _decode(tokenizer, [*context, *ids[start:end]])
        text = (
            both[len(before) :]
            if both.startswith(before) and _UNKNOWN not in before
            else _decode(tokenizer, ids[start:end])
        )
        if _UNKNOWN not in text:
            return end, text
    return start + 1, None


def _decode(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False) if ids else ""


def _bytes_of(tokenizer: Tokenizer, token: int) -> str:
    """A token that is part of no whole character, by its bytes where they are known, otherwise by its id."""
    name = tokenizer.convert_ids_to_tokens([token])[0]
    if name.startswith("<0x") and name.endswith(">"):
        return f"⟨{name[3:-1]}⟩"
    table = _byte_of_sign()
    if all(sign in table for sign in name):
        return "⟨" + " ".join(f"{table[sign]:02X}" for sign in name) + "⟩"
    return f"⟨#{token}⟩"


@cache
def _byte_of_sign() -> dict[str, int]:
    """The printable stand-ins that byte-level tokenizers use for the 256 bytes (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}
