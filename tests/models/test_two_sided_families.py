from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    BartModel,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
    T5Model,
)

from glassworks.core.errors import InvalidInput
from glassworks.models import (
    EncoderDecoderModel,
    EncoderModel,
    GlassworksForMaskedLM,
    GlassworksForSeq2SeqLM,
    build_model,
)
from glassworks.models.weights import from_transformers, spec_of, to_transformers
from glassworks.tensors.seeds import Seed
from tests.assets import gallery_model
from tests.models.test_encoder import SPECS as ENCODERS
from tests.models.test_seq2seq import SPECS as ENCODER_DECODERS

CHANCE = torch.Generator().manual_seed(0)
IDS = torch.randint(3, 29, (2, 11), generator=CHANCE)
MASK = torch.ones_like(IDS)
MASK[1, 7:] = 0
TARGET = torch.randint(3, 29, (2, 6), generator=CHANCE)
BERT_SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
T5_SIZES = {"d_model": 24, "d_kv": 5, "num_heads": 4, "num_layers": 3, "num_decoder_layers": 2, "d_ff": 40}
BART_SIZES = {
    "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 20,
}  # fmt: skip


def bert(kind: Any = BertForMaskedLM, **fields: Any) -> Any:
    config: Any = RobertaConfig if kind in (RobertaForMaskedLM, RobertaModel) else BertConfig
    return random(kind, config(**({"vocab_size": 29, "max_position_embeddings": 20} | BERT_SIZES | fields)))


def t5(kind: Any = T5ForConditionalGeneration, **fields: Any) -> Any:
    config: Any = T5Config
    return random(kind, config(vocab_size=29, decoder_start_token_id=0, **(T5_SIZES | fields)))


def flan() -> T5ForConditionalGeneration:
    """A head of its own, of which the config knows nothing, as the library loads T5 1.1."""
    model = t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().flip(0) * 0.7)
    return model


def bart(kind: Any = BartForConditionalGeneration, **fields: Any) -> Any:
    config: Any = BartConfig
    return random(kind, config(vocab_size=29, **(BART_SIZES | fields)))


def random(kind: Any, config: Any) -> Any:
    """Weights large enough that a wrong place for any of them shows in the logits; norms and biases too."""
    model = kind(config).eval()
    chance = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.4, generator=chance)
    if isinstance(model, BertForMaskedLM):
        # Untied, the library keeps the bias a second time and never reads it.
        model.cls.predictions.bias.data.copy_(model.cls.predictions.decoder.bias.data)
    return model


OTHERS: dict[str, tuple[Callable[[], Any], type[Any]]] = {
    "bert": (bert, GlassworksForMaskedLM),
    "bert, untied, relu": (lambda: bert(tie_word_embeddings=False, hidden_act="relu"), GlassworksForMaskedLM),
    "bert's body": (lambda: bert(BertModel, hidden_act="gelu_new"), EncoderModel),
    "roberta": (lambda: bert(RobertaForMaskedLM, type_vocab_size=1), GlassworksForMaskedLM),
    "roberta's body": (lambda: bert(RobertaModel), EncoderModel),
    "t5": (t5, GlassworksForSeq2SeqLM),
    "t5 1.1": (flan, GlassworksForSeq2SeqLM),
    "t5's body": (lambda: t5(T5Model, feed_forward_proj="gated-silu"), EncoderDecoderModel),
    "bart": (bart, GlassworksForSeq2SeqLM),
    "bart with wide embeddings": (lambda: bart(scale_embedding=True), GlassworksForSeq2SeqLM),
    "bart's body": (lambda: bart(BartModel, activation_function="relu"), EncoderDecoderModel),
}
# The others go with the slow tests.
FAST = ("bert", "roberta", "t5 1.1", "bart")
each = pytest.mark.parametrize(
    ("make", "kind"),
    [pytest.param(*OTHERS[name], id=name, marks=() if name in FAST else pytest.mark.slow) for name in OTHERS],
)


