"""A preset, built on the meta device: its modules with their shapes and counts, what stands in a layer, and its totals."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from glassworks.core.text import Text, say
from glassworks.mixers import SlidingWindow, Softmax
from glassworks.models.blocks import Block
from glassworks.models.counts import on_meta, part_names
from glassworks.models.cross_attention import CrossBlock
from glassworks.models.presets import PRESETS, Preset, branch_words
from glassworks.models.presets.base import Shape

BYTES_OF_FLOAT32, BYTES_OF_BFLOAT16 = 4, 2
# Choices that stand in the card as sizes, or that only matter before a training.
_ELSEWHERE = {
    "kind", "width", "depth", "heads", "kv_heads", "head_width", "context", "feedforward_width", "vocabulary",
    "embedding_scale", "weight_scale", "encoder_depth",
}  # fmt: skip


def summary(preset: Preset) -> dict[str, Any]:
    """What a list of presets shows of one."""
    return {
        "name": preset.name,
        "form": preset.form,
        "form_words": branch_words(preset.form),
        "branch": preset.branch,
        "layers": list(preset.layers),
        "parameters": preset.parameters,
        "stated": preset.stated or None,
        "ours": preset.is_ours,
    }


def summaries() -> list[dict[str, Any]]:
    """All presets, in the order of their shelf."""
    return [summary(one) for one in PRESETS.values()]


def blueprint(preset: Preset) -> dict[str, Any]:
    """The built preset as plain data; the largest takes about five seconds, and no memory for its numbers."""
    spec = preset.spec
    model = on_meta(spec, body=not preset.with_head)
    total = preset.parameters
    return summary(preset) | {
        "sizes": preset.sizes,
        "choices": _choices(spec),
        "norm": spec.norm,
        "norm_placement": spec.norm_placement,
        "positions": spec.positions,
        "feedforward": spec.feedforward_of(0),
        "parallel": spec.feedforward_reads == "block_input",
        "mixers": sorted({spec.mixer(layer).kind for layer in range(spec.depth)}),
        "parts": _parts(preset),
        "built": sum(parameter.numel() for parameter in model.parameters()),
        "published": preset.published,
        "counted_by": preset.counted_by or None,
        "agrees": preset.agrees,
        "source": preset.source or None,
        "note": preset.note,
        "bytes": {"float32": BYTES_OF_FLOAT32 * total, "bfloat16": BYTES_OF_BFLOAT16 * total},
        "kept_per_token": _kept_per_token(preset),
        "modules": modules_of(model),
        "blocks": _blocks(model),
        "printout": str(model),
    }


def _parts(preset: Preset) -> list[dict[str, Any]]:
    names: Mapping[str, Text] = {**part_names()}
    return [{"part": part, "name": names[part], "parameters": count} for part, count in preset.parts.items()]


def _kept_per_token(preset: Preset) -> int | None:
    """Bytes of keys and values that one further token adds as bfloat16, windows not yet full; None for encoders and other mixers."""
    spec = preset.spec
    mixers = [spec.mixer(layer) for layer in range(spec.depth)]
    if preset.form == "encoder" or not all(isinstance(mixer, Softmax | SlidingWindow) for mixer in mixers):
        return None
    return 2 * BYTES_OF_BFLOAT16 * spec.depth * spec.sizes.kv_heads * spec.width_of_head


def _choices(spec: Shape) -> list[str]:
    """The fields that differ from the defaults of the spec, as they are written on the command line."""
    found: list[str] = []
    for name, field in type(spec).model_fields.items():
        value = spec.__dict__[name]
        if name not in _ELSEWHERE and value != field.default:
            found.append(f"{name}={_short(value)}")
    return found


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(dict.fromkeys(_short(item) for item in value))
    return str(value.kind) if "kind" in type(value).__dict__.get("model_fields", {}) else str(value)


def modules_of(model: nn.Module) -> list[dict[str, Any]]:
    """The tree of modules that hold numbers, alike neighbours of a list drawn together; a shared tensor counts where it is first."""
    return _children(model, "", set())


def _children(module: nn.Module, path: str, counted: set[int]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, child in module.named_children():
        here = f"{path}.{name}" if path else name
        if isinstance(child, nn.ModuleList):
            found += _runs(child, here, counted)
        elif next(child.parameters(), None) is not None:
            found.append(_entry(child, here, here, 1, counted))
    return found


def _runs(layers: nn.ModuleList, path: str, counted: set[int]) -> list[dict[str, Any]]:
    """The layers of a list, each run of alike ones as one entry."""
    texts = [repr(layer) for layer in layers]
    found: list[dict[str, Any]] = []
    first = 0
    while first < len(texts):
        last = first
        while last + 1 < len(texts) and texts[last + 1] == texts[first]:
            last += 1
        shown = f"{path}.{first}" if first == last else f"{path}.{first}-{last}"
        found.append(_entry(layers[first], f"{path}.{first}", shown, last - first + 1, counted))
        first = last + 1
    return found


def _entry(module: nn.Module, path: str, shown: str, times: int, counted: set[int]) -> dict[str, Any]:
    own = list(module.parameters(recurse=False))
    fresh = {id(parameter): parameter.numel() for parameter in own if id(parameter) not in counted}
    shared = bool(own) and len(fresh) < len({id(parameter) for parameter in own})
    counted |= set(fresh)
    children = _children(module, path, counted)
    each = sum(fresh.values()) + sum(child["parameters"] for child in children)
    return {
        "path": shown,
        "kind": type(module).__name__,
        "shapes": [f"{name} {' × '.join(map(str, one.shape))}" for name, one in module.named_parameters(recurse=False)],
        "times": times,
        "each": each,
        "parameters": times * each,
        "shared": shared,
        "children": children,
    }


def _blocks(model: nn.Module) -> list[dict[str, Any]]:
    """One layer of each stack: its parts in order, with the names of their norms."""
    found: list[dict[str, Any]] = []
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        first = module[0]
        if isinstance(first, Block):
            found.append({"path": f"{name}.0", "count": len(module), "sublayers": _sublayers(first)})
    return found


def _sublayers(block: Block) -> list[dict[str, Any]]:
    parts: list[tuple[str, str, nn.Module | None, nn.Module | None]] = [
        ("self_attn", "input_layernorm", block.input_layernorm, block.post_mixing_norm)
    ]
    if isinstance(block, CrossBlock):
        parts.append(("cross_attn", "cross_layernorm", block.cross_layernorm, block.post_cross_norm))
    if block.mlp is not None:
        parts.append(("mlp", "post_attention_layernorm", block.post_attention_layernorm, block.post_feedforward_norm))
    results = {"self_attn": "post_mixing_norm", "cross_attn": "post_cross_norm", "mlp": "post_feedforward_norm"}
    return [
        {
            "part": part,
            "norm": None if norm is None else norm_name,
            "result_norm": None if after is None else results[part],
            "after_sum": block.is_post_norm,
            "reads_block_input": part == "mlp" and block.reads_block_input,
        }
        for part, norm_name, norm, after in parts
    ]


def tree() -> list[dict[str, Any]]:
    """The models of the family tree, oldest first, with where each is drawn."""
    from glassworks.models.lineage import LINEAGE, drawn_under

    return [
        one.to_json()
        | {"changed": one.changed, "drawn_under": drawn_under(one), "form": _form(one.branch, one.is_prefix)}
        for one in LINEAGE.values()
    ]


def _form(branch: str, is_prefix: bool) -> Text:
    return say("prefix decoder") if is_prefix else branch_words(branch)
