"""The tables of the life report: numbers of each stage, and what each stage writes."""

from __future__ import annotations

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.life.drawings import known_stages
from glassworks.experiments.life.names import STAGES, called, read_sample
from glassworks.figures.words import Label
from glassworks.report.page import Cell, Table


def stages(evidence: Evidence) -> list[Table]:
    """Every stage with its losses, its reward, its distance and its cost; intervals over seeds."""
    if "stage_bits" not in evidence:
        return []
    bits = evidence["stage_bits"]
    columns: list[Label] = [
        say("stage"),
        *(say("{text}, bits per byte", text=called(text)) for text in bits.coords["text"]),
    ]
    rows: list[list[Cell]] = [
        [called(stage), *(str(bits.interval(stage=stage, text=text)) for text in bits.coords["text"])]
        for stage in known_stages(bits)
    ]
    for name, dims, label in (
        ("stage_rewards", {"metric": "reward"}, say("learned reward")),
        ("stage_rewards", {"metric": "kl"}, say("KL, nats per answer")),
        ("stage_rewards", {"metric": "length"}, say("tokens of an answer")),
        ("stage_seconds", {}, say("seconds")),
    ):
        if name not in evidence:
            continue
        found = evidence[name].at(**dims)
        columns.append(label)
        for row, stage in zip(rows, known_stages(bits), strict=True):
            row.append(_interval(found, stage))
    title = say("The stages in numbers")
    return [Table("life-stages", title, tuple(columns), tuple(tuple(row) for row in rows), _MEANS)]


_MEANS = say("Means with 95 % intervals over seeds, in brackets.")


def _interval(found: Measurement, stage: str) -> str | None:
    if stage not in found.coords["stage"] or not np.isfinite(found.at(stage=stage).values).any():
        return None
    interval = found.interval(stage=stage)
    return f"{interval.mean:.0f}" if found.name == "stage_seconds" else str(interval)


def samples(evidence: Evidence) -> list[Table]:
    """What each stage answers to the same prompts, with the learned reward of the answer where there is one."""
    if "samples" not in evidence:
        return []
    found = evidence["samples"]
    rows = [
        (read_sample(label), float(value))
        for label, value in zip(found.coords["sample"], np.ravel(found.values), strict=True)
    ]
    order = {stage: place for place, stage in enumerate(STAGES)}
    prompts = list(dict.fromkeys(prompt for (_, prompt, _), _ in rows))
    rows.sort(key=lambda row: (prompts.index(row[0][1]), order.get(row[0][0], len(order))))
    cells = tuple((prompt, called(stage), answer, _two(reward)) for (stage, prompt, answer), reward in rows)
    columns = (say("prompt"), say("stage"), say("what it writes"), say("reward"))
    caption = say("The first seed's models, drawn with one seed at temperature 0.8; nothing was chosen by hand.")
    return [Table("life-samples", say("The same prompts, stage by stage"), columns, cells, caption)]


def _two(value: float) -> str | None:
    return f"{value:.2f}" if np.isfinite(value) else None


def laws(evidence: Evidence) -> list[Table]:
    """The law of Gao et al. fitted to the true reward: R = d (alpha - beta log d) for PPO, d (alpha - beta d) for best-of-n."""
    if "overoptimisation_law" not in evidence:
        return []
    found = evidence["overoptimisation_law"]
    rows = tuple(
        (called(method), *(str(found.interval(method=method, number=number)) for number in found.coords["number"]))
        for method in found.coords["method"]
    )
    columns = (say("method"), "alpha", "beta", say("distance of the peak"), say("left unexplained"))
    caption = say(
        "R = d (alpha - beta log d) for PPO and R = d (alpha - beta d) for best-of-n, with d the square root of KL (Gao et al. 2022), fitted "
        "to each seed's true reward; a dash where the fitted law has no peak."
    )
    return [Table("life-laws", say("The law of over-optimisation"), columns, rows, caption)]
