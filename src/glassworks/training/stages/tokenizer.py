"""The first stage: a tokenizer, learned from texts or taken from a published vocabulary, as a Hugging Face file.

Special tokens come first: `<|pad|>` 0, `<|bos|>` 1, `<|eos|>` 2, then the marks of a conversation. Bytes keep their own
numbers 0 to 255, and published vocabularies theirs; special tokens then follow behind.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from glassworks.anatomy.told import spelling
from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.files import filling_folder
from glassworks.core.reading import read_bytes
from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.evaluation.data import needed_file
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.tensors.processes import from_first
from glassworks.training.stages.base import Desk, Facts
from glassworks.training.stages.chat import CHAT_MARKS, CHAT_TEMPLATE
from glassworks.training.stages.corpus import Corpus, CorpusSpec

PAD, BOS, EOS, UNKNOWN = "<|pad|>", "<|bos|>", "<|eos|>", "<|unknown|>"
SPECIAL = (PAD, BOS, EOS, *CHAT_MARKS)
BYTES = 256
# Published byte-level vocabularies: the file of their ranks, and the pattern that parts a text into words before merging.
_WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_WORDS_100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS_200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PUBLISHED = {
    "gpt2": ("r50k_base.tiktoken", _WORDS),
    "r50k_base": ("r50k_base.tiktoken", _WORDS),
    "p50k_base": ("p50k_base.tiktoken", _WORDS),
    "cl100k_base": ("cl100k_base.tiktoken", _WORDS_100K),
    "o200k_base": ("o200k_base.tiktoken", _WORDS_200K),
}


class TokenizerSpec(CorpusSpec):
    """A tokenizer for what follows: learned byte pairs, characters, bytes, or a published vocabulary."""

    files: ClassVar[tuple[str, ...]] = ("data",)

    kind: Literal["tokenizer"] = "tokenizer"
    algorithm: Literal["bpe", "characters", "bytes", "gpt2", "r50k_base", "p50k_base", "cl100k_base", "o200k_base"] = (
        "bpe"
    )
    """bpe: byte pairs learned from the texts, which spell any text. characters: those of the texts. bytes: the 256 alone.
    The others are OpenAI's published byte-pair vocabularies, read from rank files on this machine."""
    vocabulary: int = Field(default=4096, ge=1)
    """Most tokens, special ones included, where they are learned (bpe, characters)."""
    fewest: int = Field(default=2, ge=1)
    """Occurrences that a pair needs to become a token."""

    @model_validator(mode="after")
    def _check_vocabulary(self) -> "TokenizerSpec":
        least = len(SPECIAL) + (BYTES if self.algorithm == "bpe" else 2)
        if self.algorithm in ("bpe", "characters") and self.vocabulary < least:
            raise ImpossibleValue(
                say("{count} tokens are too few for {algorithm}", count=self.vocabulary, algorithm=self.algorithm),
                say("at least {count}", count=least),
            )
        return self

    def run(self, desk: Desk) -> Facts:
        """Makes the tokenizer, checks it on every text and writes it; of several processes the first does it for all."""
        facts = from_first(self._made(desk) if desk.writes else None)
        assert facts is not None, "the first process makes it or ends them all"
        return facts

    def _made(self, desk: Desk) -> Facts:
        corpus = self.corpus
        desk.begin(0, 1)
        tokenizer = made(self, corpus)
        found = checked(tokenizer, corpus)
        with filling_folder(desk.path) as folder:
            tokenizer.save_pretrained(folder)
        desk.log(0, {"loss": 0.0, "bytes_per_token": found.bytes / found.tokens})
        return found.facts | {"vocabulary": len(tokenizer), "algorithm": self.algorithm}


@dataclass(frozen=True)
class Spelled:
    """How a tokenizer spells some texts; `differing` counts pieces of text that do not come back exactly."""

    characters: int
    bytes: int
    tokens: int
    unknown: int
    pieces: int
    differing: int

    @property
    def facts(self) -> Facts:
        """For done.json and tables."""
        return {
            "characters": self.characters,
            "bytes": self.bytes,
            "tokens": self.tokens,
            "characters_per_token": self.characters / self.tokens,
            "bytes_per_token": self.bytes / self.tokens,
            "unknown": self.unknown,
            "pieces": self.pieces,
            "differing": self.differing,
        }


def made(spec: TokenizerSpec, corpus: Corpus) -> PreTrainedTokenizerFast:
    """The tokenizer of a spec."""
    match spec.algorithm:
        case "bytes":
            return finished(byte_tokenizer().backend_tokenizer)
        case "bpe":
            return finished(_pairs(spec, corpus))
        case "characters":
            return finished(_characters(spec, corpus), unknown=UNKNOWN)
        case name:
            return finished(published(name))


