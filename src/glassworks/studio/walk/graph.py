"""Graph: every tensor of a pass by the name of its part, each with the step that made it; found layer by layer."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from glassworks.anatomy import Subject
from glassworks.core.errors import UnknownName
from glassworks.studio.walk.passes import Pass, Stack, bias_of, matrix_of, read
from glassworks.studio.walk.steps import Linear, Norm, Opaque, Step, Sum

# Largest difference, relative to the largest number, that summing in another order leaves in float32.
TOLERANCE = 2e-4
# What the graphs of all open models may take together.
KEPT_BYTES = 512 << 20
_LAYERED = re.compile(r"^(encoder\.)?layers\.(\d+)\.(.+)$")


@dataclass(frozen=True, eq=False)
class Part:
    """A tensor of the pass, without the batch, and how it was made."""

    name: str
    tensor: Tensor = field(repr=False)
    step: Step
    read: str
    """The name under which the cache of `run_with_cache` has it; empty where only the step gives it."""
    path: str = ""
    """The module whose result it is, where it is one's."""


class Graph:
    """The parts of one pass. A layer's are looked for when one of them is first asked for."""

    def __init__(self, made: Pass) -> None:
        self.made = made
        made.forget = self._forget
        self.parts: dict[str, Part] = {}
        self._wired: set[str] = set()

    def __call__(self, name: str) -> Tensor:
        """The tensor of a part; what the pass captured is there before anything explains it."""
        found = self.parts.get(name) or self.captured(name) or self.part(name)
        return found.tensor

    def look(self, name: str, index: str) -> str:
        """Python that takes numbers of a part out of the cache; a sum that no module shows is added up."""
        part = self.part(name)
        if part.read:
            # A table of positions may have no batch.
            batched = "" if self._is_bare(part.read) else "0, "
            return f'cache["{part.read}"][{batched}{index}]'
        if isinstance(part.step, Sum):
            return f"({' + '.join(self.look(one, index) for one in part.step.parts)})"
        return ""

    def cached(self, names: Iterable[str]) -> list[str]:
        """The names in the cache behind some parts, each once."""
        found: dict[str, None] = {}
        for name in names:
            part = self.part(name)
            inner = self.cached(part.step.names) if not part.read and isinstance(part.step, Sum) else [part.read]
            found |= dict.fromkeys(inner)
        return list(found)

    def _is_bare(self, read: str) -> bool:
        match = _LAYERED.match(read)
        caught = self.made.captured(int(match[2]) if match and match[3] != "out" else None).tensors
        return read in caught and caught[read].ndim == 2

    def part(self, name: str) -> Part:
        """A part by name; UnknownName with the nearest one where this model has none such."""
        self._find(name)
        if name not in self.parts:
            raise UnknownName("part", name, self.parts)
        return self.parts[name]

    def has(self, name: str) -> bool:
        """Whether this model has such a part."""
        self._find(name)
        return name in self.parts

    def _find(self, name: str) -> None:
        if name in self.parts:
            return
        found = _LAYERED.match(name)
        stack: Stack = "encoder" if name.startswith("encoder.") else ""
        place = f"{stack} ends" if found is None else f"{stack}.{found[2]}"
        if place in self._wired:
            return
        self._wired.add(place)
        try:
            self._wire(stack, None if found is None else int(found[2]))
        except BaseException:
            # Called off half way: the next question finds it from the start.
            self._wired.discard(place)
            raise

    def _wire(self, stack: Stack, number: int | None) -> None:
        from glassworks.studio.walk.ends import wire_beginning, wire_end
        from glassworks.studio.walk.wiring import wire_layer

        with torch.no_grad():
            if number is None:
                wire_beginning(self, stack)
                wire_end(self, stack)
            elif number < len(self.made.layers(stack)):
                self._find("encoder.embed" if stack else "embed")
                wire_layer(self, stack, number)

    @property
    def bytes(self) -> int:
        """What the pass keeps, and what was computed beside it."""
        own = [part.tensor for part in self.parts.values() if not part.read]
        return self.made.bytes + sum(tensor.numel() * tensor.element_size() for tensor in own)

    def _forget(self, layers: range) -> None:
        """Lets go of the parts of layers whose tensors the pass dropped; the first stream belongs to the beginning."""
        for name in list(self.parts):
            found = _LAYERED.match(name)
            if found is not None and int(found[2]) in layers and not name.endswith(("layers.0.in", "layers.0.in.sum")):
                del self.parts[name]
        for number in layers:
            self._wired -= {f".{number}", f"encoder.{number}"}

    def captured(self, site: str) -> Part | None:
        """What the pass captured at a site or module, as a part that nothing explains yet."""
        found = _LAYERED.match(site)
        # Every group has the stream after every layer, and what lies outside them.
        caught = self.made.captured(int(found[2]) if found and found[3] != "out" else None)
        if site not in caught.tensors:
            return None
        return Part(site, without_batch(caught.tensors[site]), Opaque("", "", None), site)

    def raw(self, path: str, layer: int | None = None) -> Tensor | None:
        """What a module gave (or, with .in, read), without the batch."""
        caught = self.made.captured(layer)
        heard = self.made.heard.get(path)
        if heard is not None:
            return without_batch(heard)
        return without_batch(caught.tensors[path]) if path in caught.tensors else None

    def add(self, name: str, tensor: Tensor, step: Step, read: str | None = None, path: str = "") -> Part:
        """Notes a part; `read` is its own name unless given."""
        part = self.parts[name] = Part(name, tensor, step, name if read is None else read, path)
        return part

    def explain(self, name: str, steps: Iterable[Step], module: str, kind: str = "", path: str = "") -> bool:
        """Notes what was captured at a site with the first step that gives it again; else with the module's name alone."""
        caught = self.captured(name)
        if caught is None:
            return False
        source: str | None = None
        for step in steps:
            source = step.names[0] if step.names else None
            if alike(step.compute(self), caught.tensor):
                self.add(name, caught.tensor, step, path=path or module)
                return True
        self.add(name, caught.tensor, Opaque(module, kind or self.kind(module), source), path=module)
        return False

    def kind(self, path: str) -> str:
        """The class of a module."""
        return (
            type(self.made.subject.model.get_submodule(path)).__name__
            if path
            else type(self.made.subject.model).__name__
        )

    def module(self, path: str) -> nn.Module:
        """The module at a path."""
        return self.made.subject.model.get_submodule(path)

    def leaves_within(self, paths: Iterable[str]) -> Mapping[str, nn.Module]:
        """The leaves at or below some paths."""
        roots = tuple(paths)
        return {
            path: leaf
            for path, leaf in self.made.leaves.items()
            if any(path == root or path.startswith(f"{root}.") for root in roots)
        }

    def linears_reading(self, source: str, paths: Iterable[str], layer: int | None) -> Mapping[str, Tensor]:
        """The linear maps below some paths that read a part, with what they gave."""
        wanted = self(source).flatten(1)
        found: dict[str, Tensor] = {}
        for path, leaf in self.leaves_within(paths).items():
            given, out = self.raw(f"{path}.in", layer), self.raw(path, layer)
            if matrix_of(leaf) is None or given is None or out is None:
                continue
            if alike(given.flatten(1), wanted):
                found[path] = out
        return found

    def linear(
        self, source: str, path: str, symbol: str, rows: Tensor | None = None, shape: tuple[int, ...] = ()
    ) -> Linear:
        """The step of a linear map that is a module."""
        leaf = self.module(path)
        matrix = matrix_of(leaf)
        assert matrix is not None, "asked of linear maps only"
        return Linear(
            source,
            path,
            matrix,
            bias_of(leaf),
            rows,
            shape or (matrix.shape[0],),
            symbol,
            not isinstance(leaf, nn.Linear),
        )

    def norms(self, source: str, path: str) -> list[Norm]:
        """The norms that a module may be, most likely first."""
        leaf = self.module(path)
        gain = next((p.detach() for name, p in leaf.named_parameters(recurse=False) if name == "weight"), None)
        small = [value for value in vars(leaf).values() if isinstance(value, float) and 0 < value < 1e-2]
        epsilon, bias = small[0] if small else 1e-6, bias_of(leaf)
        kinds = ("layer", "rms") if isinstance(leaf, nn.LayerNorm) else ("rms", "layer")
        return [Norm(source, path, kind, gain, bias, epsilon, offset) for offset in (0.0, 1.0) for kind in kinds]


