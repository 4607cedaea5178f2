"""Taps: listening at sites of a running model, and replacing what flows there.

The one mechanism of capture and edits.
"""

from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from glassworks.anatomy.calls import Hooks, as_stream, hidden_of, stream_of, tensor_of, with_hidden, with_tensor
from glassworks.anatomy.desk import AttentionDesk, Ear, checked
from glassworks.anatomy.places import Anatomy, Tap, module_at
from glassworks.anatomy.sites import Site
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say

# Called with a module, its arguments, keywords and, after it ran, its result; what it returns replaces them.
Hook = Callable[..., Any]


class Taps:
    """Ears at sites for the length of a `with`; every hook is removed at its end, also after an error."""

    def __init__(self, model: nn.Module, anatomy: Anatomy, desk: AttentionDesk, ears: Sequence[Ear]) -> None:
        self._model = model
        self._anatomy = anatomy
        self._desk = desk
        self._attention = [ear for ear in ears if ear.site.is_attention]
        self._others = [ear for ear in ears if not ear.site.is_attention]
        self._hooks = Hooks()
        self._shapes: list[tuple[int, int]] = []

    def __enter__(self) -> "Taps":
        self._hooks.before(self._model, self._note_shapes)
        for ear in self._others:
            self._listen(ear)
        self._desk.add(self._attention)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.__exit__()
        self._desk.remove(self._attention)

    def _note_shapes(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        texts = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.ndim >= 2]
        self._shapes = [(text.shape[0], text.shape[1]) for text in texts]

    def _listen(self, ear: Ear) -> None:
        if ear.site.part == "logits":
            self._hooks.after(self._model, partial(self._after, ear))
        elif ear.edits and _is_sum(ear.site, self._anatomy):
            self._edit_sum(ear)
        else:
            self._hear(ear, tap_of(ear.site, self._anatomy))

    def _hear(self, ear: Ear, tap: Tap) -> None:
        module = module_at(self._model, tap.path)
        hook: Hook = partial(self._before if tap.side == "in" else self._after, ear)
        if tap.turn is not None:
            keeper = _TurnKeeper(tap.turn.number)
            within = module_at(self._model, tap.turn.within)
            self._hooks.before(within, keeper.begin)
            self._hooks.after(within, keeper.end)
            hook = partial(keeper.in_turn, hook)
        add = self._hooks.before if tap.side == "in" else self._hooks.after
        add(module, hook)

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
        shown = as_stream(found, self._shapes)
        shown = found if shown is None else shown
        new = ear.take(shown)
        # What replaces it may come from another device, where the layers of a model compute on several.
        return None if new is None else checked(new, shown, ear.site).to(found).reshape(found.shape)

    def _edit_sum(self, ear: Ear) -> None:
        """The stream between two parts is no module's output.

        What the part before it adds is changed so that the sum is right.
        """
        places = ear.site.places(self._anatomy)
        start, added = Tap("in", places.path), places.taps["mixer.out"]
        if ear.site.part == "cross.mid":
            start, added = places.taps["mid"], places.taps["cross.out"]
        before: list[Tensor] = []

        def note(stream: Tensor) -> None:
            before[:] = [stream]

        def change(contribution: Tensor) -> Tensor | None:
            new = ear.take(before[0] + contribution)
            return None if new is None else checked(new, contribution, ear.site) - before[0]

        self._hear(Ear(ear.site, note), start)
        self._hear(Ear(ear.site, change, edits=True), added)


class _TurnKeeper:
    """Lets a hook act in one of several calls of a module, counted inside each call of another module."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._next: int | None = None

    def begin(self, *_: object) -> None:
        self._next = 0

    def end(self, *_: object) -> None:
        self._next = None

    def in_turn(self, hook: Hook, *given: Any) -> Any:
        if self._next is None:
            return None
        self._next += 1
        return hook(*given) if self._next == self._number + 1 else None


def _is_sum(site: Site, anatomy: Anatomy) -> bool:
    """Whether a site is the plain sum of the stream and a contribution, which no module returns."""
    if site.part == "mid":
        return site.places(anatomy).mid_is_sum
    cross = site.places(anatomy).cross if site.part == "cross.mid" else None
    return cross is not None and cross.mid_is_sum


def tap_of(site: Site, anatomy: Anatomy) -> Tap:
    """The module boundary at which a site outside attention is read."""
    if site.tap is not None:
        return site.tap
    if site.layer is None:
        outside = anatomy.encoder if site.stack and anatomy.encoder is not None else anatomy
        return outside.taps[site.part]
    places = site.places(anatomy)
    match site.part:
        case "in":
            return Tap("in", places.path)
        case "out":
            return Tap("out", places.path)
        case part:
            return places.taps[part]
