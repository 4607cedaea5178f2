"""What the attention of a library's decoder does, found by watching it run: its sizes, and how it knows places."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say

WATCHED = "glassworks_watched"
PROBE = 7
# Rounding apart, a rotation is either the same or another one; formats of few digits round coarsely.
CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}
COARSELY_CLOSE = 5e-2

Order = Literal["halves", "pairs", "pairs_of_halves"]
"""How the numbers of a head are turned: (i, i + half); (2i, 2i + 1); the latter with angles laid out in halves."""
Pair = tuple[Tensor, Tensor]


@dataclass
class Turning:
    """The rotation of queries and keys by the places inside a segment, by the model's own cosines and sines.

    Only the first numbers of a head are turned where there are more than cosines.
    """

    order: Order
    table: Pair | None = field(default=None, repr=False)
    """Cosines and sines [place, number] of all places of a segment; None until the model has computed them."""

    def fits(self, like: Tensor, places: int) -> bool:
        """Whether the table has this many places, and the device of a tensor."""
        return self.table is not None and len(self.table[0]) == places and self.table[0].device == like.device

    def __call__(
        self, x: Float[Tensor, "row head token width"], places: Int[Tensor, "sequence token"]
    ) -> Float[Tensor, "row head token width"]:
        """The same vectors, turned."""
        assert self.table is not None, "the model computes the table before attention is reached"
        cos, sin = (part[places][:, None].to(x.dtype) for part in self.table)
        return turned(x, (cos, sin), self.order)


@dataclass(frozen=True, eq=False)
class Heard:
    """One call of attention: who, with what, and the cosines and sines that it was given."""

    path: str
    module: nn.Module
    q: Float[Tensor, "batch head token width"]
    k: Float[Tensor, "batch kv_head token width"]
    scale: float
    options: dict[str, Any]
    places: Pair | None


@dataclass(frozen=True, eq=False)
class Watched:
    """What one pass showed: the calls of attention in their order, and whether a table of positions was read."""

    calls: tuple[Heard, ...]
    reads_table: bool


_ears: ContextVar[list[tuple[nn.Module, Tensor, Tensor, float, dict[str, Any]]] | None] = ContextVar(
    "ears", default=None
)


def turned(x: Tensor, places: Pair, order: Order) -> Tensor:
    """Vectors turned by cosines and sines that fit them."""
    cos, sin = places
    width = cos.shape[-1]
    part, rest = x[..., :width], x[..., width:]
    if order == "halves":
        first, second = part.chunk(2, -1)
        crossed = torch.cat((-second, first), -1)
    else:
        first, second = part[..., ::2], part[..., 1::2]
        crossed = torch.stack((-second, first), -1).flatten(-2)
        if order == "pairs_of_halves":
            cos, sin = (each[..., : width // 2].repeat_interleave(2, -1) for each in (cos, sin))
    found = part * cos + crossed * sin
    return found if not rest.shape[-1] else torch.cat((found, rest), -1)


def watch(model: PreTrainedModel) -> tuple[Watched, tuple[Turning | None, ...]]:
    """What a short pass shows of every attention, and how each turns its queries and keys.

    Raises InvalidInput, with the layer's name, for what Infini-attention cannot take the place of.
    """
    seen = _pass(model, frozenset())
    _refuse_strangers(model, seen)
    if all(call.places is None for call in seen.calls):
        if not seen.reads_table:
            raise unfit(
                seen.calls[0].path, say("its positions are neither a table nor a rotation that the layer is given")
            )
        return seen, tuple(None for _ in seen.calls)
    # Every attention twice, on the same stream: first without turning, then as it is.
    both = _pass(model, frozenset(call.module for call in seen.calls)).calls
    return seen, tuple(_turning(call, still) for still, call in zip(both[::2], both[1::2], strict=True))


def unfit(path: str, reason: Text) -> InvalidInput:
    """The error for an attention that cannot become Infini-attention."""
    return InvalidInput(
        say("{layer} cannot become Infini-attention: {reason}", layer=path, reason=reason),
        right=say("a decoder with rotary positions or a learned table of them, and plain softmax attention"),
    )


def find_places(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int | str, Pair] | None:
    """Where among the arguments of an attention module its cosines and sines are, and they themselves."""
    for where, value in [*kwargs.items(), *enumerate(args)]:
        match value:
            case (Tensor() as cos, Tensor() as sin) if cos.shape == sin.shape and cos.is_floating_point():
                return where, (cos, sin)
            case _:
                pass
    return None


def replaced(args: tuple[Any, ...], kwargs: dict[str, Any], where: int | str, value: Any) -> tuple[Any, Any]:
    """The arguments with one of them exchanged."""
    if isinstance(where, str):
        return args, {**kwargs, where: value}
    return (*args[:where], value, *args[where + 1 :]), kwargs


def unturning(places: Pair, tokens: int) -> Pair:
    """The rotation that changes no number of any vector."""
    cos = places[0][:1, :1].expand(1, tokens, -1)
    return torch.ones_like(cos), torch.zeros_like(cos)


def _refuse_strangers(model: PreTrainedModel, seen: Watched) -> None:
    layers = int(model.config.get_text_config(decoder=True).num_hidden_layers)
    if len(seen.calls) != layers:
        raise InvalidInput(
            say(
                "{heard} of {layers} layers of {model} compute attention by the library's common interface",
                heard=len(seen.calls),
                layers=layers,
                model=type(model).__name__,
            ),
            right=say("a decoder with rotary positions or a learned table of them, and plain softmax attention"),
        )
    for call in seen.calls:
        for name, reason in (
            ("softcap", say("its scores are capped")),
            ("s_aux", say("its softmax has a sink of its own")),
            ("position_bias", say("it adds a bias for each distance")),
        ):
            if call.options.get(name) is not None:
                raise unfit(call.path, reason)
        if call.options.get("is_causal") is False:
            raise unfit(call.path, say("it reads from both sides"))
        if call.places is not None and call.places[0].ndim != 3:
            raise unfit(call.path, say("its places have several coordinates"))


def _turning(call: Heard, still: Heard) -> Turning | None:
    """The order of numbers by which the unturned queries and keys become the turned ones."""
    if call.places is None:
        if not _close(call.q, still.q):
            raise unfit(call.path, say("it turns queries and keys in a way that cannot be seen from outside"))
        return None
    cos, sin = (part[:, None] for part in call.places)
    for order in cast(tuple[Order, ...], get_args(Order)):
        if cos.shape[-1] > call.q.shape[-1] or cos.shape[-1] % 2:
            break
        if all(_close(turned(a, (cos, sin), order), b) for a, b in ((still.q, call.q), (still.k, call.k))):
            return Turning(order)
    raise unfit(call.path, say("it turns queries and keys in an order that is not known here"))


def _close(left: Tensor, right: Tensor) -> bool:
    bound = CLOSE.get(right.dtype, COARSELY_CLOSE)
    return left.shape == right.shape and torch.allclose(left.to(right.dtype), right, rtol=bound, atol=bound)


def _pass(model: PreTrainedModel, twice: frozenset[nn.Module]) -> Watched:
    """One pass over a few tokens; the modules of `twice` run once more before, with a rotation that changes nothing."""
    config = model.config.get_text_config(decoder=True)
    # Steps of three, so that token ids are not taken for positions.
    ids = (torch.arange(PROBE) * 3 + 1)[None] % int(config.vocab_size)
    given: dict[int, Pair] = {}
    counted: list[bool] = []

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = find_places(args, kwargs)
        if found is not None:
            given[id(module)] = found[1]
        if module in twice:
            still = (args, kwargs) if found is None else replaced(args, kwargs, found[0], unturning(found[1], PROBE))
            module.forward(*still[0], **still[1])

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        ids = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and not a.is_floating_point()]
        counted.append(any(a.shape[-1:] == (PROBE,) and bool((a.diff() == 1).all()) for a in ids))

    handles = [m.register_forward_hook(after, with_kwargs=True) for m in model.modules() if isinstance(m, nn.Embedding)]
    handles += [m.register_forward_pre_hook(before, with_kwargs=True) for m in model.modules()]
    try:
        calls = _listened(model, ids.to(next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    names = {id(module): path for path, module in model.named_modules()}
    heard = [Heard(names[id(m)], m, q, k, scale, options, given.get(id(m))) for m, q, k, scale, options in calls]
    return Watched(tuple(heard), any(counted))


def _listened(model: PreTrainedModel, ids: Tensor) -> list[tuple[nn.Module, Tensor, Tensor, float, dict[str, Any]]]:
    AttentionInterface.register(WATCHED, cast(Callable[..., Any], _listening))
    token = _ears.set([])
    try:
        with attention_by(model, WATCHED), torch.no_grad():
            model(input_ids=ids, use_cache=False)
        return _ears.get() or []
    except (TypeError, AttributeError, KeyError, ValueError, RuntimeError):
        # Older code of the library knows only its own implementations, and fails wherever it needs one of them.
        return []
    finally:
        _ears.reset(token)


@contextmanager
def attention_by(model: PreTrainedModel, name: str) -> Generator[None]:
    """Has all attention of a model computed by a registered function inside the `with`."""
    configs = {id(m.config): m.config for m in model.modules() if isinstance(m, PreTrainedModel)}.values()
    before = [computed_by(config) for config in configs]
    for config in configs:
        compute_by(config, name)
    try:
        yield
    finally:
        for config, former in zip(configs, before, strict=True):
            compute_by(config, former)


def computed_by(config: PreTrainedConfig) -> str | None:
    """The name of the function that computes attention."""
    return config._attn_implementation  # pyright: ignore[reportPrivateUsage] - the library's switch has no other name


def compute_by(config: PreTrainedConfig, name: str | None) -> None:
    """Has attention computed by a registered function; the library's own setter refuses some models that could."""
    config._attn_implementation = name  # pyright: ignore[reportPrivateUsage] - the library's switch has no other name


def _listening(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, *rest: Any, **options: Any
) -> tuple[Tensor, None]:
    """Plain causal attention that notes what it was called with."""
    scale = options.get("scaling")
    scale = float(query.shape[-1] ** -0.5) if scale is None else float(scale)
    ears = _ears.get()
    if ears is not None:
        ears.append((module, query, key, scale, options))
    out, _ = sdpa_attention_forward(module, query, key, value, None, scaling=scale, is_causal=True)
    return out, None
