"""Asking a layer about single vectors: what its attention writes for them, how they score.

The layer's own modules run, with the arguments that the model itself passed them (recorded from a real pass),
so no weight is ever named. Each vector stands alone as both tokens of a two-token sequence: at position 0 it
sees itself only, and libraries that treat single queries specially do not. Rotary positions therefore turn
queries and keys by the angle of position 0, which is none: scores are those of content, not of distance.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from glassworks.anatomy.attention import AttentionWatch, hand_over
from glassworks.anatomy.calls import Hooks, stream_of, with_hidden
from glassworks.anatomy.fused import AttentionCall, FusedCall, spread_heads
from glassworks.anatomy.linear import one_hot_map
from glassworks.anatomy.offloaded import matrix_of, runs_on
from glassworks.anatomy.places import LayerPlaces, module_at
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import InvalidInput, StrangeModel
from glassworks.core.text import say

# How far q k^T times one factor may be from the scores that the model computed, relative to the largest.
SCALE_TOLERANCE = 1e-3
# Scores in bfloat16 were rounded at least twice, after the product and after the factor.
ROUNDINGS = 4


@dataclass(frozen=True, eq=False)
class MixerProbe:
    """What a layer's attention makes of vectors.

    Queries, keys (heads as seen by the scores), and what it would write.
    """

    queries: Float[Tensor, "n head head_width"]
    keys: Float[Tensor, "n kv_head head_width"]
    output: Float[Tensor, "n width"]
    scale: float

    def scores(self, queries: slice, keys: slice) -> Float[Tensor, "head query key"]:
        """Scores of some of the vectors as queries with some as keys, before mask and softmax."""
        asked = self.queries[queries].transpose(0, 1)
        keyed = spread_heads(self.keys[keys].transpose(0, 1)[None], asked.shape[0])[0]
        return asked @ keyed.transpose(-1, -2) * self.scale


def probe_mixer(
    subject: Subject, layer: int, vectors: Float[Tensor, "n width"], *, through_norm: bool = False
) -> MixerProbe:
    """Runs a layer's attention on vectors, each alone; `through_norm` applies the layer's norm first.

    Where the layer has no norm before its attention, `through_norm` changes nothing. Raises InvalidInput
    where no submodule holds the attention.
    """
    places = subject.anatomy.layers[layer]
    if places.mixer is None:
        raise InvalidInput(
            say(
                "{site} is not in this model: {reason}",
                site=f"layers.{layer}.mixer.in",
                reason=places.missing["mixer.in"],
            )
        )
    model = subject.model
    with torch.no_grad():
        vectors = vectors.to(_like(model))
        if through_norm and places.mixer_norm is not None:
            normed = stream_of(module_at(model, places.mixer_norm)(vectors[:, None]))
            assert normed is not None
            vectors = normed[:, 0]
        args, kwargs = _recorded_arguments(subject, places.mixer, len(vectors))
        twice = vectors[:, None].expand(-1, 2, -1).contiguous()
        return _run(model, places, with_hidden(args, kwargs, twice))


def mixer_output(
    subject: Subject, layer: int, vectors: Float[Tensor, "n width"], *, through_norm: bool = False
) -> Float[Tensor, "n width"]:
    """What the attention adds to the stream for each vector seen alone: W_O W_V x for a softmax.

    Norms after the attention (Gemma) are left out.
    """
    return probe_mixer(subject, layer, vectors, through_norm=through_norm).output


def scores(
    subject: Subject,
    layer: int,
    queries: Float[Tensor, "query width"],
    keys: Float[Tensor, "key width"],
    *,
    through_norm: bool = False,
) -> Float[Tensor, "head query key"]:
    """Query-key scores between vectors, scaled as the model scales them, before mask and softmax.

    Caps on scores and score biases by distance are not applied; rotary positions: see the head of this
    module.
    """
    both = torch.cat([queries.to(keys), keys])
    probe = probe_mixer(subject, layer, both, through_norm=through_norm)
    return probe.scores(slice(0, len(queries)), slice(len(queries), None))


def feedforward_output(
    subject: Subject, layer: int, vectors: Float[Tensor, "n width"], *, through_norm: bool = False
) -> Float[Tensor, "n width"]:
    """What the layer's feed-forward adds for each vector, without the residual.

    Raises InvalidInput where it has none.
    """
    places = subject.anatomy.layers[layer]
    if len(places.feedforward) != 1:
        raise InvalidInput(say("layer {layer} has no feed-forward in one module", layer=layer))
    with torch.no_grad():
        vectors = vectors.to(_like(subject.model))[:, None]
        if through_norm and places.feedforward_norm is not None:
            vectors = module_at(subject.model, places.feedforward_norm)(vectors)
        module = module_at(subject.model, places.feedforward[0])
        try:
            found = stream_of(module(vectors))
        except TypeError:
            raise InvalidInput(
                say("the feed-forward of layer {layer} needs more than its input", layer=layer)
            ) from None
        assert found is not None
        return found[:, 0]


def token_vectors(subject: Subject) -> Float[Tensor, "vocabulary width"]:
    """w_E: what the token embedding gives for every token."""
    module = module_at(subject.model, subject.anatomy.embedding)
    with torch.no_grad():
        ids = torch.arange(subject.anatomy.vocabulary, device=subject.device)
        found = stream_of(module(ids[None]))
        assert found is not None
        return found[0]


def unembedding_vectors(subject: Subject) -> Float[Tensor, "vocabulary width"]:
    """w_U: the rows of the head's matrix."""
    path = subject.anatomy.head or (subject.anatomy.embedding if subject.anatomy.tied_head else None)
    if path is None:
        raise InvalidInput(
            say("{site} is not in this model: {reason}", site="logits", reason=say("the model has no head"))
        )
    return matrix_of(module_at(subject.model, path)).detach()


