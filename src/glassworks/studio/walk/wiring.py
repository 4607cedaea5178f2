"""How the parts of one layer are made of each other, found by trying each recipe on the numbers of the pass itself."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from glassworks.anatomy.places import LayerPlaces
from glassworks.studio.walk.bending import CURVES, Bend
from glassworks.studio.walk.graph import TOLERANCE, Graph, alike, apart, prefix_of
from glassworks.studio.walk.looking import Dots, Mix, Scores, Softmax, Turn
from glassworks.studio.walk.passes import Stack, matrix_of
from glassworks.studio.walk.rows import rows_of, stretches
from glassworks.studio.walk.steps import Opaque, Same, Step, Sum

# Scores below are hidden ones.
LOWEST = -1e30


def wire_layer(graph: Graph, stack: Stack, number: int) -> None:
    """Adds every part of a layer to the graph, each with the step that was seen to make it."""
    places = graph.made.layers(stack)[number]
    name = prefix_of(stack, number)
    if number and f"{name}in" not in graph.parts:
        before = f"{prefix_of(stack, number - 1)}out"
        graph.explain(f"{name}in", [Same(before)], places.path)
    sources = [f"{name}in"]
    _wire_norm(graph, f"{name}mixer.in", sources, places.mixer_norm, places.mixer or places.path)
    _wire_attention(graph, Half(places, name, "mixer", number), f"{name}mixer.in")
    _wire_meeting(graph, f"{name}mid", [f"{name}in", f"{name}mixer.out"], places)
    stream = f"{name}mid" if graph.has(f"{name}mid") else f"{name}in"
    if places.cross is not None and graph.captured(f"{name}cross.in") is not None:
        _wire_norm(graph, f"{name}cross.in", [stream], places.cross.norm, places.cross.path or places.path)
        _wire_attention(graph, Half(places, name, "cross", number), "encoder.norm.out")
        _wire_meeting(graph, f"{name}cross.mid", [stream, f"{name}cross.out"], places)
        stream = f"{name}cross.mid" if graph.has(f"{name}cross.mid") else stream
    if places.feedforward:
        _wire_norm(
            graph, f"{name}feedforward.in", [stream, f"{name}in"], places.feedforward_norm, places.feedforward[0]
        )
        _wire_feedforward(graph, places, name, number)
    _wire_out(graph, places, name, stream)


class Half:
    """One attention of a layer: its own, or the one to the source."""

    def __init__(self, places: LayerPlaces, layer: str, kind: str, number: int) -> None:
        cross = places.cross
        is_cross = kind == "cross" and cross is not None
        self.name = f"{layer}{kind}."
        self.number = number
        self.path = (cross.path if is_cross and cross else places.mixer) or places.path
        self.heads = cross.heads if is_cross and cross else places.heads
        self.kv_heads = cross.kv_heads if is_cross and cross else places.kv_heads
        self.head_width = cross.head_width if is_cross and cross else places.head_width
        self.kv_head_of = cross.kv_head_of if is_cross and cross else places.kv_head_of


def _wire_norm(graph: Graph, name: str, sources: list[str], norm: str | None, module: str) -> None:
    """What a half reads: the stream normed, or as it is where the norm stands elsewhere."""

    def recipes() -> Iterator[Step]:
        for source in sources:
            if norm is not None:
                yield from graph.norms(source, norm)
            yield Same(source)

    graph.explain(name, recipes(), norm or module, path=norm or "")


def _wire_attention(graph: Graph, half: Half, keys_read: str) -> None:
    asked_of = f"{half.name}in"
    if not graph.has(asked_of):
        return
    for letter, source in (("q", asked_of), ("k", keys_read), ("v", keys_read)):
        _wire_projection(graph, half, letter, source)
    if not all(graph.has(f"{half.name}{letter}") for letter in "qk"):
        for rest in ("scores", "pattern", "z"):
            graph.explain(f"{half.name}{rest}", [], half.path)
    else:
        _wire_map(graph, half)
    if graph.has(f"{half.name}z"):
        _wire_output(graph, half)
    else:
        graph.explain(f"{half.name}out", [], half.path)


def _wire_projection(graph: Graph, half: Half, letter: str, source: str) -> None:
    """Queries, keys or values: a linear map, its rows found by value; then norms and a turn where there are such."""
    name = f"{half.name}{letter}"
    caught = graph.captured(name)
    if caught is None:
        return
    target = caught.tensor
    shape = tuple(target.shape[1:])
    given = graph.linears_reading(source, [half.path], half.number) if graph.has(source) else {}
    symbol = f"W_{letter} x"
    for path, out in given.items():
        rows = rows_of(out, target.flatten(1))
        if rows is not None:
            graph.add(name, target, graph.linear(source, path, symbol, rows, shape), path=path)
            return
    if letter != "v":
        sizes = (half.heads, half.kv_heads, half.head_width)
        for path, out in given.items():
            for rows in stretches(sizes, letter, out.shape[1]):
                if _wire_turned(graph, half, letter, (path, rows, out)):
                    return
    graph.add(name, target, Opaque(half.path, graph.kind(half.path), source), path=half.path)


def _wire_turned(graph: Graph, half: Half, letter: str, given: tuple[str, Tensor, Tensor]) -> bool:
    """Queries or keys that were turned (and perhaps normed) after their linear map."""
    path, rows, out = given
    name = f"{half.name}{letter}"
    caught = graph.captured(name)
    assert caught is not None, "the caller has it"
    target = caught.tensor
    shape = tuple(target.shape[1:])
    mapped = f"{name}.map"
    before = out[:, rows].reshape(-1, *shape)
    source = f"{half.name}in"
    added = [mapped]
    read = path if before.numel() == out.numel() else ""
    graph.add(mapped, before, graph.linear(source, path, f"W_{name[-1]} x", rows, shape), read=read, path=path)
    starts = [mapped]
    for leaf in graph.leaves_within([half.path]):
        normed = graph.raw(leaf, half.number)
        if normed is None or normed.numel() != before.numel() or matrix_of(graph.module(leaf)) is not None:
            continue
        for norm in graph.norms(mapped, leaf):
            if norm.gain is not None and norm.gain.shape != before.shape[-1:]:
                continue
            again = norm.compute(graph)
            if alike(again.flatten(), _by_position(normed, again)):
                graph.add(f"{name}.norm", again, norm, read="", path=leaf)
                added.append(f"{name}.norm")
                starts.insert(0, f"{name}.norm")
                break
    for start in starts:
        if start != mapped and alike(graph(start), target):
            graph.add(name, target, Same(start), path=path)
            return True
        for turn in _turns(graph, start, shape[-1]):
            if alike(turn.compute(graph), target):
                graph.add(name, target, turn, path=graph.made.rotary[0].path if graph.made.rotary else "")
                return True
    for one in added:
        del graph.parts[one]
    return False


def _by_position(normed: Tensor, like: Tensor) -> Tensor:
    """A norm's result with positions first, flat: some models have heads before positions there."""
    if normed.ndim == 3 and normed.shape[0] == like.shape[1] and normed.shape[1] == like.shape[0]:
        normed = normed.transpose(0, 1)
    return normed.flatten()


