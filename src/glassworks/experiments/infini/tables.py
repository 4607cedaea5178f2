"""The tables of the Infini report: sizes, perplexities, gates, keys, each beside what the paper printed (infini.md 1, 2)."""

from __future__ import annotations

import math

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.infini.curves_of import beyond_first
from glassworks.experiments.infini.drawings_shared import known_labels
from glassworks.experiments.infini.judging_language import last_gates, near_half
from glassworks.experiments.infini.judging_memory import INFINI, MEMORIZING, in_progress, kept
from glassworks.experiments.infini.judging_passkey import BOTH, REAL_LENGTHS, WITHOUT_MEMORY
from glassworks.experiments.infini.names import length_name, model_name, rule_name, setting_name, stage_name
from glassworks.figures.words import Label
from glassworks.report.page import Cell, Table

_PRINTED = {"Transformer-XL": "50M", MEMORIZING: "183M", "RMT": "2.5M", INFINI: "1.6M"}
# Perplexity per token on PG19 and Arxiv-math, and numbers kept, as printed (infini.md 2).
_PERPLEXITIES = (
    ("Transformer-XL", "50M", 11.88, 2.42),
    ("Memorizing Transformers", "183M", 11.37, 2.26),
    ("RMT", "2.5M", 13.27, 2.55),
    ("Infini, linear", "1.6M", 9.65, 2.24),
    ("Infini, delta", "1.6M", 9.67, 2.23),
)
# Token accuracy from start / middle / end, as printed: 32K, 128K, 256K, 512K and 1M tokens.
_KEYS = (
    (say("linear, not fine-tuned"), "14 / 13 / 98", "11 / 14 / 100", "6 / 3 / 100", "6 / 7 / 99", "8 / 6 / 98"),
    (say("delta, not fine-tuned"), "13 / 11 / 99", "6 / 9 / 99", "7 / 5 / 99", "6 / 8 / 97", "7 / 6 / 97"),
    (say("linear, 400 steps"), "100 / 100 / 100", "100 / 100 / 100", "100 / 100 / 100", "97 / 99 / 100", "96 / 94 / 100"),
    (say("delta, 400 steps"), "100 / 100 / 100", "100 / 100 / 99", "100 / 100 / 99", "100 / 100 / 100", "100 / 100 / 100"),
)  # fmt: skip


def sizes(evidence: Evidence) -> list[Table]:
    """What each architecture keeps at the paper's sizes, and how many times as much as Infini-attention."""
    if "memory_sizes" not in evidence:
        return []
    found = evidence["memory_sizes"]
    ours = kept(found, INFINI)
    rows = tuple(
        (
            model_name(model),
            _count(kept(found, model)),
            _count(in_progress(found, model)),
            f"{kept(found, model) / ours:,.1f}",
            _PRINTED.get(model),
        )
        for model in map(str, found.coords["model"])
    )
    columns = (
        say("architecture"),
        say("kept across segments"),
        say("segment in progress"),
        say("kept, times Infini"),
        say("as printed"),
    )
    caption = say(
        "Numbers for 12 layers, 8 heads of 128, segments of 2048 tokens and a stream of 1024 (paper: tables 1, 2)."
    )
    return [Table("memory-sizes-table", say("Sizes to the number"), columns, rows, caption), *_live(evidence)]


def _live(evidence: Evidence) -> list[Table]:
    if "memory_live" not in evidence:
        return []
    found = evidence["memory_live"]
    rows = tuple(
        (model_name(m), *(_count(float(found.at(model=m, count=c).values)) for c in ("formula", "measured")))
        for m in found.coords["model"]
    )
    columns = (say("model"), say("by the formula"), say("counted"))
    caption = say(
        "Numbers that our small models hold after four segments and half of the fifth, the segment in progress included, counted tensor by tensor."
    )
    return [Table("memory-live-table", say("Formulas against live models"), columns, rows, caption)]


def language(evidence: Evidence) -> list[Table]:
    """Bits and perplexity per byte, and what each model costs; beside it the paper's perplexities."""
    if "language_by_position" not in evidence:
        return []
    found = evidence["language_by_position"]
    rows = tuple(
        (model_name(model), str(interval_over_seeds(loss)), str(interval_over_seeds(2.0**loss)))
        for model in known_labels(found, "model")
        for loss in [beyond_first(found, model)]
    )
    columns = (say("model"), say("bits per byte"), say("perplexity per byte"))
    caption = say(
        "Held-out bytes beyond the first segment, up to the training length, with 95 % intervals over training seeds."
    )
    title = say("The book in numbers")
    return [Table("language-table", title, columns, rows, caption), *_costs(evidence), _published_language()]


