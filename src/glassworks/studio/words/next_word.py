"""What may come next after a text and some chosen words, and how that came about layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.candidates import Sampling
from glassworks.models.conversation import takes_turns
from glassworks.models.generating import longest_of
from glassworks.models.token_bytes import TokenBytes, shown
from glassworks.studio.words.pieces import Piece, group_json, grouped
from glassworks.studio.words.prompts import Prompt, pieces_of, prompt_of, why_silent
from glassworks.studio.words.reading import Reader, ends_of, reader_of
from glassworks.studio.words.spelling import bytes_of

# Tokens of a long prompt that are shown: its last ones, on which the next word depends most.
MOST_SHOWN = 400
# Tokens that one character can be spread over, at most.
_LONGEST = 4


def next_word(
    subject: Subject, text: str, chosen: Sequence[int], *, is_chat: bool, draw: Sampling | None, rows: int
) -> dict[str, Any]:
    """All logits of the next word in falling order with the likeliest words, and the way there; `draw` takes a word first.

    Of a model that has no next word only `silent`, the reason.
    """
    reason = why_silent(subject)
    if reason is not None:
        return {"silent": reason}
    prompt, reader = prompt_of(subject, text, is_chat=is_chat), reader_of(subject)
    path, drawn = list(chosen), None
    if draw is not None:
        drawn = reader.drawn(draw, reader.logits(subject, prompt, path), len(path))
        path.append(drawn)
    ends = ends_of(subject, is_chat=is_chat)
    longest = _longest(subject)
    used = len(prompt.ids) + len(path)
    is_full = longest is not None and used > longest
    # A word in the last place of all can be chosen, but nothing can be read after it.
    logits = None if is_full else reader.logits(subject, prompt, path)
    return {
        "prompt": _shown_prompt(subject, prompt),
        "path": _path(subject, prompt, path, reader),
        "drawn": drawn,
        "ended": bool(path) and path[-1] in ends,
        "full": longest is not None and used >= longest,
        "used": used,
        "context": longest,
        "chat": takes_turns(subject),
        "reads": "text" if subject.tokenizer is not None else "tokens",
    } | ({} if logits is None else candidates(subject, prompt, path, logits, rows))


def candidates(
    subject: Subject, prompt: Prompt, path: Sequence[int], logits: Float[Tensor, " vocabulary"], rows: int
) -> dict[str, Any]:
    """`logits`: all of them in falling order; `rows`: id, text and bytes of the first ones."""
    values, places = torch.sort(logits, descending=True, stable=True)
    spelled = bytes_of(subject.tokenizer)
    pending = b""
    for token in (*prompt.ids[-_LONGEST:], *path)[-_LONGEST:]:
        pending = b"" if token in spelled.special else shown(pending, spelled.of(token))[1]
    return {
        "logits": values.numpy(),
        "rows": [_row(spelled, token, pending) for token in places[:rows].tolist()],
    }


def _row(spelled: TokenBytes, token: int, pending: bytes) -> dict[str, Any]:
    """A candidate: what it would add to the text in whole characters, then the bytes of an unfinished one."""
    raw, is_special = spelled.of(token), token in spelled.special
    text, rest = (raw.decode(errors="replace"), b"") if is_special else shown(pending, raw)
    told = text + "".join(f"\\x{byte:02x}" for byte in rest)
    return {"id": token, "text": told, "hex": raw.hex(), "special": is_special}


def lens_of(subject: Subject, text: str, chosen: Sequence[int], token: int, *, is_chat: bool) -> dict[str, Any]:
    """What the stream behind the embedding and behind each layer says of a token: its chance and rank, and who leads."""
    prompt = prompt_of(subject, text, is_chat=is_chat)
    if not 0 <= token < subject.anatomy.vocabulary:
        raise InvalidInput(
            say("a token id is outside the vocabulary"),
            given=token,
            right=say("0 to {last}", last=subject.anatomy.vocabulary - 1),
        )
    names = ["layers.0.in", *(f"layers.{layer}.out" for layer in range(subject.anatomy.depth))]
    with torch.no_grad():
        _, kept = subject.run_with_cache(prompt.batch(chosen), names)
        streams = torch.stack([kept[name][0, -1] for name in names])
        read = torch.log_softmax(subject.read_stream(streams[None])[0].float(), -1)
    own = read[:, token]
    best = read.argmax(-1)
    leading = pieces_of(subject, best.tolist())
    return {
        "stages": len(names),
        "chance": own.exp().numpy(),
        "rank": ((read > own[:, None]).sum(-1) + 1).numpy().astype(np.int32),
        "leading": [group_json([piece]) for piece in leading],
        "leading_chance": read.gather(-1, best[:, None])[:, 0].exp().numpy(),
    }


def _path(subject: Subject, prompt: Prompt, path: Sequence[int], reader: Reader) -> list[dict[str, Any]]:
    """The chosen words in groups, each token with its logit, rank and chance where it was chosen."""
    facts = reader.facts(subject, prompt, path)
    told = [
        {"logit": fact.logit, "rank": fact.rank, "log_total": fact.log_total, "chance": fact.chance} for fact in facts
    ]
    groups: list[dict[str, Any]] = []
    place = 0
    for group in grouped(pieces_of(subject, path)):
        found: dict[str, Any] = group_json(group) | {"first": place}
        for number, token in enumerate(found["tokens"]):
            token |= told[place + number] if place + number < len(told) else {}
        groups.append(found)
        place += len(group)
    return groups


def _shown_prompt(subject: Subject, prompt: Prompt) -> dict[str, Any]:
    last = prompt.shown[-MOST_SHOWN:]
    groups: list[list[Piece]] = grouped(pieces_of(subject, last))
    return {"count": len(prompt.shown), "groups": [group_json(group) for group in groups]}


def _longest(subject: Subject) -> int | None:
    from transformers import PreTrainedModel

    model = subject.model
    return longest_of(subject, model) if isinstance(model, PreTrainedModel) else subject.anatomy.context
