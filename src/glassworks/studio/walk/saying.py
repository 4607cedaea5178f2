"""What the walk ends with: the likeliest tokens at one position, and what each block would say there."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from glassworks.studio.walk.answers import Window, norm_of, numbers
from glassworks.studio.walk.graph import Graph, prefix_of
from glassworks.studio.walk.passes import Stack
from glassworks.studio.walk.texts import tokens_of


def end(graph: Graph, stack: Stack, position: int, count: int) -> dict[str, Any]:
    """After the last layer, at one position: the normed stream and the likeliest tokens with logit and chance."""
    window = Window(graph, stack, position)
    at = max(0, min(position, window.count - 1))
    last = f"{prefix_of(stack, len(graph.made.layers(stack)) - 1)}out"
    found: dict[str, Any] = {"position": at, "last": numbers(graph(last)[at])}
    if graph.has(f"{window.before}norm.out"):
        name = f"{window.before}norm.out"
        found |= {"normed": numbers(graph(name)[at]), "norm": norm_of(graph, name)}
    if stack or not graph.has("logits"):
        return found
    logits = graph("logits")[at]
    chances = torch.softmax(logits.double(), -1)
    top = logits.topk(min(count, len(logits)))
    ids = [int(token) for token in top.indices]
    ids_read = graph.made.batch.ids[0]
    follows = int(ids_read[at + 1]) if at + 1 < len(ids_read) else None
    listed = tokens_of(graph.made.subject, ids if follows is None or follows in ids else [*ids, follows])
    surprise = -(chances * chances.clamp_min(1e-300).log2()).sum()
    entries = [
        one
        | {
            "logit": float(logits[one["id"]]),
            "chance": float(chances[one["id"]]),
            "rank": 1 + int((logits > logits[one["id"]]).sum()),
            "follows": one["id"] == follows,
        }
        for one in listed
    ]
    return found | {
        "candidates": entries,
        "vocabulary": len(logits),
        "largest": float(logits.max()),
        "sum": float((logits.double() - logits.double().max()).exp().sum()),
        "entropy_bits": float(surprise),
        "logits": np.sort(numbers(logits))[::-1][:2000].copy(),
        "causal": graph.made.subject.anatomy.causal,
    }


def lens(graph: Graph, position: int) -> dict[str, Any]:
    """What the model would say after each block at one position, read by its own last norm and head."""
    made = graph.made
    if not graph.has("logits"):
        return {"rows": []}
    depth = len(made.layers(""))
    at = max(0, min(position, made.batch.ids.shape[1] - 1))
    names = ["layers.0.in", *(f"{prefix_of('', number)}out" for number in range(depth))]
    stream = torch.stack([graph(name)[at] for name in names])[None].to(made.subject.device)
    with torch.no_grad():
        logits = made.subject.read_stream(stream)[0].float()
    final = int(graph("logits")[at].argmax())
    chances = torch.softmax(logits, -1)
    top = chances.topk(min(3, chances.shape[-1]), -1)
    rows: list[dict[str, Any]] = []
    for number, (values, tokens) in enumerate(zip(top.values.tolist(), top.indices.tolist(), strict=True)):
        labels = tokens_of(made.subject, tokens)
        rows.append(
            {
                "after": number - 1,
                "top": [one | {"chance": chance} for one, chance in zip(labels, values, strict=True)],
                "final_chance": float(chances[number, final]),
                "final_rank": 1 + int((logits[number] > logits[number, final]).sum()),
            }
        )
    return {"rows": rows, "final": tokens_of(made.subject, [final])[0], "position": at}
