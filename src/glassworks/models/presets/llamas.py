"""Decoders with root mean square norms, gated feed-forwards and rotary positions: LLaMA and its descendants."""

from typing import Any

from glassworks.core.text import say
from glassworks.mixers import AnyMixer, SlidingWindow, Softmax
from glassworks.models.presets.base import Preset
from glassworks.models.spec import TransformerSpec
from glassworks.models.stack import RotaryScaling

_SMALL = {"embedding_scale": 0.02, "weight_scale": 0.02}


def _shape(vocabulary: int, depth: int, width: int, heads: int, hidden: int, **more: Any) -> TransformerSpec:
    fields: dict[str, Any] = {"norm": "rms", "feedforward": ("swiglu",), "positions": "rotary", **_SMALL}
    return TransformerSpec(
        vocabulary=vocabulary, width=width, depth=depth, heads=heads, feedforward_width=hidden, **(fields | more)
    )


def _llama(size: str, published: int, *sizes: int, **more: Any) -> Preset:
    spec = _shape(32000, *sizes, **({"context": 2048, "norm_epsilon": 1e-6} | more))
    return Preset(f"llama-{size.lower()}", spec, published, size, "LlamaForCausalLM", "arXiv 2302.13971")


def _llama_2(size: str, published: int, *sizes: int, kv_heads: int | None = None) -> Preset:
    spec = _shape(32000, *sizes, kv_heads=kv_heads, context=4096, norm_epsilon=1e-5)
    return Preset(f"llama-2-{size.lower()}", spec, published, size, "LlamaForCausalLM", "arXiv 2307.09288")


def _llama_3(name: str, published: int, *sizes: int, **more: Any) -> Preset:
    spec = _shape(
        128256, *sizes, **({"kv_heads": 8, "context": 8192, "rotary_base": 500000.0, "norm_epsilon": 1e-5} | more)
    )
    stated = name.rpartition("-")[2].upper()
    return Preset(f"llama-{name}", spec, published, stated, "LlamaForCausalLM", "arXiv 2407.21783")


def _stretched(factor: float) -> dict[str, Any]:
    return {"context": 131072, "rotary_scaling": RotaryScaling(kind="llama3", factor=factor)}


def _qwen(name: str, published: int, stated: str, *sizes: int, **more: Any) -> Preset:
    is_third = name.startswith("qwen3")
    fields: dict[str, Any] = {"context": 32768, "rotary_base": 1e6, "norm_epsilon": 1e-6}
    fields |= {"query_key_norm": "rms", "head_width": 128} if is_third else {"query_bias": True}
    kind = "Qwen3ForCausalLM" if is_third else "Qwen2ForCausalLM"
    source = "arXiv 2505.09388" if is_third else "arXiv 2407.10671"
    return Preset(name, _shape(*sizes, **(fields | more)), published, stated, kind, source)


def _gemma(name: str, published: int, stated: str, *sizes: int, **more: Any) -> Preset:
    fields: dict[str, Any] = {
        "feedforward": ("geglu_tanh",), "head_width": 256, "norm_epsilon": 1e-6, "context": 8192, "tie_output": True,
        "embedding_factor": sizes[1] ** 0.5,
    }  # fmt: skip
    note = say("gains are kept as they are; the published files keep what they differ from 1 by")
    return Preset(
        name, _shape(256000, *sizes, **(fields | more)), published, stated, "GemmaForCausalLM", "arXiv 2403.08295",
        note=note,
    )  # fmt: skip


def _gemma_3(name: str, published: int, stated: str, *sizes: int) -> Preset:
    mixers: tuple[AnyMixer, ...] = tuple(
        Softmax() if layer % 6 == 5 else SlidingWindow(window=512, sinks=0) for layer in range(sizes[0])
    )
    fields: dict[str, Any] = {
        "kv_heads": 1, "feedforward": ("geglu_tanh",), "head_width": 256, "norm_epsilon": 1e-6, "context": 32768,
        "tie_output": True, "embedding_factor": sizes[1] ** 0.5, "norm_placement": "both", "query_key_norm": "rms",
        "mixers": mixers, "rotary_base": 1e6, "rotary_local_base": 1e4,
    }  # fmt: skip
    note = say("gains are kept as they are; the published files keep what they differ from 1 by")
    spec = _shape(262144, *sizes, **fields)
    return Preset(name, spec, published, stated, "Gemma3ForCausalLM", "arXiv 2503.19786", note=note)


