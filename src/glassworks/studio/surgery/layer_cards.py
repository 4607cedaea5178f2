"""The layers of a model as cards: number, parts by their own names, parameters; and how far each turns the stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from glassworks.anatomy import Subject
from glassworks.anatomy.places import LayerPlaces
from glassworks.core.errors import GlassworksError
from glassworks.studio.surgery.opened import Opened, batch_of, kind_of
from glassworks.studio.surgery.stage_tree import PRESETS, starts_of
from glassworks.surgery.slots import choose_stack


def layers_told(subject: Subject) -> dict[str, Any]:
    """Every stack with its layers, what can be asked of the model, and why a stack cannot be operated, where it cannot."""
    anatomy = subject.anatomy
    places: dict[str, Sequence[LayerPlaces]] = {name: anatomy.layers for name in anatomy.stacks}
    if anatomy.encoder is not None:
        places["encoder"] = anatomy.encoder.layers
    config: Any = subject.model.config
    return {
        "family": str(config.model_type),
        "kind": kind_of(subject),
        "reads": "tokens" if subject.tokenizer is None else "text",
        "context": anatomy.context,
        "vocabulary": anatomy.vocabulary,
        "parameters": subject.parameter_count,
        "stacks": [_stack(subject, name, found) for name, found in places.items()],
        "presets": [one.to_json() for one in PRESETS],
    }


def influence(opened: Opened, text: str) -> dict[str, Any]:
    """Block influence of each layer on a text: 1 - mean cosine of a token's state before and after the layer."""
    from glassworks.anatomy.capture import capture
    from glassworks.instruments.block_influence import BlockInfluence

    instrument = BlockInfluence(stack="encoder" if opened.stack == "encoder" else "")
    batch = batch_of(opened.subject, text)
    fold = instrument.fold(opened.subject)
    fold.add(batch, capture(opened.subject, batch, instrument.sites(opened.subject.anatomy)))
    found = fold.measurement()
    return {"influence": found.values[:, 0], "tokens": int(batch.read_by_encoder.ids.shape[1])}


def _stack(subject: Subject, name: str, places: Sequence[LayerPlaces]) -> dict[str, Any]:
    refusal = None
    try:
        choose_stack(subject.anatomy, name)
    except GlassworksError as problem:
        refusal = problem.what
    return {
        "name": name,
        "refusal": refusal,
        "sizes": list(starts_of(len(places))),
        "layers": [_card(subject.model, number, one) for number, one in enumerate(places)],
    }


def _card(model: nn.Module, number: int, places: LayerPlaces) -> dict[str, Any]:
    layer = model.get_submodule(places.path)
    parts: list[dict[str, Any]] = []
    for role, path in (
        ("norm", places.mixer_norm),
        ("attention", places.mixer),
        ("cross", None if places.cross is None else places.cross.path),
        ("norm", places.feedforward_norm),
        *(("feed-forward", path) for path in places.feedforward),
    ):
        if path is not None:
            part = model.get_submodule(path)
            parts.append({"role": role, "path": path, "class": type(part).__name__, "parameters": _count(part)})
    return {
        "number": number,
        "path": places.path,
        "class": type(layer).__name__,
        "parameters": _count(layer),
        "heads": places.heads,
        "kv_heads": places.kv_heads,
        "parts": parts,
    }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
