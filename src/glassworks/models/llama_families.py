"""Llama and its descendants in other libraries: Llama, Mistral, Qwen 2, Qwen 3."""

from typing import Any

from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from glassworks.core.text import Text, say
from glassworks.mixers import AnyMixer, SlidingWindow, Softmax
from glassworks.models.families import Family, first_false, no_counterpart, require, special_tokens, uncommon
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.spec import TransformerSpec
from glassworks.models.stack import Feedforward, RotaryScaling

# What Llama and its descendants share.


def llama_shape(config: Any) -> dict[str, Any]:
    """The sizes of a config that names them as Llama's does."""
    return {
        "vocabulary": config.vocab_size,
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_width": config.__dict__.get("head_dim") or config.hidden_size // config.num_attention_heads,
        "context": config.max_position_embeddings,
        "norm": "rms",
        "norm_epsilon": config.rms_norm_eps,
        "feedforward": ("swiglu",),
        "feedforward_width": config.intermediate_size,
        "positions": "rotary",
        "tie_output": config.tie_word_embeddings,
    }


def llama_fields(spec: TransformerSpec, ours: Any) -> dict[str, Any]:
    """The sizes of a spec under the names of Llama's config."""
    return {
        "vocab_size": spec.vocabulary,
        "hidden_size": spec.width,
        "intermediate_size": spec.width_of_feedforward,
        "num_hidden_layers": spec.depth,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.sizes.kv_heads,
        "max_position_embeddings": spec.context,
        "rms_norm_eps": spec.norm_epsilon,
        "tie_word_embeddings": spec.tie_output,
        **special_tokens(ours),
    }


def rotation(rope: Any) -> dict[str, Any]:
    """The fields of our spec for what the library calls rope parameters."""
    found = dict[str, Any](rope or {})
    base = {"rotary_base": float(found.get("rope_theta", 10000.0))}
    match found.get("rope_type", "default"):
        case "default":
            return base
        case "linear":
            return base | {"rotary_scaling": RotaryScaling(kind="linear", factor=found["factor"])}
        case "llama3":
            return base | {
                "rotary_scaling": RotaryScaling(
                    kind="llama3",
                    factor=found["factor"],
                    low=found["low_freq_factor"],
                    high=found["high_freq_factor"],
                    original=found["original_max_position_embeddings"],
                )
            }
        case other:
            raise no_counterpart(say("the rotation is scaled ({type})", type=str(other)))


def rope_of(spec: TransformerSpec, base: float) -> dict[str, Any]:
    """Rope parameters as the library calls them."""
    scaling = spec.rotary_scaling
    if scaling is None:
        return {"rope_type": "default", "rope_theta": base}
    found = {"rope_type": scaling.kind, "rope_theta": base, "factor": scaling.factor}
    if scaling.kind == "llama3":
        found |= {
            "low_freq_factor": scaling.low,
            "high_freq_factor": scaling.high,
            "original_max_position_embeddings": scaling.original,
        }
    return found


def why_not_gated(spec: Any, kind: Feedforward, own: tuple[str, ...]) -> Text | None:
    """What a decoder with root mean square norms, rotary positions and this feed-forward does not have."""
    kinds = {spec.feedforward_of(layer) for layer in range(spec.depth)}
    ntk = spec.rotary_scaling is not None and spec.rotary_scaling.kind == "ntk"
    return uncommon(spec, own) or first_false(
        (
            (spec.norm == "rms", say("its norm is not the root mean square")),
            (kinds <= {kind}, say("its feed-forward is not {kind}", kind=kind)),
            (spec.positions == "rotary", say("its positions are not rotary everywhere")),
            (not ntk, say("its rotation is stretched")),
        )
    )


def windows_of(spec: TransformerSpec) -> set[int]:
    """The widths of its sliding windows, in tokens."""
    return {mixer.window for mixer in spec.mixers if isinstance(mixer, SlidingWindow)}


def plain_windows(spec: TransformerSpec) -> bool:
    """Whether each layer is full attention, or the same sliding window without sinks."""
    known = all(isinstance(mixer, Softmax) or mixer == SlidingWindow(window=w, sinks=0)
                for w in windows_of(spec) or {1} for mixer in spec.mixers)  # fmt: skip
    return known and len(windows_of(spec)) <= 1


# Llama.


def _spec_of_llama(config: LlamaConfig) -> TransformerSpec:
    require(
        (config.hidden_act == "silu", say("the activation is {activation}", activation=config.hidden_act)),
        (config.attention_bias == config.mlp_bias, say("attention and feed-forward differ in having a bias")),
    )
    shape = llama_shape(config) | rotation(config.rope_parameters)
    return TransformerSpec(bias=config.attention_bias, **shape)


