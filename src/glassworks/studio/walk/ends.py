"""Where the stream begins and ends: embeddings and positions, the last norm, the logits and the probabilities."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from glassworks.studio.walk.bending import CURVES, Bend
from glassworks.studio.walk.graph import Graph, alike, prefix_of, without_batch
from glassworks.studio.walk.looking import Softmax
from glassworks.studio.walk.passes import Stack, bias_of, matrix_of
from glassworks.studio.walk.steps import Linear, Lookup, Opaque, Same, Step, Sum


def wire_beginning(graph: Graph, stack: Stack) -> None:
    """Token vectors, position vectors, and the first stream."""
    made = graph.made
    anatomy = made.subject.anatomy
    outside = anatomy.encoder if stack and anatomy.encoder is not None else anatomy
    before = "encoder." if stack else ""
    ids = made.read_by(stack).ids[0]
    embed = graph.captured(f"{before}embed")
    assert embed is not None, "every model that is read here has a token embedding"
    table = _table(graph.module(outside.embedding))
    rows = table[ids]
    factor = (
        float((rows.double() * embed.tensor.double()).sum() / rows.double().square().sum().clamp_min(1e-30))
        if rows.shape == embed.tensor.shape
        else 1.0
    )
    factor = 1.0 if rows.shape == embed.tensor.shape and torch.equal(rows, embed.tensor) else factor
    lookup = Lookup(outside.embedding, table, ids, factor)
    graph.explain(f"{before}embed", [lookup] if rows.shape == embed.tensor.shape else [], outside.embedding)
    parts = [f"{before}embed"]
    if outside.positions is not None:
        _wire_positions(graph, f"{before}positions", outside.positions, len(ids))
        parts.append(f"{before}positions")
    parts += _others(graph, stack)
    first = f"{prefix_of(stack, 0)}in"
    caught = graph.captured(first)
    assert caught is not None, "every stack takes a stream"
    _wire_first(graph, first, caught.tensor, [part for part in parts if graph.parts.get(part)])


def _wire_positions(graph: Graph, name: str, path: str, count: int) -> None:
    caught = graph.captured(name)
    if caught is None:
        return
    tensor = caught.tensor if caught.tensor.ndim == 2 else caught.tensor[0]
    module = graph.module(path)
    tables = [t.detach().float() for t in (*module.parameters(), *module.buffers()) if t.ndim == 2]
    for table in tables:
        start = next((row for row in range(min(8, len(table))) if torch.equal(table[row], tensor[0])), None)
        rows = torch.arange(count) + (start or 0)
        if start is not None and len(table) >= start + count and alike(table[rows], tensor):
            graph.add(name, tensor, Lookup(path, table, rows, symbol="P[position]", by="position"), path=path)
            return
    graph.add(name, tensor, Opaque(path, graph.kind(path), None), path=path)


def _others(graph: Graph, stack: Stack) -> list[str]:
    """Further embeddings whose rows are added, such as those of BERT's two sentences."""
    found: list[str] = []
    width = graph(f"{'encoder.' if stack else ''}embed").shape
    anatomy = graph.made.subject.anatomy
    ends = [one for one in (anatomy, anatomy.encoder) if one is not None]
    known = {path for one in ends for path in (one.embedding, one.positions)}
    layers = [layer.path for one in ends for layer in one.layers]
    for path, leaf in graph.made.leaves.items():
        out = graph.raw(path)
        if not isinstance(leaf, nn.Embedding) or path in known or out is None or out.shape != width:
            continue
        if any(path.startswith(f"{layer}.") for layer in layers):
            continue
        table = leaf.weight.detach().float()
        rows = (
            [next((row for row in range(len(table)) if torch.equal(table[row], one)), 0) for one in out[:, None]]
            if len(table) < 16
            else []
        )
        step: Step = (
            Lookup(path, table, torch.tensor(rows), symbol="T[kind]") if rows else Opaque(path, graph.kind(path), None)
        )
        graph.add(path, out, step, path=path)
        found.append(path)
    return found


