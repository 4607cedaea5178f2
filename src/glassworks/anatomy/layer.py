"""Reading one layer: its mixer, its feed-forward and the stream between, from a watched call."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glassworks.anatomy.attention import PARTS
from glassworks.anatomy.calls import same, stream_of, with_hidden
from glassworks.anatomy.observe import SeenAttention, SeenCall
from glassworks.anatomy.places import CrossPlaces, LayerPlaces, Tap
from glassworks.core.text import Text, say

# A sum of three terms may be formed in another order than ours; in float32 that moves the last bits only.
SUM_TOLERANCE = 1e-5
FUTURE = 1e-6  # a causal map is zero above the diagonal; one-hot replay leaves rounding there


@dataclass(frozen=True)
class _Joint:
    """Where the stream takes up a contribution: `source` is added, and `tap` shows the stream after it.

    `tap` is None where no module boundary shows that stream. `is_sum` is false where it was normed before it
    goes on.
    """

    source: SeenCall
    tap: Tap | None = None
    is_sum: bool = True


@dataclass
class _Parts:
    """What was found of a layer, part by part."""

    body: SeenCall
    mixer: SeenCall | None = None
    cross: SeenCall | None = None
    blocks: list[SeenCall] = field(default_factory=list[SeenCall])
    joints: dict[str, _Joint] = field(default_factory=dict[str, _Joint])


def read_layer(call: SeenCall, source_length: int | None = None) -> LayerPlaces:
    """The parts of a layer from its watched call; `source_length` is the number of positions an encoder read."""
    seen = call.all_attention()
    across = [one for one in seen if one.reads(source_length)]
    own = [one for one in seen if one not in across]
    attention = own[-1] if own else None
    parts = _find_parts(call, own, across)
    taps: dict[str, Tap] = {}
    missing: dict[str, Text] = {}
    _note_mixers(parts, bool(across), taps, missing)
    _note_attention("mixer", attention, missing)
    _note_attention("cross", across[-1] if across else None, missing)
    _note_feedforward(parts, taps, missing)
    heads, kv_heads, head_width = _head_counts(attention)
    return LayerPlaces(
        path=call.path,
        mixer=parts.mixer.path if parts.mixer is not None else None,
        mixer_norm=_norm_before(call, parts.mixer),
        feedforward=tuple(block.path for block in parts.blocks),
        feedforward_norm=_norm_before(call, parts.blocks[0]) if parts.blocks else None,
        taps=taps,
        missing=missing,
        mid_is_sum="mixer" not in parts.joints or parts.joints["mixer"].is_sum,
        attention=_kind(attention),
        value_linear=attention.module if attention is not None else None,
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        causal=attention is None or _is_causal(attention),
        cross=_cross_places(call, parts, across),
    )


def _kind(attention: SeenAttention | None) -> str:
    if attention is None:
        return "none"
    return "softmax" if attention.call is None else attention.call.kind


def _cross_places(call: SeenCall, parts: _Parts, across: list[SeenAttention]) -> CrossPlaces | None:
    if not across:
        return None
    heads, kv_heads, head_width = _head_counts(across[-1])
    return CrossPlaces(
        path=None if parts.cross is None else parts.cross.path,
        norm=_norm_before(call, parts.cross),
        mid_is_sum="cross" not in parts.joints or parts.joints["cross"].is_sum,
        attention=_kind(across[-1]),
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
    )


def norm_like(call: SeenCall) -> bool:
    """Whether a leaf owns vectors only, keeps the shape and changes the values: a normalisation."""
    if call.hidden is None or call.out is None or call.hidden.shape != call.out.shape or not call.is_leaf:
        return False
    return all(t.ndim <= 1 for t in call.module.parameters()) and not same(call.hidden, call.out)


def _find_parts(call: SeenCall, own: list[SeenAttention], across: list[SeenAttention]) -> _Parts:
    """Mixer, cross-attention and feed-forward, each as the smallest call that makes what is added to the stream."""
    parts = _Parts(_body(call))
    children = parts.body.inner
    parts.mixer = next((child for child in children if _holds(child, own)), None)
    parts.cross = next((child for child in children if child is not parts.mixer and _holds(child, across)), None)
    if parts.mixer is None and own:
        # The layer itself computes its attention: its matrices are no feed-forward.
        return parts
    parts.blocks = [c for c in children if not c.all_attention() and c.has_matrix and c.hidden is not None]
    if parts.mixer is None:
        parts.mixer = next((block for block in parts.blocks if _mixes_positions(block)), None)
        parts.blocks = [block for block in parts.blocks if block is not parts.mixer]
    parts.joints = _joints(parts)
    parts.mixer = _narrowed(parts.mixer, parts.joints.get("mixer"), own)
    parts.cross = _narrowed(parts.cross, parts.joints.get("cross"), across)
    last = parts.joints.get("feedforward")
    if last is not None and _does_all(last.source, parts.blocks):
        parts.blocks = [last.source]
    return parts


def _body(call: SeenCall) -> SeenCall:
    """The call itself, or the one inside that a wrapper hands everything to."""
    for child in call.inner:
        if child.inner and _same_stream(child.hidden, call.hidden) and _same_stream(child.out, call.out):
            return _body(child)
    return call


def _same_stream(left: Tensor | None, right: Tensor | None) -> bool:
    return left is not None and right is not None and same(left, right)


def _holds(call: SeenCall, attention: Sequence[SeenAttention]) -> bool:
    return any(one in attention for one in call.all_attention())


def _narrowed(holder: SeenCall | None, joint: _Joint | None, attention: Sequence[SeenAttention]) -> SeenCall | None:
    """The attention inside a holder that adds its result to the stream itself (T5)."""
    if joint is not None and joint.source is not holder and _holds(joint.source, attention):
        return joint.source
    return holder


def _does_all(source: SeenCall, blocks: list[SeenCall]) -> bool:
    """Whether a contribution is the work of one call inside a single block that adds it to the stream itself."""
    if len(blocks) != 1 or source is blocks[0] or source.is_leaf or source not in blocks[0].within():
        return False
    inside = [source, *source.within()]
    return all(leaf in inside for leaf in blocks[0].within() if leaf.is_leaf and leaf.has_matrix)


def _mixes_positions(call: SeenCall) -> bool:
    """Whether what a call returns for later positions depends on the first; asked by running it once more."""
    if call.hidden is None or call.out is None or call.hidden.shape[1] < 2:
        return False
    args, kwargs = call.arguments
    other = call.hidden.clone()
    other[:, 0] = other[:, 0].roll(1, dims=-1) + 1
    args, kwargs = with_hidden(args, kwargs, other)
    try:
        with torch.no_grad():
            again = stream_of(call.module.forward(*args, **kwargs))
    except (TypeError, ValueError, RuntimeError, AssertionError):
        return False
    return again is not None and again.shape == call.out.shape and not same(again[:, 1:], call.out[:, 1:])


def _joints(parts: _Parts) -> dict[str, _Joint]:
    """How the layer's output is composed, part by part; empty where it could not be seen."""
    body = parts.body
    start, end = body.hidden, body.out
    assert start is not None, "a layer takes the stream"
    assert end is not None, "a layer returns the stream"
    inner = body.within()
    shaped = [c for c in inner if c.out is not None and c.out.shape == start.shape]
    named: dict[str, list[SeenCall]] = {}
    for name, holders in (("mixer", [parts.mixer]), ("cross", [parts.cross]), ("feedforward", parts.blocks)):
        found = [c for c in shaped if any(holder is not None and _not_before(c, holder) for holder in holders)]
        if found:
            named[name] = found
    steps = list(named)
    chain = _chain(start, [named[step] for step in steps], inner, end)
    if chain is not None:
        return dict(zip(steps, chain, strict=True))
    return _parallel(start, named, end)


