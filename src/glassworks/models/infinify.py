"""A pretrained softmax decoder as an Infini model: the same numbers inside the first segment, a memory from then on.

Our own decoders get other mixers in their spec. Those of the library keep their code: every attention module gets a
submodule `infini` (gates and mixer), and the library's attention interface hands its queries, keys and values over.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.utils.hub import cached_file

from glassworks.core.errors import BrokenFile, InvalidInput, StrangeModel
from glassworks.core.files import read_json
from glassworks.core.text import say
from glassworks.mixers import Gates, Heads, Softmax
from glassworks.mixers.infini import Infini, InfiniMixer
from glassworks.models.attention_watch import (
    Turning,
    Watched,
    compute_by,
    computed_by,
    find_places,
    replaced,
    unfit,
    unturning,
    watch,
)
from glassworks.models.cache import MemoryLayer
from glassworks.models.folders import INDEX, SINGLE
from glassworks.models.hub import GlassworksConfig, GlassworksForCausalLM
from glassworks.models.places import padding_of, starts_of

ATTENTION, SEAT, SETTINGS = "glassworks_infini", "infini", "infini"
PADDING, REAL, START = 0, 1, 2
# Logits may differ by rounding, for other kernels compute the same sums in another order.
SAME, COARSELY_SAME = 1e-4, 5e-2
_BASE, _STATEFUL = "_infini_base", "_is_stateful"


class Seat(nn.Module):
    """Infini-attention in the place of a library module's own; it stands as `infini` inside that module."""

    def __init__(self, spec: Infini, heads: Heads, layer: int, turning: Turning | None) -> None:
        super().__init__()
        self.spec, self.layer, self.turning = spec, layer, turning
        self.mixer = cast(InfiniMixer, spec.build(heads))
        self.mixer.turn = turning
        self.place: MemoryLayer | None = None
        """Where the memory of the present call is kept; None where nothing shall be remembered."""


class PassingLayer(MemoryLayer):
    """A memory layer that hands new keys and values on, as the library's attention expects of a cache."""

    # The library's table knows the parent under its name already.
    _layer_type = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """The same keys and values."""
        return key_states, value_states


class _Base:
    """What the model around the attention modules knows of them."""

    def __init__(self, segment: int, seats: list[Seat]) -> None:
        self.segment, self.seats = segment, seats

    def lacks_table(self, like: Tensor) -> bool:
        """Whether some seat has no cosines and sines yet, or some of another device."""
        return any(s.turning is not None and not s.turning.fits(like, self.segment) for s in self.seats)


def infinify(model: PreTrainedModel, spec: Infini) -> PreTrainedModel:
    """The same decoder with Infini-attention in every softmax layer; of the library's own classes in place, of ours anew.

    Inside the first segment its logits are those of before (with `first="local"`). Raises InvalidInput, with the layer's
    name, for attention that cannot be exchanged, StrangeModel where the logits came out differently.
    """
    if isinstance(model, GlassworksForCausalLM):
        return _own(model, spec)
    if model.config.is_encoder_decoder or is_infinified(model):
        raise InvalidInput(
            say("{model} is no plain softmax decoder", model=type(model).__name__),
            right=say("a decoder with rotary positions or a learned table of them, and plain softmax attention"),
        )
    mode = model.training
    model.eval()
    seen, turnings = watch(model)
    _check_segment(model, spec, seen)
    ids = _probe(model, spec)
    before = _logits(model, ids)
    _check_causal(model, ids, before)
    undo = _seated(model, spec, seen, turnings)
    try:
        _check_same(model, spec, before, _logits(model, ids))
    except BaseException:
        undo()
        raise
    return model.train(mode)


