"""One text by several tokenizers, so that a person sees where they part it otherwise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from glassworks.anatomy import Subject
from glassworks.core.errors import GlassworksError
from glassworks.core.text import Language, say
from glassworks.models.token_bytes import kind_of
from glassworks.studio.refusals import error_json
from glassworks.studio.words.pieces import Piece, group_json, grouped
from glassworks.studio.words.published import VOCABULARIES, encoding
from glassworks.studio.words.spelling import spelled_by_model, spelled_by_published, well_formed


def tokens_beside(subject: Subject, name: str, text: str, most: int, language: Language) -> dict[str, Any]:
    """The model's own tokens and those of the published vocabularies, the first `most` of each in groups.

    One that is not here, or that cannot read the text, has its `problem` in place of tokens.
    """
    text = well_formed(text)
    own: dict[str, Any] = {
        "key": "own",
        "name": name,
        "about": _kind(subject),
        "vocabulary": subject.anatomy.vocabulary,
    }
    try:
        found = spelled_by_model(subject.tokenizer, text, subject.anatomy.vocabulary)
        own |= _told(found, text, most)
    except GlassworksError as problem:
        own["problem"] = error_json(problem, language)
    others: list[dict[str, Any]] = []
    for vocabulary in VOCABULARIES:
        entry: dict[str, Any] = {"key": vocabulary.name, "name": vocabulary.name, "about": vocabulary.users}
        try:
            opened = encoding(vocabulary)
            begun = time.perf_counter()
            entry |= _told(spelled_by_published(opened, text), text, most) | {
                "vocabulary": opened.max_token_value + 1,
                "seconds": time.perf_counter() - begun,
            }
        except GlassworksError as problem:
            entry["problem"] = error_json(problem, language)
        others.append(entry)
    return {"text": text, "characters": len(text), "bytes": len(text.encode()), "tokenizers": [own, *others]}


def _told(pieces: Sequence[Piece], text: str, most: int) -> dict[str, Any]:
    of_text = sum(1 for piece in pieces if not piece.is_special or piece.end > piece.start)
    return {
        "count": len(pieces),
        "of_text": of_text,
        "unknown": sum(piece.is_unknown for piece in pieces),
        "characters_per_token": len(text) / of_text if of_text else None,
        "groups": [group_json(group) for group in grouped(pieces[:most])],
    }


def _kind(subject: Subject) -> object:
    match kind_of(subject.tokenizer):
        case _ if subject.tokenizer is None:
            return say("no tokenizer: the text is token ids")
        case "alphabet":
            return say("one token for each character")
        case "byte_level":
            return say("byte pairs")
        case "sentencepiece":
            return say("SentencePiece, blanks written as ▁")
        case _:
            return say("pieces of words")
