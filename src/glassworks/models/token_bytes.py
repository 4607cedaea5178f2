"""The exact bytes of every token, whatever its tokenizer's spelling: characters split over tokens are whole again."""

import json
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from glassworks.anatomy import Alphabet

BLANK = "▁"


def byte_signs() -> dict[str, int]:
    """The printable stand-in of each byte in byte-level vocabularies (Radford et al. 2019)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return {chr(byte if byte in printable else next(others)): byte for byte in range(256)}


class TokenBytes:
    """Bytes of tokens by any tokenizer or alphabet; `kind` is how its vocabulary spells them."""

    def __init__(self, tokenizer: object) -> None:
        self._tokenizer: Any = tokenizer
        self._known: dict[int, bytes] = {}
        self._signs = byte_signs()
        self.kind = kind_of(tokenizer)
        special = tokenizer.all_special_ids if isinstance(tokenizer, PreTrainedTokenizerBase) else []
        self.special = frozenset(int(token) for token in special)
        """Tokens that are no text: beginning, end, roles of a chat."""

    def of(self, token: int) -> bytes:
        """What a token adds to a text, in UTF-8; of a special one its name."""
        if token not in self._known:
            self._known[token] = self._found(token)
        return self._known[token]

    def text(self, tokens: Sequence[int]) -> bytes:
        """Several tokens together, without special ones."""
        return b"".join(self.of(token) for token in tokens if token not in self.special)

    def _found(self, token: int) -> bytes:
        match self._tokenizer:
            case Alphabet() as alphabet:
                return alphabet.characters[token].encode()
            case None:
                return str(token).encode()
            case tokenizer:
                spelled = tokenizer.convert_ids_to_tokens(token)
        if spelled is None:
            # Rows of an embedding that no token uses.
            return b""
        spelled = str(spelled)
        if token in self.special or token in tokenizer.added_tokens_decoder:
            return spelled.encode()
        if self.kind == "byte_level":
            return bytes(self._signs[sign] for sign in spelled if sign in self._signs)
        if self.kind == "sentencepiece":
            if len(spelled) == 6 and spelled.startswith("<0x") and spelled.endswith(">"):
                return bytes([int(spelled[3:5], 16)])
            return spelled.replace(BLANK, " ").encode()
        return str(tokenizer.convert_tokens_to_string([spelled])).encode()


def kind_of(tokenizer: object) -> str:
    """alphabet, byte_level, sentencepiece, or other (spelled by the tokenizer itself, token by token)."""
    if isinstance(tokenizer, Alphabet):
        return "alphabet"
    if not isinstance(tokenizer, PreTrainedTokenizerBase) or not tokenizer.is_fast:
        return "other"
    backend: Any = tokenizer
    kinds = _kinds_in(json.loads(backend.backend_tokenizer.decoder.__getstate__() or "null"))
    if "ByteLevel" in kinds:
        return "byte_level"
    return "sentencepiece" if kinds & {"Metaspace", "ByteFallback"} else "other"


def _kinds_in(found: object) -> set[str]:
    match found:
        case {"type": "Sequence", "decoders": [*parts]}:
            return {kind for part in parts for kind in _kinds_in(part)}
        case {"type": str(kind)}:
            return {kind}
        case _:
            return set()


def shown(pending: bytes, added: bytes) -> tuple[str, bytes]:
    """What bytes add to a text of which `pending` is an unfinished character: whole characters, and what is pending then.

    Bytes that are no UTF-8 come as U+FFFD, as every tokenizer has it.
    """
    whole = pending + added
    for missing in range(min(4, len(whole) + 1)):
        # A character of up to four bytes may be unfinished at the end.
        head, tail = whole[: len(whole) - missing], whole[len(whole) - missing :]
        try:
            text = head.decode()
        except UnicodeDecodeError:
            continue
        if not tail or _begins_a_character(tail):
            return text, tail
    return whole.decode(errors="replace"), b""


def _begins_a_character(tail: bytes) -> bool:
    first = tail[0]
    length = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 0
    return len(tail) < length and all(0x80 <= byte < 0xC0 for byte in tail[1:])
