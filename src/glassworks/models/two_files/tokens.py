"""A tokenizer as plain data: pieces in bytes, merges in their order, patterns in Python's words."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from glassworks.anatomy import Alphabet
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.models.token_bytes import BLANK, TokenBytes

# How byte-level vocabularies cut text into words (Radford et al. 2019).
GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_PREPEND = {"type": "Prepend", "prepend": BLANK}
_BLANKS = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}


def tokenizer_data(tokenizer: object, vocabulary: int) -> dict[str, Any]:
    """What the program of two files needs; InvalidInput names the part of a tokenizer that it does not have."""
    if isinstance(tokenizer, Alphabet):
        pieces = [sign.encode().decode("latin-1") for sign in tokenizer.characters]
        return _data(pieces, starts_from="characters")
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast:
        raise _refused(say("the model has no tokenizer that can be written as plain data"))
    backend: Any = tokenizer
    found = json.loads(backend.backend_tokenizer.to_str())
    model, spelled = found["model"], TokenBytes(tokenizer)
    pieces = [spelled.of(token).decode("latin-1") for token in range(max(vocabulary, len(tokenizer)))]
    added = {one["content"]: int(one["id"]) for one in found["added_tokens"]}
    more = {"special": added, "silent": sorted(spelled.special), "unknown": _unknown(model)}
    match model["type"], spelled.kind:
        case "BPE", "byte_level":
            steps = _splits(found["pre_tokenizer"])
            more |= {"splits": steps[0], "blank_first": steps[1], "normal_form": _normal_form(found["normalizer"])}
            return _data(pieces, starts_from="bytes", merges=_merges(model), whole=bool(model["ignore_merges"]), **more)
        case "BPE", "sentencepiece":
            first = _blank_first(found["normalizer"], found["pre_tokenizer"])
            ids: Mapping[str, int] = model["vocab"]
            fallback = [ids.get(f"<0x{byte:02X}>") for byte in range(256)]
            more |= {"blank_first": first, "byte_tokens": fallback if None not in fallback else None}
            return _data(pieces, starts_from="characters", merges=_merges(model), **more)
        case "WordLevel", _ if all(len(text) == 1 for text in model["vocab"] if text not in added):
            return _data(pieces, starts_from="characters", **more)
        case kind, _:
            raise _refused(say("its tokenizer is {kind}, which joins no pairs", kind=kind))


def _data(pieces: Sequence[str], **more: Any) -> dict[str, Any]:
    plain = {
        "merges": [],
        "special": {},
        "silent": [],
        "splits": [],
        "byte_tokens": None,
        "unknown": None,
        "blank_first": "",
        "normal_form": "",
        "whole": False,
    }
    return {"pieces": list(pieces)} | plain | more


def _unknown(model: Mapping[str, Any]) -> int | None:
    name = model.get("unk_token")
    return None if name is None else model["vocab"].get(name)


def _merges(model: Mapping[str, Any]) -> list[list[int]]:
    """Left, right and the token that they become, those that were learned first before all others."""
    ids: Mapping[str, int] = model["vocab"]
    pairs = [tuple(pair.split(" ", 1)) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    return [[ids[left], ids[right], ids[left + right]] for left, right in pairs]


def _normal_form(found: Mapping[str, Any] | None) -> str:
    match found:
        case None | {"type": "Sequence", "normalizers": []}:
            return ""
        case {"type": "NFC" | "NFKC" | "NFD" | "NFKD" as form}:
            return str(form)
        case {"type": kind}:
            raise _refused(say("its tokenizer changes text in a way that is not known here: {kind}", kind=kind))
        case _:
            raise _refused(say("its tokenizer changes text in a way that is not known here: {kind}", kind="-"))


def _blank_first(normaliser: object, words: object) -> str:
    if words is not None:
        raise _refused(say("its tokenizer cuts words in a way that is not known here: {kind}", kind=str(words)))
    match normaliser:
        case {"type": "Sequence", "normalizers": [first, second]} if first == _PREPEND and second == _BLANKS:
            return "always"
        case _ if normaliser == _BLANKS:
            return ""
        case _:
            raise _refused(say("its tokenizer changes text in a way that is not known here: {kind}", kind=str(normaliser)))  # fmt: skip


def _splits(found: Any) -> tuple[list[str], str]:
    """The patterns that cut text into words, one after the other, and whether a blank is set before it."""
    match found:
        case {"type": "Sequence", "pretokenizers": [*parts]}:
            each = [_splits(part) for part in parts]
            return [split for splits, _ in each for split in splits], next((blank for _, blank in each if blank), "")
        case {"type": "ByteLevel", "use_regex": uses, "add_prefix_space": blank}:
            return [python_pattern(GPT2_WORDS)] if uses else [], "unless there" if blank else ""
        case {"type": "Digits", "individual_digits": single}:
            return [python_pattern(r"\p{N}" if single else r"\p{N}+")], ""
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            return [python_pattern(pattern)], ""
        case _:
            raise _refused(say("its tokenizer cuts words in a way that is not known here: {kind}", kind=str(found)))


def python_pattern(pattern: str) -> str:
    """A pattern over letters and digits of all scripts, for text in which each stands for its kind in ASCII."""
    out, within = "", False
    for part in re.findall(r"\\p\{\w+\}|\\.|.", pattern, flags=re.DOTALL):
        match part:
            case r"\p{L}" | r"\p{N}" as kind:
                signs = "a-zA-Z" if kind == r"\p{L}" else "0-9"
                out += signs if within else f"[{signs}]"
            case _ if part.startswith((r"\p", r"\P")):
                raise _refused(say("its tokenizer cuts words by {kind}", kind=part))
            case _:
                within = (within or part == "[") and part != "]"
                out += part
    try:
        re.compile(out)
    except re.error:
        raise _refused(say("its tokenizer cuts words by {kind}", kind=pattern)) from None
    return out


def _refused(reason: Text) -> InvalidInput:
    return InvalidInput(
        say("the program of two files does not run this model: {reason}", reason=reason),
        right=say("a model whose tokenizer joins pairs of bytes or characters"),
    )