def finished(backend: Tokenizer, unknown: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer with our special tokens and the template of conversations; blanks stay as they are."""
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    more: dict[str, Any] = {} if unknown is None else {"unk_token": unknown}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False,
        pad_token=PAD, bos_token=BOS, eos_token=EOS, additional_special_tokens=list(CHAT_MARKS), **more,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def plain_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Tokens of texts, word for word: what looks like a special token is spelled, and none is added."""
    if not texts:
        return []
    if not tokenizer.is_fast:
        return [list(map(int, tokenizer.encode(text, add_special_tokens=False))) for text in texts]
    backend: Any = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        with spelling():
            return [list(found.ids) for found in backend.encode_batch_fast(texts, add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = before


def checked(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, most_bytes: int = 1 << 24) -> Spelled:
    """How the texts are spelled (of long ones the beginning), each piece decoded again and compared."""
    characters = size = tokens = unknown = pieces = differing = 0
    strange = -1 if tokenizer.unk_token_id is None else int(str(tokenizer.unk_token_id))
    for text in (piece.text for piece in corpus if piece.text):
        ids = plain_ids(tokenizer, [text])[0]
        characters, size, tokens = characters + len(text), size + len(text.encode()), tokens + len(ids)
        unknown, pieces = unknown + ids.count(strange), pieces + 1
        differing += str(tokenizer.decode(ids, skip_special_tokens=False)) != text
        if size > most_bytes:
            break
    return Spelled(characters, size, tokens, unknown, pieces, differing)


def beside(corpus: Corpus, tokenizers: dict[str, PreTrainedTokenizerFast]) -> dict[str, Spelled]:
    """How several tokenizers spell the same texts (the first megabyte)."""
    return {name: checked(tokenizer, corpus, 1 << 20) for name, tokenizer in tokenizers.items()}


def published(name: str, path: Path | None = None) -> Tokenizer:
    """A published vocabulary from its file of ranks, without any network: same words, same merges, same numbers.

    Raises NotFound where the file is not on this machine, BrokenFile where it is no file of ranks.
    """
    file, words = PUBLISHED[name]
    ranks = _ranks(path or needed_file(file))
    signs = _signs()
    spelled = {"".join(signs[byte] for byte in token): rank for token, rank in ranks.items()}
    merges = [
        ("".join(signs[byte] for byte in left), "".join(signs[byte] for byte in right))
        for left, right in _merges(ranks)
    ]
    tokenizer = Tokenizer(models.BPE(spelled, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pairs(spec: TokenizerSpec, corpus: Corpus) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec.vocabulary, min_frequency=spec.fewest, special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(_texts(corpus), trainer)
    return tokenizer


def _characters(spec: TokenizerSpec, corpus: Corpus) -> Tokenizer:
    counted: Counter[str] = Counter()
    for text in _texts(corpus):
        counted.update(text)
    first = (*SPECIAL, UNKNOWN)
    # The most frequent ones, by their code where equally frequent: the same texts give the same numbers.
    ranked = sorted(counted, key=lambda sign: (-counted[sign], sign))[: spec.vocabulary - len(first)]
    tokenizer = Tokenizer(models.WordLevel({sign: n for n, sign in enumerate((*first, *ranked))}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _texts(corpus: Corpus) -> Iterator[str]:
    return (piece.text for piece in corpus if piece.text)


def _ranks(path: Path) -> dict[bytes, int]:
    """Token to rank of a file of ranks: one token in base 64 and its rank a line."""
    ranks: dict[bytes, int] = {}
    try:
        for line in read_bytes(path).splitlines():
            if line:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (ValueError, binascii.Error, OSError):
        raise BrokenFile(say("{path} is no file of ranks", path=str(path))) from None
    if len(ranks) < BYTES:
        raise InvalidInput(say("{path} is no file of ranks", path=str(path)), given=len(ranks))
    return ranks


def _merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The pair that each token was merged from: what merging its bytes by lower ranks alone leaves."""
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) > 1:
            parts = _merged(token, ranks, ranks[token])
            if len(parts) == 2:
                yield parts[0], parts[1]


def _merged(token: bytes, ranks: dict[bytes, int], limit: int) -> list[bytes]:
    parts = [token[place : place + 1] for place in range(len(token))]
    while len(parts) > 1:
        pairs = [ranks.get(left + right, limit) for left, right in pairwise(parts)]
        least = min(pairs)
        if least >= limit:
            break
        place = pairs.index(least)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return parts


def _signs() -> list[str]:
    """The printable stand-in of each byte in byte-level files."""
    backend = byte_tokenizer().backend_tokenizer
    return [str(backend.id_to_token(byte)) for byte in range(BYTES)]
