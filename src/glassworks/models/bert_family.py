"""BERT and RoBERTa <-> our encoder: the same numbers under other names, the same vectors and logits."""

from collections.abc import Iterator
from typing import Any

from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
)

from glassworks.core.text import Text, say
from glassworks.models.encoder import EncoderModel, GlassworksForMaskedLM
from glassworks.models.families import Family, State, first_false, no_counterpart, require, special_tokens, uncommon
from glassworks.models.renaming import ACTIVATIONS, NAMES_OF_ACTIVATIONS, to_our_names, to_their_names
from glassworks.models.spec import EncoderSpec
from glassworks.models.stack import StackSpec

# Rows of RoBERTa's table of positions before the first position's: up to that of the padding token, which is number 1.
ROBERTA_OFFSET = 2

# Parts of a layer, theirs and ours.
_LAYER = (
    ("attention.self.query", "self_attn.q_proj"),
    ("attention.self.key", "self_attn.k_proj"),
    ("attention.self.value", "self_attn.v_proj"),
    ("attention.output.dense", "self_attn.o_proj"),
    ("attention.output.LayerNorm", "input_layernorm"),
    ("intermediate.dense", "mlp.up_proj"),
    ("output.dense", "mlp.down_proj"),
    ("output.LayerNorm", "post_attention_layernorm"),
)
_BODY = (
    ("embeddings.word_embeddings", "embed_tokens"),
    ("embeddings.position_embeddings", "embed_positions"),
    ("embeddings.token_type_embeddings", "embed_types"),
    ("embeddings.LayerNorm", "embed_norm"),
    ("pooler.dense", "pooler.dense"),
)
# The body's name in a masked language model, and the parts of its head; the module itself holds the bias.
_BERT_HEAD = ("bert", "cls.predictions", "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm")
_ROBERTA_HEAD = ("roberta", "lm_head", "lm_head.dense", "lm_head.layer_norm")
# What of a decoder's ordinary options is different here, and is looked at below.
_OWN = ("kind", "reads", "norm_placement", "wired", "embedding_norm", "tables")


def _spec_of(config: Any) -> EncoderSpec:
    is_roberta = isinstance(config, RobertaConfig)
    offset = ROBERTA_OFFSET if is_roberta else 0
    require(
        (config.hidden_act in ACTIVATIONS, say("the activation is {activation}", activation=config.hidden_act)),
        (not config.is_decoder and not config.add_cross_attention, say("it is set up as a decoder")),
        (not is_roberta or config.hidden_act == "gelu", _no_gelu()),
        (
            not is_roberta or config.pad_token_id == ROBERTA_OFFSET - 1,
            say("its padding token is not number {token}", token=ROBERTA_OFFSET - 1),
        ),
    )
    return EncoderSpec(
        vocabulary=config.vocab_size,
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        context=config.max_position_embeddings - offset,
        bias=True,
        norm="layer",
        norm_placement="post",
        norm_epsilon=config.layer_norm_eps,
        final_norm=False,
        embedding_norm=True,
        feedforward=(ACTIVATIONS[config.hidden_act],),
        feedforward_width=config.intermediate_size,
        positions="learned",
        position_offset=offset,
        tie_output=config.tie_word_embeddings,
        token_types=config.type_vocab_size,
    )


def _as_seen(spec: StackSpec, state: State) -> StackSpec:
    """A config does not tell whether there is a pooler."""
    assert isinstance(spec, EncoderSpec)
    return spec.replaced("pooler", any(name.endswith("pooler.dense.weight") for name in state))


def _why_not(spec: StackSpec) -> Text | None:
    kinds = {spec.feedforward_of(layer) for layer in range(spec.depth)}
    known = set(ACTIVATIONS.values())
    if not isinstance(spec, EncoderSpec):
        return say("it is no encoder")
    return uncommon(spec, _OWN) or first_false(
        (
            (spec.norm == "layer" and spec.bias, say("it has no layer norm with biases")),
            (
                spec.norm_placement == "post" and spec.embedding_norm and not spec.final_norm,
                say("its norms do not stand after embedding and sums alone"),
            ),
            (spec.feedforward_reads == "mixed", say("its norms or feed-forwards are wired differently")),
            (
                len(kinds) <= 1 and kinds <= known,
                say("its feed-forward is not one of {known}", known=", ".join(sorted(known))),
            ),
            (spec.positions == "learned" and spec.position_period is None, say("its positions are not learned")),
            (spec.sizes.group == 1, say("its heads share keys")),
            (spec.heads * spec.width_of_head == spec.width, say("its heads do not fill the width")),
            (spec.token_types > 0, say("it has no kinds of tokens")),
            (spec.prediction_transform, say("it has no map before its unembedding")),
        )
    )


