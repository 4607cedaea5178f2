"""A corpus as tokens on disk: spelled once for a tokenizer, then read as a memory map.

`store/tokens/<digest>/` holds fit.bin and held_out.bin (16 or 32 bits a token) and, written last, tokens.json. After each
document stands the tokenizer's end mark. Of twenty documents or more every tenth is held out, else the last tenth.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from glassworks.core.errors import InvalidInput
from glassworks.core.files import read_json, write_json, writing
from glassworks.core.runs import lock_folder
from glassworks.core.text import say
from glassworks.tensors.processes import first_goes_ahead
from glassworks.training.stages.corpus import Corpus, CorpusSpec
from glassworks.training.stages.folder import identity_of_files
from glassworks.training.stages.tokenizer import plain_ids

TOKENS = "tokens"
FEWEST_DOCUMENTS, EVERY = 20, 10
# Pieces of text that are spelled in one call, by as many threads as the tokenizer library likes.
_TOGETHER = 32
_WIDE = 1 << 16

TokenMap = NDArray[np.uint16] | NDArray[np.uint32]


@dataclass(frozen=True, eq=False)
class CorpusTokens:
    """The tokens of a corpus: to learn from, and held out."""

    fit: TokenMap
    held_out: TokenMap
    sizes: NDArray[np.int64]
    """Bytes of text that each token of the vocabulary stands for; 0 for special ones."""
    documents: int
    seconds: float
    """Processor time that spelling took, when it was done."""
    path: Path

    @cached_property
    def bytes_held_out(self) -> int:
        """Bytes of the held-out text."""
        return self.bytes_of(self.held_out)

    def bytes_of(self, ids: NDArray[Any]) -> int:
        """Bytes of text that some tokens stand for."""
        return int(np.bincount(ids, minlength=len(self.sizes)) @ self.sizes)


def tokens_of(spec: CorpusSpec, tokenizer: PreTrainedTokenizerBase, store: Path) -> CorpusTokens:
    """The tokens of a spec's corpus: those that lie in the store, or spelled now.

    Raises InvalidInput for a text that is empty or too short to be held out in part, NoSpace on a full disk.
    """
    folder = store / TOKENS / _digest(spec, tokenizer)
    with first_goes_ahead():
        if not (folder / "tokens.json").is_file():
            with lock_folder(folder):
                if not (folder / "tokens.json").is_file():
                    _spell(spec.corpus, tokenizer, folder)
    about = read_json(folder / "tokens.json")
    kind = np.dtype(about["dtype"])
    fit, held_out = (np.memmap(folder / f"{name}.bin", dtype=kind, mode="r") for name in ("fit", "held_out"))
    return CorpusTokens(
        fit, held_out, bytes_per_token(tokenizer), int(about["documents"]), float(about["seconds"]), folder
    )


def bytes_per_token(tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    """The bytes of text that each token stands for: exact for byte-level, character and byte-fallback tokenizers."""
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_tokens)
    decoder = str(json.loads(_backend(tokenizer)).get("decoder") or "") if tokenizer.is_fast else ""
    is_byte_level = "ByteLevel" in decoder

    def size(name: str | None) -> int:
        if name is None or name in special:
            return 0
        if is_byte_level:
            # One printable sign stands for each byte.
            return len(name)
        if name.startswith("<0x") and name.endswith(">"):
            return 1
        # A blank in front is written as a sign of its own; word pieces within a word are marked with two.
        return len(name.replace("\u2581", " ").removeprefix("##").encode())

    return np.array([size(name) for name in names], dtype=np.int64)


def _digest(spec: CorpusSpec, tokenizer: PreTrainedTokenizerBase) -> str:
    known = {
        "files": identity_of_files(spec.data_files("data")),
        "read": [spec.field, spec.separator, spec.damaged, spec.most_bytes],
        "tokenizer": hashlib.sha256(_backend(tokenizer).encode()).hexdigest(),
        "end": tokenizer.eos_token_id,
        "revision": 1,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def _backend(tokenizer: Any) -> str:
    """What fixes the tokenizer's answers."""
    if tokenizer.is_fast:
        return str(tokenizer.backend_tokenizer.to_str())
    return json.dumps(sorted(tokenizer.get_vocab().items()))


def _spell(corpus: Corpus, tokenizer: Any, folder: Path) -> None:
    began = time.process_time()
    kind = np.dtype(np.uint16 if len(tokenizer) <= _WIDE else np.uint32)
    whole = folder / "whole.part"
    with writing(whole), whole.open("wb") as file:
        ends = _write(corpus, tokenizer, file, kind)
    ids: Any = np.memmap(whole, dtype=kind, mode="r")
    for name, parts in zip(("fit", "held_out"), _parted(ids, ends), strict=True):
        part = folder / f"{name}.part"
        with writing(part), part.open("wb") as file:
            for one in parts:
                # Not by numpy's writer, which names no reason where the disk is full.
                file.write(one.data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / f"{name}.bin")
    about = {"tokens": len(ids), "documents": len(ends), "dtype": str(kind), "seconds": time.process_time() - began}
    del ids
    whole.unlink()
    write_json(folder / "tokens.json", about)


def _write(corpus: Corpus, tokenizer: Any, file: BinaryIO, kind: np.dtype[Any]) -> list[int]:
    """Writes all tokens; returns where each document ends, in tokens."""
    mark = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
    ends: list[int] = []
    count = 0
    for pieces in _batches(corpus):
        for ids, piece_ends in zip(
            plain_ids(tokenizer, [text for text, _ in pieces]), (e for _, e in pieces), strict=True
        ):
            row = np.asarray([*ids, *mark] if piece_ends else ids, dtype=kind)
            file.write(row.data)
            count += len(row)
            if piece_ends:
                ends.append(count)
    return ends


def _batches(corpus: Corpus) -> Iterator[list[tuple[str, bool]]]:
    waiting: list[tuple[str, bool]] = []
    for piece in corpus:
        waiting.append((piece.text, piece.ends))
        if len(waiting) == _TOGETHER:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _parted(ids: TokenMap, ends: list[int]) -> tuple[list[TokenMap], list[TokenMap]]:
    """The parts to learn from and those held out."""
    if len(ends) >= FEWEST_DOCUMENTS:
        documents = list(zip([0, *ends], ends, strict=False))
        held_out = [ids[a:b] for place, (a, b) in enumerate(documents) if place % EVERY == EVERY - 1]
        return [ids[a:b] for place, (a, b) in enumerate(documents) if place % EVERY != EVERY - 1], held_out
    cut = len(ids) - len(ids) // EVERY
    if cut == len(ids):
        raise InvalidInput(
            say("the text is too short to learn from and be judged on"),
            given=say("{count} tokens", count=len(ids)),
            right=say("a longer text"),
        )
    return [ids[:cut]], [ids[cut:]]
