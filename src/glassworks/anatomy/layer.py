"""Reading one layer: its mixer, its feed-forward and the stream between, from a watched call."""

from dataclasses import dataclass

import torch
from torch import Tensor

from glassworks.anatomy.calls import same
from glassworks.anatomy.observe import SeenAttention, SeenCall
from glassworks.anatomy.places import LayerPlaces, Tap
from glassworks.core.text import Text, say

# A sum of three terms may be formed in another order than ours; in float32 that moves the last bits only.
SUM_TOLERANCE = 1e-5
FUTURE = 1e-6  # a causal map is zero above the diagonal; one-hot replay leaves rounding there


@dataclass(frozen=True)
class _Halves:
    """How the layer's output is composed: contributions of mixer and feed-forward, and the stream between."""

    mixer_out: SeenCall | None
    mid: Tap | None
    mid_value: Tensor | None
    feedforward_out: SeenCall | None
    is_sum: bool


def read_layer(call: SeenCall) -> LayerPlaces:
    """The parts of a layer from its watched call."""
    mixer, attention = _find_mixer(call)
    blocks = _feedforward_blocks(call, mixer)
    halves = _find_halves(call, mixer, blocks)
    taps: dict[str, Tap] = {}
    missing: dict[str, Text] = {}
    if mixer is not None and mixer is not call:
        taps["mixer.in"] = Tap("in", mixer.path)
        taps["mixer.out"] = Tap("out", (halves.mixer_out or mixer).path)
    else:
        reason = say("no submodule of the layer holds the attention")
        missing |= {"mixer.in": reason, "mixer.out": reason}
    if halves.mid is not None:
        taps["mid"] = halves.mid
    else:
        missing["mid"] = _why_no_mid(blocks, halves)
    _note_feedforward(blocks, halves, taps, missing)
    heads, kv_heads, head_width = _head_counts(attention)
    return LayerPlaces(
        path=call.path,
        mixer=mixer.path if mixer is not None and mixer is not call else None,
        mixer_norm=_norm_before(call, mixer),
        feedforward=tuple(block.path for block in blocks),
        feedforward_norm=_norm_before(call, blocks[0]) if blocks else None,
        taps=taps,
        missing=missing,
        mid_is_sum=halves.is_sum,
        attention=attention.call.kind
        if attention is not None and attention.call is not None
        else "softmax"
        if attention
        else "none",
        value_linear=attention.module if attention is not None else None,
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        causal=attention is None or _is_causal(attention),
    )


def norm_like(call: SeenCall) -> bool:
    """Whether a leaf owns vectors only, keeps the shape and changes the values: a normalisation."""
    if call.hidden is None or call.out is None or call.hidden.shape != call.out.shape or not call.is_leaf:
        return False
    return all(t.ndim <= 1 for t in call.module.parameters()) and not same(call.hidden, call.out)


def _find_mixer(call: SeenCall) -> tuple[SeenCall | None, SeenAttention | None]:
    seen = call.all_attention()
    if not seen:
        return None, None
    holder = next((child for child in call.inner if child.all_attention()), call)
    return holder, seen[-1]


def _feedforward_blocks(call: SeenCall, mixer: SeenCall | None) -> list[SeenCall]:
    return (
        [c for c in call.inner if c is not mixer and not c.all_attention() and c.has_matrix and c.hidden is not None]
        if mixer is not call
        else []
    )


def _find_halves(call: SeenCall, mixer: SeenCall | None, blocks: list[SeenCall]) -> _Halves:
    start, end = call.hidden, call.out
    assert start is not None, "a layer takes the stream"
    assert end is not None, "a layer returns the stream"
    inner = call.within()
    shaped = [c for c in inner if c.out is not None and c.out.shape == start.shape]
    of_mixer = [c for c in shaped if mixer is not None and mixer is not call and _not_before(c, mixer)]
    in_blocks = [c for c in shaped if any(_not_before(c, block) for block in blocks)]
    # A norm that reads in + contribution stands where the two halves meet.
    for meeting in inner:
        if meeting.hidden is None or mixer is None or meeting.hidden.shape != start.shape:
            continue
        source = next(
            (c for c in of_mixer if c.ended < meeting.began and same(start + _value(c), meeting.hidden)), None
        )
        if source is None:
            continue
        before = next((c for c in in_blocks if c.began > source.ended and same(meeting.hidden + _value(c), end)), None)
        if before is not None:
            return _Halves(source, Tap("in", meeting.path), meeting.hidden, before, is_sum=True)
        after = _post_norm_end(meeting, inner, in_blocks, end)
        if after is not None:
            return _Halves(source, Tap("out", meeting.path), meeting.out, after, is_sum=False)
    for source in of_mixer:
        if same(start + _value(source), end):
            return _Halves(source, None, None, None, is_sum=True)
    for source in of_mixer:
        for later in in_blocks:
            if source is not later and _close(start + _value(source) + _value(later), end):
                return _Halves(source, None, None, later, is_sum=True)
    return _Halves(None, None, None, None, is_sum=True)


