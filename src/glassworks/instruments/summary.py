"""The summary of an examination: a few plain sentences, each with the figure it is taken from."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from glassworks.anatomy.places import layer_count
from glassworks.anatomy.tokens import token_count
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.instruments.base import Reading
from glassworks.instruments.examine import Examination
from glassworks.instruments.head_scores import not_measurable, score_name
from glassworks.instruments.sinks import SINK_TOKENS, acting_layers
from glassworks.report.page import SummaryLine


def summary_of(found: Examination) -> tuple[SummaryLine, ...]:
    """What was examined, whether it is true to the model, and what each instrument found."""
    subject, anatomy = found.subject, found.subject.anatomy
    size = say(
        "{name} has {parameters} parameters in {layers} (heads per layer: {heads}); it was given {tokens}.",
        name=subject.origin.name, layers=layer_count(sum(map(len, anatomy.stacks.values()))), heads=anatomy.heads,
        parameters=f"{subject.parameter_count:,}", tokens=given_words(found),
    )  # fmt: skip
    state = (
        say("What is shown is what the model computes: every check that could be made holds.")
        if found.fidelity.holds
        else say("A fidelity check failed, so nothing below may be read as a fact about the model.")
    )
    return (SummaryLine(size, "tokens"), SummaryLine(state, "fidelity"), *lines_of(found.readings))


def lines_of(readings: Mapping[str, Reading]) -> tuple[SummaryLine, ...]:
    """What each instrument found, in one sentence or two."""
    lines = _head_lines(readings)
    told = {
        "logit_lens": _lens_line, "tuned_lens": _tuned_line, "block_influence": _influence_line, "sinks": _sinks_line,
        "encoder_sinks": _encoder_sinks_line, "ablation": _ablation_line, "memory_recall": _recall_line,
    }  # fmt: skip
    for name, line in told.items():
        if name in readings:
            says = line(readings[name].measurement)
            lines += [] if says is None else [SummaryLine(says, readings[name].figure.name)]
    return tuple(lines)


def given_words(found: Examination) -> Text:
    """What the model was given: `38 tokens`, or `12 texts of 700 tokens in all`."""
    read = found.batch.read_by_encoder
    tokens = token_count(int(read.real.sum()))
    count = len(read.ids)
    return tokens if count == 1 else say("{count} texts of {tokens} in all", count=count, tokens=tokens)


def _head_lines(readings: Mapping[str, Reading]) -> list[SummaryLine]:
    """The heads that stand out for induction and for the previous token, or that none does."""
    lines: list[SummaryLine] = []
    if "head_scores" in readings:
        reading = readings["head_scores"]
        told = [head_line(reading.measurement, score) for score in ("induction", "previous_token")]
        blank = not_measurable(reading.measurement)
        lines += [SummaryLine(one, reading.figure.name) for one in (*told, blank) if one is not None]
    if "repeated_tokens" in readings:
        reading = readings["repeated_tokens"]
        told = head_line(reading.measurement, "induction", random=True)
        lines += [] if told is None else [SummaryLine(told, reading.figure.name)]
    return lines


def head_line(table: Measurement, score: str, *, random: bool = False) -> Text | None:
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


def _lens_line(table: Measurement) -> Text:
    last = table.at(stage=table.coords["stage"][-1], position=table.coords["position"][-1])
    found = dict(zip(last.coords["quantity"], last.values, strict=True))
    token = int(found["token 1"])
    facts = {
        "token": table.columns.get(f"token {token}", str(token)), "probability": _share(found["probability 1"]),
    }  # fmt: skip
    # Only a model that looks ahead is scored at its last token: the text tells what stands there.
    if np.isnan(found["rank of true"]):
        return say("After the last token the model says “{token}” with probability {probability}.", **facts)
    return say("At the last token the model says “{token}” with probability {probability}.", **facts)


def _tuned_line(table: Measurement) -> Text:
    states = table.coords["state"]
    middle = states[len(states) // 2]
    near = table.at(state=middle, quantity="divergence", spread="value")
    return say(
        "Half way, after layer {layer}, the tuned lens is {tuned} nats from what the model says, the logit lens {logit}.",
        layer=middle, tuned=f"{near.at(lens='tuned lens').values:.2f}", logit=f"{near.at(lens='logit lens').values:.2f}",
    )  # fmt: skip


def _influence_line(table: Measurement) -> Text:
    turns = table.at(quantity="value").values
    most, least = int(np.argmax(turns)), int(np.argmin(turns))
    return say(
        "Layer {most} turns the stream most (block influence {high}), layer {least} least ({low}).",
        most=most, least=least, high=f"{turns[most]:.2f}", low=f"{turns[least]:.3f}",
    )  # fmt: skip


def _sinks_line(table: Measurement) -> Text | None:
    ratio = table.at(quantity="ratio").values
    if np.isnan(ratio).all():
        return None
    peak = int(np.nanargmax(ratio))
    writers, erasers = acting_layers(table)
    if not writers:
        return say(
            "No layer writes an attention sink: no token is longer than {ratio} times the others.", ratio=f"{ratio[peak]:.1f}"
        )  # fmt: skip
    facts = {
        "token": table.columns.get(SINK_TOKENS, "–"), "ratio": f"{ratio[peak]:.0f}", "peak": table.coords["state"][peak],
        "writers": _layers(writers),
    }  # fmt: skip
    if not erasers:
        return say(
            "Attention sinks, by length: {token}; {ratio} times the other tokens after layer {peak}, written by {writers}, erased by none.",
            **facts,
        )
    return say(
        "Attention sinks, by length: {token}; {ratio} times the other tokens after layer {peak}, written by {writers}, erased by {erasers}.",
        erasers=_layers(erasers), **facts,
    )  # fmt: skip


def _encoder_sinks_line(table: Measurement) -> Text | None:
    told = _sinks_line(table)
    return None if told is None else say("In the encoder: {told}", told=told)


def _ablation_line(table: Measurement) -> Text | None:
    worse = table.at(quantity="loss increase").values
    if worse.ndim != 1 or np.isnan(worse).all():
        return None
    layers = table.coords["layer"]
    most, least = int(np.nanargmax(worse)), int(np.nanargmin(worse))
    return say(
        "Without layer {most} the loss changes by {high} nats per token, without layer {least} by {low}.",
        most=layers[most], least=layers[least], high=f"{worse[most]:+.2f}", low=f"{worse[least]:+.2f}",
    )  # fmt: skip


def _recall_line(table: Measurement) -> Text:
    value = table.at(quantity="value")
    best = dict(zip(value.coords["memory"], value.values, strict=True))
    return say(
        "Of what an induction head must remember, W_O of layer 1 holds {output}, W_K of layer 1 {match}, W_K of layer 0 {position}.",
        output=_share(best["w_o2"]), match=_share(best["w_k2"]), position=_share(best["w_k1_first_64"]),
    )  # fmt: skip


def _layers(numbers: tuple[int, ...]) -> Text:
    listed = ", ".join(map(str, numbers))
    return say("layer {number}", number=listed) if len(numbers) == 1 else say("layers {numbers}", numbers=listed)


def _share(value: Any) -> str:
    return "–" if np.isnan(value) else f"{float(value):.0%}"
