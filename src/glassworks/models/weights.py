"""Checkpoints of other libraries <-> ours: the same numbers under other names, the same logits."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.mixers import Softmax
from glassworks.models.hub import GlassworksConfig, GlassworksForCausalLM
from glassworks.models.spec import RecurrentMemorySpec, TransformerSpec
from glassworks.models.stack import Feedforward

# GPT-2's names of activations, and ours.
ACTIVATIONS: dict[str, Feedforward] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}
STATE = dict[str, Tensor]


def spec_of(model: PreTrainedModel) -> TransformerSpec:
    """The spec of what a Llama or GPT-2 model computes; others, and rare options, raise InvalidInput."""
    match model.config:
        case LlamaConfig() as config:
            return _spec_of_llama(config)
        case GPT2Config() as config:
            return _spec_of_gpt2(config)
        case other:
            raise _no_counterpart(say("models of type {type} have no counterpart here", type=str(other.model_type)))


def from_transformers(model: PreTrainedModel) -> GlassworksForCausalLM:
    """Our decoder with the weights of a Llama or GPT-2 language model: the same logits, to rounding."""
    spec = spec_of(model)
    state = dict(model.state_dict())
    if isinstance(model.config, GPT2Config):
        state = gpt2_to_ours(state)
    return _filled(GlassworksForCausalLM, GlassworksConfig.from_spec(spec, **_special(model.config)), state)


def to_transformers(model: GlassworksForCausalLM) -> LlamaForCausalLM | GPT2LMHeadModel:
    """The Llama or GPT-2 model that computes what ours computes; raises InvalidInput where neither does."""
    spec, state = model.config.token_spec, dict(model.state_dict())
    if (problem := _why_not_llama(spec)) is None:
        config = _llama_config(spec, model.config)
        return _filled(LlamaForCausalLM, config, state)
    if (other := _why_not_gpt2(spec)) is None:
        config = _gpt2_config(spec, model.config)
        return _filled(GPT2LMHeadModel, config, ours_to_gpt2(state))
    raise _no_counterpart(say("neither Llama ({llama}) nor GPT-2 ({gpt2}) computes this", llama=problem, gpt2=other))


def gpt2_to_ours(state: Mapping[str, Tensor]) -> STATE:
    """GPT-2's state under our names: query, key and value apart, matrices transposed (output x input)."""
    ours: STATE = {}
    for name, tensor in state.items():
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            # Masks that older checkpoints carry.
            continue
        target = _our_name(name)
        turned = tensor.t() if tensor.ndim == 2 and ".h." in name else tensor
        if ".c_attn." in name:
            for part, piece in zip("qkv", turned.chunk(3), strict=True):
                ours[target.replace("qkv_proj", f"{part}_proj")] = piece.contiguous()
        else:
            ours[target] = turned.contiguous()
    return ours


def ours_to_gpt2(state: Mapping[str, Tensor]) -> STATE:
    """Our state under GPT-2's names, query, key and value joined."""
    theirs: STATE = {}
    for name, tensor in state.items():
        if ".self_attn.k_proj." in name or ".self_attn.v_proj." in name:
            continue
        if ".self_attn.q_proj." in name:
            tensor = torch.cat([state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"])
        turned = tensor.t() if tensor.ndim == 2 and ".layers." in name else tensor
        theirs[_gpt2_name(name)] = turned.contiguous()
    return theirs


# GPT-2's part names and ours, in the order in which they are replaced.
_PARTS = (
    ("transformer.wte.", "model.embed_tokens."),
    ("transformer.wpe.", "model.embed_positions."),
    ("transformer.ln_f.", "model.norm."),
    ("transformer.h.", "model.layers."),
    (".ln_1.", ".input_layernorm."),
    (".ln_2.", ".post_attention_layernorm."),
    (".attn.c_attn.", ".self_attn.qkv_proj."),
    (".attn.c_proj.", ".self_attn.o_proj."),
    (".mlp.c_fc.", ".mlp.up_proj."),
    (".mlp.c_proj.", ".mlp.down_proj."),
)


def _our_name(name: str) -> str:
    for theirs, ours in _PARTS:
        name = name.replace(theirs, ours)
    return name


def _gpt2_name(name: str) -> str:
    name = name.replace(".self_attn.q_proj.", ".self_attn.qkv_proj.")
    for theirs, ours in _PARTS:
        name = name.replace(ours, theirs)
    return name


def _spec_of_llama(config: LlamaConfig) -> TransformerSpec:
    rope = dict[str, Any](cast(Any, config.rope_parameters) or {})
    if rope.get("rope_type", "default") != "default":
        raise _no_counterpart(say("the rotation is scaled ({type})", type=str(rope["rope_type"])))
    if config.hidden_act != "silu":
        raise _no_counterpart(say("the activation is {activation}", activation=config.hidden_act))
    if config.attention_bias != config.mlp_bias:
        raise _no_counterpart(say("attention and feed-forward differ in having a bias"))
    return TransformerSpec(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_width=config.head_dim,
        context=config.max_position_embeddings,
        bias=config.attention_bias,
        norm="rms",
        norm_epsilon=config.rms_norm_eps,
        feedforward=("swiglu",),
        feedforward_width=config.intermediate_size,
        positions="rotary",
        rotary_base=float(rope.get("rope_theta", 10000.0)),
        tie_output=config.tie_word_embeddings,
    )


def _spec_of_gpt2(config: GPT2Config) -> TransformerSpec:
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx or config.add_cross_attention:
        raise _no_counterpart(say("attention is scaled by layer, not at all, or crosses to an encoder"))
    if config.activation_function not in ACTIVATIONS:
        raise _no_counterpart(say("the activation is {activation}", activation=config.activation_function))
    return TransformerSpec(
        vocabulary=config.vocab_size,
        width=config.n_embd,
        depth=config.n_layer,
        heads=config.n_head,
        context=config.n_positions,
        bias=True,
        norm="layer",
        norm_epsilon=config.layer_norm_epsilon,
        feedforward=(ACTIVATIONS[config.activation_function],),
        feedforward_width=config.n_inner,
        positions="learned",
        tie_output=config.tie_word_embeddings,
    )


def _llama_config(spec: TransformerSpec, ours: GlassworksConfig) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=spec.vocabulary,
        hidden_size=spec.width,
        intermediate_size=spec.width_of_feedforward,
        num_hidden_layers=spec.depth,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.sizes.kv_heads,
        head_dim=spec.width_of_head,
        max_position_embeddings=spec.context,
        rms_norm_eps=spec.norm_epsilon,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rotary_base},
        attention_bias=spec.bias,
        mlp_bias=spec.bias,
        tie_word_embeddings=spec.tie_output,
        **_special(ours),
    )


