"""Reference pages out of the values of the package: presets, models, claims, events, errors, the run folder, Python."""

from __future__ import annotations

import inspect
import typing
from typing import Any

from website.words import code, docstring, escaped, first_line, table


def pages() -> dict[str, str]:
    """Place on the site -> Markdown."""
    return {
        "reference/index.md": _index(),
        "reference/python.md": _python(),
        "reference/run-folder.md": _run_folder(),
        "reference/events.md": _events(),
        "reference/presets.md": _presets(),
        "reference/models.md": _models(),
        "reference/claims.md": _claims(),
    }


def _index() -> str:
    rows = [
        ("[Commands](commands/index.md)", "every verb of the command line, every option"),
        ("[Specs](specs/mixers.md)", "everything that can be chosen: field, type, default, meaning"),
        ("[Python](python.md)", "the same verbs from Python"),
        ("[The run folder](run-folder.md)", "what a run and a trained model leave on disk"),
        ("[Events](events.md)", "the lines of `events.jsonl`"),
        ("[Presets](presets.md)", "known architectures with their numbers of parameters"),
        ("[Models by name](models.md)", "small real models: size, licence, where from"),
        ("[Claims](claims.md)", "what is judged, by experiment"),
        ("[Errors](../errors/README.md)", "by symptom: cause and fix"),
    ]
    return "# Reference\n\nThese pages are made from the code at each build; none is written by hand.\n\n" + table(
        ("page", "what it lists"), rows
    )


def _python() -> str:
    import glassworks as gw

    functions, rooms = list[str](), list[tuple[str, str]]()
    for name in sorted(gw.__all__):
        thing: Any = gw.__getattr__(name)
        if inspect.isfunction(thing):
            functions.append(
                f"## gw.{name} {{#{name}}}\n\n```python\n{_signature(name, thing)}\n```\n\n{docstring(thing)}"
            )
        elif inspect.ismodule(thing):
            rooms.append((code(f"gw.{name}"), first_line(thing)))
    head = "# Python\n\n`import glassworks as gw` loads nothing heavy; a name loads its room when it is used first.\n"
    surgery = "`gw.surgery` is a room and a verb: `gw.surgery(source, plan, prompt=...)` does what the command does.\n"
    return "\n".join([head, *functions, "## Rooms\n", table(("name", "what it holds"), rooms), surgery])


def _signature(name: str, function: Any) -> str:
    """As a person would write it: a line per argument where one line would be too long."""
    told = inspect.signature(function)
    parts = list[str]()
    for argument in told.parameters.values():
        if argument.kind is inspect.Parameter.KEYWORD_ONLY and not any(part.startswith("*") for part in parts):
            parts.append("*")
        parts.append(_argument(argument))
    returns = "" if told.return_annotation is inspect.Signature.empty else f" -> {told.return_annotation}"
    whole = f"gw.{name}({', '.join(parts)}){returns}"
    inside = "".join(f"    {part},\n" for part in parts)
    return whole if len(whole) <= 100 else f"gw.{name}(\n{inside}){returns}"


def _argument(argument: inspect.Parameter) -> str:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(argument.kind, "")
    words = stars + argument.name
    if argument.annotation is not inspect.Parameter.empty:
        words += f": {argument.annotation}"
    return words if argument.default is inspect.Parameter.empty else f"{words} = {argument.default!r}"


def _run_folder() -> str:
    from glassworks.core import layout

    parts = ["# The run folder\n", docstring(layout)]
    for title, what, files in (
        ("A run", "`runs/EXPERIMENT/DIGEST/`, by `reproduce` and `life`", layout.RUN),
        ("A trained model", "`store/DIGEST/`, by every training of an experiment and by `train`", layout.TRAINED),
        ("An examination", "`examinations/NAME-DIGEST/`, by `examine`", layout.EXAMINATION),
    ):
        rows = [(code(file.pattern), escaped(file.meaning)) for file in files]
        parts += [f"## {title}\n", f"{what}.\n", table(("file", "what it holds"), rows)]
    return "\n".join(parts)


def _events() -> str:
    from glassworks.core import events

    kinds: list[Any] = list(typing.get_args(typing.get_args(events.AnyEvent)[0]))
    parts = ["# Events\n", f"{docstring(events)}\nEvery event has `kind` and `at`, seconds since 1970.\n"]
    for kind in kinds:
        rows = [
            (code(name), code(_annotation(field.annotation)), "" if field.is_required() else code(field.get_default(call_default_factory=True)))
            for name, field in kind.model_fields.items()
            if name not in ("kind", "at")
        ]  # fmt: skip
        parts += [
            f"## {kind.model_fields['kind'].default}\n",
            docstring(kind),
            table(("field", "type", "default"), rows),
        ]
    return "\n".join(parts)


def _annotation(found: Any) -> str:
    return (
        found.__name__ if isinstance(found, type) and not typing.get_args(found) else str(found).replace("typing.", "")
    )


def _presets() -> str:
    from glassworks.models.presets import PRESETS

    rows = [
        (code(one.name), one.form, " + ".join(map(str, one.layers)), str(one.spec.width), str(one.spec.heads),
         f"{one.parameters:,}", _published(one), escaped(one.source or "a shape of our own"))
        for one in PRESETS.values()
    ]  # fmt: skip
    head = (
        f"# Presets\n\n{len(rows)} known shapes. Parameters are counted from the spec; what others state stands beside. "
        "`glassworks presets NAME` shows one part by part, `--preset NAME` of `train pretrain` builds it.\n\n"
    )
    return head + table(("name", "form", "layers", "width", "heads", "parameters", "published", "source"), rows)


def _published(preset: Any) -> str:
    if preset.published is not None:
        return f"{preset.published:,}"
    return escaped(f"“{preset.stated}”") if preset.stated else ""


def _models() -> str:
    from glassworks.models.gallery import GALLERY

    rows = [
        (code(one.name), escaped(str(one.about)), one.depth, f"{one.parameters:,}", escaped(one.licence), _size(one.download))
        for one in GALLERY.values()
    ]  # fmt: skip
    head = "# Models by name\n\n`glassworks models get NAME` fetches one: its licence is shown first, its checksum is held against the one that is known.\n\n"
    return head + table(("name", "what it is", "layers", "parameters", "licence", "download"), rows)


def _size(download: int) -> str:
    return f"{download / 1e9:.1f} GB" if download >= 1e9 else f"{download / 1e6:.1f} MB"


def _claims() -> str:
    from glassworks.catalog import SHELVES

    parts = [
        "# Claims\n",
        "What is judged, written before the numbers were seen. `glassworks claims` shows the newest verdict of each on this "
        "machine; `glassworks claims check EXPERIMENT` judges a run again from its folder. Below the scale and the seeds "
        "that a claim needs its verdict is *undecided*.\n",
    ]
    for kind in SHELVES["experiments"]:
        experiment: Any = kind
        rows = [
            (code(claim.key), escaped(str(claim.says)), escaped(str(claim.where)), f"{claim.smallest_scale.value}, {claim.fewest_seeds}")
            for claim in experiment.claims
        ]  # fmt: skip
        name = str(experiment.model_fields["kind"].default)
        paper = experiment.paper
        told = escaped(f"{paper.title}. {paper.authors}, {paper.year}. {paper.reference}")
        parts += [f"## {name}\n", f"{told}\n", table(("claim", "what it says", "source", "needs scale, seeds"), rows)]
    return "\n".join(parts)