def _why_not_bert(spec: StackSpec) -> Text | None:
    return _why_not(spec) or first_false([(spec.position_offset == 0, _other_table())])


def _why_not_roberta(spec: StackSpec) -> Text | None:
    is_gelu = all(spec.feedforward_of(layer) == "gelu" for layer in range(spec.depth))
    return _why_not(spec) or first_false(
        [(spec.position_offset == ROBERTA_OFFSET, _other_table()), (is_gelu, _no_gelu())]
    )


def _config_of(spec: Any, ours: Any) -> BertConfig | RobertaConfig:
    is_roberta = spec.position_offset == ROBERTA_OFFSET
    kind: Any = RobertaConfig if is_roberta else BertConfig
    # RoBERTa counts its places from the number of its padding token on.
    padding = {"pad_token_id": ROBERTA_OFFSET - 1} if is_roberta else {}
    return kind(
        vocab_size=spec.vocabulary,
        hidden_size=spec.width,
        num_hidden_layers=spec.depth,
        num_attention_heads=spec.heads,
        intermediate_size=spec.width_of_feedforward,
        hidden_act=NAMES_OF_ACTIVATIONS[spec.feedforward_of(0)],
        max_position_embeddings=spec.context + spec.position_offset,
        type_vocab_size=spec.token_types,
        layer_norm_eps=spec.norm_epsilon,
        tie_word_embeddings=spec.tie_output,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        **special_tokens(ours) | padding,
    )


def _to_ours(state: State, spec: Any) -> State:
    ours = to_our_names(state, _names(spec, any(_is_head(name) for name in state)))
    # The library keeps the bias twice, tied like the weights or not; this is the one it adds.
    added = ours.pop("lm_head.bias", None)
    return ours if added is None else ours | {"prediction.bias": added}


def _to_theirs(state: State, spec: Any) -> State:
    has_head = "lm_head.weight" in state
    if not has_head and not spec.pooler:
        raise no_counterpart(say("it has no pooler"))
    theirs = to_their_names(state, _names(spec, has_head))
    if has_head:
        holder = _head(spec)[1]
        theirs[f"{holder}.decoder.bias"] = theirs[f"{holder}.bias"]
    return theirs


def _is_head(name: str) -> bool:
    return name.startswith(("cls.", "lm_head."))


def _head(spec: EncoderSpec) -> tuple[str, str, str, str]:
    return _ROBERTA_HEAD if spec.position_offset == ROBERTA_OFFSET else _BERT_HEAD


def _names(spec: EncoderSpec, has_head: bool) -> Iterator[tuple[str, str]]:
    """Names of modules, theirs and ours; beside a head, those of the body stand below its own name."""
    body, holder, dense, norm = _head(spec)
    theirs, ours = (f"{body}.", "model.") if has_head else ("", "")
    for one, other in _BODY:
        yield theirs + one, ours + other
    for layer in range(spec.depth):
        for one, other in _LAYER:
            yield f"{theirs}encoder.layer.{layer}.{one}", f"{ours}layers.{layer}.{other}"
    if has_head:
        yield holder, "prediction"
        yield dense, "prediction.dense"
        yield norm, "prediction.norm"
        yield f"{holder}.decoder", "lm_head"


def _no_gelu() -> Text:
    return say("RoBERTa's own map before the unembedding is gelu")


def _other_table() -> Text:
    return say("its table of positions begins elsewhere or again")


BERT = Family(
    name="BERT",
    config=BertConfig,
    classes={BertForMaskedLM: GlassworksForMaskedLM, BertModel: EncoderModel},
    spec_of=_spec_of,
    config_of=_config_of,
    why_not=_why_not_bert,
    to_ours=_to_ours,
    to_theirs=_to_theirs,
    as_seen=_as_seen,
)
ROBERTA = Family(
    name="RoBERTa",
    config=RobertaConfig,
    classes={RobertaForMaskedLM: GlassworksForMaskedLM, RobertaModel: EncoderModel},
    spec_of=_spec_of,
    config_of=_config_of,
    why_not=_why_not_roberta,
    to_ours=_to_ours,
    to_theirs=_to_theirs,
    as_seen=_as_seen,
)