def restored(model: PreTrainedModel, source: str, **address: Any) -> PreTrainedModel:
    """A model whose config tells of Infini-attention, with it and the gates of its folder or hub name.

    Any other model comes back as it is. Raises BrokenFile where a gate is missing or the settings are none.
    """
    settings = model.config.to_dict().get(SETTINGS)
    if settings is None:
        return model
    infinify(model, Infini.parse(settings))
    gates = gates_of(model)
    kept = _kept(source, frozenset(gates), **address)
    for name, parameter in gates.items():
        found = kept.get(name)
        if found is None or found.shape != parameter.shape:
            raise BrokenFile(
                say("the weights lack {name}, though the config tells of Infini-attention", name=name),
                right=say("a complete checkpoint; nothing was filled in at random"),
            )
        with torch.no_grad():
            parameter.copy_(found)
    return model


def _kept(source: str, names: frozenset[str], **address: Any) -> dict[str, Tensor]:
    """The tensors of these names among the weights of a folder or hub name."""
    index = cached_file(source, INDEX, _raise_exceptions_for_missing_entries=False, **address)
    found: dict[str, Tensor] = {}
    parts = [SINGLE]
    if index is not None:
        parts = sorted({part for name, part in read_json(Path(index))["weight_map"].items() if name in names})
    for part in parts:
        path = cached_file(source, part, **address)
        with safe_open(str(path), framework="pt") as file:
            found |= {name: file.get_tensor(name) for name in file.keys() if name in names}  # noqa: SIM118 - not a dict
    return found


def is_infinified(model: nn.Module) -> bool:
    """Whether Infini-attention stands in a library's decoder; of our own decoders their spec tells it."""
    return any(isinstance(module, Seat) for module in model.modules())


def infini_spec(model: nn.Module) -> Infini:
    """The settings of an infinified library model."""
    return next(module.spec for module in model.modules() if isinstance(module, Seat))


def infini_cache(model: nn.Module) -> Cache:
    """An empty cache for an infinified library model."""
    return Cache(layers=[PassingLayer() for module in model.modules() if isinstance(module, Seat)])


def gates_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """The gates of all Infini layers by their names in the model; sigmoid(gate) is the weight of the memory."""
    return {f"{path}.gate": module.gate for path, module in model.named_modules() if isinstance(module, InfiniMixer)}


