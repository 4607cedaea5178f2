"""Finding the stack of layers in a watched forward pass, or the two of an encoder-decoder."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from glassworks.anatomy.calls import same
from glassworks.anatomy.observe import SeenCall, Watched
from glassworks.anatomy.places import layer_count, module_at
from glassworks.core.errors import StrangeModel, UnknownName
from glassworks.core.text import say


@dataclass(frozen=True)
class Stack:
    """Layers that hand the stream on from one to the next, and the module that lists them."""

    path: str
    calls: tuple[SeenCall, ...]

    @property
    def length(self) -> int:
        """Positions of the text that the stack reads."""
        return _stream(self.calls[0].out).shape[1]

    def reads(self, source_length: int | None) -> bool:
        """Whether a layer attends to a source of this length."""
        return any(seen.reads(source_length) for call in self.calls for seen in call.all_attention())


def find_stacks(model: nn.Module, watched: Watched, named: str | None) -> tuple[Stack, Stack | None]:
    """The stack that ends in the model's answer, and the encoder's where the model has one.

    `named` is the module path of a stack (either one of an encoder-decoder). Raises StrangeModel, saying what
    was seen, and UnknownName for a path that is no stack.
    """
    candidates = _candidates(model, watched)
    if named is not None and not any(c.path == named for c in candidates):
        raise UnknownName("layer stack", named, [c.path for c in candidates])
    chosen = next((c for c in candidates if c.path == named), None)
    # A stack inside a layer of another one (a list inside the attention) is not the stack.
    outer = [c for c in candidates if not any(_inside(c, other) for other in candidates if other is not c)]
    decoders = [c for c in outer if c.reads(watched.source_length)]
    if not decoders:
        if watched.has_source and named is None:
            raise _no_decoder(model, outer)
        return chosen or _deepest(model, watched, outer), None
    decoder = chosen if chosen in decoders else _deepest(model, watched, decoders)
    assert decoder is not None
    encoders = [c for c in outer if c.calls[-1].ended < decoder.calls[0].began and c.length == watched.source_length]
    return decoder, chosen if chosen in encoders else _deepest(model, watched, encoders) if encoders else None


def _candidates(model: nn.Module, watched: Watched) -> list[Stack]:
    groups: dict[str, list[SeenCall]] = {}
    for call in watched.root.within():
        if _keeps_stream(call, len(watched.batch.ids)):
            groups.setdefault(call.path.rpartition(".")[0], []).append(call)
    attending = [found for path, calls in groups.items() if (found := _as_stack(model, path, calls)) is not None]
    # Recurrent and convolutional models have layers too, though none that attends.
    return attending or [
        c for path, calls in groups.items() if (c := _without_attention(model, path, calls)) is not None
    ]


def _keeps_stream(call: SeenCall, texts: int) -> bool:
    """Whether a call takes and returns (batch, position, width); some libraries put positions first."""
    return call.hidden is not None and call.hidden.shape[0] == texts and _same_shape(call)


def _same_shape(call: SeenCall) -> bool:
    return call.hidden is not None and call.out is not None and call.hidden.shape == call.out.shape


def _as_stack(model: nn.Module, path: str, calls: list[SeenCall]) -> Stack | None:
    """Siblings that keep the shape of the stream, hand it on, and of which one holds attention."""
    if not any(call.all_attention() for call in calls):
        return None
    listed = _is_list(module_at(model, path))
    if not listed:
        holder = next(type(call.module) for call in calls if call.all_attention())
        calls = [call for call in calls if type(call.module) is holder]
    if len({call.path for call in calls}) != len(calls):
        return None  # a module called twice is a loop, and is reported as such when nothing better is found
    if not listed and len(calls) < 2:
        return None
    shape = _stream(calls[0].out).shape
    calls = [call for call in calls if _stream(call.out).shape == shape and call.has_matrix]
    return Stack(path, tuple(calls)) if calls and _chained(calls) else None


def _without_attention(model: nn.Module, path: str, calls: list[SeenCall]) -> Stack | None:
    """A list of at least two layers of one class that hand the stream on and are more than a matrix each."""
    kinds = {type(call.module) for call in calls}
    fits = len(calls) > 1 and len(kinds) == 1 and all(call.has_matrix and not call.is_leaf for call in calls)
    once = len({call.path for call in calls}) == len(calls)
    return Stack(path, tuple(calls)) if fits and once and _is_list(module_at(model, path)) and _chained(calls) else None


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.Sequential | nn.ModuleDict)


def _chained(calls: Sequence[SeenCall]) -> bool:
    return all(same(_stream(left.out), _stream(right.hidden)) for left, right in pairwise(calls))


def _stream(tensor: Tensor | None) -> Tensor:
    assert tensor is not None, "a layer takes and returns the stream"
    return tensor


def _inside(inner: Stack, outer: Stack) -> bool:
    return any(call.began <= inner.calls[0].began and inner.calls[-1].ended <= call.ended for call in outer.calls)


def _deepest(model: nn.Module, watched: Watched, stacks: list[Stack]) -> Stack:
    """The one stack with most layers; raises StrangeModel for none, and for several that are equally deep."""
    deepest = max((len(c.calls) for c in stacks), default=0)
    best = [c for c in stacks if len(c.calls) == deepest]
    if not best:
        raise _nothing_found(model, watched)
    if len(best) > 1:
        raise StrangeModel(
            say("found {count} stacks of {layers}", count=len(best), layers=layer_count(deepest)),
            given=", ".join(c.path or "(the model itself)" for c in best),
            right=say("name one with layers=..., for example layers={path}", path=repr(best[0].path)),
        )
    return best[0]


def _no_decoder(model: nn.Module, found: list[Stack]) -> StrangeModel:
    return StrangeModel(
        say("{model} reads two texts, but no layer was seen that attends to the first", model=type(model).__name__),
        given=", ".join(f"{c.path} ({layer_count(len(c.calls))})" for c in found) or "-",
        right=say(
            "name one with layers=..., for example layers={path}", path=repr(found[0].path if found else "decoder")
        ),
    )


def _nothing_found(model: nn.Module, watched: Watched) -> StrangeModel:
    within = watched.root.within()
    looped = _looped(within)
    if looped is not None:
        path, times = looped
        return StrangeModel(
            say("the same layer is called {count} times: {path}", count=times, path=path),
            given=type(model).__name__,
            right=say(
                "a layer of its own for each call: copy the shared one with copy.deepcopy "
                "(ALBERT: num_hidden_groups equal to num_hidden_layers, each group with the shared weights)"
            ),
        )
    holders = [c.path or type(c.module).__name__ for c in (watched.root, *within) if c.attention]
    lists = [path for path, module in model.named_modules() if isinstance(module, nn.ModuleList | nn.Sequential)]
    return StrangeModel(
        say("found no stack of layers in {model}", model=type(model).__name__),
        given=say(
            "attention seen in: {holders}; lists of modules: {lists}",
            holders=", ".join(dict.fromkeys(holders)) or "-",
            lists=", ".join(lists) or "-",
        ),
        right=say(
            "a list of layers that each take and return (batch, position, width), with attention through "
            "scaled_dot_product_attention, a softmax, or a mixer linear in its values"
        ),
    )


def _looped(calls: Sequence[SeenCall]) -> tuple[str, int] | None:
    """The outermost module that holds attention, keeps the stream's shape and is called more than once."""
    kept = [call.path for call in calls if call.all_attention() and _same_shape(call)]
    return next(((path, times) for path, times in Counter(kept).items() if times > 1), None)
