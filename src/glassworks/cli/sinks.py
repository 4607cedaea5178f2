"""Layers to keep in place: those that are named, or those that write and erase the model's attention sink."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.anatomy import Subject, TokenBatch
    from glassworks.instruments.sinks import Sinks
    from glassworks.surgery.plans import Plan

# Texts and tokens that the sink is looked for in.
TEXTS, TOKENS = 8, 128


def named_layers(text: str) -> tuple[int, ...] | None:
    """The layers of `2,11` or `none`; None for `auto`."""
    word = text.strip().lower()
    if word == "auto":
        return None
    if word in ("none", ""):
        return ()
    try:
        return tuple(sorted({int(part) for part in word.replace(" ", ",").split(",") if part}))
    except ValueError:
        raise InvalidInput(
            say("layers to protect are numbers"), given=text, right=say("auto, none, or numbers such as 2,11")
        ) from None


def sinks_of(subject: Subject, batch: TokenBatch | None, stack: str) -> Sinks | None:
    """The attention sink on some text; None where there is no text, or the stack is not the one that is read."""
    from glassworks.instruments.sinks import find_sinks

    if batch is None or batch.ids.shape[1] < 2 or stack == "encoder":
        return None
    return find_sinks(subject, batch)


def sample_of(subject: Subject, evals: str) -> TokenBatch | None:
    """Some texts of the first benchmark that asks about whole sequences, cut to one length."""
    import torch

    from glassworks.anatomy import TokenBatch
    from glassworks.evaluation import Item, Prepared, VectorPrepared, batches, parse_benchmarks

    for benchmark in parse_benchmarks(evals, TEXTS):
        prepared = benchmark.prepare(subject)
        if not isinstance(prepared, Prepared | VectorPrepared):
            continue
        items: list[Item] = sorted(prepared.items, key=lambda item: -item.length)[:TEXTS]
        if items[0].source is not None:
            return batches(items[:1], items[0].length, causal=False)[0].batch
        length = min(TOKENS, *(len(item.ids) for item in items))
        return TokenBatch(torch.tensor([item.ids[:length] for item in items]))
    return None


def told(sinks: Sinks) -> Text:
    """Who writes and erases the sink, in words."""
    if not sinks.protected:
        return say("no layer writes an attention sink here")
    return say(
        "attention sink: written by layers {writers}, erased by layers {erasers}",
        writers=_listed(sinks.writers),
        erasers=_listed(sinks.erasers),
    )


def warning(plan: Plan, sinks: Sinks) -> Text | None:
    """What a plan does to the layers of the sink; None where it keeps them."""
    lost = [layer for layer in sinks.protected if not plan.keeps(layer)]
    if not lost:
        return None
    return say(
        "The plan drops or moves layers that write or erase the attention sink ({layers}): much of the damage may come from that alone.",
        layers=_listed(lost),
    )


def refuse_moved(plan: Plan, layers: tuple[int, ...], depth: int) -> None:
    """Raises InvalidInput for a plan that drops or moves a protected layer, and for a layer that is not there."""
    beyond = [layer for layer in layers if not 0 <= layer < depth]
    if beyond:
        raise InvalidInput(
            say("this model has no layer {number}", number=beyond[0]), right=say("layers 0 to {last}", last=depth - 1)
        )
    lost = [layer for layer in layers if not plan.keeps(layer)]
    if lost:
        raise InvalidInput(
            say("the plan drops or moves layers that are protected: {layers}", layers=_listed(lost)),
            given=str(plan),
            right=say("a plan that runs each of them once, by itself and in its place"),
        )


def _listed(layers: tuple[int, ...] | list[int]) -> str | Text:
    return ", ".join(map(str, layers)) or say("none")
