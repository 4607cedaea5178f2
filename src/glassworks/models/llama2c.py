"""llama2.c checkpoints and their tokenizer files, read into transformers objects."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from glassworks.core.errors import BrokenFile
from glassworks.core.reading import check_regular, read_bytes
from glassworks.core.text import Text, say

HEADER = struct.Struct("<7i")
BYTE_TOKENS = range(3, 259)
BLANK = "▁"
# Bytes of the largest checkpoint: twice that of the largest model of this format, of 7 billion weights.
LARGEST = 1 << 36
# Characters of the longest piece of a vocabulary; every way to part a piece in two is tried.
LONGEST_PIECE = 1024


@dataclass(frozen=True)
class Header:
    """The seven numbers at the start of a llama2.c file."""

    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    is_tied: bool

    @property
    def head_width(self) -> int:
        """Numbers per head."""
        return self.width // self.heads

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every array of the file, in file order."""
        layers, width, hidden = self.layers, self.width, self.hidden
        shared, half = self.kv_heads * self.head_width, self.head_width // 2
        head = {} if self.is_tied else {"lm_head": (self.vocabulary, width)}
        return {
            "embed_tokens": (self.vocabulary, width),
            "input_layernorm": (layers, width),
            "q_proj": (layers, width, width),
            "k_proj": (layers, shared, width),
            "v_proj": (layers, shared, width),
            "o_proj": (layers, width, width),
            "post_attention_layernorm": (layers, width),
            "gate_proj": (layers, hidden, width),
            "down_proj": (layers, width, hidden),
            "up_proj": (layers, hidden, width),
            "norm": (width,),
            "cosines": (self.context, half),
            "sines": (self.context, half),
        } | head


def read_llama2c(path: Path) -> LlamaForCausalLM:
    """The model of a llama2.c `.bin` file (version 0); raises NotFound, or BrokenFile for other content."""
    check_regular(path)
    with path.open("rb") as file:
        header = _header(file.read(HEADER.size), path)
    # Before a byte of its weights is read.
    _check_size(path.stat().st_size, header, path)
    blob = _bytes_of(path)
    arrays = _arrays(blob, header, path)
    config = LlamaConfig(
        vocab_size=header.vocabulary,
        hidden_size=header.width,
        intermediate_size=header.hidden,
        num_hidden_layers=header.layers,
        num_attention_heads=header.heads,
        num_key_value_heads=header.kv_heads,
        max_position_embeddings=header.context,
        rms_norm_eps=1e-5,
        tie_word_embeddings=header.is_tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(_state(arrays, header), strict=True)
    return model


def read_llama2c_tokenizer(path: Path, vocabulary: int) -> PreTrainedTokenizerFast:
    """The tokenizer of a llama2.c `tok*.bin` file: byte-pair merges whose rank is the piece's score."""
    pieces, scores = _pieces(_bytes_of(path), vocabulary, path)
    texts = ["<unk>", "<s>", "</s>"]
    texts += [f"<0x{token - BYTE_TOKENS.start:02X}>" for token in BYTE_TOKENS]
    try:
        texts += [piece.decode().replace(" ", BLANK) for piece in pieces[BYTE_TOKENS.stop :]]
    except UnicodeDecodeError:
        raise _damaged(path, say("a piece is not UTF-8")) from None
    ids: dict[str, int] = {}
    for token, text in enumerate(texts):
        ids.setdefault(text, token)
    tokenizer = Tokenizer(
        models.BPE(
            vocab=ids,
            merges=_merges(texts, scores, ids),
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in texts[:3]])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )


def tokenizer_beside(path: Path, vocabulary: int) -> PreTrainedTokenizerFast | None:
    """The tokenizer in `tok<vocabulary>.bin` or `tokenizer.bin` beside a checkpoint, or None."""
    for name in (f"tok{vocabulary}.bin", "tokenizer.bin"):
        if (path.parent / name).is_file():
            return read_llama2c_tokenizer(path.parent / name, vocabulary)
    return None