def _post_norm_end(norm: SeenCall, inner: list[SeenCall], in_blocks: list[SeenCall], end: Tensor) -> SeenCall | None:
    """The feed-forward contribution of a post-norm layer.

    Some later norm reads norm.out + it and gives the end.
    """
    if norm.out is None:
        return None
    for last in inner:
        if last.began > norm.ended and last.hidden is not None and last.out is not None and same(last.out, end):
            found = next(
                (
                    c
                    for c in in_blocks
                    if c.ended < last.began and c.began > norm.ended and same(_value(c) + norm.out, last.hidden)
                ),
                None,
            )
            if found is not None:
                return found
    return None


def _not_before(call: SeenCall, block: SeenCall) -> bool:
    """Whether a call is the block itself, lies inside it, or came later (a norm of the block's result)."""
    return call.ended >= block.ended or call.began >= block.began


def _value(call: SeenCall) -> Tensor:
    assert call.out is not None
    return call.out


def _close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and float((left - right).abs().max()) <= SUM_TOLERANCE * float(right.abs().max())


def _why_no_mid(blocks: list[SeenCall], halves: _Halves) -> Text:
    if not blocks:
        return say("the layer has no feed-forward: its out is what attention left")
    if halves.feedforward_out is not None:
        return say("attention and feed-forward both read the layer's input (parallel block): no stream lies between")
    return say("no submodule was seen to read in + mixer.out")


def _note_feedforward(blocks: list[SeenCall], halves: _Halves, taps: dict[str, Tap], missing: dict[str, Text]) -> None:
    names = ("feedforward.in", "feedforward.out", "feedforward.pre", "feedforward.post")
    if not blocks:
        missing |= {name: say("the layer has no feed-forward") for name in names}
        return
    taps["feedforward.in"] = Tap("in", blocks[0].path)
    taps["feedforward.out"] = Tap("out", (halves.feedforward_out or blocks[-1]).path)
    leaves = [
        leaf for block in blocks for leaf in ([block] if block.is_leaf else [c for c in block.within() if c.is_leaf])
    ]
    matrices = [leaf for leaf in leaves if leaf.has_matrix and leaf.hidden is not None and leaf.out is not None]
    if len(matrices) < 2:
        reason = say("the feed-forward has no hidden layer that was seen")
        missing |= {"feedforward.pre": reason, "feedforward.post": reason}
        return
    last = matrices[-1]
    taps["feedforward.post"] = Tap("in", last.path)
    assert last.hidden is not None
    hidden = last.hidden
    activation = next(
        (
            leaf
            for leaf in leaves
            if not leaf.has_matrix
            and leaf.began < last.began
            and leaf.hidden is not None
            and leaf.out is not None
            and leaf.hidden.shape == hidden.shape == leaf.out.shape
            and not same(leaf.hidden, leaf.out)
        ),
        None,
    )
    if activation is not None:
        taps["feedforward.pre"] = Tap("in", activation.path)
        return
    first = next((leaf for leaf in matrices[:-1] if leaf.out is not None and leaf.out.shape == hidden.shape), None)
    if first is not None:
        taps["feedforward.pre"] = Tap("out", first.path)
    else:
        missing["feedforward.pre"] = say("the feed-forward has no hidden layer that was seen")


def _norm_before(call: SeenCall, block: SeenCall | None) -> str | None:
    if block is None or block is call or block.hidden is None:
        return None
    for child in call.inner:
        if child.ended < block.began and child.out is not None and norm_like(child) and same(child.out, block.hidden):
            return child.path
    return None


def _head_counts(attention: SeenAttention | None) -> tuple[int, int, int]:
    if attention is None:
        return 0, 0, 0
    heads = attention.parts["pattern"].shape[1]
    values = attention.parts.get("v")
    if values is None:
        return heads, heads, 0
    keys = attention.parts.get("k", values)
    return heads, _distinct_heads(keys, values), values.shape[-1]


def _distinct_heads(keys: Tensor, values: Tensor) -> int:
    """Key-value heads before they were repeated for the query heads: neighbours that are equal are one."""
    count = values.shape[1]
    both = torch.cat([keys.expand(-1, count, -1, -1).flatten(2), values.flatten(2)], dim=-1)
    changes = int((both[:, 1:] != both[:, :-1]).flatten(2).any(-1).any(0).sum())
    return changes + 1


def _is_causal(attention: SeenAttention) -> bool:
    pattern = attention.parts["pattern"]
    ahead = pattern.triu(1 + pattern.shape[-1] - pattern.shape[-2])
    return float(ahead.abs().max()) <= FUTURE