def _smollm2(size: str, published: int, *sizes: int, **more: Any) -> Preset:
    fields: dict[str, Any] = {"context": 8192, "rotary_base": 1e5, "norm_epsilon": 1e-5, "tie_output": True}
    return Preset(
        f"smollm2-{size.lower()}", _shape(49152, *sizes, **(fields | more)), published, size, "LlamaForCausalLM",
        "arXiv 2502.02737",
    )  # fmt: skip


_WINDOW = (SlidingWindow(window=4096, sinks=0),)

LLAMAS: tuple[Preset, ...] = (
    _llama("7B", 6_738_415_616, 32, 4096, 32, 11008),
    _llama("13B", 13_015_864_320, 40, 5120, 40, 13824),
    _llama("33B", 32_528_943_616, 60, 6656, 52, 17920),
    _llama("65B", 65_285_660_672, 80, 8192, 64, 22016),
    _llama_2("7B", 6_738_415_616, 32, 4096, 32, 11008),
    _llama_2("13B", 13_015_864_320, 40, 5120, 40, 13824),
    _llama_2("70B", 68_976_648_192, 80, 8192, 64, 28672, kv_heads=8),
    _llama_3("3-8b", 8_030_261_248, 32, 4096, 32, 14336),
    _llama_3("3-70b", 70_553_706_496, 80, 8192, 64, 28672),
    _llama_3("3.1-8b", 8_030_261_248, 32, 4096, 32, 14336, **_stretched(8.0)),
    _llama_3("3.1-405b", 405_853_388_800, 126, 16384, 128, 53248, **_stretched(8.0)),
    _llama_3("3.2-1b", 1_235_814_400, 16, 2048, 32, 8192, tie_output=True, **_stretched(32.0)),
    Preset(
        "mistral-7b",
        _shape(32000, 32, 4096, 32, 14336, kv_heads=8, context=8192, norm_epsilon=1e-5, mixers=_WINDOW),
        7_241_732_096, "7B", "MistralForCausalLM", "arXiv 2310.06825",
    ),
    Preset(
        "tinyllama-1.1b",
        _shape(32000, 22, 2048, 32, 5632, kv_heads=4, context=2048, norm_epsilon=1e-5),
        1_100_048_384, "1.1B", "LlamaForCausalLM", "arXiv 2401.02385",
    ),
    _qwen("qwen2-0.5b", 494_032_768, "0.5B", 151936, 24, 896, 14, 4864, kv_heads=2, tie_output=True),
    _qwen("qwen2-7b", 7_615_616_512, "7.6B", 152064, 28, 3584, 28, 18944, kv_heads=4),
    _qwen("qwen3-0.6b", 596_049_920, "0.6B", 151936, 28, 1024, 16, 3072, kv_heads=8, tie_output=True),
    _qwen("qwen3-8b", 8_190_735_360, "8.2B", 151936, 36, 4096, 32, 12288, kv_heads=8),
    _gemma("gemma-2b", 2_506_172_416, "2B", 18, 2048, 8, 16384, kv_heads=1),
    _gemma("gemma-7b", 8_537_680_896, "7B", 28, 3072, 16, 24576),
    _gemma_3("gemma-3-270m", 268_098_176, "270M", 18, 640, 4, 2048),
    _gemma_3("gemma-3-1b", 999_885_952, "1B", 26, 1152, 4, 6912),
    _smollm2("135M", 134_515_008, 30, 576, 9, 1536, kv_heads=3),
    _smollm2("360M", 361_821_120, 32, 960, 15, 2560, kv_heads=5),
    _smollm2("1.7B", 1_711_376_384, 24, 2048, 32, 8192, rotary_base=130000.0),
    Preset(
        "stories260k",
        _shape(512, 5, 64, 8, 172, kv_heads=4, context=512, norm_epsilon=1e-5, tie_output=True),
        260_032, "260K", "LlamaForCausalLM", "github.com/karpathy/llama2.c",
    ),
)  # fmt: skip