def _chain(state: Tensor, steps: list[list[SeenCall]], inner: list[SeenCall], end: Tensor) -> list[_Joint] | None:
    """Contributions taken up one after the other, the stream after each shown by a module that reads it.

    A norm that reads state + contribution stands where two parts meet; what goes on is that sum (pre-norm) or
    the norm's result (post-norm).
    """
    if not steps:
        return [] if same(state, end) else None
    if len(steps) == 1:
        last = next((c for c in steps[0] if same(state + _value(c), end)), None)
        if last is not None:
            return [_Joint(last)]
    for meeting in inner:
        if meeting.hidden is None or meeting.hidden.shape != state.shape:
            continue
        source = next(
            (c for c in steps[0] if c.ended < meeting.began and same(state + _value(c), meeting.hidden)), None
        )
        if source is None:
            continue
        later = _later(steps[1:], source)
        rest = _chain(meeting.hidden, later, inner, end)
        if rest is not None:
            return [_Joint(source, Tap("in", meeting.path), is_sum=True), *rest]
        if meeting.out is not None and meeting.out.shape == state.shape:
            rest = _chain(meeting.out, later, inner, end)
            if rest is not None:
                return [_Joint(source, Tap("out", meeting.path), is_sum=False), *rest]
    return None


def _later(steps: list[list[SeenCall]], source: SeenCall) -> list[list[SeenCall]]:
    """What can still be taken up once `source` was: calls that began after it ended."""
    return [[call for call in step if call.began > source.ended] for step in steps]


