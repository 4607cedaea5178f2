"""The report of an examination: what was found, in sentences, figures and tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.offloaded import format_of
from glassworks.anatomy.subject import Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.text import Text, say
from glassworks.instruments.attention_maps import AttentionMaps
from glassworks.instruments.base import Reading
from glassworks.instruments.examine import Examination
from glassworks.instruments.findings import table_suffixes
from glassworks.instruments.summary import given_words, summary_of
from glassworks.report.page import Check, FileLink, Page, Row, Section, Table


def page_of(found: Examination) -> Page:
    """The report as a value."""
    return Page(
        title=say("Inside {name}", name=found.subject.origin.name),
        lead=say("What {given} show of this model, checked against the untouched model first.", given=given_words(found)),
        summary=summary_of(found),
        passport=passport_of(found.subject, found.environment, found.seed),
        fidelity=checks_of(found.fidelity),
        sections=(token_section(found.batch), *sections_of(found.readings)),
        limits=_limits(found),
        cost=(
            Row(say("time"), f"{found.seconds:.1f} s"),
            Row(say("peak memory of the process"), f"{found.peak_bytes / 1e9:.2f} GB"),
        ),
        files=tuple(
            FileLink(f"tables/{name}{suffix}", reading.measurement.says)
            for name, reading in found.readings.items()
            for suffix in table_suffixes(reading.measurement)
        ),
        command=found.command,
    )  # fmt: skip


def checks_of(fidelity: Fidelity) -> tuple[Check, ...]:
    """The checks, green where they hold or could not be made."""
    return tuple(Check(row.says, check_value(row.value, row.remark), row.holds is not False) for row in fidelity.rows())


def check_value(value: float, remark: Text | None) -> Text | str:
    """The number that decided a check, with what there is to remark on it."""
    number = "–" if np.isnan(value) else "0" if value == 0 else f"{value:.1e}"
    return number if remark is None else say("{value} ({remark})", value=number, remark=remark)


def passport_of(subject: Subject, environment: Mapping[str, Any], seed: int) -> tuple[Row, ...]:
    """What the model is and what it ran on; `environment` as `describe_environment` gives it."""
    packages: Mapping[str, Any] = environment["packages"]
    dtype = format_of(subject.model)
    rows = [
        Row(say("model"), f"{subject.origin.name} ({type(subject.model).__name__})"),
        Row(say("source"), subject.origin.source or "–"),
        Row(say("revision"), subject.origin.revision or "–"),
        *([] if subject.origin.taken is None else [Row(say("which of the run's models"), subject.origin.taken)]),
        Row(say("parameters"), f"{subject.parameter_count:,}"),
        Row(say("tokenizer"), "–" if subject.tokenizer is None else type(subject.tokenizer).__name__),
        Row(say("trained on"), "–" if subject.world is None else subject.world.kind),
        Row(say("device and number format"), f"{subject.device}, {dtype}"),
        Row(say("seed"), str(seed)),
        Row(say("versions"), ", ".join(f"{name} {version}" for name, version in packages.items() if version)),
    ]
    return (*rows, *(Row(name, value) for name, value in subject.anatomy.rows()))


def token_section(batch: TokenBatch) -> Section:
    """The tokens of the first text, those of the source beside them."""
    tables = [_token_table(batch, "token-list", say("The tokens as the model sees them"))]
    notes: list[Text] = []
    if batch.source is not None:
        tables.append(_token_table(batch.source, "source-list", say("The tokens that the encoder reads")))
        notes.append(say("The decoder reads what the model itself writes, unless a text was given for it."))
    if len(batch.ids) > 1:
        notes.append(
            say(
                "Shown is the first of {count} texts; lens and maps show it, all else gathers over all.",
                count=len(batch.ids),
            )
        )
    return Section("tokens", say("Tokens"), tuple(notes), (), tuple(tables))


def _token_table(batch: TokenBatch, key: str, title: Text) -> Table:
    places = batch.real[0].nonzero()[:, 0].tolist()
    rows = tuple((place, batch.labels[place], int(batch.ids[0, place])) for place in places)
    return Table(key, title, (say("position"), say("token"), say("id")), rows, flows=True)


@dataclass(frozen=True)
class _Part:
    """A part of the report: the kinds of instruments it shows, in this order."""

    key: str
    title: Text
    note: Text
    kinds: tuple[str, ...]


def _order() -> tuple[_Part, ...]:
    return (
        _Part(
            "attention",
            say("Attention"),
            say("Scores first, then the heads that stand out most above chance, then every head."),
            ("head_scores", "attention_L", "attention_maps"),
        ),
        _Part(
            "repeated",
            say("Induction on repeated random tokens"),
            say("The field's standard measurement of induction heads (Olsson et al. 2022): it depends on the seed alone, not on the text above."),
            ("repeated_tokens",),
        ),
        _Part(
            "lens",
            say("What each layer would say"),
            say("The stream at each depth, the embedding first, read through the model's own final norm and head."),
            ("logit_lens", "lens_depth", "tuned_lens", "direct_attribution"),
        ),
        _Part(
            "probes",
            say("What can be read off each layer"),
            say("Linear probes, trained on some documents and judged on others, beside a control task and chance."),
            ("linear_probe",),
        ),
        _Part(
            "layers",
            say("Layer by layer"),
            say("How alike the layers' states are, how much each layer changes, and which write the tokens that heads park on."),
            ("similarity", "block_influence", "sinks"),
        ),
        _Part(
            "surgery",
            say("What is lost without a part"),
            say("The model is run with parts taken away or exchanged: what it needs shows in its answers, not in its maps."),
            ("ablation", "patching"),
        ),
        _Part(
            "memory",
            say("What the weights remember"),
            say("Questions put to the weights themselves, without any text."),
            ("memory_",),
        ),
        _Part("more", say("Other instruments"), say("What belongs to no other part."), ("",)),
    )  # fmt: skip


def sections_of(readings: Mapping[str, Reading]) -> list[Section]:
    """The sections that have figures; what fits several parts stands in the first."""
    left = dict(readings)
    sections: list[Section] = []
    for part in _order():
        names = [name for kind in part.kinds for name in left if _plain(name).startswith(kind)]
        figures = {name: left.pop(name).figure for name in dict.fromkeys(names)}
        # The wall of every head is one click away, unless it is all there is.
        walls = [name for name in figures if _plain(name) == AttentionMaps().kind]
        folded = walls if len(walls) < len(figures) else []
        if figures:
            shown = tuple(figure for name, figure in figures.items() if name not in folded)
            hidden = tuple(figures[name] for name in folded)
            sections.append(Section(part.key, part.title, (part.note,), shown, folded=hidden))
    return sections


def _plain(name: str) -> str:
    """A reading's name without its stack."""
    return name.removeprefix("encoder_").removeprefix("cross_")


def _limits(found: Examination) -> tuple[Text, ...]:
    skipped = [
        say("{instrument} was left out: {reason}", instrument=name, reason=problem.what)
        for name, problem in found.skipped.items()
    ]
    caveats = {c.en: c for reading in found.readings.values() for c in reading.measurement.caveats}
    one_text = (
        say("One text is one text: another may show other heads at work.")
        if len(found.batch.ids) == 1
        else say("{count} texts are few: others may show other heads at work.", count=len(found.batch.ids))
    )
    return (*caveats.values(), one_text, *skipped)
