"""Shapes that a laptop trains, in the style of the known ones; a training replaces their vocabulary by its tokenizer's."""

from typing import Any

from glassworks.models.presets.base import Preset
from glassworks.models.spec import EncoderDecoderSpec, EncoderSpec, TransformerSpec

_SMALL: dict[str, Any] = {"embedding_scale": 0.02, "weight_scale": 0.02, "deep_output_scale": True}
_LLAMA: dict[str, Any] = {
    "norm": "rms",
    "feedforward": ("swiglu",),
    "positions": "rotary",
    "tie_output": True,
    **_SMALL,
}
_GPT2: dict[str, Any] = {"bias": True, "feedforward": ("gelu_tanh",), "tie_output": True, **_SMALL}
_BERT: dict[str, Any] = {
    "norm_placement": "post", "final_norm": False, "embedding_norm": True, "bias": True, "feedforward": ("gelu",),
    "token_types": 2, "embedding_scale": 0.02, "weight_scale": 0.02,
}  # fmt: skip
_T5: dict[str, Any] = {
    "norm": "rms", "norm_epsilon": 1e-6, "positions": "relative_bias", "feedforward": ("relu",), "score_scale": "none",
    "tied_factor": "inverse_sqrt_width",
}  # fmt: skip
_SIZES: dict[str, dict[str, int]] = {
    "tiny": {"width": 128, "depth": 4, "heads": 4, "vocabulary": 2048, "context": 256},
    "small": {"width": 384, "depth": 6, "heads": 6, "vocabulary": 4096, "context": 256},
}


def _pair(style: str, kind: type[Any], fields: dict[str, Any]) -> tuple[Preset, ...]:
    """The style in both sizes."""
    return tuple(
        Preset(f"{size}-{style}", kind(**(sizes | _gated(sizes["width"], fields)))) for size, sizes in _SIZES.items()
    )


def _gated(width: int, fields: dict[str, Any]) -> dict[str, Any]:
    """Two thirds of the hidden numbers where a gate needs a third map, rounded up to a multiple of 64 (lifecycle.md 3)."""
    if fields["feedforward"] != ("swiglu",):
        return fields
    return fields | {"feedforward_width": -(-(8 * width // 3) // 64) * 64}


SMALL: tuple[Preset, ...] = (
    *_pair("llama", TransformerSpec, _LLAMA),
    *_pair("gpt2", TransformerSpec, _GPT2),
    *_pair("glm", TransformerSpec, _LLAMA | {"reads": "prefix"}),
    *_pair("bert", EncoderSpec, _BERT),
    *_pair("t5", EncoderDecoderSpec, _T5),
)
