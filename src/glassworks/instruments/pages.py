"""The report of an examination: what was found, in sentences, figures and tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from glassworks.anatomy.places import layer_count
from glassworks.anatomy.tokens import token_count
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.instruments.base import Reading
from glassworks.instruments.examine import Examination, table_suffixes
from glassworks.instruments.head_scores import not_measurable, score_name
from glassworks.report.page import Check, FileLink, Page, Row, Section, SummaryLine, Table


def page_of(found: Examination) -> Page:
    """The report as a value."""
    sections = tuple(
        section for section in (_tokens(found), _heads(found), _random(found), _lens(found), _memory(found)) if section
    )
    return Page(
        title=say("Inside {name}", name=found.subject.origin.name),
        lead=say("What one text of {tokens} shows of this model, checked against the untouched model first.", tokens=token_count(found.batch.ids.shape[1])),
        summary=tuple(_summary(found)),
        passport=_passport(found),
        fidelity=tuple(
            Check(row.says, _check_value(row.value, row.remark), row.holds is not False) for row in found.fidelity.rows()
        ),
        sections=sections,
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


def _check_value(value: float, remark: Text | None) -> Text | str:
    number = "–" if np.isnan(value) else "0" if value == 0 else f"{value:.1e}"
    return number if remark is None else say("{value} ({remark})", value=number, remark=remark)


def _summary(found: Examination) -> list[SummaryLine]:
    subject, anatomy = found.subject, found.subject.anatomy
    size = say(
        "{name} has {parameters} parameters in {layers} (heads per layer: {heads}); it was given {tokens}.",
        name=subject.origin.name, layers=layer_count(anatomy.depth), heads=anatomy.heads,
        parameters=f"{subject.parameter_count:,}", tokens=token_count(found.batch.ids.shape[1]),
    )  # fmt: skip
    state = (
        say("What is shown is what the model computes: every check that could be made holds.")
        if found.fidelity.holds
        else say("A fidelity check failed, so nothing below may be read as a fact about the model.")
    )
    lines = [SummaryLine(size, "tokens"), SummaryLine(state, "fidelity")]
    lines += _head_lines(found)
    if "logit_lens" in found.readings:
        lines.append(_lens_line(found.readings["logit_lens"]))
    if "memory_recall" in found.readings:
        recall = found.readings["memory_recall"]
        table = recall.measurement.at(quantity="value")
        best = dict(zip(table.coords["memory"], table.values, strict=True))
        told = say(
            "Of what an induction head must remember, W_O of layer 1 holds {output}, W_K of layer 1 {match}, W_K of layer 0 {position}.",
            output=_share(best["w_o2"]), match=_share(best["w_k2"]), position=_share(best["w_k1_first_64"]),
        )  # fmt: skip
        lines.append(SummaryLine(told, recall.figure.name))
    return lines


def _head_lines(found: Examination) -> list[SummaryLine]:
    """The heads that stand out for induction and for the previous token, or that none does."""
    lines: list[SummaryLine] = []
    if "head_scores" in found.readings:
        reading = found.readings["head_scores"]
        told = [_head_line(reading.measurement, score) for score in ("induction", "previous_token")]
        blank = not_measurable(reading.measurement)
        lines += [SummaryLine(one, reading.figure.name) for one in (*told, blank) if one is not None]
    if "repeated_tokens" in found.readings:
        reading = found.readings["repeated_tokens"]
        told = _head_line(reading.measurement, "induction", random=True)
        lines += [] if told is None else [SummaryLine(told, reading.figure.name)]
    return lines


def _head_line(table: Measurement, score: str, *, random: bool = False) -> Text | None:
    """What the best head of a score has; None where the text has no query to measure it at."""
    values = table.at(score=score, quantity="value").values
    if np.isnan(values).all():
        return None
    above = values - table.at(score=score, quantity="chance").values
    layer, head = np.unravel_index(int(np.nanargmax(above)), values.shape)
    low, high, chance = (
        float(table.at(score=score, quantity=name).values[layer, head]) for name in ("low", "high", "chance")
    )
    interval = "" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]"
    facts = {
        "layer": table.coords["layer"][layer], "head": int(head), "score": score_name(score),
        "value": f"{values[layer, head]:.2f}{interval}", "chance": f"{chance:.2f}",
    }  # fmt: skip
    # Without an interval (one query) nothing can be said to lie above chance.
    match low > chance, random:
        case True, False:
            return say(
                "Head L{layer}H{head} scores highest for {score}: {value}, where chance gives {chance}.", **facts
            )
        case True, True:
            return say(
                "On repeated random tokens head L{layer}H{head} stands out most for {score}: {value}, where chance gives {chance}.",
                **facts,
            )
        case False, False:
            return say(
                "No head stands out for {score} on this text (best: L{layer}H{head}, {value}; chance {chance}).",
                **facts,
            )
        case _:
            return say(
                "On repeated random tokens no head stands out for {score} (best: L{layer}H{head}, {value}; chance {chance}).",
                **facts,
            )


def _lens_line(reading: Reading) -> SummaryLine:
    table = reading.measurement
    last = table.at(stage=table.coords["stage"][-1], position=table.coords["position"][-1])
    found = dict(zip(last.coords["quantity"], last.values, strict=True))
    token = int(found["token 1"])
    told = say(
        "After the last token the model says “{token}” with probability {probability}.",
        token=table.columns.get(f"token {token}", str(token)),
        probability=_share(found["probability 1"]),
    )
    return SummaryLine(told, reading.figure.name)


def _share(value: Any) -> str:
    return "–" if np.isnan(value) else f"{float(value):.0%}"


def _passport(found: Examination) -> tuple[Row, ...]:
    subject = found.subject
    packages: Mapping[str, Any] = found.environment["packages"]
    dtype = str(next(subject.model.parameters()).dtype).removeprefix("torch.")
    rows = [
        Row(say("model"), f"{subject.origin.name} ({type(subject.model).__name__})"),
        Row(say("source"), subject.origin.source or "–"),
        Row(say("revision"), subject.origin.revision or "–"),
        *([] if subject.origin.taken is None else [Row(say("which of the run's models"), subject.origin.taken)]),
        Row(say("parameters"), f"{subject.parameter_count:,}"),
        Row(say("tokenizer"), "–" if subject.tokenizer is None else type(subject.tokenizer).__name__),
        Row(say("trained on"), "–" if subject.world is None else subject.world.kind),
        Row(say("device and number format"), f"{subject.device}, {dtype}"),
        Row(say("seed"), str(found.seed)),
        Row(say("versions"), ", ".join(f"{name} {version}" for name, version in packages.items() if version)),
    ]
    return (*rows, *(Row(name, value) for name, value in subject.anatomy.rows()))


def _tokens(found: Examination) -> Section:
    ids = found.batch.ids[0].tolist()
    rows = tuple(
        (place, label, token) for place, (label, token) in enumerate(zip(found.batch.labels, ids, strict=True))
    )
    table = Table(
        "token-list", say("The tokens as the model sees them"), (say("position"), say("token"), say("id")), rows
    )
    return Section("tokens", say("Tokens"), (), (), (table,))


def _heads(found: Examination) -> Section | None:
    names = [n for n in found.readings if n == "head_scores" or n.startswith("attention_L")]
    figures = [found.readings[name].figure for name in (*names, "attention_maps") if name in found.readings]
    note = say("Scores first, then the heads that stand out most above chance, then every head.")
    return Section("attention", say("Attention"), (note,), tuple(figures)) if figures else None


def _random(found: Examination) -> Section | None:
    if "repeated_tokens" not in found.readings:
        return None
    reading = found.readings["repeated_tokens"]
    note = say(
        "The field's standard measurement of induction heads (Olsson et al. 2022): it depends on the seed alone, not on the text above."
    )
    return Section("repeated", say("Induction on repeated random tokens"), (note,), (reading.figure,))


def _lens(found: Examination) -> Section | None:
    if "logit_lens" not in found.readings:
        return None
    note = say(
        "Each row reads the stream at one depth, the embedding first, through the model's own final norm and head."
    )
    return Section("lens", say("What each layer would say"), (note,), (found.readings["logit_lens"].figure,))


def _memory(found: Examination) -> Section | None:
    figures = tuple(reading.figure for name, reading in found.readings.items() if name.startswith("memory_"))
    return Section("memory", say("What the weights remember"), (), figures) if figures else None


def _limits(found: Examination) -> tuple[Text, ...]:
    skipped = [
        say("{instrument} was left out: {reason}", instrument=name, reason=problem.what)
        for name, problem in found.skipped.items()
    ]
    caveats = {c.en: c for reading in found.readings.values() for c in reading.measurement.caveats}
    one_text = say("One text is one text: another may show other heads at work.")
    return (*caveats.values(), one_text, *skipped)
