"""Which tokens of a call are real, and where they stand."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.positions import Places
from glassworks.models.spec import StackSpec, TransformerSpec


def padding_of(attention_mask: Tensor | None, known: int) -> Bool[Tensor, "batch key"] | None:
    """True at real tokens, remembered ones included; None where all are real, which costs nothing."""
    if attention_mask is None:
        return None
    if attention_mask.ndim != 2 or attention_mask.shape[1] != known:
        raise InvalidInput(
            say("the attention mask does not fit {known} tokens", known=known),
            given=tuple(attention_mask.shape),
            right=say("one number per sequence and token, remembered tokens included: 1 real, 0 padding"),
        )
    real = attention_mask != 0
    return None if not torch.compiler.is_compiling() and bool(real.all()) else real


def places_of(
    seen: int,
    length: int,
    padding: Bool[Tensor, "batch key"] | None,
    position_ids: Int[Tensor, "sequence position"] | None,
    limit: int | None,
    packs: bool = False,
) -> Places:
    """Where the new tokens stand: as given, counted over real tokens, or simply on from `seen`.

    Raises InvalidInput beyond `limit` positions, and for packed sequences unless all mixers keep texts apart (`packs`).
    """
    if position_ids is None and padding is not None:
        position_ids = (padding.long().cumsum(1) - 1).clamp(min=0)[:, seen:]
    elif position_ids is not None and padding is None and not packs:
        _refuse_packing(position_ids)
    if limit is not None:
        _check_limit(seen + length, position_ids, limit)
    return Places(seen, length, position_ids)


def starts_of(
    position_ids: Int[Tensor, "sequence position"] | None, padding: Bool[Tensor, "batch key"] | None, seen: int
) -> Bool[Tensor, "sequence position"] | None:
    """True where a new text begins within or before these tokens; None where they all go on with one text.

    A compiled model cannot ask, and takes every row as one text.
    """
    if position_ids is None or torch.compiler.is_compiling():
        return None
    starts = position_ids == 0
    if padding is not None:
        # Padding is counted as places too; a row's first real token begins nothing that was not empty.
        read = padding.long().cumsum(1)[:, seen:]
        starts = starts & padding[:, seen:] & (read > 1)
    elif seen == 0:
        starts[:, 0] = False
    return starts if bool(starts.any()) else None


def known_starts_of(
    position_ids: Int[Tensor, "sequence position"] | None,
    padding: Bool[Tensor, "batch key"] | None,
    seen: int,
    batch: int,
) -> Bool[Tensor, "batch key"] | None:
    """The same for remembered and new tokens alike; None where all of them are one text.

    The place of the first new token tells where the text that goes on has begun: that many tokens before.
    """
    if position_ids is None or torch.compiler.is_compiling():
        return None
    if position_ids.shape[1] == 1 and seen:
        # Most calls by far: one more token of the one text.
        if padding is None and position_ids.numel() == 1:
            is_next = position_ids.item() == seen
        else:
            place = seen if padding is None else padding.sum(1, keepdim=True) - 1
            is_next = bool((position_ids == place).all())
        if is_next:
            return None
    new = starts_of(position_ids, padding, seen)
    if not seen:
        return None if new is None else new.expand(batch, -1)
    length = position_ids.shape[1]
    if padding is None:
        ranks = torch.arange(seen + length, device=position_ids.device)[None].expand(batch, -1)
        first = torch.zeros(batch, 1, dtype=torch.long, device=position_ids.device)
    else:
        ranks = torch.where(padding, padding.long().cumsum(1) - 1, -1)
        first = padding[:, seen:].long().argmax(1, keepdim=True)
    ids = position_ids.expand(batch, -1)
    begun = ranks[:, seen:].gather(1, first) - ids.gather(1, first)
    earlier = (ranks[:, :seen] == begun) & (begun > 0)
    if new is None:
        if not bool(earlier.any()):
            return None
        new = torch.zeros_like(ids, dtype=torch.bool)
    return torch.cat([earlier, new.expand(batch, -1)], 1)


def prefix_of(
    prefix: Int[Tensor, " batch"], padding: Bool[Tensor, "batch key"] | None, seen: int, spec: StackSpec
) -> Int[Tensor, " batch"] | None:
    """The tokens at each beginning that see each other, checked; None where all of them were read in an earlier call."""
    if not (isinstance(spec, TransformerSpec) and spec.reads == "prefix"):
        raise InvalidInput(
            say("this model reads the past only; no beginning of a text sees itself from both sides"),
            right=say("no prefix, or a model built with reads=prefix"),
        )
    if not seen or torch.compiler.is_compiling():
        return prefix
    read = torch.full_like(prefix, seen) if padding is None else padding[:, :seen].sum(1)
    if bool((prefix > read).any()):
        raise InvalidInput(
            say("a beginning of {prefix} tokens comes in pieces; its tokens see each other", prefix=int(prefix.max())),
            given=say("{seen} tokens in the cache", seen=seen),
            right=say("the whole beginning in the first call"),
        )
    return None


def left_padded(
    ids: Int[Tensor, "batch position"],
    attention_mask: Int[Tensor, "batch position"] | Bool[Tensor, "batch position"],
) -> tuple[Int[Tensor, "batch position"], Tensor]:
    """The same sequences with their padding in front, and the mask that goes with them."""
    real = attention_mask != 0
    if bool(real[:, -1].all()):
        return ids, attention_mask
    order = real.long().argsort(dim=1, stable=True)
    return ids.gather(1, order), attention_mask.gather(1, order)


def _check_limit(known: int, position_ids: Tensor | None, limit: int) -> None:
    if known <= limit:
        return
    if position_ids is not None and (torch.compiler.is_compiling() or int(position_ids.max()) < limit):
        return
    raise InvalidInput(
        say("{known} tokens are more than the model's {limit} positions", known=known, limit=limit),
        right=say("at most {limit} tokens, or a model with a longer context", limit=limit),
    )


def _refuse_packing(position_ids: Tensor) -> None:
    if position_ids.shape[1] < 2 or torch.compiler.is_compiling():
        return
    if bool((position_ids.diff(dim=1) < 0).any()):
        raise InvalidInput(
            say("several texts are packed into one sequence; they would read each other"),
            right=say("one text per sequence, with padding and an attention mask"),
        )
