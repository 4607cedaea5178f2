"""OpenAI's published vocabularies beside a model's own: read from files of ranks on this machine, never from a network."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.core.errors import NotFound
from glassworks.core.text import say

if TYPE_CHECKING:
    from tiktoken import Encoding

_ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{file}"


@dataclass(frozen=True)
class Vocabulary:
    """One published vocabulary: its name as people know it, its file, and the file's SHA-256."""

    name: str
    users: str
    """Models that read with it."""
    file: str
    digest: str


# Digests as tiktoken itself checks them.
VOCABULARIES = (
    Vocabulary("gpt2", "GPT-2", "r50k_base.tiktoken", "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"),
    Vocabulary("cl100k_base", "GPT-3.5, GPT-4", "cl100k_base.tiktoken", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
    Vocabulary("o200k_base", "GPT-4o", "o200k_base.tiktoken", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"),
)  # fmt: skip


def found_file(vocabulary: Vocabulary) -> Path:
    """The file of ranks: among the data files, or where tiktoken keeps what it fetched. Raises NotFound with what to do."""
    from glassworks.evaluation.data import find_file

    here = find_file(vocabulary.file) or _kept_by_tiktoken(vocabulary)
    if here is not None:
        return here
    command = f"import tiktoken; tiktoken.get_encoding('{vocabulary.name}')"
    raise NotFound(
        say("the vocabulary {name} is not on this machine", name=vocabulary.name),
        given=vocabulary.file,
        right=say("the file in a folder that GLASSWORKS_ASSETS names, or once, with a network, the command below"),
        next_command=f'python -c "{command}"',
    )


def encoding(vocabulary: Vocabulary) -> Encoding:
    """The vocabulary, ready to encode. Raises NotFound where its file is not here, BrokenFile for another file."""
    return _opened(vocabulary, found_file(vocabulary))


@cache
def _opened(vocabulary: Vocabulary, path: Path) -> Encoding:
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    from glassworks.core.errors import BrokenFile
    from glassworks.training.stages.tokenizer import PUBLISHED

    if hashlib.sha256(path.read_bytes()).hexdigest() != vocabulary.digest:
        raise BrokenFile(
            say("{path} is not the published file", path=str(path)),
            right=say("the file with SHA-256 {digest}", digest=f"{vocabulary.digest[:16]}…"),
        )
    ranks = load_tiktoken_bpe(str(path))
    return tiktoken.Encoding(
        vocabulary.name, pat_str=PUBLISHED[vocabulary.name][1], mergeable_ranks=ranks, special_tokens={}
    )


def _kept_by_tiktoken(vocabulary: Vocabulary) -> Path | None:
    named = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / "data-gym-cache"
    path = folder / hashlib.sha1(_ADDRESS.format(file=vocabulary.file).encode()).hexdigest()
    return path if path.is_file() else None