def _costs(evidence: Evidence) -> list[Table]:
    if "language_cost" not in evidence:
        return []
    found = evidence["language_cost"]
    names = {
        "parameters": say("parameters"),
        "kept": say("numbers kept"),
        "bytes": say("bytes read"),
        "seconds": say("seconds"),
    }
    rows = tuple(
        (model_name(model), *(_count(float(found.at(model=model, number=number).values)) for number in names))
        for model in found.coords["model"]
    )
    caption = say(
        "Numbers kept: across segments, in the last segment of a text as long as those of training. Seconds of training are on the clock, means over seeds."
    )
    return [Table("language-cost-table", say("What each model costs"), (say("model"), *names.values()), rows, caption)]


def _published_language() -> Table:
    columns = (say("model"), say("numbers kept"), "PG19", "Arxiv-math")
    caption = say(
        "Perplexity per token as printed, of models of 12 layers and segments of 2048 tokens: not comparable with bytes, only in "
        "their order. Local attention, full attention and seeds are missing there."
    )
    return Table("language-published", say("The paper's own numbers"), columns, _PERPLEXITIES, caption)


def gates(evidence: Evidence) -> list[Table]:
    """Where the gates of each setting end, and what the model then costs."""
    if "gates_path" not in evidence:
        return []
    path = evidence["gates_path"]
    losses = evidence.measurements.get("gates_loss")
    rows: list[tuple[Cell, ...]] = []
    for setting in known_labels(path, "setting"):
        found = last_gates(path, setting)
        worst = found.min(axis=1).max()
        loss = str(losses.interval(setting=setting)) if losses is not None else "-"
        gates_of = (f"{value:.3f}" for value in (found.min(), found.max(), worst))
        rows.append((setting_name(setting), str(interval_over_seeds(near_half(found))), *gates_of, loss))
    columns = (
        say("how the gates learn"),
        say("share in 0.4 to 0.6"),
        say("lowest gate"),
        say("highest gate"),
        say("lowest gate of the worst layer"),
        say("bits per byte"),
    )
    caption = say(
        "Gates after training, of all seeds; shares and bits per byte beyond the first segment with 95 % intervals. A layer whose "
        "lowest gate is above one half has no head that listens more to its own segment."
    )
    return [Table("gates-table", say("Gates in numbers"), columns, tuple(rows), caption)]


def keys(evidence: Evidence) -> list[Table]:
    """Digits right and whole keys right by rule and length, laid out as the paper's table 3, and that table."""
    kinds = (
        (
            "passkey",
            say("Digits right"),
            say("Per cent from start / middle / end, means over seeds; each digit with the true ones before it given."),
        ),
        (
            "passkey_exact",
            say("Whole keys right"),
            say("Per cent of texts with all five digits right, from start / middle / end, means over seeds."),
        ),
    )
    tables = [
        Table(f"{name.replace('_', '-')}-table", title, *_keys(evidence, evidence[name]), caption)
        for name, title, caption in kinds
        if name in evidence
    ]
    return [*tables, _published_keys(), *_minutes(evidence)] if tables else []


def _keys(evidence: Evidence, found: Measurement) -> tuple[tuple[Label, ...], tuple[tuple[Cell, ...], ...]]:
    """Columns and rows: one row for each rule, and how many texts a cell stands for."""
    lengths = found.coords["length"]
    rows: list[tuple[Cell, ...]] = [
        (rule_name(rule), *(_depths(found.at(rule=rule, length=length)) for length in lengths))
        for rule in known_labels(found, "rule", (*BOTH, *REAL_LENGTHS, *WITHOUT_MEMORY))
    ]
    if "passkey_samples" in evidence:
        texts = evidence["passkey_samples"]
        counts = (float(texts.at(length=n).values) if n in texts.coords["length"] else math.nan for n in lengths)
        rows.append((say("texts of a seed"), *(_count(count) for count in counts)))
    return (say("write rule"), *(length_name(length) for length in lengths)), tuple(rows)


def _depths(part: Measurement) -> str:
    means = [float(part.at(depth=depth).values.mean()) for depth in ("start", "middle", "end")]
    return "-" if np.isnan(means).all() else " / ".join("-" if math.isnan(m) else f"{100 * m:.0f}" for m in means)


def _published_keys() -> Table:
    columns = (say("write rule"), "32K", "128K", "256K", "512K", "1M")
    caption = say(
        "Token accuracy in per cent from start / middle / end as printed, of a model with a billion parameters, before and after "
        "400 steps on texts of 5K tokens; the lengths are in tokens."
    )
    return Table("passkey-published", say("The paper's own table 3"), columns, _KEYS, caption)


def _minutes(evidence: Evidence) -> list[Table]:
    if "passkey_minutes" not in evidence:
        return []
    found = evidence["passkey_minutes"]
    rows = tuple((stage_name(stage), str(found.interval(stage=stage))) for stage in found.coords["stage"])
    columns = (say("stage"), say("minutes"))
    return [Table("passkey-minutes-table", say("What the recipe costs"), columns, rows, say("Minutes of training."))]


def _count(value: float) -> Cell:
    """A whole number with its thousands apart; a dash where there is none."""
    return None if math.isnan(value) else f"{value:,.0f}"