def _parallel(start: Tensor, named: dict[str, list[SeenCall]], end: Tensor) -> dict[str, _Joint]:
    """Mixer and feed-forward that both read the layer's input and are added at once."""
    for source in named.get("mixer", []):
        for later in named.get("feedforward", []):
            if source is not later and _close(start + _value(source) + _value(later), end):
                return {"mixer": _Joint(source), "feedforward": _Joint(later)}
    return {}


def _not_before(call: SeenCall, block: SeenCall) -> bool:
    """Whether a call is the block itself, lies inside it, or came later (a norm of the block's result)."""
    return call.ended >= block.ended or call.began >= block.began


def _value(call: SeenCall) -> Tensor:
    assert call.out is not None
    return call.out


def _close(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and float((left - right).abs().max()) <= SUM_TOLERANCE * float(right.abs().max())


def _note_mixers(parts: _Parts, has_cross: bool, taps: dict[str, Tap], missing: dict[str, Text]) -> None:
    """Where the mixer, the attention to the source and the streams after them are read."""
    steps = [("mixer", "mid", parts.mixer), ("cross", "cross.mid", parts.cross)]
    for name, mid, holder in steps if has_cross else steps[:1]:
        joint = parts.joints.get(name)
        if holder is not None:
            taps[f"{name}.in"] = Tap("in", holder.path)
            taps[f"{name}.out"] = Tap("out", (joint.source if joint is not None else holder).path)
        else:
            reason = say("no submodule of the layer holds the attention")
            if not parts.body.all_attention():
                reason = say("no attention was seen in this layer")
            missing |= {f"{name}.in": reason, f"{name}.out": reason}
        is_last = name == list(parts.joints)[-1] if parts.joints else False
        if joint is not None and joint.tap is not None and not is_last:
            taps[mid] = joint.tap
        else:
            missing[mid] = _why_no_mid(parts)
    if not has_cross:
        reason = say("the layer has no attention to a source")
        missing |= {f"cross.{part}": reason for part in ("in", "out", "mid")}


def _note_attention(half: str, attention: SeenAttention | None, missing: dict[str, Text]) -> None:
    """Why parts of an attention cannot be read."""
    reason = say("it was not seen")
    if attention is None:
        is_own = half == "mixer"
        reason = say("no attention was seen in this layer") if is_own else say("the layer has no attention to a source")
    elif _kind(attention) == "linear":
        reason = say("a mixer linear in its values has no scores before a softmax")
    elif _kind(attention) == "packed":
        reason = say("torch.nn.MultiheadAttention hides it")
    elif half == "cross" and "cross.in" in missing:
        reason = missing["cross.in"]
        attention = None
    seen = () if attention is None else attention.parts
    missing |= {f"{half}.{part}": reason for part in PARTS if part not in seen}


def _why_no_mid(parts: _Parts) -> Text:
    if not parts.blocks:
        return say("the layer has no feed-forward: its out is what attention left")
    if "feedforward" in parts.joints:
        return say("attention and feed-forward both read the layer's input (parallel block): no stream lies between")
    return say("no submodule was seen to read in + mixer.out")


def _note_feedforward(parts: _Parts, taps: dict[str, Tap], missing: dict[str, Text]) -> None:
    blocks = parts.blocks
    names = ("feedforward.in", "feedforward.out", "feedforward.pre", "feedforward.post")
    if not blocks:
        missing |= {name: say("the layer has no feed-forward") for name in names}
        return
    joint = parts.joints.get("feedforward")
    taps["feedforward.in"] = Tap("in", blocks[0].path)
    taps["feedforward.out"] = Tap("out", (joint.source if joint is not None else blocks[-1]).path)
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
    if block is None or block.hidden is None:
        return None
    for child in call.within():
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