def prefix_of(stack: Stack, number: int) -> str:
    """How the names of a layer's parts begin."""
    return f"{stack}.layers.{number}." if stack else f"layers.{number}."


def without_batch(tensor: Tensor) -> Tensor:
    """The only text of a batch; tables of positions may have none."""
    return (tensor[0] if tensor.ndim > 2 and tensor.shape[0] == 1 else tensor).detach().float()


def apart(left: Tensor, right: Tensor) -> float:
    """The largest difference, relative to the largest number; infinity where infinities stand at other places."""
    if left.shape != right.shape:
        return math.inf
    finite = torch.isfinite(right)
    if not bool((torch.isfinite(left) == finite).all()):
        return math.inf
    if not bool(finite.any()):
        return 0.0
    return float((left[finite] - right[finite]).abs().max() / right[finite].abs().max().clamp_min(1e-6))


def alike(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors hold the same numbers but for rounding."""
    return apart(left, right) <= TOLERANCE


_KEPT: WeakKeyDictionary[Subject, OrderedDict[str, Graph]] = WeakKeyDictionary()


def graph_of(subject: Subject, text: str) -> Graph:
    """The graph of a text through an open model; kept until the model is closed or other texts need the room."""
    kept = _KEPT.setdefault(subject, OrderedDict())
    if text not in kept:
        with torch.no_grad():
            kept[text] = Graph(read(subject, text))
    kept.move_to_end(text)
    while len(kept) > 1 and sum(one.bytes for every in _KEPT.values() for one in every.values()) > KEPT_BYTES:
        kept.popitem(last=False)
    return kept[text]