def _own(model: GlassworksForCausalLM, spec: Infini) -> GlassworksForCausalLM:
    """Our decoder with Infini layers for its softmax layers, and positions that begin again with every segment."""
    old = model.config.decoder_spec
    mixers = [old.mixer(layer) for layer in range(old.depth)]
    if not any(isinstance(mixer, Softmax) for mixer in mixers):
        raise InvalidInput(
            say("{model} is no plain softmax decoder", model=", ".join(sorted({mixer.kind for mixer in mixers}))),
            right=say("a decoder with softmax layers"),
        )
    changes: dict[str, object] = {
        "mixers": [(spec if isinstance(mixer, Softmax) else mixer).to_json() for mixer in mixers]
    }
    if old.longest is not None:
        if spec.segment > old.longest:
            raise _too_long(spec, old.longest)
        changes["position_period"] = spec.segment
    special = {name: model.config.to_dict().get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    made = GlassworksForCausalLM(GlassworksConfig.from_spec(old.replaced_all(changes), **special))
    nn.Module.to(made, device=model.device, dtype=model.dtype)
    state = {**made.state_dict(), **model.state_dict()}
    for name, gate in gates_of(made).items():
        state[name] = torch.full_like(gate, spec.gate_start)
    made.load_state_dict(state)
    made.config.dtype = model.dtype
    return made.train(model.training)


def _check_segment(model: PreTrainedModel, spec: Infini, seen: Watched) -> None:
    """Refuses segments longer than what the model can tell apart, or looks back over."""
    longest = model.config.get_text_config(decoder=True).to_dict().get("max_position_embeddings")
    if isinstance(longest, int) and spec.segment > longest:
        raise _too_long(spec, longest)
    for call in seen.calls:
        window = call.options.get("sliding_window")
        if isinstance(window, int) and window < spec.segment:
            reason = say("it looks at the last {window} tokens only", window=window)
            problem = unfit(call.path, reason)
            problem.right = say("segments of {window} tokens or fewer", window=window)
            raise problem


def _too_long(spec: Infini, longest: int) -> InvalidInput:
    return InvalidInput(
        say(
            "a segment of {segment} tokens is longer than the model's {count} positions",
            segment=spec.segment,
            count=longest,
        ),
        right=say("segments of {window} tokens or fewer", window=longest),
    )


def _seated(
    model: PreTrainedModel, spec: Infini, seen: Watched, turnings: tuple[Turning | None, ...]
) -> Callable[[], None]:
    """Puts the mixers in place, and the hooks by which they learn of cache, padding and places; returns the way back."""
    AttentionInterface.register(ATTENTION, cast(Any, infini_attention))
    seats: list[Seat] = []
    hooks: list[Any] = []
    for layer, (call, turning) in enumerate(zip(seen.calls, turnings, strict=True)):
        heads = Heads(call.q.shape[1], call.k.shape[1], call.q.shape[3], call.scale)
        seat = Seat(spec, heads, layer, turning).to(call.q.device)
        seat.train(model.training)
        call.module.add_module(SEAT, seat)
        hooks.append(call.module.register_forward_pre_hook(_before_attention, with_kwargs=True))
        seats.append(seat)
    # The innermost model around all attention modules: some language models call it past the ones in between.
    around = [m for m in model.modules() if isinstance(m, PreTrainedModel) and set(seats) <= set(m.modules())]
    inner, former = around[-1], [computed_by(m.config) for m in around]
    inner.__dict__[_BASE] = _Base(spec.segment, seats)
    hooks.append(inner.register_forward_pre_hook(_before_model, with_kwargs=True))
    for module in around:
        compute_by(module.config, ATTENTION)
        module.config.update({SETTINGS: spec.to_json()})
    # Read by `generate`, which then refuses to take guessed tokens back: a sum cannot forget them.
    model.__dict__[_STATEFUL] = True

    def undo() -> None:
        for hook in hooks:
            hook.remove()
        for call in seen.calls:
            delattr(call.module, SEAT)
        for module, implementation in zip(around, former, strict=True):
            compute_by(module.config, implementation)
            module.config.__dict__.pop(SETTINGS, None)
        del model.__dict__[_STATEFUL]

    return undo


def infini_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    """The library's attention interface, answered by the mixer in the module's seat."""
    seat = cast(Seat, module.get_submodule(SEAT))
    gates = None
    if attention_mask is not None:
        codes = attention_mask[:, 0, 0]
        starts = codes == START
        gates = Gates(real=codes != PADDING, starts=starts if bool(starts.any()) else None)
    place, seat.place = seat.place, None
    memory = None if place is None else place.memory
    mixed = seat.mixer(query, key, value, memory, gates, remember=place is not None)
    if place is not None:
        place.remember(mixed.memory, query.shape[2])
    return mixed.out.transpose(1, 2), None


def _before_attention(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Notes the cache, and has queries and keys reach the mixer as they were before any turning."""
    seat = cast(Seat, module.get_submodule(SEAT))
    caches = [value for value in (*kwargs.values(), *args) if isinstance(value, Cache)]
    seat.place = cast(MemoryLayer, caches[0].layers[seat.layer]) if caches else None
    found = find_places(args, kwargs)
    if seat.turning is None or found is None:
        return None
    where, (cos, sin) = found
    if not seat.turning.fits(cos, seat.spec.segment):
        assert cos.shape[1] == seat.spec.segment, "the model was asked for all places of a segment"
        seat.turning.table = cos[0].detach(), sin[0].detach()
    hidden = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim == 3)
    return replaced(args, kwargs, where, unturning((cos, sin), hidden.shape[1]))


def _before_model(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Has positions count inside segments, and tells the mixers what is padding and where texts begin."""
    base = cast(_Base, module.__dict__[_BASE])
    model = cast(PreTrainedModel, module)
    given = args[0] if args else kwargs.get("input_ids")
    given = kwargs.get("inputs_embeds") if given is None else given
    assert isinstance(given, Tensor), "a model reads ids or vectors"
    batch, length = given.shape[:2]
    kwargs = {**kwargs, "past_key_values": _cache(model, kwargs)}
    cache = kwargs["past_key_values"]
    seen = int(cache.get_seq_length()) if cache is not None else 0
    mask, ids = kwargs.get("attention_mask"), kwargs.get("position_ids")
    real = padding_of(mask, seen + length)
    starts = starts_of(ids, real, seen) if ids is not None else None
    if real is not None:
        ids = (real.long().cumsum(1) - 1).clamp(min=0)[:, seen:]
    elif ids is None:
        ids = torch.arange(seen, seen + length, device=given.device)[None]
    kwargs["attention_mask"] = None
    if real is not None or starts is not None:
        codes = torch.ones(batch, length, dtype=torch.int8, device=given.device)
        codes = codes if real is None else codes.masked_fill(~real[:, seen:], PADDING)
        codes = codes if starts is None else codes.masked_fill(starts.expand(batch, -1), START)
        # Four dimensions: the library takes such a mask for finished and hands it to every layer as it is.
        kwargs["attention_mask"] = codes[:, None, None]
    every = torch.arange(base.segment, device=given.device)[None]
    kwargs["position_ids"] = every if base.lacks_table(given) else ids % base.segment
    return args, kwargs


def _cache(model: PreTrainedModel, kwargs: Mapping[str, Any]) -> Cache | None:
    """The cache of a call, with places for memories; made here where the model would make one of its own."""
    cache, wanted = kwargs.get("past_key_values"), kwargs.get("use_cache")
    if cache is None:
        wanted = model.config.use_cache if wanted is None else wanted
        return infini_cache(model) if wanted and not (model.training and model.is_activation_checkpointing) else None
    if all(isinstance(layer, PassingLayer) for layer in cache.layers) and cache.layers:
        return cache
    if cache.get_seq_length():
        raise InvalidInput(
            say("a cache of keys and values was given to a model that keeps memories"),
            right=say("no cache, or the one that this model returned"),
        )
    # In place, for `generate` goes on with the cache that it made.
    cache.layers, cache.layer_class_to_replicate = infini_cache(model).layers, None
    return cache


def _probe(model: PreTrainedModel, spec: Infini) -> Tensor:
    """Some tokens of one segment."""
    vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
    ids = (torch.arange(min(spec.segment, 24)) * 7 + 3)[None] % vocabulary
    return ids.to(next(model.parameters()).device)


def _logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits.float()


def _check_causal(model: PreTrainedModel, ids: Tensor, whole: Tensor) -> None:
    """Refuses a model in which tokens read what comes after them."""
    if ids.shape[1] > 1 and not torch.allclose(_logits(model, ids[:, :-1]), whole[:, :-1], rtol=1e-2, atol=1e-2):
        raise InvalidInput(
            say("{model} reads texts from both sides", model=type(model).__name__), right=say("a decoder")
        )


def _check_same(model: PreTrainedModel, spec: Infini, before: Tensor, after: Tensor) -> None:
    """Raises StrangeModel where the first segment's logits are not those of before."""
    allowed = SAME if model.dtype in (torch.float32, torch.float64) else COARSELY_SAME
    error = float((before - after).abs().max())
    # Without a memory yet the gate lets only a part of attention through, if it acts in the first segment.
    if spec.first == "local" and not error <= allowed * max(1.0, float(before.abs().max())):
        raise StrangeModel(
            say("{model} computes its attention in a way that is not known here", model=type(model).__name__),
            given=say("logits of the first segment differ by {error}", error=f"{error:.2g}"),
            right=say("a decoder with rotary positions or a learned table of them, and plain softmax attention"),
        )