def _turns(graph: Graph, source: str, head_width: int) -> Iterator[Turn]:
    """The turns that the model may make: by what its module handed out, or by what its spec says."""
    count = graph(source).shape[0]
    found = [(one.cosines, one.sines) for one in graph.made.rotary]
    if not found:
        found = list(_turns_of_spec(graph, count))
    for cosines, sines in found:
        if cosines.shape[0] < count or cosines.shape[-1] > head_width:
            continue
        for is_interleaved in (False, True):
            yield Turn(source, cosines[:count].float(), sines[:count].float(), is_interleaved)


def _turns_of_spec(graph: Graph, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For models of ours, which compute their angles in place."""
    from glassworks.core.errors import InvalidInput
    from glassworks.models.plain import plain_of, speeds_of

    try:
        spec = plain_of(graph.made.subject.model).spec
    except InvalidInput:
        return
    if spec.positions == "rotary":
        angles = torch.arange(count, dtype=torch.float32)[:, None] * speeds_of(spec)
        yield torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
        paired = angles.repeat_interleave(2, -1)
        yield paired.cos(), paired.sin()


def _wire_map(graph: Graph, half: Half) -> None:
    name = half.name
    dots = Dots(f"{name}q", f"{name}k", half.kv_head_of)
    caught = graph.captured(f"{name}scores")
    graph.add(f"{name}dots", dots.compute(graph), dots, read="")
    if caught is None:
        graph.explain(f"{name}pattern", [], half.path)
    else:
        # Some models hide the future by the lowest number of float32 instead of minus infinity.
        scores = caught.tensor.masked_fill(caught.tensor < LOWEST, -math.inf)
        step = _scores_step(graph, half, scores)
        graph.add(f"{name}scores", scores, step or Opaque(half.path, graph.kind(half.path), f"{name}dots"))
        graph.explain(f"{name}pattern", [Softmax(f"{name}scores")], half.path)
    if graph.has(f"{name}pattern") and graph.has(f"{name}v"):
        graph.explain(f"{name}z", [Mix(f"{name}pattern", f"{name}v", half.kv_head_of)], half.path)
    else:
        graph.explain(f"{name}z", [], half.path)


def _scores_step(graph: Graph, half: Half, scores: Tensor) -> Scores | None:
    """The factor, the mask, and what distances add; None where the scores are made otherwise."""
    dots = graph(f"{half.name}dots")
    hidden = torch.isinf(scores)
    hidden = hidden[:1] if bool((hidden == hidden[:1]).all()) else hidden
    seen = torch.isfinite(scores)
    fitted = float((dots[seen].double() @ scores[seen].double()) / dots[seen].double().square().sum().clamp_min(1e-30))
    for scale in (half.head_width**-0.5, 1.0, fitted):
        step = Scores(f"{half.name}dots", scale, None, hidden, half.head_width)
        if alike(step.compute(graph), scores):
            return step
    for scale in (half.head_width**-0.5, 1.0):
        bias = torch.where(seen, scores - dots * scale, torch.zeros(()))
        if _depends_on_place(bias, seen):
            return Scores(f"{half.name}dots", scale, bias, hidden, half.head_width)
    return None


def _depends_on_place(bias: Tensor, seen: Tensor) -> bool:
    """Whether what is added to scores is one number for each head and distance, or for each head and key (BLOOM)."""
    allowed = 1e-3 * max(1.0, float(bias.abs().max()))
    queries, keys = bias.shape[-2:]
    diagonals = [(bias.diagonal(at, -2, -1), seen.diagonal(at, -2, -1)) for at in range(-queries + 1, keys)]
    columns = [(bias[:, :, key], seen[:, :, key]) for key in range(keys)]
    return any(all(_is_one(*line, allowed) for line in lines) for lines in (diagonals, columns))


def _is_one(line: Tensor, real: Tensor, allowed: float) -> bool:
    """Whether a line of each head holds one number where it is real."""
    low = line.masked_fill(~real, math.inf).amin(-1)
    high = line.masked_fill(~real, -math.inf).amax(-1)
    return bool(((high - low <= allowed) | ~real.any(-1)).all())


def _wire_output(graph: Graph, half: Half) -> None:
    """The map of all heads' results back to the stream."""
    name = f"{half.name}out"
    found = graph.linears_reading(f"{half.name}z", [half.path], half.number)
    caught = graph.captured(name)
    if caught is None:
        return
    for path, out in found.items():
        if alike(out, caught.tensor):
            graph.add(name, caught.tensor, graph.linear(f"{half.name}z", path, "W_o z"), path=path)
            return
    _wire_normed_output(graph, name, caught.tensor, found, half.number, (f"{half.name}z", "W_o z"))


def _wire_normed_output(
    graph: Graph, name: str, target: Tensor, found: dict[str, Tensor] | object, layer: int, made_of: tuple[str, str]
) -> None:
    """A half whose result is normed before it is added (Gemma 2); else only its module is named."""
    source, symbol = made_of
    places = graph.captured(name)
    assert places is not None, "the caller has it"
    candidates = dict(found) if isinstance(found, dict) else {}
    for path, out in candidates.items():
        if out.shape != target.shape:
            continue
        graph.add(f"{name}.map", out, graph.linear(source, path, symbol), read=path, path=path)
        for leaf in graph.made.leaves:
            given = graph.raw(f"{leaf}.in", layer)
            if given is not None and given.shape == out.shape and alike(given, out):
                for norm in graph.norms(f"{name}.map", leaf) if matrix_of(graph.module(leaf)) is None else []:
                    if alike(norm.compute(graph), target):
                        graph.add(name, target, norm, path=leaf)
                        return
        del graph.parts[f"{name}.map"]
    tap = graph.made.subject.anatomy.layers[0].path
    graph.add(name, target, Opaque(tap if not candidates else next(iter(candidates)), "", source))


def _wire_meeting(graph: Graph, name: str, parts: list[str], places: LayerPlaces) -> None:
    """The stream where two parts meet: their sum, or the norm of it (post-norm)."""
    caught = graph.captured(name)
    if caught is None or not all(graph.has(part) for part in parts):
        return
    total = Sum(tuple(parts), "x + o")
    if alike(total.compute(graph), caught.tensor):
        graph.add(name, caught.tensor, total)
        return
    _wire_normed_sum(graph, name, caught.tensor, total, places)


def _wire_normed_sum(graph: Graph, name: str, target: Tensor, total: Sum, places: LayerPlaces) -> None:
    graph.add(f"{name}.sum", total.compute(graph), total, read="")
    for path, leaf in graph.leaves_within([places.path]).items():
        if matrix_of(leaf) is not None:
            continue
        for norm in graph.norms(f"{name}.sum", path):
            if norm.gain is not None and norm.gain.shape == target.shape[-1:] and alike(norm.compute(graph), target):
                graph.add(name, target, norm, path=path)
                return
    del graph.parts[f"{name}.sum"]
    graph.add(name, target, Opaque(places.path, graph.kind(places.path), total.parts[0]))


def _wire_feedforward(graph: Graph, places: LayerPlaces, layer: str, number: int) -> None:
    name = f"{layer}feedforward."
    if not graph.has(f"{name}in"):
        return
    inner = graph.captured(f"{name}post")
    out = graph.captured(f"{name}out")
    if inner is not None:
        _wire_hidden(graph, places, name, number, inner.tensor)
    if out is None:
        return
    source = f"{name}post" if inner is not None else f"{name}in"
    found = graph.linears_reading(source, places.feedforward, number)
    for path, given in found.items():
        if alike(given, out.tensor):
            graph.add(f"{name}out", out.tensor, graph.linear(source, path, "W_down h"), path=path)
            return
    _wire_normed_output(graph, f"{name}out", out.tensor, dict(found), number, (source, "W_down h"))


def _wire_hidden(graph: Graph, places: LayerPlaces, name: str, number: int, hidden: Tensor) -> None:
    """The hidden numbers: one map and a nonlinearity, or two maps of which one is the other's gate."""
    maps: list[tuple[str, Tensor, Tensor | None]] = []
    for path, out in graph.linears_reading(f"{name}in", places.feedforward, number).items():
        if out.shape == hidden.shape:
            maps.append((path, out, None))
        elif out.shape[-1] == 2 * hidden.shape[-1]:
            rows = torch.arange(out.shape[-1])
            for half in rows.chunk(2):
                maps.append((path, out[:, half], half))
    fitting: list[tuple[float, Bend, tuple[str, Tensor | None], tuple[str, Tensor | None], Tensor, Tensor]] = []
    for path, out, rows in maps:
        for curve in CURVES:
            bent = curve.function(out)
            fitting.append((apart(bent, hidden), Bend(f"{name}pre", curve), (path, rows), (path, rows), out, out))
            for other, times, half in maps:
                if times is not out:
                    gated = Bend(f"{name}gate", curve, f"{name}up")
                    fitting.append((apart(bent * times, hidden), gated, (path, rows), (other, half), out, times))
    # Two forms of GELU differ by a thousandth, so the nearest of all is taken.
    best = min(fitting, key=lambda one: one[0], default=None)
    if best is not None and best[0] <= TOLERANCE:
        _, bend, gate, up, before, times = best
        if bend.times is None:
            _add_map(graph, f"{name}pre", gate, before, "W_up x")
        else:
            _add_map(graph, f"{name}gate", gate, before, "W_gate x")
            _add_map(graph, f"{name}up", up, times, "W_up x")
        graph.add(f"{name}post", hidden, bend)
        return
    graph.add(f"{name}post", hidden, Opaque(places.feedforward[0], graph.kind(places.feedforward[0]), f"{name}in"))


def _add_map(graph: Graph, name: str, made_by: tuple[str, Tensor | None], tensor: Tensor, symbol: str) -> None:
    path, rows = made_by
    step = graph.linear(f"{name.rpartition('.')[0]}.in", path, symbol, rows, (tensor.shape[-1],))
    graph.add(name, tensor, step, read=path if rows is None else "", path=path)


def _wire_out(graph: Graph, places: LayerPlaces, layer: str, stream: str) -> None:
    """The stream behind the layer."""
    name = f"{layer}out"
    caught = graph.captured(name)
    if caught is None:
        return
    written = [part for part in (f"{layer}mixer.out", f"{layer}feedforward.out") if graph.has(part)]
    sums = [Sum((stream, *written[1:]), "x + f") if len(written) > 1 else Sum((f"{layer}in", *written), "x + o")]
    # A parallel block: both halves read the layer's input and are added at once.
    sums.append(Sum((f"{layer}in", *written), "x + o + f"))
    for total in sums:
        if alike(total.compute(graph), caught.tensor):
            graph.add(name, caught.tensor, total)
            return
    _wire_normed_sum(graph, name, caught.tensor, sums[0], places)