def found(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """What a model makes of a padded batch, at real tokens."""
    given = {"input_ids": IDS, "attention_mask": MASK}
    if model.config.is_encoder_decoder:
        given["decoder_input_ids"] = TARGET
    with torch.no_grad():
        outputs: Any = model(**given)
    names = ("logits", "last_hidden_state", "pooler_output", "encoder_last_hidden_state")
    tensors = {name: outputs[name] for name in names if outputs.get(name) is not None}
    real = MASK == 1
    return {name: x[real] if x.shape[:2] == IDS.shape else x for name, x in tensors.items()}


@each
def test_weights_come_over_with_their_outputs_and_go_back_number_by_number(
    make: Callable[[], Any], kind: type[Any]
) -> None:
    theirs = make()
    ours = from_transformers(theirs)
    assert type(ours) is kind
    expected, own = found(theirs), found(ours)
    assert own.keys() == expected.keys()
    for name, tensor in own.items():
        assert_close(tensor, expected[name], atol=1e-5, rtol=1e-5)
        assert tensor.std() > 0.05
    again = to_transformers(ours)
    assert type(again) is type(theirs)
    assert again.state_dict().keys() == theirs.state_dict().keys()
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    for name, tensor in found(again).items():
        assert_close(tensor, expected[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("beams", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [flan, *(pytest.param(make, marks=pytest.mark.slow) for make in (t5, bart))])
def test_both_write_the_same_text(make: Callable[[], Any], beams: int) -> None:
    theirs = make()
    ours = from_transformers(theirs)
    options = {"max_new_tokens": 9, "do_sample": False, "num_beams": beams, "eos_token_id": 2, "pad_token_id": 1}
    options |= {
        "attention_mask": MASK,
        "forced_eos_token_id": None,
        "decoder_start_token_id": ours.model.spec.start_token,
    }
    assert torch.equal(ours.generate(IDS, **options), theirs.generate(IDS, **options))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: bert(BertForSequenceClassification), "BertForSequenceClassification has no counterpart"),
        (lambda: bert(hidden_act="tanh"), "tanh"),
        (lambda: bert(is_decoder=True), "set up as a decoder"),
        (lambda: bert(RobertaForMaskedLM, pad_token_id=0), "padding token is not number 1"),
        (lambda: t5(feed_forward_proj="gated-relu"), "gated-relu"),
        (lambda: bart(encoder_ffn_dim=30), "differ"),
    ],
)
def test_what_has_no_counterpart_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        from_transformers(make())


def test_logits_with_a_constant_and_two_embeddings_are_refused() -> None:
    shifted, apart = bart(), flan()
    shifted.final_logits_bias += 1
    apart.decoder.embed_tokens = nn.Embedding(29, 24)
    for model, says in ((shifted, "constant to logits"), (apart, "embeddings of their own")):
        with pytest.raises(InvalidInput, match=says):
            from_transformers(model)


@pytest.mark.parametrize(
    ("spec", "says"),
    [(ENCODERS["before"], "no layer norm with biases"), (ENCODER_DECODERS["sums"], "not softmax")],
    ids=["encoder", "encoder-decoder"],
)
def test_what_no_other_library_computes_is_refused_with_the_reason(spec: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        to_transformers(build_model(spec, Seed(0)))


def test_our_own_models_become_a_bert_a_t5_and_a_bart() -> None:
    for spec, kind in (
        (ENCODERS["bert"], BertForMaskedLM),
        (ENCODER_DECODERS["t5"], T5ForConditionalGeneration),
        (ENCODER_DECODERS["bart"], BartForConditionalGeneration),
    ):
        assert type(to_transformers(build_model(spec, Seed(0)))) is kind


@pytest.mark.slow
@pytest.mark.parametrize(("name", "auto"), [("minilm", AutoModel), ("bert-tiny", AutoModelForMaskedLM)])
def test_real_encoders_give_the_same_vectors_and_logits(name: str, auto: Any) -> None:
    folder = gallery_model(name)
    theirs = auto.from_pretrained(folder).eval()
    words = AutoTokenizer.from_pretrained(folder)(
        ["The glass is full of [MASK].", "A much longer sentence about nothing at all, to be padded against."],
        padding=True, return_tensors="pt",
    )  # fmt: skip
    ours = from_transformers(theirs)
    assert spec_of(theirs).kind == "encoder"
    real = words["attention_mask"] == 1
    with torch.no_grad():
        own, other = ours(**words), theirs(**words)
    for key in ("logits", "last_hidden_state", "pooler_output"):
        if other.get(key) is not None:
            select = real if other[key].ndim == 3 else slice(None)
            assert_close(own[key][select], other[key][select], atol=1e-5, rtol=1e-5)
    again = to_transformers(ours)
    assert all(torch.equal(again.state_dict()[key], value) for key, value in theirs.state_dict().items())


@pytest.mark.slow
def test_the_real_title_model_writes_the_same_titles() -> None:
    folder = gallery_model("t5-title")
    theirs = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    words = tokenizer(
        ["Ran pytest; 3 tests failed in test_auth.py because the token expiry was wrong. Edited auth.py to fix it.",
         "Add a page about glass."],
        padding=True, return_tensors="pt",
    )  # fmt: skip
    ours = from_transformers(theirs)
    start = torch.tensor([[0, 5, 9], [0, 7, 2]])
    with torch.no_grad():
        own, other = (model(**words, decoder_input_ids=start, use_cache=False) for model in (ours, theirs))
    assert_close(own.logits, other.logits, atol=1e-5, rtol=1e-5)
    real = words["attention_mask"] == 1
    assert_close(own.encoder_last_hidden_state[real], other.encoder_last_hidden_state[real], atol=1e-5, rtol=1e-5)
    options = {"max_new_tokens": 12, "do_sample": False}
    texts = ours.generate(**words, **options)
    assert torch.equal(texts, theirs.generate(**words, **options))
    assert tokenizer.decode(texts[0], skip_special_tokens=True) == "Fix token expiry bug"
