"""Passes: a text read once by a model, with every tensor on its way kept for the questions that follow."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal
from weakref import ref

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
MOST_TOKENS = 512
# What the tensors of one pass may take before the layers are read in groups, a pass for each.
GROUP_BYTES = 192 << 20
# Groups of one pass that are kept, at least: the one that is looked into and the one before.
KEPT_GROUPS = 2
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
    """One text through one model, captured layer group by layer group; the model is held weakly, so that it can be closed."""

    opened: ref[Subject]
    batch: TokenBatch
    given: int
    """Tokens of the whole text, of which the model could read the first."""
    forget: Callable[[range], None] | None = None
    """Told which layers' tensors were dropped."""
    _groups: OrderedDict[int, Activations] = field(default_factory=lambda: OrderedDict[int, Activations]())
    heard: dict[str, Tensor] = field(default_factory=lambda: dict[str, Tensor]())
    """What norms inside attention gave, by module; heads may stand before positions."""
    _rotary: list[Rotary] = field(default_factory=lambda: list[Rotary]())

    @property
    def subject(self) -> Subject:
        """The model that reads."""
        found = self.opened()
        assert found is not None, "whoever asks holds the model open"
        return found

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

    def captured(self, layer: int | None = None) -> Activations:
        """Everything of the group that a layer is in; of any group for None, since each has what lies outside the layers."""
        if layer is None and self._groups:
            return next(reversed(self._groups.values()))
        group = (layer or 0) // self.group_size
        if group not in self._groups:
            self._groups[group] = self._capture(group)
            self._drop()
        self._groups.move_to_end(group)
        return self._groups[group]

    def _drop(self) -> None:
        while len(self._groups) > KEPT_GROUPS and self.bytes > 2 * GROUP_BYTES:
            group, _ = self._groups.popitem(last=False)
            layers = range(group * self.group_size, (group + 1) * self.group_size)
            if self.forget is not None:
                self.forget(layers)

    @property
    def rotary(self) -> list[Rotary]:
        """Every pair of cosines and sines that a module of the model handed out."""
        self.captured()
        return self._rotary

    @property
    def bytes(self) -> int:
        """What is kept."""
        return sum(one.tensors.bytes for one in self._groups.values() if not isinstance(one.tensors, Mapping))

    def _capture(self, group: int) -> Activations:
        subject = self.subject
        first = group * self.group_size
        inside = range(first, first + self.group_size)
        # The stream after every layer goes along: it is small, and the lens and the next layer read it.
        sites: list[Site] = [
            site
            for site in all_sites(subject.anatomy)
            if site.layer is None or site.layer in inside or site.part == "out"
        ]
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


def _without_end(subject: Subject, ids: Tensor) -> Tensor:
    """What a decoder wrote without its end token, after which nothing comes."""
    special = TokenBytes(subject.tokenizer).special
    return ids[:, :-1] if ids.shape[1] > 1 and int(ids[0, -1]) in special else ids


def read(subject: Subject, text: str) -> Pass:
    """A text read by an open model; InvalidInput where there is nothing in it that the model can read."""
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
    return Pass(ref(subject), batch, len(ids))
