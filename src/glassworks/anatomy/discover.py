"""Finding stack, norm, head and embeddings in a watched forward pass."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from glassworks.anatomy.calls import not_finite, same, tensor_of
from glassworks.anatomy.layer import norm_like, read_layer
from glassworks.anatomy.observe import SeenCall, Watched, watch
from glassworks.anatomy.places import Anatomy, config_number, layer_count, module_at
from glassworks.core.errors import StrangeModel, UnknownName
from glassworks.core.text import Text, say


@dataclass(frozen=True)
class _Stack:
    path: str
    calls: tuple[SeenCall, ...]


@dataclass(frozen=True)
class _Ending:
    """From the last layer to the logits."""

    norm: str | None
    head: str | None
    readout: tuple[str, ...]
    exact: bool
    tied: bool


def discover(model: nn.Module, probe: Tensor, layers: str | None) -> Anatomy:
    """The anatomy of a model; see `places.find_anatomy`."""
    watched = watch(model, probe)
    if bool(watched.logits.isnan().any()):
        # NaN equals nothing, so no part could be recognised by what it hands on.
        raise not_finite(model)
    stack = _find_stack(model, watched, layers)
    embedding = _find_embedding(watched, stack, probe)
    ending = _find_ending(model, watched, stack, embedding)
    places = tuple(read_layer(call) for call in stack.calls)
    table = module_at(model, embedding.path)
    rows = next(p for p in table.parameters() if p.ndim == 2).shape[0]
    post = next((tap.path for place in places for name, tap in place.taps.items() if name == "feedforward.post"), None)
    hidden = next((c.hidden for c in watched.root.within() if c.path == post), None)
    first = stack.calls[0].hidden
    assert first is not None
    return Anatomy(
        stack=stack.path,
        layers=places,
        embedding=embedding.path,
        positions=_find_positions(watched, stack, embedding),
        norm=ending.norm,
        head=ending.head,
        readout=ending.readout,
        readout_exact=ending.exact,
        tied_head=ending.tied,
        width=first.shape[-1],
        vocabulary=watched.logits.shape[-1] if ending.head or ending.tied else rows,
        feedforward_width=None if hidden is None else hidden.shape[-1],
        context=_context(model, watched, stack, embedding),
        notes=_notes(ending),
    )


def _find_stack(model: nn.Module, watched: Watched, named: str | None) -> _Stack:
    groups: dict[str, list[SeenCall]] = {}
    for call in watched.root.within():
        if call.hidden is not None and call.out is not None and call.hidden.shape == call.out.shape:
            groups.setdefault(call.path.rpartition(".")[0], []).append(call)
    candidates = [found for path, calls in groups.items() if (found := _as_stack(model, path, calls)) is not None]
    if named is not None:
        chosen = [c for c in candidates if c.path == named]
        if not chosen:
            raise UnknownName("layer stack", named, [c.path for c in candidates])
        return chosen[0]
    # A stack inside a layer of another one (a list inside the attention) is not the stack.
    outer = [c for c in candidates if not any(_inside(c, other) for other in candidates if other is not c)]
    deepest = max((len(c.calls) for c in outer), default=0)
    best = [c for c in outer if len(c.calls) == deepest]
    if not best:
        raise _nothing_found(model, watched)
    if len(outer) > 1 and len(best) > 1:
        raise StrangeModel(
            say("found {count} stacks of {layers}", count=len(best), layers=layer_count(deepest)),
            given=", ".join(c.path or "(the model itself)" for c in best),
            right=say("name one with layers=..., for example layers={path}", path=repr(best[0].path)),
        )
    return best[0]


def _as_stack(model: nn.Module, path: str, calls: list[SeenCall]) -> _Stack | None:
    """Siblings that keep the shape of the stream, hand it on, and of which one holds attention."""
    if not any(call.all_attention() for call in calls):
        return None
    container = module_at(model, path)
    listed = isinstance(container, nn.ModuleList | nn.Sequential | nn.ModuleDict)
    if not listed:
        holder = next(type(call.module) for call in calls if call.all_attention())
        calls = [call for call in calls if type(call.module) is holder]
    if len({call.path for call in calls}) != len(calls):
        return None  # a module called twice is a loop, and is reported as such when nothing better is found
    if not listed and len(calls) < 2:
        return None
    shape = calls[0].out.shape if calls[0].out is not None else None
    calls = [call for call in calls if call.out is not None and call.out.shape == shape and call.has_matrix]
    chained = all(
        left.out is not None and right.hidden is not None and same(left.out, right.hidden)
        for left, right in pairwise(calls)
    )
    return _Stack(path, tuple(calls)) if calls and chained else None


def _inside(inner: _Stack, outer: _Stack) -> bool:
    return any(call.began <= inner.calls[0].began and inner.calls[-1].ended <= call.ended for call in outer.calls)


def _nothing_found(model: nn.Module, watched: Watched) -> StrangeModel:
    holders = [c.path or type(c.module).__name__ for c in (watched.root, *watched.root.within()) if c.attention]
    lists = [path for path, module in model.named_modules() if isinstance(module, nn.ModuleList | nn.Sequential)]
    repeated = [p for p in dict.fromkeys(holders) if holders.count(p) > 1]
    seen = say(
        "attention seen in: {holders}; lists of modules: {lists}; called more than once: {repeated}",
        holders=", ".join(dict.fromkeys(holders)) or "-",
        lists=", ".join(lists) or "-",
        repeated=", ".join(repeated) or "-",
    )
    return StrangeModel(
        say("found no stack of layers in {model}", model=type(model).__name__),
        given=seen,
        right=say(
            "a list of layers that each take and return (batch, position, width), with attention through "
            "scaled_dot_product_attention, a softmax, or a mixer linear in its values"
        ),
    )


def _find_embedding(watched: Watched, stack: _Stack, probe: Tensor) -> SeenCall:
    first = stack.calls[0].began
    for call in watched.root.within():
        takes_ids = call.tokens is not None and call.tokens.shape == probe.shape and torch.equal(call.tokens, probe)
        if call.began < first and call.is_leaf and takes_ids and call.out is not None and call.has_matrix:
            return call
    raise StrangeModel(
        say("found no module that turns token ids into vectors before layer 0"),
        given=", ".join(c.path for c in watched.root.within() if c.began < first and c.is_leaf) or "-",
        right=say("a token embedding as a module of its own, such as torch.nn.Embedding"),
    )


def _find_positions(watched: Watched, stack: _Stack, embedding: SeenCall) -> str | None:
    """A leaf before layer 0 that gives another vector at each position, and is not the token embedding."""
    first, width = stack.calls[0], embedding.out.shape[-1] if embedding.out is not None else 0
    for call in watched.root.within():
        if call is embedding or call.began > first.began or not call.is_leaf or call.hidden is not None:
            continue
        found = call.out if call.out is not None else None
        if found is not None and found.shape[-1] == width and call.has_matrix and _all_rows_differ(found[0]):
            return call.path
    return None


def _all_rows_differ(rows: Tensor) -> bool:
    return rows.shape[0] > 1 and torch.unique(rows, dim=0).shape[0] == rows.shape[0]


def _find_ending(model: nn.Module, watched: Watched, stack: _Stack, embedding: SeenCall) -> _Ending:
    last = stack.calls[-1]
    later = [c for c in watched.root.within() if c.began > last.ended and c.hidden is not None and c.out is not None]
    outermost = [c for c in later if c.parent not in later]
    logits = watched.logits
    table = next(p for p in embedding.module.parameters() if p.ndim == 2)
    head = _find_head(later, logits, table.shape[0])
    before = [
        c
        for c in later
        if head is not None
        and c.out is not None
        and head.hidden is not None
        and c.ended < head.began
        and same(c.out, head.hidden)
    ]
    norm = next((c for c in before if norm_like(c)), None)
    if head is None:
        norm = next((c for c in later if norm_like(c)), None)
    readout, state = _chain(outermost, last.out)
    fits = head is None and state is not None and state.shape[-1] == table.shape[1]
    tied = fits and state is not None and _equal(state @ table.detach().to(state.dtype).t(), logits)
    exact = state is not None and (same(state, logits) or tied)
    return _Ending(norm and norm.path, head and head.path, readout, exact, tied)


def _chain(calls: list[SeenCall], state: Tensor | None) -> tuple[tuple[str, ...], Tensor | None]:
    """The calls that hand the stream on from the last layer, and what the last of them returned."""
    path: list[str] = []
    for call in calls:
        if state is not None and call.hidden is not None and same(call.hidden, state):
            path.append(call.path)
            state = call.out
    return tuple(path), state


def _find_head(later: list[SeenCall], logits: Tensor, vocabulary: int) -> SeenCall | None:
    """The last matrix that gives the logits, or what the model scales or caps to become the logits."""
    shaped = [c for c in later if c.is_leaf and c.has_matrix and c.out is not None and c.out.shape == logits.shape]
    given = next((c for c in reversed(shaped) if c.out is not None and same(c.out, logits)), None)
    if given is not None or logits.shape[-1] != vocabulary:
        return given
    return shaped[-1] if shaped else None


def _equal(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and torch.allclose(left, right, rtol=1e-4, atol=1e-5)


def _context(model: nn.Module, watched: Watched, stack: _Stack, embedding: SeenCall) -> int | None:
    stated = config_number(model, "max_position_embeddings")
    if stated is not None:
        return stated
    path = _find_positions(watched, stack, embedding)
    if path is None:
        return None
    module = module_at(model, path)
    return next((t.shape[0] for t in (*module.parameters(), *module.buffers()) if t.ndim == 2), None)


def _notes(ending: _Ending) -> tuple[Text, ...]:
    if ending.exact:
        return ()
    return (say("something outside all modules acts between the last layer and the logits; lenses leave it out"),)


def readout_of(model: nn.Module, anatomy: Anatomy, stream: Tensor) -> Tensor:
    """Logits read from a residual stream (batch position width) as the model reads its last layer."""
    state = stream
    for path in anatomy.readout:
        result = tensor_of(module_at(model, path)(state))
        assert result is not None
        state = result
    if anatomy.tied_head:
        table = next(p for p in module_at(model, anatomy.embedding).parameters() if p.ndim == 2)
        state = state @ table.t().to(state.dtype)
    return state
