"""The tables of the tree report: blocks and branches in numbers."""

from __future__ import annotations

import numpy as np

from glassworks.core.text import say
from glassworks.evidence.claims import Evidence
from glassworks.evidence.statistics import interval_over_seeds
from glassworks.experiments.tree.losses import rise, within
from glassworks.experiments.tree.names import block_name, branch_name, task_name
from glassworks.report.page import Cell, Table


def blocks(evidence: Evidence) -> list[Table]:
    """What each block loses, within and beyond its length and in haste, and what it costs."""
    needed = ("blocks_by_position", "blocks_hasty", "blocks_speed", "blocks_sizes")
    if not all(name in evidence for name in needed):
        return []
    losses, hasty, speed, sizes = (evidence[name] for name in needed)
    rows: list[tuple[Cell, ...]] = []
    for label in map(str, losses.coords["block"]):
        beyond = rise(losses, label)
        rows.append(
            (
                block_name(label),
                str(interval_over_seeds(within(losses, label))),
                say("none") if np.isnan(beyond).all() else str(interval_over_seeds(beyond)),
                str(interval_over_seeds(hasty.at(block=label).values)),
                f"{1000 * float(np.median(speed.at(block=label).values)):.1f}",
                f"{float(sizes.at(block=label, number='parameters').values):,.0f}",
                f"{float(sizes.at(block=label, number='hidden').values):,.0f}",
            )
        )
    columns = (
        say("block"), say("bits per byte"), say("more at four lengths"), say("after haste"), say("ms a step"), say("parameters"),
        say("hidden"),
    )  # fmt: skip
    caption = say(
        "Held-out bits per byte within the training length, and how many more between two and four training lengths; at the end of "
        "a hasty training; the median processor time of a step; trained numbers, and the feed-forward's hidden width that equals them."
    )
    return [Table("blocks-table", say("The blocks in numbers"), columns, tuple(rows), caption)]


def branches(evidence: Evidence) -> list[Table]:
    """What each branch can do, with a dash where it can do nothing."""
    needed = ("branches_understanding", "branches_continuing", "branches_translating")
    if not all(name in evidence for name in needed):
        return []
    labels, going, translating = (evidence[name] for name in needed)
    rows: list[tuple[Cell, ...]] = []
    for branch in map(str, labels.coords["branch"]):
        writes = branch in going.coords["branch"]
        rows.append(
            (
                branch_name(branch),
                *(str(labels.interval(task=task, branch=branch)) for task in labels.coords["task"]),
                str(going.interval(branch=branch)) if writes else None,
                *(
                    str(translating.interval(branch=branch, score=score)) if writes else None
                    for score in ("loss", "bleu")
                ),
            )
        )
    columns = (
        say("branch"), *(task_name(task) for task in labels.coords["task"]), say("going on, bits per byte"),
        say("translating, nats per token"), say("translating, BLEU"),
    )  # fmt: skip
    caption = say("Held-out numbers with 95 % intervals over seeds. An encoder neither goes on nor translates.")
    return [Table("branches-table", say("The branches in numbers"), columns, tuple(rows), caption), *_sizes(evidence)]


def _sizes(evidence: Evidence) -> list[Table]:
    if "branches_sizes" not in evidence:
        return []
    found = evidence["branches_sizes"]
    rows = tuple(
        (
            task_name(task),
            *(_count(float(found.at(task=task, branch=b, number="parameters").values)) for b in found.coords["branch"]),
        )
        for task in found.coords["task"]
    )
    columns = (say("task"), *(branch_name(branch) for branch in found.coords["branch"]))
    caption = say("Trained numbers of each model, its word pieces and head included.")
    return [Table("branches-sizes-table", say("Equal sizes"), columns, rows, caption)]


def _count(value: float) -> Cell:
    return f"{value:,.0f}" if np.isfinite(value) else None
