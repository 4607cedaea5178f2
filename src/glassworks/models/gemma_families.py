"""Gemma 1 and 3 in the transformers library, and ours."""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GemmaConfig, GemmaForCausalLM

from glassworks.core.text import Text, say
from glassworks.mixers import SlidingWindow, Softmax
from glassworks.models.families import Family, State, first_false, require
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.llama_families import (
    llama_fields,
    llama_shape,
    normalises_heads,
    plain_windows,
    rope_of,
    rotation,
    why_not_gated,
    windows_of,
)
from glassworks.models.spec import TransformerSpec

# Gemma: gains are kept as their difference from 1, embeddings are multiplied by sqrt(width).


def _spec_of_gemma(config: GemmaConfig) -> TransformerSpec:
    require(
        (config.hidden_act == "gelu_pytorch_tanh", say("the activation is {activation}", activation=config.hidden_act)),
        (not config.attention_bias, say("its maps have biases")),
        (not config.use_bidirectional_attention, say("it reads the beginning both ways")),
    )
    own: dict[str, Any] = {"feedforward": ("geglu_tanh",), "embedding_factor": config.hidden_size**0.5}
    return TransformerSpec(**llama_shape(config) | rotation(config.rope_parameters) | own)


def _gemma_config(spec: TransformerSpec, ours: Any) -> GemmaConfig:
    return GemmaConfig(
        head_dim=spec.width_of_head,
        hidden_act="gelu_pytorch_tanh",
        rope_parameters=rope_of(spec, spec.rotary_base),
        **llama_fields(spec, ours),
    )


def _why_not_gemma(spec: Any) -> Text | None:
    return why_not_gated(spec, "geglu_tanh", ("rotary_scaling", "embedding_factor")) or _why_not_multiplied(spec)


def _why_not_multiplied(spec: Any) -> Text | None:
    return first_false(
        (
            (spec.embedding_factor == spec.width**0.5, say("it does not multiply embeddings by the root of the width")),
            (not spec.bias, say("its maps have biases")),
        )
    )


def _gain_from_one(state: State, step: float) -> dict[str, Tensor]:
    """Gains of norms, kept as they are or as what they differ from 1 by."""
    return {name: tensor + step if "norm" in name.split(".")[-2] else tensor for name, tensor in state.items()}


def _gemma_to_ours(state: State, spec: Any) -> State:
    return _gain_from_one(state, 1.0)


def _gemma_to_theirs(state: State, spec: Any) -> State:
    return _gain_from_one(state, -1.0)


# Gemma 3 moreover: norms before and behind each part, normalised heads, windows with a rotation of their own.


def _spec_of_gemma3(config: Gemma3TextConfig) -> TransformerSpec:
    require(
        (
            config.hidden_activation == "gelu_pytorch_tanh",
            say("the activation is {activation}", activation=config.hidden_activation),
        ),
        (not config.attention_bias, say("its maps have biases")),
        (not config.use_bidirectional_attention, say("it reads the beginning both ways")),
        (config.final_logit_softcapping is None and config.attn_logit_softcapping is None, say("it bends its logits")),
        (config.query_pre_attn_scalar == config.head_dim, say("its scores are not scaled")),
    )
    # Without a number every token is within the window.
    window = SlidingWindow(window=config.sliding_window or config.max_position_embeddings, sinks=0)
    kinds = [kind == "full_attention" for kind in config.layer_types or ()]
    rope = cast(Mapping[str, Any], config.rope_parameters)
    local, far = rotation(rope["sliding_attention"]), rotation(rope["full_attention"])
    require(("rotary_scaling" not in local, say("the rotation is scaled ({type})", type="sliding_attention")))
    own: dict[str, Any] = {
        "feedforward": ("geglu_tanh",),
        "embedding_factor": config.hidden_size**0.5,
        "mixers": tuple(Softmax() if full else window for full in kinds),
        "norm_placement": "both",
        "query_key_norm": "rms",
        "rotary_local_base": local["rotary_base"],
    }
    return TransformerSpec(**llama_shape(config) | far | own)


def _gemma3_config(spec: TransformerSpec, ours: Any) -> Gemma3TextConfig:
    local = spec.rotary_local_base or spec.rotary_base
    kinds = ["sliding_attention" if isinstance(spec.mixer(layer), SlidingWindow) else "full_attention"
             for layer in range(spec.depth)]  # fmt: skip
    return Gemma3TextConfig(
        head_dim=spec.width_of_head,
        query_pre_attn_scalar=spec.width_of_head,
        layer_types=kinds,
        sliding_window=next(iter(windows_of(spec)), spec.context),
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": local},
            "full_attention": rope_of(spec, spec.rotary_base),
        },
        **llama_fields(spec, ours),
    )


_GEMMA3_OWN = ("rotary_scaling", "embedding_factor", "mixers", "norm_placement", "query_key_norm", "rotary")


def _why_not_gemma3(spec: Any) -> Text | None:
    whole = spec.rotary_layers is None and spec.rotary_share == 1.0
    return why_not_gated(spec, "geglu_tanh", _GEMMA3_OWN) or first_false(
        (
            (plain_windows(spec), say("its attention is no sliding window")),
            (spec.norm_placement == "both", say("its norms or feed-forwards are wired differently")),
            (normalises_heads(spec), say("its heads are not normalised by their root mean square")),
            (whole, say("its rotation differs between layers or numbers")),
        )
    ) or _why_not_multiplied(spec)  # fmt: skip


# Gemma 3's norms of a layer and ours; the second of theirs has the name of our third.
_GEMMA3_NORMS = (
    (".post_attention_layernorm.", ".post_mixing_norm."),
    (".pre_feedforward_layernorm.", ".post_attention_layernorm."),
    (".post_feedforward_layernorm.", ".post_feedforward_norm."),
)


def _gemma3_to_ours(state: State, spec: Any) -> State:
    return {_replaced(name, _GEMMA3_NORMS): tensor for name, tensor in _gain_from_one(state, 1.0).items()}


def _gemma3_to_theirs(state: State, spec: Any) -> State:
    back = tuple((ours, theirs) for theirs, ours in _GEMMA3_NORMS)
    return {_replaced(name, back): tensor for name, tensor in _gain_from_one(state, -1.0).items()}


def _replaced(name: str, table: tuple[tuple[str, str], ...]) -> str:
    """The name with the first part of it that the table knows."""
    for found, new in table:
        if found in name:
            return name.replace(found, new)
    return name


GEMMAS: tuple[Family, ...] = (
    Family(
        "Gemma", GemmaConfig, {GemmaForCausalLM: GlassworksForCausalLM},
        _spec_of_gemma, _gemma_config, _why_not_gemma, _gemma_to_ours, _gemma_to_theirs,
    ),
    Family(
        "Gemma 3", Gemma3TextConfig, {Gemma3ForCausalLM: GlassworksForCausalLM},
        _spec_of_gemma3, _gemma3_config, _why_not_gemma3, _gemma3_to_ours, _gemma3_to_theirs,
    ),
)  # fmt: skip
