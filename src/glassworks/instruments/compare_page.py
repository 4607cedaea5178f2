"""The report of a comparison: what tells two models apart, in sentences, figures and tables."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from glassworks.anatomy.offloaded import format_of
from glassworks.anatomy.places import layer_count
from glassworks.anatomy.tokens import token_count
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.instruments.base import Reading
from glassworks.instruments.beside import LOSSES
from glassworks.instruments.compare import Comparison
from glassworks.instruments.findings import table_suffixes
from glassworks.instruments.head_scores import SCORES, score_name
from glassworks.instruments.likeness import GROUPS, WHOLE, part_name
from glassworks.instruments.pages import check_value
from glassworks.instruments.pair import MODELS
from glassworks.report.page import Check, FileLink, Page, Row, Section, SummaryLine, Table

# Longer lists of tokens belong into the tables beside the report.
MOST_TOKENS = 400


def page_of(found: Comparison) -> Page:
    """The report as a value."""
    first, second = (subject.origin.name for subject in found.pair.subjects)
    sections = (_models(found), _predictions(found), _layers(found), _heads(found), _weights(found), _tokens(found))
    return Page(
        title=say("{first} beside {second}", first=first, second=second),
        lead=say("What tells two models apart on the same text: predictions, layers, heads and weights, both checked against the untouched models first."),
        summary=tuple(_summary(found)),
        passport=_passport(found),
        fidelity=_checks(found),
        sections=tuple(section for section in sections if section is not None),
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


def _checks(found: Comparison) -> tuple[Check, ...]:
    return tuple(
        Check(say("{letter}: {check}", letter=letter, check=row.says), check_value(row.value, row.remark), row.holds is not False)
        for letter, fidelity in zip(MODELS, found.fidelity, strict=True)
        for row in fidelity.rows()
    )  # fmt: skip


def _summary(found: Comparison) -> list[SummaryLine]:
    pair = found.pair
    sizes = [
        say(
            "{name} ({parameters} parameters, {layers})",
            name=subject.origin.name, parameters=f"{subject.parameter_count:,}", layers=layer_count(subject.anatomy.depth),
        )
        for subject in pair.subjects
    ]  # fmt: skip
    state = (
        say("What is shown is what the models compute: every check that could be made holds.")
        if all(fidelity.holds for fidelity in found.fidelity)
        else say("A fidelity check failed, so nothing below may be read as a fact about the models.")
    )
    lines = [
        SummaryLine(say("A is {first}, B is {second}. {how}", first=sizes[0], second=sizes[1], how=pair.alignment.says), "tokens"),
        SummaryLine(state, "fidelity"),
        *_prediction_lines(found),
        *_layer_lines(found),
        *_head_lines(found),
        *_weight_lines(found),
    ]  # fmt: skip
    return lines


def _prediction_lines(found: Comparison) -> list[SummaryLine]:
    lines: list[SummaryLine] = []
    if "predictions" in found.readings:
        apart = found.apart
        told = (
            say("At every place their logits are equal, bit for bit.")
            if found.largest_logit_difference == 0
            else say(
                "They put the same token first at {same} of {count} places; divergence {divergence} nats, largest logit difference {largest}.",
                same=f"{apart['same_first_token'].mean:.0%}", count=found.pair.alignment.count,
                divergence=apart["divergence"], largest=f"{found.largest_logit_difference:.3g}",
            )
        )  # fmt: skip
        lines.append(SummaryLine(told, found.readings["predictions"].figure.name))
    if "losses" in found.readings:
        lines += _loss_lines(found)
    return lines


def _loss_lines(found: Comparison) -> list[SummaryLine]:
    is_same = found.pair.alignment.same_tokens
    unit = "loss per token" if is_same else "loss per character"
    values = [found.value("losses", model=model, quantity=unit) for model in MODELS]
    # A model that sees the token it is asked for answers another question than one that does not.
    kinds = {subject.anatomy.causal for subject in found.pair.subjects}
    if any(np.isnan(values)) or len(kinds) > 1:
        return []
    numbers = {"first": f"{values[0]:.3f}", "second": f"{values[1]:.3f}"}
    told = (
        say("Loss on the text: {first} nats per token in A, {second} in B.", **numbers)
        if is_same
        else say("Loss on the text: {first} nats per character in A, {second} in B (their tokens differ).", **numbers)
    )
    difference = found.apart.get("loss_difference")
    if is_same and difference is not None and found.largest_logit_difference:
        told = say("{loss} B minus A, token by token: {difference}.", loss=told, difference=difference)
    lines = [SummaryLine(told, found.readings["losses"].figure.name)]
    return lines


def _layer_lines(found: Comparison) -> list[SummaryLine]:
    if "likeness" not in found.readings:
        return []
    reading = found.readings["likeness"]
    diagonal = np.array(found.diagonal)
    if diagonal.size and np.nanmin(diagonal, initial=2.0) == 1.0:
        return [SummaryLine(say("Layer by layer they are alike with CKA 1 (without sinks)."), reading.figure.name)]
    if diagonal.size and not np.isnan(diagonal).all():
        lowest = int(np.nanargmin(diagonal))
        told = say(
            "Layer by layer they are alike with CKA {mean} on average, least after {state}: {least} (without sinks).",
            mean=f"{np.nanmean(diagonal):.3f}", state=_state_words(lowest - 1), least=f"{diagonal[lowest]:.3f}",
        )  # fmt: skip
        return [SummaryLine(told, reading.figure.name)]
    matrix = reading.measurement.at(tokens="no sinks").values
    if np.isnan(matrix).all():
        return []
    best = np.unravel_index(int(np.nanargmax(matrix)), matrix.shape)
    told = say(
        "Most alike are A after {state} and B after {other}: CKA {value} (without sinks).",
        state=_state_words(int(best[0]) - 1), other=_state_words(int(best[1]) - 1), value=f"{matrix[best]:.3f}",
    )  # fmt: skip
    return [SummaryLine(told, reading.figure.name)]


def _state_words(state: int) -> Text:
    return say("the embedding") if state < 0 else say("layer {number}", number=state)


def _head_lines(found: Comparison) -> list[SummaryLine]:
    name = next((name for name in ("repeated_tokens", "head_scores") if name in found.readings), None)
    if name is None:
        return []
    reading = found.readings[name]
    best = [_best_head(reading.measurement.at(model=model), "induction") for model in MODELS]
    if any(one is None for one in best):
        return []
    told = say("Strongest induction head of A: {first}; of B: {second}.", first=best[0], second=best[1])
    return [SummaryLine(told, reading.figure.name)]


def _best_head(table: Measurement, score: str) -> Text | None:
    """The head furthest above chance, and whether it stands out; None where no head has the score."""
    values, low, chance = (table.at(score=score, quantity=name).values for name in ("value", "low", "chance"))
    above = values - chance
    if np.isnan(above).all():
        return None
    place = np.unravel_index(int(np.nanargmax(above)), above.shape)
    facts = {
        "layer": table.coords["layer"][place[0]], "head": table.coords["head"][place[1]],
        "value": f"{values[place]:.2f}", "chance": f"{chance[place]:.2f}",
    }  # fmt: skip
    # Without an interval (one query) nothing can be said to lie above chance.
    if low[place] > chance[place]:
        return say("L{layer}H{head} ({value}, chance {chance})", **facts)
    return say("none that stands out (best: L{layer}H{head}, {value}; chance {chance})", **facts)


def _weight_lines(found: Comparison) -> list[SummaryLine]:
    if "weight_change" not in found.readings:
        return []
    reading = found.readings["weight_change"]
    table = reading.measurement.at(quantity="relative change")
    whole = found.value("weight_change", part=WHOLE, group=WHOLE, quantity="relative change")
    if whole == 0:
        told = (
            say("The weights that both have are equal, bit for bit; each model has others besides.")
            if reading.measurement.caveats
            else say("Their weights are equal, bit for bit.")
        )
        return [SummaryLine(told, reading.figure.name)]
    parts = [part for part in table.coords["part"] if part != WHOLE]
    changes = np.array([table.at(part=part, group=WHOLE).values for part in parts])
    told = say(
        "Their weights differ by {whole} of their length, most in {part} ({most}).",
        whole=f"{whole:.2%}", part=part_name(str(parts[int(np.nanargmax(changes))])), most=f"{np.nanmax(changes):.2%}",
    )  # fmt: skip
    return [SummaryLine(told, reading.figure.name)]


def _passport(found: Comparison) -> tuple[Row, ...]:
    packages: Mapping[str, Any] = found.environment["packages"]
    return (
        Row(say("model {letter}", letter=MODELS[0]), found.pair.subjects[0].origin.name),
        Row(say("model {letter}", letter=MODELS[1]), found.pair.subjects[1].origin.name),
        Row(say("seed"), str(found.seed)),
        Row(say("versions"), ", ".join(f"{name} {version}" for name, version in packages.items() if version)),
    )


def _models(found: Comparison) -> Section:
    both = [_model_rows(found, side) for side in (0, 1)]
    values = [{name.en: value for name, value in rows} for rows in both]
    # One may have a part that the other lacks, such as an encoder.
    names = {name.en: name for rows in both for name, _ in rows}
    rows = tuple((name, *(known.get(key, "–") for known in values)) for key, name in names.items())
    title = say("What was found in each model")
    return Section("models", say("The two models"), (), (), (Table("model-list", title, (say("part"), *MODELS), rows),))


def _model_rows(found: Comparison, side: int) -> list[tuple[Text, str]]:
    subject = found.pair.subjects[side]
    dtype = format_of(subject.model)
    return [
        (say("model"), f"{subject.origin.name} ({type(subject.model).__name__})"),
        (say("source"), subject.origin.source or "–"),
        (say("revision"), subject.origin.revision or "–"),
        (say("parameters"), f"{subject.parameter_count:,}"),
        (say("tokenizer"), "–" if subject.tokenizer is None else type(subject.tokenizer).__name__),
        (say("device and number format"), f"{subject.device}, {dtype}"),
        *subject.anatomy.rows(),
    ]


def _tokens(found: Comparison) -> Section:
    pair = found.pair
    labels = [pair.subjects[side].labels(pair.batches[side].ids[0].tolist()) for side in (0, 1)]
    pairs = list(zip(pair.columns(0, 0), pair.columns(1, 0), strict=True))
    rows = tuple((i, labels[0][i], j, labels[1][j]) for i, j in pairs[:MOST_TOKENS])
    title = say("The places that are compared, with the token that ends there")
    table = Table(
        "token-list", title, (say("position in A"), say("token of A"), say("position in B"), say("token of B")), rows
    )
    counts = [token_count(int(batch.real.sum())) for batch in pair.batches]
    note = say("A was given {first}, B {second}.", first=counts[0], second=counts[1])
    is_written = pair.subjects[0].anatomy.has_source and bool(pair.texts)
    read = [say("Both decoders read what A wrote for the text: “{text}”.", text=pair.texts[0])] if is_written else []
    return Section("tokens", say("Tokens"), (pair.alignment.says, note, *read), (), (table,))


def _predictions(found: Comparison) -> Section | None:
    figures = _figures(found, "losses", "predictions")
    tables: list[Table] = []
    if "losses" in found.readings:
        table = found.readings["losses"].measurement
        rows = tuple((model, *map(float, table.at(model=model).values)) for model in MODELS)
        columns = (say("model"), *(_loss_name(name) for name in LOSSES))
        tables.append(Table("loss-table", say("Loss on the text, in nats"), columns, rows))
    if "predictions" in found.readings:
        names = {
            "divergence": say("divergence (nats)"),
            "same_first_token": say("share of places with the same first token"),
            "loss_difference": say("loss of B minus loss of A (nats per token)"),
        }
        rows = (
            (say("largest logit difference"), found.largest_logit_difference, None, None),
            *((names[name], one.mean, one.low, one.high) for name, one in found.apart.items()),
        )
        columns = (say("quantity"), say("number"), say("low"), say("high"))
        tables.append(
            Table("prediction-table", say("How far the predictions lie apart, with 95 % intervals"), columns, rows)
        )
    return Section("predictions-section", say("Predictions"), (), figures, tuple(tables)) if figures else None


def _loss_name(quantity: str) -> Text:
    match quantity:
        case "loss per token":
            return say("loss per token")
        case "low":
            return say("low")
        case "high":
            return say("high")
        case "tokens":
            return say("tokens")
        case "loss per character":
            return say("loss per character")
        case _:
            return say("characters")


def _layers(found: Comparison) -> Section | None:
    figures = _figures(found, "likeness", "likeness_encoder", "stream_change")
    return Section("layers", say("Layer by layer"), (), figures) if figures else None


def _heads(found: Comparison) -> Section | None:
    figures = _figures(found, "head_scores", "repeated_tokens")
    if not figures:
        return None
    titles = {
        "head_scores": say("The best head of each kind on the text"),
        "repeated_tokens": say("The best head of each kind on repeated random tokens"),
    }
    tables = tuple(
        _head_table(name, title, found.readings[name]) for name, title in titles.items() if name in found.readings
    )
    return Section("heads", say("Heads"), (), figures, tables)


def _head_table(name: str, title: Text, reading: Reading) -> Table:
    both = [reading.measurement.at(model=model) for model in MODELS]
    rows = tuple((score_name(score), *(_best_head(table, score) or "–" for table in both)) for score in SCORES)
    return Table(f"{name}-table", title, (say("score"), *MODELS), rows)


def _weights(found: Comparison) -> Section | None:
    if "weight_change" not in found.readings:
        return None
    reading = found.readings["weight_change"]
    table = reading.measurement.at(group=GROUPS[-1])
    rows = tuple(
        (part_name(str(part)), float(change), float(largest), int(count))
        for part, (change, largest, count) in zip(table.coords["part"], table.values, strict=True)
    )
    columns = (say("part"), say("relative change"), say("largest change"), say("parameters"))
    listed = Table("weight-table", say("How far the weights of B lie from those of A"), columns, rows)
    return Section("weights", say("Weights"), (), (reading.figure,), (listed,))


def _figures(found: Comparison, *names: str) -> tuple[Any, ...]:
    return tuple(found.readings[name].figure for name in names if name in found.readings)


def _limits(found: Comparison) -> tuple[Text, ...]:
    skipped = [
        say("{instrument} was left out: {reason}", instrument=name, reason=problem.what)
        for name, problem in found.skipped.items()
    ]
    caveats = {c.en: c for reading in found.readings.values() for c in reading.measurement.caveats}
    one_text = say("One text is one text: another may show other heads at work.")
    return (*caveats.values(), one_text, *skipped)
