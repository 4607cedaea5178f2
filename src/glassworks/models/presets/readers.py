"""Encoders (BERT, RoBERTa) and encoder-decoders (the transformer of 2017, T5, BART)."""

from typing import Any

from glassworks.core.text import say
from glassworks.models.presets.base import Preset
from glassworks.models.spec import EncoderDecoderSpec, EncoderSpec

_SMALL = {"embedding_scale": 0.02, "weight_scale": 0.02}
_POST: dict[str, Any] = {
    "norm_placement": "post", "final_norm": False, "embedding_norm": True, "bias": True, "feedforward": ("gelu",),
    **_SMALL,
}  # fmt: skip


def _encoder(vocabulary: int, depth: int, width: int, heads: int, **more: Any) -> EncoderSpec:
    fields: dict[str, Any] = {
        "context": 512, "norm_epsilon": 1e-12, "token_types": 2, "pooler": True, "feedforward_width": 4 * width,
    }  # fmt: skip
    return EncoderSpec(vocabulary=vocabulary, depth=depth, width=width, heads=heads, **(_POST | fields | more))


def _bert(name: str, published: int, stated: str, *sizes: int) -> Preset:
    return Preset(
        name, _encoder(30522, *sizes), published, stated, "BertModel", "arXiv 1810.04805", with_head=False
    )  # fmt: skip


def _roberta(name: str, published: int, stated: str, *sizes: int) -> Preset:
    spec = _encoder(50265, *sizes, token_types=1, position_offset=2, norm_epsilon=1e-5)
    return Preset(name, spec, published, stated, "RobertaModel", "arXiv 1907.11692", with_head=False)


def _t5(size: str, published: int, stated: str, *sizes: int, head_width: int = 64) -> Preset:
    spec = _t5_shape(*sizes, head_width=head_width, feedforward=("relu",), tied_factor="inverse_sqrt_width")
    return Preset(f"t5-{size}", spec, published, stated, "T5ForConditionalGeneration", "arXiv 1910.10683")


def _t5_shape(depth: int, width: int, heads: int, feedforward_width: int, **more: Any) -> EncoderDecoderSpec:
    return EncoderDecoderSpec(
        vocabulary=32128, depth=depth, width=width, heads=heads, feedforward_width=feedforward_width, context=512,
        norm="rms", norm_epsilon=1e-6, positions="relative_bias", score_scale="none", **more,
    )  # fmt: skip


def _bart(name: str, published: int, stated: str, *sizes: int) -> Preset:
    depth, width, heads = sizes
    spec = EncoderDecoderSpec(
        vocabulary=50265, depth=depth, width=width, heads=heads, context=1024, position_offset=2, start_token=2, **_POST
    )
    return Preset(name, spec, published, stated, "BartForConditionalGeneration", "arXiv 1910.13461")


def _first(name: str, stated: str, depth: int, width: int, heads: int) -> Preset:
    spec = EncoderDecoderSpec(
        vocabulary=37000, depth=depth, width=width, heads=heads, context=512, positions="sinusoidal",
        norm_placement="post", final_norm=False, bias=True, embedding_factor=width**0.5, embedding_scale=width**-0.5,
    )  # fmt: skip
    note = say("the vocabulary of the paper is about 37000 pieces, shared by source, target and unembedding")
    return Preset(name, spec, None, stated, "", "arXiv 1706.03762", note=note)


READERS: tuple[Preset, ...] = (
    _bert("bert-base", 109_482_240, "110M", 12, 768, 12),
    _bert("bert-large", 335_141_888, "340M", 24, 1024, 16),
    Preset(
        "distilbert-base", _encoder(30522, 6, 768, 12, token_types=0, pooler=False), 66_362_880, "66M",
        "DistilBertModel", "arXiv 1910.01108", with_head=False,
    ),
    _bert("minilm", 22_713_216, "22.7M", 6, 384, 12),
    _bert("bert-tiny", 4_385_920, "4.4M", 2, 128, 2),
    _roberta("roberta-base", 124_645_632, "125M", 12, 768, 12),
    _roberta("roberta-large", 355_359_744, "355M", 24, 1024, 16),
    _first("transformer-base", "65M", 6, 512, 8),
    _first("transformer-big", "213M", 6, 1024, 16),
    _t5("small", 60_506_624, "60M", 6, 512, 8, 2048),
    _t5("base", 222_903_552, "220M", 12, 768, 12, 3072),
    _t5("large", 737_668_096, "770M", 24, 1024, 16, 4096),
    _t5("3b", 2_851_598_336, "2.8B", 24, 1024, 32, 16384, head_width=128),
    _t5("11b", 11_307_321_344, "11B", 24, 1024, 128, 65536, head_width=128),
    Preset(
        "flan-t5-small",
        _t5_shape(8, 512, 6, 1024, head_width=64, feedforward=("geglu_tanh",), tie_output=False), 76_961_152, "77M",
        "T5ForConditionalGeneration", "arXiv 2210.11416",
    ),
    _bart("bart-base", 139_420_416, "140M", 6, 768, 12),
    _bart("bart-large", 406_291_456, "406M", 12, 1024, 16),
)  # fmt: skip
