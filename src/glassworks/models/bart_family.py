"""BART <-> our encoder-decoder: the same numbers under other names, the same logits."""

from collections.abc import Iterator
from typing import Any

import torch
from transformers import BartConfig, BartForConditionalGeneration, BartModel

from glassworks.core.text import Text, say
from glassworks.models.families import Family, State, first_false, no_counterpart, require, special_tokens, uncommon
from glassworks.models.renaming import ACTIVATIONS, NAMES_OF_ACTIVATIONS, to_our_names, to_their_names
from glassworks.models.seq2seq import EncoderDecoderModel, GlassworksForSeq2SeqLM
from glassworks.models.spec import EncoderDecoderSpec
from glassworks.models.stack import StackSpec

# Rows of the table of positions before the first position's.
OFFSET = 2

_PARTS = (("q_proj", "q_proj"), ("k_proj", "k_proj"), ("v_proj", "v_proj"), ("out_proj", "o_proj"))
_LAYER = (
    ("self_attn_layer_norm", "input_layernorm"),
    ("encoder_attn_layer_norm", "cross_layernorm"),
    ("final_layer_norm", "post_attention_layernorm"),
    ("fc1", "mlp.up_proj"),
    ("fc2", "mlp.down_proj"),
)
_SIDE = (("embed_positions", "embed_positions"), ("layernorm_embedding", "embed_norm"))
# A constant per token added to logits: zeros in every published checkpoint.
_LOGITS_BIAS = "final_logits_bias"
# What of a decoder's ordinary options is different here, and is looked at below.
_OWN = ("kind", "reads", "norm_placement", "wired", "embedding_norm", "embedding_factor", "tables")


def _spec_of(config: Any) -> EncoderDecoderSpec:
    activation = config.activation_function
    require(
        (activation in ACTIVATIONS, say("the activation is {activation}", activation=activation)),
        (
            config.encoder_attention_heads == config.decoder_attention_heads
            and config.encoder_ffn_dim == config.decoder_ffn_dim,
            say("encoder and decoder differ in heads or feed-forward width"),
        ),
    )
    return EncoderDecoderSpec(
        vocabulary=config.vocab_size,
        width=config.d_model,
        depth=config.decoder_layers,
        encoder_depth=config.encoder_layers,
        heads=config.decoder_attention_heads,
        context=config.max_position_embeddings,
        bias=True,
        norm="layer",
        norm_placement="post",
        final_norm=False,
        embedding_norm=True,
        embedding_factor=config.d_model**0.5 if config.scale_embedding else 1.0,
        feedforward=(ACTIVATIONS[activation],),
        feedforward_width=config.decoder_ffn_dim,
        positions="learned",
        position_offset=OFFSET,
        tie_output=config.tie_word_embeddings,
        start_token=config.decoder_start_token_id,
    )


def _why_not(spec: StackSpec) -> Text | None:
    if not isinstance(spec, EncoderDecoderSpec):
        return say("it is no encoder-decoder")
    kinds = {spec.feedforward_of(layer) for layer in range(spec.depth)}
    known = set(ACTIVATIONS.values())
    return uncommon(spec, _OWN) or first_false(
        (
            (spec.norm == "layer" and spec.bias, say("it has no layer norm with biases")),
            (spec.norm_epsilon == 1e-5, say("the epsilon of its norms is not 1e-5")),
            (
                spec.norm_placement == "post" and spec.embedding_norm and not spec.final_norm,
                say("its norms do not stand after embedding and sums alone"),
            ),
            (spec.feedforward_reads == "mixed", say("its norms or feed-forwards are wired differently")),
            (spec.embedding_factor in (1.0, spec.width**0.5), say("it multiplies embeddings")),
            (
                len(kinds) <= 1 and kinds <= known,
                say("its feed-forward is not one of {known}", known=", ".join(sorted(known))),
            ),
            (spec.positions == "learned" and spec.position_period is None, say("its positions are not learned")),
            (spec.position_offset == OFFSET, say("its table of positions begins elsewhere or again")),
            (spec.tied_factor == "none", say("it multiplies the stream before the unembedding")),
            (spec.sizes.group == 1, say("its heads share keys")),
            (spec.heads * spec.width_of_head == spec.width, say("its heads do not fill the width")),
        )
    )


def _config_of(spec: Any, ours: Any) -> BartConfig:
    return BartConfig(
        vocab_size=spec.vocabulary,
        d_model=spec.width,
        encoder_layers=spec.depth_of_encoder,
        decoder_layers=spec.depth,
        encoder_attention_heads=spec.heads,
        decoder_attention_heads=spec.heads,
        encoder_ffn_dim=spec.width_of_feedforward,
        decoder_ffn_dim=spec.width_of_feedforward,
        max_position_embeddings=spec.context,
        activation_function=NAMES_OF_ACTIVATIONS[spec.feedforward_of(0)],
        scale_embedding=spec.embedding_factor != 1.0,
        dropout=0.0,
        attention_dropout=0.0,
        tie_word_embeddings=spec.tie_output,
        decoder_start_token_id=spec.start_token,
        **special_tokens(ours),
    )


def _to_ours(state: State, spec: Any) -> State:
    added = state.get(_LOGITS_BIAS)
    if added is not None and bool(added.any()):
        raise no_counterpart(say("it adds a constant to logits"))
    return to_our_names(state, _names(spec, "lm_head.weight" in state))


def _to_theirs(state: State, spec: Any) -> State:
    has_head = "lm_head.weight" in state
    theirs = to_their_names(state, _names(spec, has_head))
    body = "model." if has_head else ""
    shared = theirs[f"{body}shared.weight"]
    # Each side has a name of its own for the table that both read.
    theirs |= {f"{body}{side}.embed_tokens.weight": shared for side in ("encoder", "decoder")}
    zeros = torch.zeros(1, spec.vocabulary, dtype=shared.dtype, device=shared.device)
    return theirs | ({_LOGITS_BIAS: zeros} if has_head else {})


def _names(spec: EncoderDecoderSpec, has_head: bool) -> Iterator[tuple[str, str]]:
    """Names of modules, theirs and ours."""
    body = "model." if has_head else ""
    yield f"{body}shared", f"{body}embed_tokens"
    if has_head:
        yield "lm_head", "lm_head"
    for side, depth in (("encoder", spec.depth_of_encoder), ("decoder", spec.depth)):
        for one, other in _SIDE:
            yield f"{body}{side}.{one}", f"{body}{side}.{other}"
        for layer in range(depth):
            place = f"{body}{side}.layers.{layer}"
            for one, other in _LAYER:
                yield f"{place}.{one}", f"{place}.{other}"
            for one, other in _PARTS:
                yield f"{place}.self_attn.{one}", f"{place}.self_attn.{other}"
                yield f"{place}.encoder_attn.{one}", f"{place}.cross_attn.{other}"


BART = Family(
    name="BART",
    config=BartConfig,
    classes={BartForConditionalGeneration: GlassworksForSeq2SeqLM, BartModel: EncoderDecoderModel},
    spec_of=_spec_of,
    config_of=_config_of,
    why_not=_why_not,
    to_ours=_to_ours,
    to_theirs=_to_theirs,
)
