"""T5 <-> our encoder-decoder: the same numbers under other names, the same logits."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers import T5Config, T5ForConditionalGeneration, T5Model

from glassworks.core.text import Text, say
from glassworks.models.families import Family, State, first_false, no_counterpart, require, special_tokens, uncommon
from glassworks.models.renaming import NAMES_OF_ACTIVATIONS, to_our_names, to_their_names
from glassworks.models.seq2seq import EncoderDecoderModel, GlassworksForSeq2SeqLM
from glassworks.models.spec import EncoderDecoderSpec
from glassworks.models.stack import Feedforward, StackSpec

# By whether there is a gate, and the library's name of the activation.
_FEEDFORWARDS: dict[tuple[bool, str], Feedforward] = {
    (True, "gelu_new"): "geglu_tanh",
    (True, "gelu"): "geglu",
    (True, "silu"): "swiglu",
    (False, "relu"): "relu",
    (False, "gelu"): "gelu",
    (False, "gelu_new"): "gelu_tanh",
}
# The config's own words for them; "gated-gelu" stands for the approximation there.
_WORDS: dict[Feedforward, str] = {
    "geglu_tanh": "gated-gelu",
    "swiglu": "gated-silu",
    **NAMES_OF_ACTIVATIONS,
}
_PARTS = (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("o", "o_proj"))
# What of a decoder's ordinary options is different here, and is looked at below.
_OWN = ("kind", "reads", "score_scale")


def _spec_of(config: Any) -> EncoderDecoderSpec:
    kind = (config.is_gated_act, config.dense_act_fn)
    require((kind in _FEEDFORWARDS, say("the activation is {activation}", activation=config.feed_forward_proj)))
    return EncoderDecoderSpec(
        vocabulary=config.vocab_size,
        width=config.d_model,
        depth=config.num_decoder_layers,
        encoder_depth=config.num_layers,
        heads=config.num_heads,
        head_width=config.d_kv,
        context=config.__dict__.get("n_positions", 512),
        norm="rms",
        norm_epsilon=config.layer_norm_epsilon,
        feedforward=(_FEEDFORWARDS[kind],),
        feedforward_width=config.d_ff,
        positions="relative_bias",
        relative_buckets=config.relative_attention_num_buckets,
        relative_distance=config.relative_attention_max_distance,
        score_scale="none",
        tied_factor="inverse_sqrt_width" if config.scale_decoder_outputs else "none",
        start_token=config.__dict__.get("decoder_start_token_id") or config.pad_token_id or 0,
    )


def _as_seen(spec: StackSpec, state: State) -> StackSpec:
    """The config calls every head tied; only the numbers tell."""
    head, shared = state.get("lm_head.weight"), state["shared.weight"]
    is_tied = head is None or head.data_ptr() == shared.data_ptr()
    return spec.replaced("tie_output", is_tied)


def _why_not(spec: StackSpec) -> Text | None:
    if not isinstance(spec, EncoderDecoderSpec):
        return say("it is no encoder-decoder")
    kinds = {spec.feedforward_of(layer) for layer in range(spec.depth)}
    return uncommon(spec, _OWN) or first_false(
        (
            (spec.norm == "rms" and not spec.bias, say("its norm is not the root mean square, or it has biases")),
            (
                len(kinds) <= 1 and kinds <= set(_WORDS),
                say("its feed-forward is not one of {known}", known=", ".join(sorted(_WORDS))),
            ),
            (spec.positions == "relative_bias", say("its positions are not a relative bias")),
            (spec.score_scale == "none", say("its scores are scaled")),
            (spec.sizes.group == 1, say("its heads share keys")),
        )
    )


def _config_of(spec: Any, ours: Any) -> T5Config:
    kind: Any = T5Config
    config = kind(
        vocab_size=spec.vocabulary,
        d_model=spec.width,
        d_kv=spec.width_of_head,
        d_ff=spec.width_of_feedforward,
        num_layers=spec.depth_of_encoder,
        num_decoder_layers=spec.depth,
        num_heads=spec.heads,
        relative_attention_num_buckets=spec.relative_buckets,
        relative_attention_max_distance=spec.relative_distance,
        layer_norm_epsilon=spec.norm_epsilon,
        feed_forward_proj=_WORDS[spec.feedforward_of(0)],
        dropout_rate=0.0,
        n_positions=spec.context,
        decoder_start_token_id=spec.start_token,
        # The library takes it for whether the stream is scaled, and calls every head tied.
        tie_word_embeddings=spec.tied_factor != "none",
        **special_tokens(ours),
    )
    config.tie_word_embeddings = spec.tie_output
    return config


def _to_ours(state: State, spec: Any) -> State:
    for side in ("encoder", "decoder"):
        if not torch.equal(state.get(f"{side}.embed_tokens.weight", state["shared.weight"]), state["shared.weight"]):
            raise no_counterpart(say("its two sides read embeddings of their own"))
    return to_our_names(state, _names(spec, "lm_head.weight" in state))


def _to_theirs(state: State, spec: Any) -> State:
    theirs = to_their_names(state, _names(spec, "lm_head.weight" in state))
    # Each side has a name of its own for the table that both read.
    return theirs | {f"{side}.embed_tokens.weight": theirs["shared.weight"] for side in ("encoder", "decoder")}


def _names(spec: EncoderDecoderSpec, has_head: bool) -> Iterator[tuple[str, str]]:
    """Names of modules, theirs and ours."""
    ours = "model." if has_head else ""
    is_gated = spec.feedforward_of(0) in ("geglu_tanh", "geglu", "swiglu")
    hidden = (("wi_0", "gate_proj"), ("wi_1", "up_proj")) if is_gated else (("wi", "up_proj"),)
    yield "shared", f"{ours}embed_tokens"
    if has_head:
        yield "lm_head", "lm_head"
    for side, depth in (("encoder", spec.depth_of_encoder), ("decoder", spec.depth)):
        yield f"{side}.final_layer_norm", f"{ours}{side}.norm"
        yield f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias", f"{ours}{side}.relative_bias"
        for layer in range(depth):
            theirs, target = f"{side}.block.{layer}.layer", f"{ours}{side}.layers.{layer}"
            last = 1 if side == "encoder" else 2
            yield f"{theirs}.0.layer_norm", f"{target}.input_layernorm"
            yield f"{theirs}.{last}.layer_norm", f"{target}.post_attention_layernorm"
            for one, other in (*hidden, ("wo", "down_proj")):
                yield f"{theirs}.{last}.DenseReluDense.{one}", f"{target}.mlp.{other}"
            for one, other in _PARTS:
                yield f"{theirs}.0.SelfAttention.{one}", f"{target}.self_attn.{other}"
                if side == "decoder":
                    yield f"{theirs}.1.EncDecAttention.{one}", f"{target}.cross_attn.{other}"
            if side == "decoder":
                yield f"{theirs}.1.layer_norm", f"{target}.cross_layernorm"


T5 = Family(
    name="T5",
    config=T5Config,
    classes={T5ForConditionalGeneration: GlassworksForSeq2SeqLM, T5Model: EncoderDecoderModel},
    spec_of=_spec_of,
    config_of=_config_of,
    why_not=_why_not,
    to_ours=_to_ours,
    to_theirs=_to_theirs,
    as_seen=_as_seen,
)
