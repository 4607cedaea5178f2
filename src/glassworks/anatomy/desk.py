"""The desk: attention calls of a running model, handed to those who listen at sites inside them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from glassworks.anatomy.attention import AttentionWatch, hand_over
from glassworks.anatomy.calls import Hooks, tensor_of, with_tensor
from glassworks.anatomy.fused import RECALLED, AttentionCall, FusedCall, Recalled, check_agreement, spread_heads
from glassworks.anatomy.linear import one_hot_map
from glassworks.anatomy.places import Anatomy, CrossPlaces, LayerPlaces, module_at
from glassworks.anatomy.sites import Site
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say

Take = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, eq=False)
class Deferred:
    """A tensor that is worked out when it is looked at; `sources` are what it is worked out from."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    sources: tuple[Tensor, ...]
    work_out: Callable[[], Tensor]


@dataclass(frozen=True, eq=False)
class Ear:
    """A listener at one site: `take` gets the tensor in the site's shape; what it returns replaces it.

    With `later`, a listener that edits nothing accepts a tensor that is worked out when it is looked at.
    """

    site: Site
    take: Take
    edits: bool = False
    later: Callable[[Deferred], None] | None = None


@dataclass(frozen=True)
class _Place:
    """The attention that runs: of a layer of a stack, its own ("mixer") or the one to the source ("cross")."""

    stack: str
    layer: int
    half: str

    @property
    def name(self) -> str:
        """Such as encoder.layers.3.mixer."""
        return f"{self.stack}{'.' if self.stack else ''}layers.{self.layer}.{self.half}"


def _place_of(site: Site) -> _Place:
    return _Place(site.stack, site.layer or 0, site.part.partition(".")[0])


class AttentionDesk:
    """Hands attention calls of one model to the ears of the layer that is running.

    Shared by nested contexts. `errors` holds, for each recomputed map ("layers.3.mixer"), max |pattern @ v - z|.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy) -> None:
        self._model = model
        self._anatomy = anatomy
        self._ears: list[Ear] = []
        self._listeners: dict[_Place, "_LayerListener"] = {}
        self._running: _Place | None = None
        self._hooks = Hooks()
        self._watch: AttentionWatch | None = None
        self.errors: dict[str, float] = {}

    def add(self, ears: Sequence[Ear]) -> None:
        """Starts listening for these ears, after those that listen already."""
        if ears:
            self._listen([*self._ears, *ears])

    def remove(self, ears: Sequence[Ear]) -> None:
        """Stops listening for these ears."""
        if ears:
            self._listen([ear for ear in self._ears if ear not in ears])

    def _listen(self, ears: list[Ear]) -> None:
        self._hooks.__exit__()
        for listener in self._listeners.values():
            # What was left to be worked out holds its listener: with its ears it would hold itself until the collector runs.
            listener.forget()
        self._ears, self._running = ears, None
        # Anew, for who reads the errors of an earlier pass may still work out maps of it.
        self.errors = {}
        sites = {_place_of(ear.site): ear.site for ear in ears}
        self._listeners = {
            place: _LayerListener(
                self.errors, place, site.places(self._anatomy), [e for e in ears if _place_of(e.site) == place]
            )
            for place, site in sites.items()
        }
        for site in {(place.stack, place.layer): site for place, site in sites.items()}.values():
            self._follow(site)
        if ears and self._watch is None:
            self._watch = AttentionWatch(self._listener)
            self._watch.__enter__()
        elif not ears and self._watch is not None:
            self._watch.__exit__(None, None, None)
            self._watch = None

    def _follow(self, site: Site) -> None:
        """Notes when the attention of a layer runs, and when the layer's attention to the source does."""
        layer = site.places(self._anatomy)
        own, across = (_Place(site.stack, site.layer or 0, half) for half in ("mixer", "cross"))
        self._while(layer.path, own, None)
        if layer.cross is not None and layer.cross.path is not None:
            self._while(layer.cross.path, across, own)
        if layer.value_linear is not None and own in self._listeners:
            mixer = module_at(self._model, layer.value_linear)
            self._hooks.before(mixer, partial(_before_linear, self._listeners[own]))
            self._hooks.after(mixer, partial(_after_linear, self._listeners[own]))

    def _while(self, path: str, inside: _Place, after: _Place | None) -> None:
        module = module_at(self._model, path)
        self._hooks.before(module, lambda *_: self._go(inside))
        self._hooks.after(module, lambda *_: self._go(after))

    def _go(self, place: _Place | None) -> None:
        self._running = place

    def _listener(self) -> "_LayerListener | None":
        found = None if self._running is None else self._listeners.get(self._running)
        return None if found is None or found.is_linear else found