def _llama_config(spec: TransformerSpec, ours: Any) -> LlamaConfig:
    return LlamaConfig(
        head_dim=spec.width_of_head,
        attention_bias=spec.bias,
        mlp_bias=spec.bias,
        rope_parameters=rope_of(spec, spec.rotary_base),
        **llama_fields(spec, ours),
    )


def _why_not_llama(spec: Any) -> Text | None:
    return why_not_gated(spec, "swiglu", ("rotary_scaling",)) or first_false(
        [(spec.width % spec.heads == 0, say("its heads do not divide the width"))]
    )


# Mistral: a window for all layers.


def _spec_of_mistral(config: MistralConfig) -> TransformerSpec:
    require((config.hidden_act == "silu", say("the activation is {activation}", activation=config.hidden_act)))
    window = config.sliding_window
    mixers: tuple[AnyMixer, ...] = (Softmax() if window is None else SlidingWindow(window=window, sinks=0),)
    return TransformerSpec(mixers=mixers, **llama_shape(config), **rotation(config.rope_parameters))


def _mistral_config(spec: TransformerSpec, ours: Any) -> MistralConfig:
    return MistralConfig(
        head_dim=spec.width_of_head,
        sliding_window=next(iter(windows_of(spec)), None),
        rope_parameters=rope_of(spec, spec.rotary_base),
        **llama_fields(spec, ours),
    )


def _why_not_mistral(spec: Any) -> Text | None:
    return why_not_gated(spec, "swiglu", ("rotary_scaling", "mixers")) or first_false(
        (
            (len(set(spec.mixers)) == 1 and plain_windows(spec), say("its attention is no sliding window")),
            (not spec.bias, say("its maps have biases")),
        )
    )


# Qwen 2: biases of queries, keys and values. Qwen 3: none, and heads are normalised.


def _spec_of_qwen2(config: Qwen2Config) -> TransformerSpec:
    _check_qwen(config)
    return TransformerSpec(query_bias=True, **llama_shape(config), **rotation(config.rope_parameters))


def _check_qwen(config: Any) -> None:
    require(
        (config.hidden_act == "silu", say("the activation is {activation}", activation=config.hidden_act)),
        (
            set(config.layer_types or ()) <= {"full_attention"},
            say("some of its layers have a window"),
        ),
    )


def _qwen2_config(spec: TransformerSpec, ours: Any) -> Qwen2Config:
    # The class names no width of heads, but its attention looks for one.
    own: dict[str, Any] = {"head_dim": spec.width_of_head, "rope_parameters": rope_of(spec, spec.rotary_base)}
    return Qwen2Config(**own, **llama_fields(spec, ours))


def _why_not_qwen2(spec: Any) -> Text | None:
    return why_not_gated(spec, "swiglu", ("rotary_scaling", "query_bias")) or first_false(
        [(spec.query_bias is True and not spec.bias, say("its queries have no bias, or other maps have one"))]
    )


def _spec_of_qwen3(config: Qwen3Config) -> TransformerSpec:
    _check_qwen(config)
    require((not config.attention_bias, say("its maps have biases")))
    return TransformerSpec(query_key_norm="rms", **llama_shape(config), **rotation(config.rope_parameters))


def _qwen3_config(spec: TransformerSpec, ours: Any) -> Qwen3Config:
    return Qwen3Config(
        head_dim=spec.width_of_head, rope_parameters=rope_of(spec, spec.rotary_base), **llama_fields(spec, ours)
    )


def normalises_heads(spec: Any) -> bool:
    """Whether queries and keys of every layer are divided by their root mean square."""
    return spec.query_key_norm == "rms" and spec.query_key_norm_layers is None and not spec.head_norm


def _why_not_qwen3(spec: Any) -> Text | None:
    return why_not_gated(spec, "swiglu", ("rotary_scaling", "query_key_norm")) or first_false(
        (
            (normalises_heads(spec), say("its heads are not normalised by their root mean square")),
            (not spec.bias, say("its maps have biases")),
        )
    )


_OURS = GlassworksForCausalLM

LLAMAS: tuple[Family, ...] = (
    Family("Llama", LlamaConfig, {LlamaForCausalLM: _OURS}, _spec_of_llama, _llama_config, _why_not_llama),
    Family("Mistral", MistralConfig, {MistralForCausalLM: _OURS}, _spec_of_mistral, _mistral_config, _why_not_mistral),
    Family("Qwen 2", Qwen2Config, {Qwen2ForCausalLM: _OURS}, _spec_of_qwen2, _qwen2_config, _why_not_qwen2),
    Family("Qwen 3", Qwen3Config, {Qwen3ForCausalLM: _OURS}, _spec_of_qwen3, _qwen3_config, _why_not_qwen3),
)
