"""The tables of the scaling report: the grid, the laws, the optima, published models, compressors and the coded file."""

from __future__ import annotations

import math

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.scaling.laws import NUMBERS, PUBLISHED, break_even
from glassworks.experiments.scaling.readings import (
    bits,
    compute,
    draws_of,
    interval_of_draws,
    law_name,
    method_name,
    size_words,
)
from glassworks.report.page import Cell, Table

_BITS = say("bits per byte")
_INTERVALS = say("In brackets the middle 95 % of the draws.")


def grid(evidence: Evidence) -> list[Table]:
    """Every cell: size, data, cost and loss."""
    if not {"scaling_grid", "scaling_loss"} <= set(evidence.measurements):
        return []
    spent, losses = evidence["scaling_grid"], evidence["scaling_loss"]
    rows: list[tuple[Cell, ...]] = []
    for budget, flop in enumerate(losses.along("budget")):
        for place in losses.coords["place"]:
            at = {n: float(spent.at(number=n).values[budget, int(place)]) for n in map(str, spent.coords["number"])}
            loss = interval_over_seeds(losses.values[budget, int(place)])
            rows.append(
                (
                    compute(float(flop)), f"{at['parameters']:,.0f}", size_words(at["bytes"]), f"{at['epochs']:.2f}",
                    f"{at['bytes'] / at['parameters']:.3g}", f"{at['counted'] / at['operations'] - 1:.0%}",
                    str(loss), loss.count,
                )
            )  # fmt: skip
    columns = (
        say("operations"), say("parameters"), say("bytes read"), say("times the text"), say("bytes per parameter"),
        say("more with attention"), _BITS, say("seeds"),
    )  # fmt: skip
    caption = say(
        "Operations are 6 N D; with the products of attention's scores and values they are more by the share in the sixth column."
    )
    return [Table("scaling-grid-table", say("Every model"), columns, tuple(rows), caption)]


def laws(evidence: Evidence) -> list[Table]:
    """Constants of our law and of the published ones; the optima of the parabolas."""
    rows: list[tuple[Cell, ...]] = []
    if "scaling_law" in evidence:
        found = evidence["scaling_law"]
        intervals = [str(interval_of_draws(*draws_of(found, number=number))) for number in (*NUMBERS, "a", "b")]
        rows.append((say("ours, bits per byte"), *intervals))
    for name, law in PUBLISHED.items():
        numbers = [f"{value:.4g}" for value in law.numbers()]
        rows.append((law_name(name), *numbers, f"{law.size_power:.3f}", f"{law.data_power:.3f}"))
    columns = (say("law"), "E", "A", "B", "alpha", "beta", say("a (size)"), say("b (data)"))
    table = Table(
        "scaling-law-table", say("L(N, D) = E + A / N^alpha + B / D^beta"), columns, tuple(rows),
        say("The published laws are in nats per token of another text: only powers can be compared. {more}", more=_INTERVALS),
    )  # fmt: skip
    return [table, *_optima(evidence)] if "scaling_law" in evidence else _optima(evidence)


def _optima(evidence: Evidence) -> list[Table]:
    if "scaling_optimum" not in evidence:
        return []
    found = evidence["scaling_optimum"]
    rows: list[tuple[Cell, ...]] = []
    for budget, flop in enumerate(found.along("budget")):
        intervals: list[Text | str] = []
        for number in ("parameters", "bytes"):
            values = found.at(number=number).values[:, budget]
            interval = interval_of_draws(float(values[0]), values[1:])
            intervals.append(_counted(interval.mean, interval.low, interval.high))
        best, read, lowest = (float(found.at(number=n).values[0, budget]) for n in ("parameters", "bytes", "loss"))
        ratio = "-" if math.isnan(best) else f"{read / best:.3g}"
        rows.append((compute(float(flop)), *intervals, ratio, bits(lowest) if np.isfinite(lowest) else "-"))
    columns = (say("operations"), say("best parameters"), say("best bytes"), say("bytes per parameter"), _BITS)
    return [Table("scaling-optimum-table", say("The best split of each budget"), columns, tuple(rows), _INTERVALS)]


def _counted(mean: float, low: float, high: float) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:,.0f}" if math.isnan(low) else f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]"


