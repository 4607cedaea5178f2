"""Taps: listening at sites of a running model, and replacing what flows there.

The one mechanism of capture and edits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from glassworks.anatomy.attention import AttentionCall, AttentionWatch, check_agreement
from glassworks.anatomy.calls import (
    Hooks,
    as_stream,
    hidden_of,
    stream_of,
    tensor_of,
    with_hidden,
    with_tensor,
)
from glassworks.anatomy.linear import one_hot_map
from glassworks.anatomy.places import Anatomy, LayerPlaces, Tap, module_at
from glassworks.anatomy.sites import Site
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say

Take = Callable[[Tensor], Tensor | None]


@dataclass(frozen=True, eq=False)
class Ear:
    """A listener at one site: `take` gets the tensor in the site's shape; what it returns replaces it."""

    site: Site
    take: Take
    edits: bool = False


class AttentionDesk:
    """Hands attention calls of one model to the ears of the layer that is running.

    Shared by nested contexts.
    """

    def __init__(self, model: nn.Module, anatomy: Anatomy) -> None:
        self._model = model
        self._anatomy = anatomy
        self._ears: list[Ear] = []
        self._running: int | None = None
        self._hooks: Hooks | None = None
        self._watch: AttentionWatch | None = None
        self.errors: dict[int, float] = {}

    def add(self, ears: Sequence[Ear]) -> None:
        """Starts listening for these ears, after those that listen already."""
        self._ears.extend(ears)
        if self._ears and self._watch is None:
            self._running = None
            self.errors.clear()
            self._hooks = Hooks()
            for index, layer in enumerate(self._anatomy.layers):
                self._follow(index, layer, self._hooks)
            self._watch = AttentionWatch(self._listener)
            self._watch.__enter__()

    def remove(self, ears: Sequence[Ear]) -> None:
        """Stops listening for these ears."""
        self._ears = [ear for ear in self._ears if ear not in ears]
        if not self._ears and self._watch is not None and self._hooks is not None:
            self._watch.__exit__(None, None, None)
            self._hooks.__exit__()
            self._watch = self._hooks = None

    def _follow(self, index: int, layer: LayerPlaces, hooks: Hooks) -> None:
        module = module_at(self._model, layer.path)
        hooks.before(module, partial(self._enter, index))
        hooks.after(module, self._leave)
        if layer.value_linear is not None:
            mixer = module_at(self._model, layer.value_linear)
            hooks.before(mixer, self._before_linear)
            hooks.after(mixer, self._after_linear)

    def _enter(self, index: int, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._running = index

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._running = None

    def _listener(self) -> "_LayerListener | None":
        if self._running is None:
            return None
        layer = self._anatomy.layers[self._running]
        ears = [ear for ear in self._ears if ear.site.layer == self._running]
        return _LayerListener(self, self._running, layer, ears) if ears and layer.value_linear is None else None

    def _linear(self) -> "_LayerListener | None":
        if self._running is None:
            return None
        ears = [ear for ear in self._ears if ear.site.layer == self._running]
        return _LayerListener(self, self._running, self._anatomy.layers[self._running], ears)

    def _before_linear(self, module: nn.Module, args: tuple[Any, ...], kwargs: Any) -> Any:
        listener = self._linear()
        if listener is None:
            return None
        heard = [listener.heard(part, tensor) for part, tensor in zip(("q", "k", "v"), args[:3], strict=True)]
        return (*heard, *args[3:]), kwargs

    def _after_linear(self, module: nn.Module, args: tuple[Any, ...], kwargs: Any, output: Any) -> Any:
        listener = self._linear()
        if listener is None:
            return None
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
    """The ears of one layer, as an attention listener.

    Turns heads-second tensors into the sites' shapes and back.
    """

    def __init__(self, desk: AttentionDesk, index: int, layer: LayerPlaces, ears: Sequence[Ear]) -> None:
        self._desk = desk
        self._index = index
        self._layer = layer
        self._ears = ears

    def wants(self, part: str) -> bool:
        return any(ear.site.part == f"mixer.{part}" for ear in self._ears)

    def edits(self, part: str) -> bool:
        return any(ear.site.part == f"mixer.{part}" and ear.edits for ear in self._ears)

    def see(self, part: str, tensor: Tensor) -> Tensor | None:
        shown = self._to_site(part, tensor)
        changed = False
        for ear in self._ears:
            if ear.site.part == f"mixer.{part}":
                new = ear.take(shown)
                if new is not None:
                    shown, changed = _checked(new, shown, ear.site), True
        return self._from_site(part, shown, tensor) if changed else None

    def heard(self, part: str, tensor: Tensor) -> Tensor:
        new = self.see(part, tensor) if self.wants(part) else None
        return tensor if new is None else new.to(tensor.dtype)

    def finish(self, call: AttentionCall) -> None:
        check_agreement(call, self._index)
        self._desk.errors[self._index] = call.error

    def _to_site(self, part: str, tensor: Tensor) -> Tensor:
        batch, _, _, last = tensor.shape
        if part in ("pattern", "scores"):
            return tensor.reshape(batch, self._layer.heads, -1, last)
        if part in ("q", "z"):
            # With one query, libraries pack the heads of a group into positions; the order of heads is the
            # same.
            return tensor.reshape(batch, self._layer.heads, -1, last).transpose(1, 2)
        repeats = max(1, tensor.shape[1] // self._layer.kv_heads)
        return tensor[:, ::repeats].transpose(1, 2)

    def _from_site(self, part: str, new: Tensor, like: Tensor) -> Tensor:
        if part in ("pattern", "scores"):
            return new.reshape(like.shape)
        turned = new.transpose(1, 2)
        if part in ("k", "v") and turned.shape[1] != like.shape[1]:
            turned = turned.repeat_interleave(like.shape[1] // turned.shape[1], dim=1)
        return turned.reshape(like.shape)


class Taps:
    """Ears at sites for the length of a `with`; every hook is removed at its end, also after an error."""

    def __init__(self, model: nn.Module, anatomy: Anatomy, desk: AttentionDesk, ears: Sequence[Ear]) -> None:
        self._model = model
        self._anatomy = anatomy
        self._desk = desk
        self._attention = [ear for ear in ears if ear.site.is_attention]
        self._others = [ear for ear in ears if not ear.site.is_attention]
        self._hooks = Hooks()
        self._shape = (0, 0)

    def __enter__(self) -> "Taps":
        self._hooks.before(self._model, self._note_shape)
        for ear in self._others:
            self._listen(ear)
        self._desk.add(self._attention)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__()
        self._desk.remove(self._attention)

    def _note_shape(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        ids = next((v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.ndim >= 2), None)
        if ids is not None:
            self._shape = (ids.shape[0], ids.shape[1])

    def _listen(self, ear: Ear) -> None:
        site = ear.site
        if site.part == "mid" and ear.edits and self._anatomy.layers[site.layer or 0].mid_is_sum:
            self._edit_sum(ear)
        elif site.part == "logits":
            self._hooks.after(self._model, partial(self._after, ear))
        else:
            tap = tap_of(site, self._anatomy)
            module = module_at(self._model, tap.path)
            if tap.side == "in":
                self._hooks.before(module, partial(self._before, ear))
            else:
                self._hooks.after(module, partial(self._after, ear))

    def _before(self, ear: Ear, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        found = hidden_of(args, kwargs)
        if found is None:
            raise InvalidInput(say("{site} carries no floating tensor", site=ear.site.name))
        new = self._taken(ear, found)
        return None if new is None else with_hidden(args, kwargs, new)

    def _after(self, ear: Ear, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        found = tensor_of(output) if ear.site.part == "logits" else stream_of(output)
        if found is None:
            raise InvalidInput(say("{site} carries no floating tensor", site=ear.site.name))
        new = self._taken(ear, found)
        return None if new is None else with_tensor(output, new, found.ndim)

    def _taken(self, ear: Ear, found: Tensor) -> Tensor | None:
        shown = as_stream(found, *self._shape)
        shown = found if shown is None else shown
        new = ear.take(shown)
        return None if new is None else _checked(new, shown, ear.site).to(found.dtype).reshape(found.shape)

    def _edit_sum(self, ear: Ear) -> None:
        """The stream between the halves is no module's output.

        What the mixer adds is changed so that the sum is right.
        """
        layer = self._anatomy.layers[ear.site.layer or 0]
        start: list[Tensor] = []

        def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found = hidden_of(args, kwargs)
            assert found is not None
            start[:] = [found]

        def change(added: Tensor) -> Tensor | None:
            new = ear.take(start[0] + added)
            return None if new is None else _checked(new, added, ear.site) - start[0]

        self._hooks.before(module_at(self._model, layer.path), note)
        inner = Ear(ear.site, change, edits=True)
        self._hooks.after(module_at(self._model, layer.taps["mixer.out"].path), partial(self._after, inner))


def tap_of(site: Site, anatomy: Anatomy) -> Tap:
    """The module boundary at which a site outside attention is read."""
    if site.tap is not None:
        return site.tap
    if site.layer is not None:
        layer = anatomy.layers[site.layer]
        match site.part:
            case "in":
                return Tap("in", layer.path)
            case "out":
                return Tap("out", layer.path)
            case part:
                return layer.taps[part]
    path = {"embed": anatomy.embedding, "positions": anatomy.positions, "norm.out": anatomy.norm}[site.part]
    assert path is not None, f"{site} was checked to exist"
    return Tap("out", path)


def _checked(new: Tensor, old: Tensor, site: Site) -> Tensor:
    try:
        return new.expand(old.shape)
    except RuntimeError:
        raise InvalidInput(
            say("{site} cannot be replaced by a tensor of another shape", site=site.name),
            given=tuple(new.shape),
            right=say("{shape}", shape=str(tuple(old.shape))),
        ) from None