def _header(blob: bytes, path: Path) -> Header:
    if len(blob) < HEADER.size:
        raise _damaged(path, say("it has {size} bytes", size=len(blob)))
    width, hidden, layers, heads, kv_heads, vocabulary, context = HEADER.unpack_from(blob)
    # A negative vocabulary says that the unembedding has weights of its own.
    header = Header(width, hidden, layers, heads, kv_heads, abs(vocabulary), context, vocabulary > 0)
    sizes = (width, hidden, layers, heads, kv_heads, abs(vocabulary), context)
    if min(sizes) < 1 or width % heads or heads % kv_heads or header.head_width % 2:
        raise _damaged(path, say("its first numbers are no sizes of a model: {sizes}", sizes=str(sizes)))
    return header


def _arrays(blob: bytes, header: Header, path: Path) -> dict[str, Tensor]:
    shapes = header.shapes()
    counts = {name: math.prod(shape) for name, shape in shapes.items()}
    _check_size(len(blob), header, path)
    numbers = torch.from_numpy(np.frombuffer(blob, "<f4", offset=HEADER.size).copy())
    pieces = numbers.split(list(counts.values()))
    return {name: piece.view(shapes[name]) for name, piece in zip(counts, pieces, strict=True)}


def _check_size(size: int, header: Header, path: Path) -> None:
    expected = HEADER.size + 4 * sum(math.prod(shape) for shape in header.shapes().values())
    if size != expected:
        raise _damaged(path, say("it has {size} bytes where {expected} belong", size=size, expected=expected))


def _state(arrays: dict[str, Tensor], header: Header) -> dict[str, Tensor]:
    embedding = arrays["embed_tokens"]
    state = {
        "model.embed_tokens.weight": embedding,
        "model.norm.weight": arrays["norm"],
        "lm_head.weight": embedding if header.is_tied else arrays["lm_head"],
    }
    for layer in range(header.layers):
        place = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            state[f"{place}{name}.weight"] = arrays[name][layer]
        for name in ("gate_proj", "up_proj", "down_proj"):
            state[f"{place}mlp.{name}.weight"] = arrays[name][layer]
        for name in ("v_proj", "o_proj"):
            state[f"{place}self_attn.{name}.weight"] = arrays[name][layer]
        for name, heads in (("q_proj", header.heads), ("k_proj", header.kv_heads)):
            state[f"{place}self_attn.{name}.weight"] = _half_split(arrays[name][layer], heads)
    return state


def _half_split(matrix: Tensor, heads: int) -> Tensor:
    """Reorders rows: llama2.c rotates the pairs (2i, 2i+1), transformers the pairs (i, i + half)."""
    return matrix.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2).contiguous()


def _pieces(blob: bytes, vocabulary: int, path: Path) -> tuple[list[bytes], list[float]]:
    # The first number, the longest piece, is of use only to a program in C.
    pieces: list[bytes] = []
    scores: list[float] = []
    place = 4
    try:
        for _ in range(vocabulary):
            score, length = struct.unpack_from("<fi", blob, place)
            place += 8 + length
            if length < 0 or place > len(blob):
                raise _damaged(path, say("it ends within piece {piece}", piece=len(pieces)))
            if length > LONGEST_PIECE:
                raise _damaged(path, say("piece {piece} has {length} bytes", piece=len(pieces), length=length))
            pieces.append(blob[place - length : place])
            scores.append(score)
    except struct.error:
        raise _damaged(path, say("it ends within piece {piece}", piece=len(pieces))) from None
    if place != len(blob) or vocabulary <= BYTE_TOKENS.stop:
        raise _damaged(path, say("it is not a vocabulary of {vocabulary} pieces", vocabulary=vocabulary))
    return pieces, scores


def _merges(texts: list[str], scores: list[float], ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to put a piece together from two others, best-scored pieces first."""
    merges: list[tuple[str, str]] = []
    for token in sorted(range(BYTE_TOKENS.stop, len(texts)), key=lambda t: (-scores[t], t)):
        text = texts[token]
        halves = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        known = [(left, right) for left, right in halves if left in ids and right in ids]
        merges += sorted(known, key=lambda pair: (ids[pair[0]], ids[pair[1]]))
    return merges


def _bytes_of(path: Path) -> bytes:
    return read_bytes(path, LARGEST)


def _damaged(path: Path, reason: Text) -> BrokenFile:
    return BrokenFile(
        say("{path} is truncated or no llama2.c file: {reason}", path=str(path), reason=reason),
        right=say("a version 0 checkpoint of llama2.c, or its tokenizer file"),
    )
