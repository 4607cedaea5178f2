"""presets: known architectures, their parameters part by part, and the numbers that others state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glassworks.cli.options_family import Presets
from glassworks.cli.speak import new_table, print_json, remarks, results, size_words
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.models.presets import Preset

BYTES_OF_FLOAT32, BYTES_OF_BFLOAT16 = 4, 2


def presets(command: Presets) -> int:
    """Lists all, or shows one with its parts, built on the meta device to see that they are there."""
    from glassworks.models.presets import PRESETS, preset

    chosen = [preset(command.name)] if command.name is not None else list(PRESETS.values())
    if command.json:
        print_json({"presets": {one.name: as_json(one, whole=command.name is not None) for one in chosen}})
    elif command.name is None:
        _list(chosen)
    else:
        _show(chosen[0])
    return 0


def as_json(preset: Preset, *, whole: bool = False) -> dict[str, Any]:
    """Plain data of one preset; `whole` adds its spec and what was counted in the built model."""
    spec, parts = preset.spec, preset.parts
    found = {
        "parameters": sum(parts.values()),
        "parts": parts,
        "branch": preset.branch,
        "form": preset.form,
        "layers": list(preset.layers),
        **preset.sizes,
        "published": preset.published,
        "stated": preset.stated or None,
        "agrees": preset.agrees,
        "counted_by": preset.counted_by or None,
        "source": preset.source or None,
        "note": None if preset.note is None else str(preset.note),
    }
    if whole:
        found |= {"built": _built(preset), "spec": spec.to_json()}
    return found


def _built(preset: Preset) -> int:
    """Parameters of the model itself, made without memory for them."""
    from glassworks.models.counts import on_meta, parts_of

    return sum(parts_of(on_meta(preset.spec, body=not preset.with_head)).values())


def _list(chosen: list[Preset]) -> None:
    from glassworks.models.presets import branch_words

    table = new_table(
        say("name"), say("form"), say("layers"), say("width"), say("heads"), say("parameters"), say("published"),
        say("agrees"),
    )  # fmt: skip
    for column in table.columns[2:6]:
        column.justify = "right"
    for one in chosen:
        spec = one.spec
        heads = str(spec.heads) if spec.sizes.group == 1 else f"{spec.heads} ({spec.sizes.kv_heads})"
        table.add_row(
            one.name, str(branch_words(one.form)), " + ".join(map(str, one.layers)), str(spec.width), heads,
            f"{one.parameters:,}", _published(one), str(_agreement(one)),
        )  # fmt: skip
    results().print(table)
    remarks().print(
        str(say("heads in brackets are those of keys and values; a number in words is rounded by who published it"))
    )
    remarks().print(str(say("the parts of one: glassworks presets {name}", name="llama-7b")))


def _published(preset: Preset) -> str:
    if preset.published is not None:
        return f"{preset.published:,}"
    return f"“{preset.stated}”" if preset.stated else "–"


def _agreement(preset: Preset) -> Text | str:
    match preset.agrees, preset.published:
        case None, _:
            return "–"
        case True, None:
            return say("when rounded")
        case True, _:
            return say("exactly")
        case _:
            return say("no")


def _show(preset: Preset) -> None:
    from glassworks.models.counts import part_names

    table = new_table(say("part"), say("parameters"), say("share"))
    for column in table.columns[1:]:
        column.justify = "right"
    names, total = part_names(), preset.parameters
    for part, count in preset.parts.items():
        name = next(words for key, words in names.items() if key == part)
        table.add_row(str(name), f"{count:,}", f"{100 * count / total:.1f} %")
    table.add_section()
    table.add_row(str(say("all")), f"{total:,}", "")
    results().print(table)
    for line in _facts(preset):
        results().print(str(line))


def _facts(preset: Preset) -> list[Text]:
    from glassworks.models.presets import branch_words

    spec, built = preset.spec, _built(preset)
    facts = [
        say("{name}: {form}, from {source}", name=preset.name, form=branch_words(preset.form),
            source=preset.source or say("no paper: a shape of our own")),
        say(
            "{layers} layers, width {width}, {heads} heads of {head_width} ({kv_heads} of keys and values), feed-forward {hidden}, {tokens} tokens, {context} positions",
            layers=" + ".join(map(str, preset.layers)), width=spec.width, heads=spec.heads,
            head_width=spec.width_of_head, kv_heads=spec.sizes.kv_heads, hidden=spec.width_of_feedforward,
            tokens=spec.vocabulary, context=spec.context,
        ),
        _stated(preset),
        say("built without memory for its numbers: {count} parameters, as by formula", count=f"{built:,}")
        if built == preset.parameters
        else say("built without memory for its numbers: {count} parameters, not as by formula", count=f"{built:,}"),
        say(
            "its numbers take {float32} as float32, {bfloat16} as bfloat16",
            float32=size_words(BYTES_OF_FLOAT32 * preset.parameters),
            bfloat16=size_words(BYTES_OF_BFLOAT16 * preset.parameters),
        ),
    ]  # fmt: skip
    changed = ", ".join(_choices(preset))
    facts.append(say("settings beside sizes: {settings}", settings=changed))
    return facts if preset.note is None else [*facts, say("note: {note}", note=preset.note)]


def _stated(preset: Preset) -> Text:
    if preset.published is not None and preset.counted_by:
        return say(
            "published as {stated}; {counted_by} of transformers counts {count}: {agrees}",
            stated=preset.stated, counted_by=preset.counted_by, count=f"{preset.published:,}",
            agrees=_agreement(preset),
        )  # fmt: skip
    if preset.published is not None:
        return say(
            "published as {stated}, {count} by its files: {agrees}",
            stated=preset.stated, count=f"{preset.published:,}", agrees=_agreement(preset),
        )  # fmt: skip
    if preset.stated:
        return say("published as {stated}: {agrees}", stated=preset.stated, agrees=_agreement(preset))
    return say("nobody else published this shape")


_SIZES = {"kind", "width", "depth", "heads", "kv_heads", "head_width", "context", "feedforward_width", "vocabulary"}


def _choices(preset: Preset) -> list[str]:
    """The fields that differ from the defaults of the spec, sizes and numbers at the start apart."""
    found: list[str] = []
    for name, field in type(preset.spec).model_fields.items():
        value = preset.spec.__dict__[name]
        if name in _SIZES or value == field.default or name in ("embedding_scale", "weight_scale", "encoder_depth"):
            continue
        found.append(f"{name}={_short(value)}")
    return found


def _short(value: Any) -> str:
    if isinstance(value, tuple):
        kinds = [_short(item) for item in value]
        return ",".join(dict.fromkeys(kinds)) if len(set(kinds)) < len(kinds) else ",".join(kinds)
    return str(value.kind) if "kind" in type(value).__dict__.get("model_fields", {}) else str(value)
