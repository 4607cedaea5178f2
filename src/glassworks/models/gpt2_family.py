"""GPT-2 in the transformers library, and ours."""

from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from glassworks.core.text import Text, say
from glassworks.models.families import Family, State, first_false, require, special_tokens, uncommon
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.spec import TransformerSpec
from glassworks.models.stack import Feedforward

# GPT-2's names of activations, and ours.
ACTIVATIONS: dict[str, Feedforward] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}


def _spec_of_gpt2(config: GPT2Config) -> TransformerSpec:
    activation = config.activation_function
    require(
        (
            config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx,
            say("scores are scaled by layer, or not at all"),
        ),
        (activation in ACTIVATIONS, say("the activation is {activation}", activation=activation)),
        (not config.add_cross_attention, say("it is no plain decoder of tokens")),
    )
    return TransformerSpec(
        vocabulary=config.vocab_size,
        width=config.n_embd,
        depth=config.n_layer,
        heads=config.n_head,
        context=config.n_positions,
        bias=True,
        norm="layer",
        norm_epsilon=config.layer_norm_epsilon,
        feedforward=(ACTIVATIONS[activation],),
        feedforward_width=config.n_inner,
        positions="learned",
        tie_output=config.tie_word_embeddings,
    )


def _gpt2_config(spec: TransformerSpec, ours: Any) -> GPT2Config:
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
        resid_pdrop=spec.dropout,
        embd_pdrop=spec.dropout,
        attn_pdrop=0.0,
        **special_tokens(ours),
    )


def _why_not_gpt2(spec: Any) -> Text | None:
    kinds = {spec.feedforward_of(layer) for layer in range(spec.depth)}
    known = set(ACTIVATIONS.values())
    return uncommon(spec) or first_false(
        (
            (spec.norm == "layer" and spec.bias, say("it has no layer norm with biases")),
            (
                len(kinds) <= 1 and kinds <= known,
                say("its feed-forward is not one of {known}", known=", ".join(sorted(known))),
            ),
            (spec.positions == "learned", say("its positions are not learned")),
            (spec.sizes.group == 1, say("its heads share keys")),
            (spec.heads * spec.width_of_head == spec.width, say("its heads do not fill the width")),
        )
    )


# GPT-2's part names and ours, in the order in which they are replaced.
_GPT2_PARTS = (
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


def gpt2_to_ours(state: State, spec: Any = None) -> State:
    """GPT-2's state under our names: query, key and value apart, matrices transposed (output x input)."""
    ours: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            # Masks that older checkpoints carry.
            continue
        target = name
        for theirs, our in _GPT2_PARTS:
            target = target.replace(theirs, our)
        turned = tensor.t() if tensor.ndim == 2 and ".h." in name else tensor
        if ".c_attn." in name:
            for part, piece in zip("qkv", turned.chunk(3), strict=True):
                ours[target.replace("qkv_proj", f"{part}_proj")] = piece.contiguous()
        else:
            ours[target] = turned.contiguous()
    return ours


def ours_to_gpt2(state: State, spec: Any = None) -> State:
    """Our state under GPT-2's names, query, key and value joined."""
    theirs: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".self_attn.k_proj." in name or ".self_attn.v_proj." in name:
            continue
        if ".self_attn.q_proj." in name:
            tensor = torch.cat([state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"])
        turned = tensor.t() if tensor.ndim == 2 and ".layers." in name else tensor
        target = name.replace(".self_attn.q_proj.", ".self_attn.qkv_proj.")
        for their, our in _GPT2_PARTS:
            target = target.replace(our, their)
        theirs[target] = turned.contiguous()
    return theirs


GPT2 = Family(
    "GPT-2", GPT2Config, {GPT2LMHeadModel: GlassworksForCausalLM},
    _spec_of_gpt2, _gpt2_config, _why_not_gpt2, gpt2_to_ours, ours_to_gpt2,
)  # fmt: skip