def published(evidence: Evidence) -> list[Table]:
    """Models and what each law says of them; constants found again."""
    tables: list[Table] = []
    if "published_models" in evidence:
        found = evidence["published_models"]
        rows: list[tuple[Cell, ...]] = []
        for model in map(str, found.coords["model"]):
            at = found.at(model=model)
            flop = float(at.at(number="operations").values[0])
            size, read = (float(at.at(number=n).values[0]) for n in ("parameters", "tokens"))
            best = " / ".join(f"{float(v) / 1e9:.0f}" for v in at.at(number="best_parameters").values)
            loss = " / ".join(f"{float(v):.3f}" for v in at.at(number="loss").values)
            rows.append(
                (model, f"{size / 1e9:.3g}", f"{read / 1e9:,.0f}", f"{flop:.2e}", f"{read / size:.1f}", loss, best)
            )
        columns = (
            say("model"), say("billion parameters"), say("billion tokens"), say("operations"), say("tokens per parameter"),
            say("nats per token"), say("best billion parameters"),
        )  # fmt: skip
        caption = say(
            "What the laws foretell as if all had read the same text. A model smaller than the best one for its compute has "
            "a higher loss for its training, and costs less to run. First number: the law of 2022; second: that of 2024."
        )
        tables.append(
            Table("published-models-table", say("Published models under both laws"), columns, tuple(rows), caption)
        )
    if "recovered_laws" in evidence:
        found = evidence["recovered_laws"]
        rows = [
            (
                law_name(str(law)),
                f"{float(noise):.1%}",
                *(f"{float(v):.4g}" for v in found.at(law=law, noise=noise).values),
            )
            for law in found.coords["law"]
            for noise in found.coords["noise"]
        ]
        columns = (say("law"), say("noise"), *map(str, found.coords["number"]))
        caption = say("Points were drawn from each law, with noise in the loss, and fitted as our own trainings are.")
        tables.append(Table("recovered-laws-table", say("Constants found again"), columns, tuple(rows), caption))
    return tables


def compression(evidence: Evidence) -> list[Table]:
    """Bits per byte of compressors and models, from where on the weights pay, and the coded file."""
    tables: list[Table] = []
    if {"compressors", "coding"} <= set(evidence.measurements):
        tables.append(_compressors(evidence))
    if "coding" in evidence:
        number = {str(n): float(evidence["coding"].at(number=n).values) for n in evidence["coding"].coords["number"]}
        rows = (
            (say("bytes of text"), f"{number['bytes']:,.0f}"),
            (say("cross-entropy in bits"), f"{number['ideal_bits']:,.1f}"),
            (say("bits of code"), f"{number['code_bits']:,.0f}"),
            (say("bytes of the file, header included"), f"{number['file']:,.0f}"),
            (say("bytes that came back wrong"), f"{number['wrong_bytes']:.0f}"),
            (say("seconds to code, to decode"), f"{number['code_seconds']:.1f}, {number['decode_seconds']:.1f}"),
            (say("bytes of the model's weights"), f"{number['model_bytes']:,.0f}"),
        )
        tables.append(Table("coding-table", say("A file coded with the model"), (say("what"), say("number")), rows))
    return tables


def _compressors(evidence: Evidence) -> Table:
    found, weights = evidence["compressors"], float(evidence["coding"].at(number="model_bytes").values)
    best = math.nan
    rows: list[tuple[Cell, ...]] = []
    if "compression_models" in evidence:
        models = evidence["compression_models"]
        for budget, row in zip(models.along("budget"), models.values, strict=True):
            interval = interval_over_seeds(row)
            best = interval.mean if not math.isnan(interval.mean) else best
            rows.append((say("model, {compute} operations", compute=compute(float(budget))), "-", str(interval), "-"))
    named: list[tuple[Cell, ...]] = []
    for method in map(str, found.coords["method"]):
        alone, primed = (float(found.at(method=method, reading=r).values) for r in ("alone", "primed"))
        if math.isnan(alone):
            continue
        pays = break_even(best, alone, weights) if not math.isnan(best) else math.nan
        shown = "-" if not math.isfinite(pays) else size_words(pays)
        named.append((method_name(method), bits(alone), bits(primed), shown))
    columns = (say("compressor"), say("the text alone"), say("after the text of training"), say("the weights pay from"))
    caption = say(
        "Bits per byte of the held-out text. Last column: how much text like this the best model must code until its weights and "
        "code together are smaller than the compressor's file."
    )
    return Table("compressors-table", say("Models and compressors"), columns, (*named, *rows), caption)