def _before_linear(listener: "_LayerListener", module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> Any:
    heard = [listener.heard(part, tensor) for part, tensor in zip(("q", "k", "v"), args[:3], strict=True)]
    return (*heard, *args[3:]), kwargs


def _after_linear(
    listener: "_LayerListener", module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any
) -> Any:
    if listener.edits("pattern"):
        raise InvalidInput(
            say("the pattern of a mixer without softmax cannot be replaced"),
            right=say("replace q, k, v or z"),
        )
    if listener.wants("pattern"):
        listener.see("pattern", one_hot_map(module, args, kwargs))
    mixed = tensor_of(output, dimensions=4)
    assert mixed is not None
    new = listener.heard("z", mixed)
    return None if new is mixed else with_tensor(output, new, dimensions=4)


class _LayerListener:
    """The ears at one attention, as an attention listener.

    Turns heads-second tensors into the sites' shapes and back.
    """

    def __init__(self, errors: dict[str, float], place: _Place, layer: LayerPlaces, ears: Sequence[Ear]) -> None:
        self._errors = errors
        self._place = place
        found: LayerPlaces | CrossPlaces = layer.cross if place.half == "cross" and layer.cross is not None else layer
        self._heads, self._kv_heads = found.heads, found.kv_heads
        self.is_linear = place.half == "mixer" and layer.value_linear is not None
        self._ears: dict[str, list[Ear]] = {}
        for ear in ears:
            self._ears.setdefault(ear.site.part.rpartition(".")[2], []).append(ear)

    def forget(self) -> None:
        self._ears = {}

    def wants(self, part: str) -> bool:
        return part in self._ears

    def edits(self, part: str) -> bool:
        return any(ear.edits for ear in self._ears.get(part, ()))

    def see(self, part: str, tensor: Tensor) -> Tensor | None:
        shown = self._to_site(part, tensor)
        changed = False
        for ear in self._ears[part]:
            new = ear.take(shown)
            if new is not None:
                shown, changed = checked(new, shown, ear.site), True
        return self._from_site(part, shown, tensor) if changed else None

    def heard(self, part: str, tensor: Tensor) -> Tensor:
        new = self.see(part, tensor) if self.wants(part) else None
        return tensor if new is None else new.to(tensor.dtype)

    def heads(self, rows: int) -> int:
        return self._heads

    def recall(self, fused: FusedCall) -> None:
        ears = [ear for part in RECALLED for ear in self._ears.get(part, ())]
        if any(ear.later is None for ear in ears):
            hand_over(self, fused)
            return
        queries, keys = fused.query.shape[-2], fused.key.shape[-2]
        shape = (fused.query.shape[0], self._heads, fused.query.shape[1] * queries // self._heads, keys)
        for part in RECALLED:
            deferred = Deferred(shape, fused.dtype, fused.tensors, partial(self._recalled, part, fused))
            for ear in self._ears.get(part, ()):
                assert ear.later is not None
                ear.later(deferred)

    def _recalled(self, part: Recalled, fused: FusedCall) -> Tensor:
        with torch.no_grad():
            tensor = fused.recalled(part)
            if part == "pattern":
                self.finish(fused.checked(tensor))
            return self._to_site(part, tensor)

    def finish(self, call: AttentionCall) -> None:
        check_agreement(call, self._place.name)
        self._errors[self._place.name] = call.error

    def _to_site(self, part: str, tensor: Tensor) -> Tensor:
        batch, _, _, last = tensor.shape
        if part in ("pattern", "scores"):
            return tensor.reshape(batch, self._heads, -1, last)
        if part in ("q", "z"):
            # With one query, libraries pack the heads of a group into positions; the order of heads is the
            # same.
            return tensor.reshape(batch, self._heads, -1, last).transpose(1, 2)
        repeats = max(1, tensor.shape[1] // self._kv_heads)
        return tensor[:, ::repeats].transpose(1, 2)

    def _from_site(self, part: str, new: Tensor, like: Tensor) -> Tensor:
        if part in ("pattern", "scores"):
            return new.reshape(like.shape)
        turned = new.transpose(1, 2)
        if part in ("k", "v"):
            turned = spread_heads(turned, like.shape[1])
        return turned.reshape(like.shape)


def checked(new: Tensor, old: Tensor, site: Site) -> Tensor:
    """A replacement in the shape of what it replaces; raises InvalidInput where it has another."""
    try:
        return new.expand(old.shape)
    except RuntimeError:
        raise InvalidInput(
            say("{site} cannot be replaced by a tensor of another shape", site=site.name),
            given=tuple(new.shape),
            right=say("{shape}", shape=str(tuple(old.shape))),
        ) from None
