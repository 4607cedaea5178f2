"""Finding stacks, norm, head and embeddings in a watched forward pass."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glassworks.anatomy.calls import not_finite, same, tensor_of
from glassworks.anatomy.layer import norm_like, read_layer
from glassworks.anatomy.observe import SeenCall, Watched, watch
from glassworks.anatomy.offloaded import matrix_of
from glassworks.anatomy.places import Anatomy, Encoder, Tap, Turn, config_number, module_at
from glassworks.anatomy.stacks import Stack, find_stacks
from glassworks.core.errors import StrangeModel
from glassworks.core.text import Text, say


@dataclass(frozen=True)
class _Ending:
    """From the last layer to the logits."""

    norm: str | None
    head: str | None
    readout: tuple[str, ...]
    exact: bool
    tied: bool
    scale: float


@dataclass(frozen=True)
class _Beginning:
    """From token ids to layer 0: the embedding, what adds positions, and how long a text may be."""

    embedding: SeenCall
    positions: SeenCall | None
    context: int | None

    @property
    def rows(self) -> int:
        """Tokens that the embedding knows."""
        return _table(self.embedding.module).shape[0]


def discover(model: nn.Module, probe: Tensor, layers: str | None) -> Anatomy:
    """The anatomy of a model; see `places.find_anatomy`."""
    watched = watch(model, probe)
    if bool(watched.logits.isnan().any()):
        # NaN equals nothing, so no part could be recognised by what it hands on.
        raise not_finite(model)
    stack, encoder = find_stacks(model, watched, layers)
    begin = _find_beginning(model, watched, stack, watched.batch.ids)
    ending = _find_ending(model, watched, stack, begin.embedding)
    places = tuple(read_layer(call, watched.source_length) for call in stack.calls)
    post = next((tap.path for place in places for name, tap in place.taps.items() if name == "feedforward.post"), None)
    hidden = next((c.hidden for c in watched.root.within() if c.path == post), None)
    first = stack.calls[0].hidden
    assert first is not None
    return Anatomy(
        stack=stack.path,
        layers=places,
        embedding=begin.embedding.path,
        positions=begin.positions and begin.positions.path,
        norm=ending.norm,
        head=ending.head,
        readout=ending.readout,
        readout_exact=ending.exact,
        tied_head=ending.tied,
        head_scale=ending.scale,
        width=first.shape[-1],
        vocabulary=watched.logits.shape[-1] if ending.head or ending.tied else begin.rows,
        feedforward_width=None if hidden is None else hidden.shape[-1],
        context=begin.context,
        taps=_taps(watched, begin, ending.norm),
        has_source=watched.has_source,
        encoder=None if encoder is None else _read_encoder(model, watched, encoder),
        answers_once=watched.answers_once,
        notes=_notes(watched, ending, encoder),
    )


def _read_encoder(model: nn.Module, watched: Watched, stack: Stack) -> Encoder:
    begin = _find_beginning(model, watched, stack, watched.batch.read_by_encoder.ids)
    norm = next((c.path for c in watched.root.within() if norm_like(c) and _continues(c, stack)), None)
    return Encoder(
        stack=stack.path,
        layers=tuple(read_layer(call) for call in stack.calls),
        embedding=begin.embedding.path,
        positions=begin.positions and begin.positions.path,
        norm=norm,
        taps=_taps(watched, begin, norm),
        vocabulary=begin.rows,
        context=begin.context,
    )


def _continues(call: SeenCall, stack: Stack) -> bool:
    """Whether a call takes what the last layer of a stack handed on."""
    last = stack.calls[-1]
    return call.began > last.ended and call.hidden is not None and last.out is not None and same(call.hidden, last.out)


def _taps(watched: Watched, begin: _Beginning, norm: str | None) -> dict[str, Tap]:
    """Where what stands outside the layers is read."""
    taps = {"embed": _tap(watched, begin.embedding)}
    if begin.positions is not None:
        taps["positions"] = _tap(watched, begin.positions)
    if norm is not None:
        taps["norm.out"] = Tap("out", norm)
    return taps


def _tap(watched: Watched, call: SeenCall) -> Tap:
    """The result of a call; told from other calls of the same module by the call that it stands in."""
    again = [c for c in watched.root.within() if c.path == call.path]
    if len(again) == 1 or call.parent is None:
        return Tap("out", call.path)
    siblings = [c for c in again if c.parent is call.parent]
    return Tap("out", call.path, Turn(call.parent.path, siblings.index(call)))


def _find_beginning(model: nn.Module, watched: Watched, stack: Stack, ids: Tensor) -> _Beginning:
    embedding = _find_embedding(watched, stack, ids)
    positions = _find_positions(watched, stack, embedding)
    return _Beginning(embedding, positions, _context(model, positions, ids))


def _find_embedding(watched: Watched, stack: Stack, ids: Tensor) -> SeenCall:
    first = stack.calls[0].began
    before = [c for c in watched.root.within() if c.began < first]
    taking = [c for c in before if c.tokens is not None and c.tokens.shape == ids.shape and torch.equal(c.tokens, ids)]
    made = [c for c in taking if c.ended < first and c.out is not None and c.has_matrix]
    if made:
        # The smallest module that makes the vectors: one that holds no other, or as few as may be.
        return min(made, key=lambda call: len(call.within()))
    raise StrangeModel(
        say("found no module that turns token ids into vectors before layer 0"),
        given=", ".join(c.path for c in before if c.is_leaf) or "-",
        right=say("a token embedding as a module of its own, such as torch.nn.Embedding"),
    )


def _find_positions(watched: Watched, stack: Stack, embedding: SeenCall) -> SeenCall | None:
    """A leaf before layer 0 that gives another vector at each position, and is not the token embedding."""
    first, of_tokens = stack.calls[0], embedding.out
    assert of_tokens is not None, "the embedding returned vectors"
    for call in watched.root.within():
        if call is embedding or call.began > first.began or not call.is_leaf or call.hidden is not None:
            continue
        found = call.out
        if found is None or found.shape[1:] != of_tokens.shape[1:] or call.module is embedding.module:
            continue
        if call.has_matrix and _all_rows_differ(found[0]):
            return call
    return None


def _all_rows_differ(rows: Tensor) -> bool:
    return rows.shape[0] > 1 and torch.unique(rows, dim=0).shape[0] == rows.shape[0]


def _find_ending(model: nn.Module, watched: Watched, stack: Stack, embedding: SeenCall) -> _Ending:
    last = stack.calls[-1]
    later = [c for c in watched.root.within() if c.began > last.ended and c.hidden is not None and c.out is not None]
    outermost = [c for c in later if c.parent not in later]
    logits = watched.logits
    table = _table(embedding.module)
    head = _find_head(later, logits, table.shape[0])
    norms = [c for c in later if norm_like(c) and (head is None or c.ended < head.began)]
    chain = _chain(outermost, last.out, head)
    fits = head is None and chain.state is not None and chain.state.shape[-1] == table.shape[1]
    tied = fits and chain.state is not None and _equal(chain.state @ table.detach().to(chain.state.dtype).t(), logits)
    exact = chain.state is not None and (same(chain.state, logits) or tied)
    # Of several norms the one whose result the head reads; a factor may stand between.
    read = [c for c in norms if head is not None and c.out is not None and _factor(c.out, head.hidden) is not None]
    norm = next(iter(read or (norms if head is None else [])), None)
    return _Ending(norm and norm.path, head and head.path, chain.paths, exact, tied, chain.scale)


@dataclass(frozen=True)
class _Chain:
    """The calls that hand the stream on, what the last of them returned, and the factor before the head."""

    paths: tuple[str, ...]
    state: Tensor | None
    scale: float = 1.0


def _chain(calls: list[SeenCall], state: Tensor | None, head: SeenCall | None) -> _Chain:
    paths: list[str] = []
    scale = 1.0
    for call in calls:
        if state is None or call.hidden is None:
            continue
        factor = _factor(state, call.hidden) if call is head else 1.0 if same(call.hidden, state) else None
        if factor is not None:
            paths.append(call.path)
            state, scale = call.out, factor if call is head else scale
    return _Chain(tuple(paths), state, scale)


def _factor(given: Tensor, taken: Tensor | None) -> float | None:
    """The one number that turns what was handed on into what was taken (T5 scales before its head); None if none does."""
    if taken is None or given.shape != taken.shape:
        return None
    if same(given, taken):
        return 1.0
    factor = float((taken.double() * given.double()).sum() / given.double().square().sum().clamp_min(1e-300))
    return factor if factor != 0 and _equal(given * factor, taken) else None


def _find_head(later: list[SeenCall], logits: Tensor, vocabulary: int) -> SeenCall | None:
    """The smallest call with a matrix that gives the logits, or what the model scales or caps to become them."""
    shaped = [c for c in later if c.has_matrix and c.out is not None and c.out.shape == logits.shape]
    given = [c for c in shaped if c.out is not None and same(c.out, logits)]
    if given or logits.shape[-1] != vocabulary:
        return min(reversed(given), key=lambda call: len(call.within()), default=None)
    leaves = [c for c in shaped if c.is_leaf]
    return leaves[-1] if leaves else None


def _equal(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and torch.allclose(left, right, rtol=1e-4, atol=1e-5)


def _context(model: nn.Module, positions: SeenCall | None, ids: Tensor) -> int | None:
    """The longest text: as the model states it, or fewer where its table of positions ends before."""
    stated = config_number(model, "max_position_embeddings")
    if positions is None:
        return stated
    tensors = (*positions.module.parameters(), *positions.module.buffers())
    rows = next((t.shape[0] for t in tensors if t.ndim == 2), None)
    given = positions.tokens
    if rows is not None and given is not None and not torch.equal(given, ids) and given.shape[-1] == ids.shape[-1]:
        # Some models begin to count above zero (RoBERTa at its padding token + 1), so the last rows are the first to run out.
        rows -= int(given.min())
    return rows if stated is None or rows is None else min(stated, rows)


def _table(module: nn.Module) -> Tensor:
    return matrix_of(module)


def _notes(watched: Watched, ending: _Ending, encoder: Stack | None) -> tuple[Text, ...]:
    notes = (say("the layers that read the source were not found; only the decoder's are"),)
    return (notes if watched.has_source and encoder is None else ()) + _notes_on_ending(watched, ending)


def _notes_on_ending(watched: Watched, ending: _Ending) -> tuple[Text, ...]:
    if watched.answers_once:
        count = watched.logits.shape[-1]
        return (
            say("the model answers once for a whole text, with {count} labels; lenses cannot read it", count=count),
        )
    if ending.exact:
        return ()
    return (say("something outside all modules acts between the last layer and the logits; lenses leave it out"),)


def readout_of(model: nn.Module, anatomy: Anatomy, stream: Tensor) -> Tensor:
    """Logits read from a residual stream (batch position width) as the model reads its last layer."""
    state = stream
    for path in anatomy.readout:
        state = state * anatomy.head_scale if path == anatomy.head and anatomy.head_scale != 1.0 else state
        result = tensor_of(module_at(model, path)(state))
        assert result is not None
        state = result
    if anatomy.tied_head:
        table = _table(module_at(model, anatomy.embedding))
        state = state @ table.t().to(state.dtype)
    return state