def position_vectors(subject: Subject, count: int) -> Float[Tensor, "position width"]:
    """p_t: what the input of layer 0 holds at each position beyond the token's own vector.

    Found as data: one token repeated, minus its embedding. Raises InvalidInput where that depends on the
    token (a norm follows the sum) or is nothing (rotary, relative or no positions).
    """
    tokens = [0, subject.anatomy.vocabulary - 1]
    ids = torch.tensor(tokens)[:, None].expand(-1, count).contiguous()
    stream, _ = subject.run_with_cache(TokenBatch(ids), [], stop_at_layer=0)
    found = stream - token_vectors(subject)[tokens][:, None]
    size = float(found.abs().max())
    if float((found[0] - found[1]).abs().max()) > 1e-4 * max(1.0, float(stream.abs().max())):
        raise InvalidInput(say("the position vectors of this model depend on the token: it has no p_t of its own"))
    if size < 1e-6:
        raise InvalidInput(say("this model adds no position vectors to its tokens"))
    return found[0]


def _like(model: nn.Module) -> Tensor:
    """A weight in the format that the model computes in; packed ones of quantised layers are whole numbers."""
    found = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(()))
    return torch.empty((), dtype=found.dtype, device=runs_on(model)) if found.is_meta else found


class _Reached(BaseException):
    """Leaves the recording pass once the arguments are known."""


def _recorded_arguments(subject: Subject, path: str, count: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that the model passes to a module in a batch of `count` two-token sequences."""
    found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append((args, kwargs))
        raise _Reached

    # No padding token: some models skip it when they count positions.
    ids = torch.full((count, 2), subject.anatomy.vocabulary // 2)
    with Hooks() as hooks:
        hooks.before(module_at(subject.model, path), note)
        with suppress(_Reached):
            subject.forward(TokenBatch(ids, labels=("", "")))
    return found[0]


@dataclass(eq=False)
class _Noted:
    """A listener that keeps queries, keys and the first score of each vector with itself."""

    count: int
    query: Tensor | None = None
    key: Tensor | None = None
    own_score: Tensor | None = None
    call: AttentionCall = field(default_factory=lambda: AttentionCall("softmax"))

    def wants(self, part: str) -> bool:
        return part in ("q", "k") or (part == "scores" and self.own_score is None)

    def edits(self, part: str) -> bool:
        return False

    def see(self, part: str, tensor: Tensor) -> None:
        match part:
            case "q":
                self.query = tensor[:, :, 0]
            case "k":
                self.key = tensor[:, :, 0]
            case _:
                self.own_score = tensor[:, :, 0, 0]

    def heads(self, rows: int) -> int:
        return self.count

    def recall(self, fused: FusedCall) -> None:
        hand_over(self, fused)
        self.call = AttentionCall("sdpa", scale=fused.scale)

    def finish(self, call: AttentionCall) -> None:
        self.call = call


def _run(model: nn.Module, places: LayerPlaces, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> MixerProbe:
    assert places.mixer is not None
    args, kwargs = arguments
    noted = _Noted(places.heads)
    inner: list[Tensor] = []

    def keep(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        found = stream_of(output)
        assert found is not None
        inner.append(found)

    def from_linear(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        noted.query, noted.key = args[0][:, :, 0], args[1][:, :, 0]
        noted.own_score = one_hot_map(module, args, kwargs)[:, :, 0, 0]

    with Hooks() as hooks, AttentionWatch(lambda: noted):
        contribution = places.taps["mixer.out"].path
        if contribution.startswith(places.mixer + "."):
            hooks.after(module_at(model, contribution), keep)
        if places.value_linear is not None:
            hooks.after(module_at(model, places.value_linear), from_linear)
        result = stream_of(module_at(model, places.mixer)(*args, **kwargs))
    assert result is not None
    output = inner[0] if inner else result
    if noted.query is None or noted.key is None:
        raise StrangeModel(say("the queries and keys of this attention could not be seen"), given=places.mixer)
    output = output.unflatten(0, (-1, 2)) if output.ndim == 2 else output
    return MixerProbe(noted.query, _few(noted.key, places.kv_heads), output[:, 0], _scale(noted))


def _few(keys: Tensor, kv_heads: int) -> Tensor:
    return keys[:, :: max(1, keys.shape[1] // kv_heads)]


def _scale(noted: _Noted) -> float:
    """The factor of q k^T, told by torch's call, otherwise found from the model's own scores."""
    if noted.call.kind == "sdpa":
        return noted.call.scale
    if noted.query is None or noted.key is None or noted.own_score is None:
        raise StrangeModel(say("the scores of this attention could not be seen"))
    # Low precision is widened first: its own sums would be off by more than what is asked here.
    exact = torch.promote_types(noted.query.dtype, torch.float32)
    keys = spread_heads(noted.key, noted.query.shape[1]).to(exact)
    products = (noted.query.to(exact) * keys).sum(-1).double()
    own = noted.own_score.double()
    if len(own) > 1:
        # A bias by distance is one number a head here, for every vector stands at the same place.
        products, own = products - products.mean(0), own - own.mean(0)
    scale = float((products * own).sum() / (products * products).sum().clamp_min(1e-300))
    error = float((products * scale - own).abs().max())
    allowed = max(SCALE_TOLERANCE, ROUNDINGS * torch.finfo(noted.own_score.dtype).eps)
    if error > allowed * max(1e-6, float(own.abs().max())):
        raise StrangeModel(
            say("the scores of this attention are not its query-key products times one factor"),
            given=f"{error:.3g}",
        )
    return scale