def _wire_first(graph: Graph, name: str, target: Tensor, parts: list[str]) -> None:
    for count in range(len(parts), 0, -1):
        same = [one for one in parts[:count] if graph(one).shape == target.shape]
        total: Step = Same(same[0]) if len(same) == 1 else Sum(tuple(same), "e + p")
        if same and alike(total.compute(graph), target):
            graph.add(name, target, total)
            return
    same = [one for one in parts if graph(one).shape == target.shape]
    if same:
        total = Sum(tuple(same), "e + p")
        graph.add(f"{name}.sum", total.compute(graph), total, read="")
        for path, leaf in graph.made.leaves.items():
            out = graph.raw(path)
            if out is None or matrix_of(leaf) is not None or isinstance(leaf, nn.Embedding) or not alike(out, target):
                continue
            for norm in graph.norms(f"{name}.sum", path):
                if alike(norm.compute(graph), target):
                    graph.add(name, target, norm, path=path)
                    return
        del graph.parts[f"{name}.sum"]
    graph.add(name, target, Opaque("", graph.kind(""), parts[0] if parts else None))


def wire_end(graph: Graph, stack: Stack) -> None:
    """The last norm, and of the stack that answers the logits and probabilities."""
    made = graph.made
    anatomy = made.subject.anatomy
    outside = anatomy.encoder if stack and anatomy.encoder is not None else anatomy
    before = "encoder." if stack else ""
    depth = len(made.layers(stack))
    last = f"{prefix_of(stack, depth - 1)}out"
    source = last
    if outside.norm is not None:
        source = f"{before}norm.out"
        _wire_last_norm(graph, source, last, outside.norm)
    if not stack:
        _wire_logits(graph, source)


def _wire_last_norm(graph: Graph, name: str, last: str, path: str) -> None:
    if graph.explain(name, graph.norms(last, path), path):
        return
    # A readout of its own between the stream and its norm (BERT): a map and a nonlinearity.
    given = graph.raw(f"{path}.in")
    maps = graph.linears_reading(
        last,
        [p for p in graph.made.leaves if not p.startswith(tuple(f"{one.path}." for one in graph.made.layers("")))],
        None,
    )
    for leaf, out in maps.items():
        for curve in CURVES:
            if given is not None and alike(curve.function(out), given):
                graph.add("readout.map", out, graph.linear(last, leaf, "W x"), read=leaf, path=leaf)
                graph.add("readout.bent", given, Bend("readout.map", curve), read=f"{path}.in")
                graph.explain(name, graph.norms("readout.bent", path), path)
                return


def _wire_logits(graph: Graph, source: str) -> None:
    anatomy = graph.made.subject.anatomy
    logits = graph.made.captured().logits
    if logits is None or (anatomy.head is None and not anatomy.tied_head) or anatomy.answers_once:
        return
    target = without_batch(logits)
    step = next((one for one in _heads(graph, source) if _gives(graph, one, target)), None)
    graph.add(
        "logits",
        target,
        step or Opaque(anatomy.head or "", graph.kind(anatomy.head or ""), source),
        path=anatomy.head or anatomy.embedding,
    )
    graph.add("probabilities", torch.softmax(target, -1), Softmax("logits"), read="")


def _heads(graph: Graph, source: str) -> Iterator[Linear]:
    anatomy = graph.made.subject.anatomy
    path = anatomy.head or anatomy.embedding
    leaf = graph.module(path)
    matrix = matrix_of(leaf) if anatomy.head else _table(leaf)
    if matrix is not None:
        bias = bias_of(leaf) if anatomy.head else None
        for factor in {1.0, anatomy.head_scale}:
            yield Linear(source, path, matrix, bias, None, (matrix.shape[0],), "U x", factor=factor)


def _gives(graph: Graph, step: Linear, target: Tensor) -> bool:
    """Whether a head gives the logits, asked of one position: vocabularies are large."""
    again = nn.functional.linear(graph(step.source)[-1:] * step.factor, step.matrix.float(), step.bias)
    return alike(again, target[-1:])


def _table(module: nn.Module) -> Tensor:
    return next(p.detach() for p in module.parameters() if p.ndim == 2)
