"""Names put beside what they name: at the end of a curve, spread until none covers another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glassworks.core.text import Text, say
from glassworks.figures.canvas import SMALL
from glassworks.figures.words import Label, Number

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Plot
    from matplotlib.figure import Figure as Drawing


@dataclass(frozen=True)
class EndLabel:
    """Words at the right edge of a plot, at a height in data units."""

    words: str
    height: float
    colour: str


def texts_of(labels: Iterable[Label]) -> tuple[Text, ...]:
    """Those labels that have a translation, each once, in order."""
    found: dict[str, Text] = {}
    for label in labels:
        if isinstance(label, Text):
            found.setdefault(label.en, label)
    return tuple(found.values())


def with_note(caption: Text, note: Text | None) -> Text:
    """The caption with one more sentence behind it."""
    return caption if note is None else say("{caption} {note}", caption=caption, note=note)


def is_inside(limits: tuple[Number, Number], at: Number) -> bool:
    """Whether a level lies within an axis; a label outside would push the plot out of its picture."""
    return bool(min(limits) <= at <= max(limits))


def label_above(plot: Plot, words: str, at: Number, colour: str) -> None:
    """Names a vertical line at the top of the plot, if it lies inside."""
    if not is_inside(plot.get_xlim(), at):
        return
    plot.annotate(
        words, (at, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
        ha="center", va="bottom", fontsize=SMALL, color=colour, annotation_clip=False,
    )  # fmt: skip


def place_end_labels(drawing: Drawing, plot: Plot, ends: Sequence[EndLabel]) -> None:
    """Writes the labels right of the plot at their heights, one line apart at least, with thin leaders."""
    shown = [end for end in ends if math.isfinite(end.height)]
    if not shown:
        return
    line = SMALL * 1.25  # points
    spaces = [
        plot.annotate(
            end.words, (1, 0.5), xycoords="axes fraction", xytext=(16, 0), textcoords="offset points",
            fontsize=SMALL, va="center", color=end.colour, annotation_clip=False,
        )
        for end in shown
    ]  # fmt: skip
    # The labels' widths decide the plot's size, so the layout comes first and stays as it is.
    drawing.draw_without_rendering()
    drawing.set_layout_engine("none")
    for space in spaces:
        space.remove()
    box = plot.get_window_extent()
    pixels = drawing.dpi / 72
    wanted = [min(max(plot.transData.transform((1, end.height))[1], box.y0), box.y1) for end in shown]
    placed = spread(wanted, line * pixels, box.y0, max(box.y1, box.y0 + line * pixels * (len(shown) - 1)))
    for end, at, target in zip(shown, placed, wanted, strict=True):
        heights = ((target - box.y0) / box.height, (at - box.y0) / box.height)
        plot.annotate(
            "", (1.0, heights[0]), xycoords="axes fraction", xytext=(1 + 13 * pixels / box.width, heights[1]),
            textcoords="axes fraction", arrowprops={"arrowstyle": "-", "color": end.colour, "linewidth": 0.7,
            "shrinkA": 0, "shrinkB": 1}, annotation_clip=False,
        )  # fmt: skip
        plot.annotate(
            end.words, (1, heights[1]), xycoords="axes fraction", xytext=(16, 0), textcoords="offset points",
            fontsize=SMALL, va="center", color=end.colour, annotation_clip=False,
        )  # fmt: skip


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Positions as near as possible to those wanted, in the same order, at least `apart` from each other."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Runs of labels that touch move as one block around the mean of what its members want.
    blocks: list[list[int]] = []

    def start(block: list[int]) -> float:
        centred = sum(wanted[i] for i in block) / len(block) - apart * (len(block) - 1) / 2
        return min(max(centred, low), high - apart * (len(block) - 1))

    for i in order:
        blocks.append([i])
        while len(blocks) > 1 and start(blocks[-1]) - start(blocks[-2]) < apart * len(blocks[-2]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    placed = [0.0] * len(wanted)
    for block in blocks:
        for rank, i in enumerate(block):
            placed[i] = start(block) + rank * apart
    return placed
