"""Passes: a text read once by a model, with every tensor on its way kept for the questions that follow."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from glassworks.anatomy import Site, Subject, TokenBatch, all_sites, capture, parse_site
from glassworks.anatomy.calls import Hooks
from glassworks.anatomy.capture import Activations
from glassworks.anatomy.places import LayerPlaces
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.token_bytes import TokenBytes
from glassworks.studio.walk.texts import ids_of

# Longer texts are read up to here: every stage shows a window of them.
MOST_TOKENS = 1024
# What the tensors of one pass may take before the layers are read in groups, a pass for each.
GROUP_BYTES = 192 << 20
# What kept passes may take together.
KEPT_BYTES = 512 << 20
# Tokens that an encoder-decoder writes for the walk through its decoder.
WRITTEN = 16

Stack = Literal["", "encoder"]


@dataclass(frozen=True, eq=False)
class Rotary:
    """Cosines and sines by which a module turns queries and keys, [position, turned width]."""

    path: str
    cosines: Tensor
    sines: Tensor


@dataclass(eq=False)
class Pass:
    """One text through one model: `groups` holds what was captured so far, layer group by layer group."""

    subject: Subject
    batch: TokenBatch
    given: int
    """Tokens of the whole text, of which the model could read the first."""
    _groups: dict[int, Activations] = field(default_factory=lambda: dict[int, Activations]())
    heard: dict[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())
    """What norms inside attention gave, by module; heads may stand before positions."""
    _rotary: list[Rotary] = field(default_factory=lambda: list[Rotary]())

    @cached_property
    def leaves(self) -> Mapping[str, nn.Module]:
        """Modules without modules in them, by path, that hold weights."""
        return {
            path: module
            for path, module in self.subject.model.named_modules()
            if path and not any(True for _ in module.children())
        }

    @cached_property
    def group_size(self) -> int:
        """Layers whose tensors fit together."""
        found, tokens = self.subject.anatomy, max(self.batch.ids.shape[1], self.batch.read_by_encoder.ids.shape[1])
        hidden = found.feedforward_width or 4 * found.width
        layer = found.layers[0]
        each = 4 * tokens * (16 * found.width + 8 * hidden + 3 * layer.heads * tokens)
        return max(1, GROUP_BYTES // max(1, each))

    def layers(self, stack: Stack) -> tuple[LayerPlaces, ...]:
        """The layers of the stack that is walked through."""
        anatomy = self.subject.anatomy
        return anatomy.encoder.layers if stack and anatomy.encoder is not None else anatomy.layers

    def read_by(self, stack: Stack) -> TokenBatch:
        """The tokens that the stack reads."""
        return self.batch.read_by_encoder if stack else self.batch

    def captured(self, layer: int) -> Activations:
        """Everything of the group that a layer is in, and what lies outside the layers."""
        group = layer // self.group_size
        if group not in self._groups:
            self._groups[group] = self._capture(group)
        return self._groups[group]

    @property
    def rotary(self) -> list[Rotary]:
        """Every pair of cosines and sines that a module of the model handed out."""
        self.captured(0)
        return self._rotary

    @property
    def bytes(self) -> int:
        """What is kept."""
        return sum(one.tensors.bytes if not isinstance(one.tensors, Mapping) else 0 for one in self._groups.values())

    def _capture(self, group: int) -> Activations:
        subject = self.subject
        first = group * self.group_size
        inside = range(first, first + self.group_size)
        sites: list[Site] = [site for site in all_sites(subject.anatomy) if site.layer is None or site.layer in inside]
        paths = [one.path for stack in subject.anatomy.stacks.values() for one in map(_Path, stack)]
        mixers = tuple(f"{one.mixer}." for stack in ("", "encoder") for one in self.layers(stack) if one.mixer)
        for path, module in self.leaves.items():
            layer = _layer_of(path, paths)
            if layer is not None and layer not in inside:
                continue
            # Norms inside attention read heads apart, which is no stream; they are heard below.
            if path.startswith(mixers) and matrix_of(module) is None:
                continue
            names = [path, f"{path}.in"] if takes_stream(module) else [path] if has_weights(module) else []
            sites += [parse_site(name, subject.anatomy, subject.modules) for name in names]
        with Hooks() as hooks:
            self._listen(hooks, mixers)
            return capture(subject, self.batch.to(subject.device), sites)

    def _listen(self, hooks: Hooks, mixers: tuple[str, ...]) -> None:
        """Hears what capture does not: pairs of cosines and sines, and norms that read heads apart."""
        is_first = not self._rotary
        for path, module in self.leaves.items():
            is_inside = path.startswith(mixers) and has_weights(module) and matrix_of(module) is None

            def hear(_: nn.Module, __: Any, ___: Any, output: Any, path: str = path, inside: bool = is_inside) -> None:
                match output:
                    case (Tensor() as cosines, Tensor() as sines) if is_first and cosines.shape == sines.shape:
                        shape = (-1, cosines.shape[-1])
                        self._rotary.append(Rotary(path, cosines.reshape(shape), sines.reshape(shape)))
                    case Tensor() as normed if inside:
                        self.heard[path] = normed.detach()
                    case _:
                        pass

            if is_inside or not has_weights(module):
                hooks.after(module, hear)


@dataclass(frozen=True)
class _Path:
    path: str


def _layer_of(path: str, layers: list[str]) -> int | None:
    """The number of the layer that a module lies in, in whichever stack."""
    for layer in layers:
        if path.startswith(f"{layer}."):
            found = re.search(r"\.?(\d+)$", layer)
            return int(found[1]) if found else 0
    return None


def has_weights(module: nn.Module) -> bool:
    """Whether a leaf holds parameters of its own."""
    return any(True for _ in module.parameters(recurse=False))


def takes_stream(module: nn.Module) -> bool:
    """Whether a leaf reads a stream (an embedding reads ids)."""
    return has_weights(module) and not isinstance(module, nn.Embedding)


def matrix_of(module: nn.Module) -> Tensor | None:
    """The weight of a linear map as [output, input], whichever way round the module keeps it; None for anything else."""
    weight = next((p for name, p in module.named_parameters(recurse=False) if name == "weight"), None)
    if weight is None or weight.ndim != 2 or isinstance(module, nn.Embedding):
        return None
    return (weight.t() if isinstance(module, Conv1D) else weight).detach()


def bias_of(module: nn.Module) -> Tensor | None:
    """The bias of a module, where it has one."""
    found = next((p for name, p in module.named_parameters(recurse=False) if name == "bias"), None)
    return None if found is None else found.detach()


@dataclass
class Passes:
    """The passes of one open model, the last used last; the oldest go first."""

    kept: OrderedDict[str, Pass] = field(default_factory=lambda: OrderedDict[str, Pass]())

    def of(self, subject: Subject, text: str) -> Pass:
        """The pass of a text, made where it is not kept."""
        if text in self.kept:
            self.kept.move_to_end(text)
            return self.kept[text]
        made = _made(subject, text)
        self.kept[text] = made
        while len(self.kept) > 1 and sum(one.bytes for one in self.kept.values()) > KEPT_BYTES:
            self.kept.popitem(last=False)
        return made


_KEPT: WeakKeyDictionary[Subject, Passes] = WeakKeyDictionary()


def pass_of(subject: Subject, text: str) -> Pass:
    """The pass of a text through an open model; kept until the model is closed or others need the room."""
    found = _KEPT.get(subject)
    if found is None:
        found = _KEPT[subject] = Passes()
    return found.of(subject, text)


def _without_end(subject: Subject, ids: Tensor) -> Tensor:
    """What a decoder wrote without its end token, after which nothing comes."""
    special = TokenBytes(subject.tokenizer).special
    return ids[:, :-1] if ids.shape[1] > 1 and int(ids[0, -1]) in special else ids


def _made(subject: Subject, text: str) -> Pass:
    anatomy = subject.anatomy
    ids = ids_of(subject, text)
    if not ids:
        raise InvalidInput(say("there is no text yet"), right=say("at least one token"))
    reader = anatomy.encoder or anatomy
    most = min(MOST_TOKENS, reader.context or MOST_TOKENS)
    batch = subject.batch(ids[:most])
    if anatomy.has_source:
        written = _without_end(subject, subject.generate(batch, WRITTEN))
        batch = replace(batch, ids=written, mask=None, labels=subject.labels(written[0].tolist()))
    with torch.no_grad():
        return Pass(subject, batch, len(ids))
