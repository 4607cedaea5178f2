"""What the stages of the walk show: windows of the tensors of one pass, and what each part is called in this model."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.positions import sinusoids
from glassworks.studio.walk.bending import Bend
from glassworks.studio.walk.graph import Graph, alike, prefix_of
from glassworks.studio.walk.looking import Scores, Turn
from glassworks.studio.walk.passes import Stack
from glassworks.studio.walk.steps import Linear, Lookup, Norm, Opaque
from glassworks.studio.walk.texts import tokens_of

# Tokens that a stage shows at once; further ones are paged to.
WINDOW = 64

_STREAM, _HEADS, _KEYS = ("position", "column"), ("position", "head", "column"), ("position", "kv_head", "column")
_MAP, _HIDDEN, _WORDS = ("head", "query", "key"), ("position", "neuron"), ("position", "token")
_DIMENSIONS = {
    "q": _HEADS,
    "q.map": _HEADS,
    "q.norm": _HEADS,
    "z": _HEADS,
    "k": _KEYS,
    "k.map": _KEYS,
    "k.norm": _KEYS,
    "v": _KEYS,
    "dots": _MAP,
    "scores": _MAP,
    "pattern": _MAP,
    "gate": _HIDDEN,
    "up": _HIDDEN,
    "pre": _HIDDEN,
    "post": _HIDDEN,
    "logits": _WORDS,
    "probabilities": _WORDS,
}


def dimensions_of(name: str) -> tuple[str, ...]:
    """What the indices of a part count."""
    found = re.search(r"(?:^|(?:mixer|cross|feedforward)\.)([a-z]+(?:\.map|\.norm)?)$", name)
    return _DIMENSIONS.get(found[1], _STREAM) if found else _STREAM


def numbers(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor as float32 for the page."""
    return tensor.detach().float().cpu().numpy()


