"""Decoders before LLaMA, and those beside it: GPT, OPT, BLOOM, Pythia, Gopher, Chinchilla, ChatGLM."""

from typing import Any

from glassworks.core.text import Text, say
from glassworks.models.presets.base import Preset
from glassworks.models.spec import TransformerSpec

_SMALL = {"embedding_scale": 0.02, "weight_scale": 0.02}


def _shape(vocabulary: int, depth: int, width: int, heads: int, **more: Any) -> TransformerSpec:
    fields: dict[str, Any] = {"bias": True, "feedforward": ("gelu_tanh",), "tie_output": True, **_SMALL}
    return TransformerSpec(vocabulary=vocabulary, width=width, depth=depth, heads=heads, **(fields | more))


def _gpt2(name: str, published: int, stated: str, *sizes: int) -> Preset:
    spec = _shape(50257, *sizes, context=1024, deep_output_scale=True)
    return Preset(name, spec, published, stated, "GPT2LMHeadModel", "Radford et al. 2019")


def _gpt3(size: str, stated: str, *sizes: int, note: Text | None = None, **more: Any) -> Preset:
    spec = _shape(50257, *sizes, context=2048, deep_output_scale=True, **more)
    bands = say(
        "every second layer of the original reads a band of tokens only; here all read all, with as many numbers"
    )
    name = f"gpt3-{size}" if size else "gpt3"
    return Preset(name, spec, None, stated, "", "arXiv 2005.14165", note=note or bands)


def _opt(size: str, published: int | None, *sizes: int) -> Preset:
    spec = _shape(50272, *sizes, context=2048, position_offset=2, feedforward=("relu",))
    counted_by = "OPTForCausalLM" if published else ""
    return Preset(f"opt-{size.lower()}", spec, published, size, counted_by, "arXiv 2205.01068")


def _bloom(name: str, published: int, stated: str, *sizes: int) -> Preset:
    spec = _shape(250880, *sizes, context=2048, positions="alibi", embedding_norm=True)
    return Preset(name, spec, published, stated, "BloomForCausalLM", "arXiv 2211.05100")


def _pythia(size: str, published: int, *sizes: int) -> Preset:
    spec = _shape(
        *sizes, context=2048, positions="rotary", rotary_share=0.25, feedforward_reads="block_input",
        feedforward=("gelu",), tie_output=False,
    )  # fmt: skip
    return Preset(f"pythia-{size.lower()}", spec, published, size, "GPTNeoXForCausalLM", "arXiv 2304.01373")


def _gopher(name: str, stated: str, *sizes: int, head_width: int, source: str = "arXiv 2112.11446") -> Preset:
    spec = _shape(
        32000, *sizes, head_width=head_width, context=2048, bias=False, norm="rms", positions="relative_xl",
    )  # fmt: skip
    note = say(
        "with the map of relative positions in each layer, 13 x layers x width x width and a tied embedding give the number; the activation is not printed, GELU is built"
    )
    return Preset(name, spec, None, stated, "", source, note=note)


_XL = say("the paper's table names 24 heads of 128, which do not fill a width of 2048; 16 are built")

GPTS: tuple[Preset, ...] = (
    Preset(
        "gpt", _shape(40478, 12, 768, 12, context=512, norm_placement="post", final_norm=False), 116_534_784, "117M",
        "OpenAIGPTLMHeadModel", "Radford et al. 2018",
    ),
    _gpt2("gpt2", 124_439_808, "124M", 12, 768, 12),
    _gpt2("gpt2-medium", 354_823_168, "355M", 24, 1024, 16),
    _gpt2("gpt2-large", 774_030_080, "774M", 36, 1280, 20),
    _gpt2("gpt2-xl", 1_557_611_200, "1.5B", 48, 1600, 25),
    Preset(
        "gpt-nano-sort", _shape(3, 3, 48, 3, context=11, tie_output=False), 85_728, "85.7K", "GPT2LMHeadModel",
        "github.com/karpathy/minGPT",
    ),
    _gpt3("small", "125M", 12, 768, 12),
    _gpt3("medium", "350M", 24, 1024, 16),
    _gpt3("large", "760M", 24, 1536, 16),
    _gpt3("xl", "1.3B", 24, 2048, 16, note=_XL),
    _gpt3("2.7b", "2.7B", 32, 2560, 32),
    _gpt3("6.7b", "6.7B", 32, 4096, 32),
    _gpt3("13b", "13B", 40, 5140, 40, head_width=128),
    _gpt3("", "175B", 96, 12288, 96),
    _opt("125M", 125_239_296, 12, 768, 12),
    _opt("1.3B", 1_315_758_080, 24, 2048, 32),
    _opt("6.7B", 6_658_473_984, 32, 4096, 32),
    _opt("175B", None, 96, 12288, 96),
    _bloom("bloom-560m", 559_214_592, "559M", 24, 1024, 16),
    _bloom("bloom", 176_247_271_424, "176B", 70, 14336, 112),
    _pythia("70M", 70_426_624, 50304, 6, 512, 8),
    _pythia("160M", 162_322_944, 50304, 12, 768, 12),
    _pythia("410M", 405_334_016, 50304, 24, 1024, 16),
    _pythia("6.9B", 6_857_302_016, 50432, 32, 4096, 32),
    _pythia("12B", 11_846_072_320, 50688, 36, 5120, 40),
    _gopher("gopher-44m", "44M", 8, 512, 16, head_width=32),
    _gopher("gopher-117m", "117M", 12, 768, 12, head_width=64),
    _gopher("gopher-417m", "417M", 12, 1536, 12, head_width=128),
    _gopher("gopher-1.4b", "1.4B", 24, 2048, 16, head_width=128),
    _gopher("gopher-7.1b", "7.1B", 32, 4096, 32, head_width=128),
    _gopher("gopher", "280B", 80, 16384, 128, head_width=128),
    _gopher("chinchilla", "70B", 80, 8192, 64, head_width=128, source="arXiv 2203.15556"),
    Preset(
        "chatglm-6b",
        _shape(
            130528, 28, 4096, 32, context=2048, reads="prefix", norm_placement="post", final_norm=False,
            embedding_norm=True, residual_factor=(2 * 28) ** 0.5, positions="rotary", rotary_share=0.5,
        ),
        6_173_286_400, "6.2B", "", "arXiv 2103.10360",
        note=say(
            "the original turns the other half of each head by a second position, inside the answer; here that half is not turned"
        ),
    ),
)  # fmt: skip