def _gpt2_config(spec: TransformerSpec, ours: GlassworksConfig) -> GPT2Config:
    names: dict[Feedforward, str] = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu"}
    return GPT2Config(
        vocab_size=spec.vocabulary,
        n_embd=spec.width,
        n_layer=spec.depth,
        n_head=spec.heads,
        n_inner=spec.width_of_feedforward,
        n_positions=spec.context,
        activation_function=names[spec.feedforward_of(0)],
        layer_norm_epsilon=spec.norm_epsilon,
        tie_word_embeddings=spec.tie_output,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        **_special(ours),
    )


def _why_not_llama(spec: TransformerSpec) -> Text | None:
    kinds = {spec.feedforward_of(layer) for layer in range(spec.depth)}
    return _why_not(spec) or _first_false(
        (spec.norm == "rms", say("its norm is not the root mean square")),
        (kinds <= {"swiglu"}, say("its feed-forward is not swiglu")),
        (
            spec.positions == "rotary" and spec.rotary_layers is None,
            say("its positions are not rotary everywhere"),
        ),
        (spec.width % spec.heads == 0, say("its heads do not divide the width")),
    )


def _why_not_gpt2(spec: TransformerSpec) -> Text | None:
    kinds = {spec.feedforward_of(layer) for layer in range(spec.depth)}
    known = set(ACTIVATIONS.values())
    return _why_not(spec) or _first_false(
        (spec.norm == "layer" and spec.bias, say("it has no layer norm with biases")),
        (
            len(kinds) <= 1 and kinds <= known,
            say("its feed-forward is not one of {known}", known=", ".join(sorted(known))),
        ),
        (spec.positions == "learned", say("its positions are not learned")),
        (spec.sizes.group == 1, say("its heads share keys")),
        (spec.heads * spec.width_of_head == spec.width, say("its heads do not fill the width")),
    )


def _why_not(spec: TransformerSpec) -> Text | None:
    """What neither family has."""
    softmax = all(isinstance(mixer, Softmax) for mixer in spec.mixers)
    learned = {spec.query, spec.key, spec.value, spec.output} == {"learned"}
    ordinary = spec.norm_placement == "pre" and spec.final_norm and spec.feedforward_reads == "mixed"
    return _first_false(
        (not isinstance(spec, RecurrentMemorySpec), say("it hands a memory from segment to segment")),
        (softmax, say("its attention is not softmax")),
        (learned, say("it has projections that are the identity")),
        (ordinary, say("its norms or feed-forwards are wired differently")),
        (spec.score_scale == "inverse_sqrt", say("its scores are not scaled")),
        (spec.query_key_norm == "none" and not spec.head_norm, say("it normalises heads")),
        (spec.stream_limit is None, say("it limits the stream")),
    )


def _first_false(*conditions: tuple[bool, Text]) -> Text | None:
    return next((reason for holds, reason in conditions if not holds), None)


def _no_counterpart(reason: Text) -> InvalidInput:
    return InvalidInput(reason, right=say("a plain Llama or GPT-2 language model"))


def _special(config: Any) -> dict[str, Any]:
    return {name: config.__dict__.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}


def _filled(kind: Any, config: Any, state: Mapping[str, Tensor]) -> Any:
    """A model of this kind with exactly these weights, in their number format, ready to be read."""
    with torch.device("meta"):
        model = kind(config)
    some = next(iter(state.values()))
    model = model.to_empty(device=some.device).to(some.dtype)
    for module in model.modules():
        # Tables outside the checkpoint (rotary frequencies, sinusoids) are computed again.
        model._init_weights(module)
    model.tie_weights()
    needed = {name: state[name] for name in model.state_dict() if name in state}
    model.load_state_dict(needed if config.tie_word_embeddings else state, strict=True)
    config.dtype = some.dtype
    return model.eval()