class Window:
    """The tokens that are shown, from `start` on."""

    def __init__(self, graph: Graph, stack: Stack, start: int) -> None:
        self.graph, self.stack = graph, stack
        self.count = graph.made.read_by(stack).ids.shape[1]
        self.start = max(0, min(start, self.count - 1) // WINDOW * WINDOW)
        self.end = min(self.count, self.start + WINDOW)
        self.before = "encoder." if stack else ""

    def of(self, name: str) -> np.ndarray[Any, Any] | None:
        """A part's rows in the window; None where the model has none such."""
        return numbers(self.graph(name)[self.start : self.end]) if self.graph.has(name) else None

    def table(self, prefix: str, names: tuple[str, ...]) -> dict[str, np.ndarray[Any, Any]]:
        """Several parts' rows, those that there are."""
        found = {name: self.of(f"{prefix}{name}") for name in names}
        return {name: rows for name, rows in found.items() if rows is not None}

    def to_json(self) -> dict[str, int]:
        """Where it begins and ends."""
        return {"start": self.start, "end": self.end, "count": self.count, "size": WINDOW}


def described(graph: Graph, names: list[str]) -> dict[str, Any]:
    """What each part is in this model: its module, class, weights and shape."""
    return {name: _described(graph, name) for name in names if graph.has(name)}


def _described(graph: Graph, name: str) -> dict[str, Any]:
    part = graph.part(name)
    is_leaf = part.path in graph.made.leaves
    leaf = graph.module(part.path) if is_leaf else None
    return {
        "path": part.path,
        "class": graph.kind(part.path) if part.path else "",
        "weights": [] if leaf is None else _weights(leaf),
        "shape": list(part.tensor.shape),
        "known": not isinstance(part.step, Opaque),
    }


def _weights(leaf: nn.Module) -> list[list[Any]]:
    return [[name, list(weight.shape)] for name, weight in leaf.named_parameters(recurse=False)]


def overview(graph: Graph, stack: Stack) -> dict[str, Any]:
    """The text as the model reads it, the model's sizes, and its parts outside the layers."""
    made = graph.made
    anatomy, layers = made.subject.anatomy, made.layers(stack)
    ids = made.read_by(stack).ids[0].tolist()
    before = "encoder." if stack else ""
    ends = [f"{before}embed", f"{before}positions", f"{before}layers.0.in", f"{before}norm.out"]
    ends += [] if stack else ["logits", "probabilities"]
    source = None
    if anatomy.has_source and not stack:
        source = tokens_of(made.subject, made.batch.read_by_encoder.ids[0].tolist())
    return {
        "tokens": tokens_of(made.subject, ids),
        "source": source,
        "given": made.given,
        "cut": made.given > made.batch.read_by_encoder.ids.shape[1],
        "stacks": ["encoder", ""] if anatomy.encoder is not None else [""],
        "class": type(made.subject.model).__name__,
        "family": str(_config(made.subject.model).model_type),
        "parameters": made.subject.parameter_count,
        "layers": len(layers),
        "sizes": [[one.heads, one.kv_heads, one.head_width] for one in layers],
        "width": anatomy.width,
        "hidden": anatomy.feedforward_width,
        "vocabulary": anatomy.vocabulary,
        "context": anatomy.context,
        "causal": all(one.causal for one in layers),
        "reads": "text" if made.subject.tokenizer is not None else "tokens",
        "answers": not stack and graph.has("logits"),
        "positions": _kind_of_positions(graph, stack),
        "parts": described(graph, ends),
        "window": WINDOW,
    }


def _config(model: Any) -> Any:
    return model.config


def _kind_of_positions(graph: Graph, stack: Stack) -> str:
    """learned, sinusoidal, rotary, bias, none, or inside attention in a way that is not known here."""
    before = "encoder." if stack else ""
    if graph.has(f"{before}positions"):
        step = graph.part(f"{before}positions").step
        return "sinusoidal" if isinstance(step, Lookup) and _is_sinusoidal(step.table) else "learned"
    if _turn(graph, stack) is not None:
        return "rotary"
    first = f"{prefix_of(stack, 0)}mixer.scores"
    step = graph.part(first).step if graph.has(first) else None
    if isinstance(step, Scores) and step.bias is not None:
        return "bias"
    query = f"{prefix_of(stack, 0)}mixer.q"
    is_known = isinstance(step, Scores) and not isinstance(graph.part(query).step, Opaque)
    return "none" if is_known else "inside"


def _turn(graph: Graph, stack: Stack) -> Turn | None:
    for number in range(len(graph.made.layers(stack))):
        name = f"{prefix_of(stack, number)}mixer.q"
        step = graph.part(name).step if graph.has(name) else None
        if isinstance(step, Turn):
            return step
        if number > 4:
            break
    return None


def _is_sinusoidal(table: Tensor) -> bool:
    """Whether a table holds sines and cosines, in alternation or the sines first."""
    rows = table[: min(len(table), 32)].float()
    there = sinusoids(torch.arange(len(rows)), table.shape[1]).float()
    halves = torch.cat([there[:, ::2], there[:, 1::2]], -1)
    return alike(rows, there) or alike(rows, halves)


def beginning(graph: Graph, stack: Stack, start: int) -> dict[str, Any]:
    """Token vectors, position vectors and their sum; positions as what they are."""
    window = Window(graph, stack, start)
    before = window.before
    first = f"{before}layers.0.in"
    further = [name for name in graph.part(first).step.names if name not in (f"{before}embed", f"{before}positions")]
    further += [one for name in further for one in graph.part(name).step.names if name.endswith(".sum")]
    others = [
        one for one in further if one not in (f"{before}embed", f"{before}positions") and not one.endswith(".sum")
    ]
    names = [f"{before}embed", f"{before}positions", *others, f"{first}.sum", first]
    tensors = {name: rows for name in names if (rows := window.of(name)) is not None}
    return {
        "window": window.to_json(),
        "tensors": tensors,
        "parts": described(graph, names),
        "same": graph.has(f"{before}embed") and alike(graph(f"{before}embed"), graph(first)),
        "positions": _positions(graph, stack, window),
    }


def _positions(graph: Graph, stack: Stack, window: Window) -> dict[str, Any]:
    kind = _kind_of_positions(graph, stack)
    found: dict[str, Any] = {"kind": kind}
    turn = _turn(graph, stack)
    if kind == "rotary" and turn is not None:
        pairs = slice(0, None, 2) if turn.is_interleaved else slice(0, turn.width // 2)
        angles = torch.atan2(turn.sines[:, pairs], turn.cosines[:, pairs])
        found |= {
            "cosines": numbers(turn.cosines[window.start : window.end, pairs]),
            "sines": numbers(turn.sines[window.start : window.end, pairs]),
            "speeds": numbers(angles[1]) if len(angles) > 1 else None,
            "turned": turn.width,
            "interleaved": turn.is_interleaved,
            "head_width": graph.made.layers(stack)[0].head_width,
        }
    name = f"{prefix_of(stack, 0)}mixer.scores"
    step = graph.part(name).step if kind == "bias" and graph.has(name) else None
    if isinstance(step, Scores) and step.bias is not None:
        rows = slice(window.start, window.end)
        found["bias"] = numbers(step.bias[:, rows, rows])
    if kind in ("learned", "sinusoidal"):
        lookup = graph.part(f"{window.before}positions").step
        if isinstance(lookup, Lookup):
            found |= {"rows": len(lookup.table), "first": int(lookup.rows[window.start])}
    return found


def layer(graph: Graph, stack: Stack, number: int, start: int) -> dict[str, Any]:
    """One block: its streams, its hidden numbers, every head small, and what its parts are."""
    places = _places(graph, stack, number)
    prefix, window = prefix_of(stack, number), Window(graph, stack, start)
    streams = (
        "in", "mixer.in", "mixer.out", "mid.sum", "mid", "cross.in", "cross.out", "cross.mid.sum", "cross.mid",
        "feedforward.in", "feedforward.pre", "feedforward.gate", "feedforward.up", "feedforward.post",
        "feedforward.out", "out.sum", "out",
    )  # fmt: skip
    inside = tuple(
        f"{half}.{part}"
        for half in ("mixer", "cross")
        for part in ("q.map", "k.map", "q", "k", "v", "scores", "pattern", "z")
    )
    return {
        "layer": number,
        "window": window.to_json(),
        "tensors": window.table(prefix, streams),
        "parts": described(graph, [f"{prefix}{name}" for name in (*streams, *inside)]),
        "maps": _small_maps(graph, f"{prefix}mixer.pattern", window),
        "kv_head_of": list(places.kv_head_of),
        "norms": {name: norm for name in streams if (norm := norm_of(graph, f"{prefix}{name}")) is not None},
        "curve": _curve(graph, f"{prefix}feedforward.post"),
        "cross": _small_maps(graph, f"{prefix}cross.pattern", window),
        "parallel": not graph.has(f"{prefix}mid") and graph.has(f"{prefix}feedforward.out"),
    }


def _places(graph: Graph, stack: Stack, number: int) -> Any:
    layers = graph.made.layers(stack)
    if not 0 <= number < len(layers):
        raise InvalidInput(
            say("there is no layer {layer}", layer=number),
            given=number,
            right=say("0 to {last}; layers count from 0", last=len(layers) - 1),
        )
    return layers[number]


def _small_maps(graph: Graph, name: str, window: Window) -> np.ndarray[Any, Any] | None:
    if not graph.has(name):
        return None
    shown = graph(name)[:, window.start : window.end]
    keys = slice(window.start, window.end) if "cross" not in name else slice(0, WINDOW)
    return (shown[:, :, keys].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def norm_of(graph: Graph, name: str) -> dict[str, Any] | None:
    """What kind of norm makes a part, with its gain and bias; None where it is none."""
    step = graph.part(name).step if graph.has(name) else None
    if not isinstance(step, Norm):
        return None
    return {
        "kind": step.kind,
        "source": step.source,
        "epsilon": step.epsilon,
        "gain": None if step.gain is None else numbers(step.gain + step.gain_offset),
        "bias": None if step.bias is None else numbers(step.bias),
        "path": step.path,
    }


def _curve(graph: Graph, name: str) -> dict[str, Any] | None:
    step = graph.part(name).step if graph.has(name) else None
    if not isinstance(step, Bend):
        return None
    given = graph(step.source)
    low, high = float(given.min()), float(given.max())
    room = 0.05 * max(1e-6, high - low)
    x = torch.linspace(min(low - room, -1.0), max(high + room, 1.0), 161)
    return {
        "name": step.curve.name,
        "formula": step.curve.formula,
        "gated": step.times is not None,
        "x": numbers(x),
        "y": numbers(step.curve.function(x)),
    }


def head(graph: Graph, stack: Stack, number: int, which: int, half: str, start: int) -> dict[str, Any]:
    """One head: queries, keys, values, scores, weights and what it gives, in the window."""
    places = _places(graph, stack, number)
    prefix, window = f"{prefix_of(stack, number)}{half}.", Window(graph, stack, start)
    heads = places.heads if half == "mixer" or places.cross is None else places.cross.heads
    if not 0 <= which < heads:
        raise InvalidInput(
            say("there is no head {head}", head=which),
            given=which,
            right=say("0 to {last}; heads count from 0", last=heads - 1),
        )
    kv = (places.kv_head_of if half == "mixer" or places.cross is None else places.cross.kv_head_of)[which]
    rows = slice(window.start, window.end)
    keys = rows if half == "mixer" else slice(0, WINDOW)
    found: dict[str, Any] = {"window": window.to_json(), "layer": number, "head": which, "kv_head": kv, "half": half}
    for name in ("q.map", "q", "z"):
        if graph.has(f"{prefix}{name}"):
            found[name] = numbers(graph(f"{prefix}{name}")[rows, which])
    for name in ("k.map", "k", "v"):
        if graph.has(f"{prefix}{name}"):
            found[name] = numbers(graph(f"{prefix}{name}")[keys, kv])
    for name in ("dots", "scores", "pattern"):
        if graph.has(f"{prefix}{name}"):
            found[name] = numbers(graph(f"{prefix}{name}")[which, rows, keys])
    scores = graph.part(f"{prefix}scores").step if graph.has(f"{prefix}scores") else None
    found["scale"] = scores.scale if isinstance(scores, Scores) else None
    found["biased"] = isinstance(scores, Scores) and scores.bias is not None
    if graph.has(f"{prefix}pattern"):
        pattern = graph(f"{prefix}pattern")[which, rows]
        # What queries of a later window give to the tokens before it.
        found["outside"] = numbers(1 - pattern[:, keys].sum(-1))
    output = graph.part(f"{prefix}out").step if graph.has(f"{prefix}out") else None
    found["output"] = _head_output(graph, output, which, rows) if isinstance(output, Linear) else None
    return found


def _head_output(graph: Graph, step: Linear, which: int, rows: slice) -> np.ndarray[Any, Any]:
    """What one head alone writes into the stream: its part of the output map."""
    z = graph(step.source)[rows, which]
    width = z.shape[-1]
    return numbers(z @ step.matrix[:, which * width : (which + 1) * width].float().t())
