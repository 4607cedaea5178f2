"""One small figure of every kind, for the tests that hold for all of them."""

import numpy as np

from glassworks.core.text import Text, say
from glassworks.evidence.statistics import Interval
from glassworks.figures import (
    Axes,
    BarSeries,
    ColourScale,
    Dot,
    Figure,
    Heading,
    LensGrid,
    Matrix,
    Panel,
    Reference,
    Series,
    Tile,
    attention_map,
    bars,
    curves,
    dots,
    heatmap,
    lens_grid,
    panels,
    wall,
)

HOSTILE = (
    "</text><script>alert(1)</script>",
    "\x1b[31mred",
    "$x_1$",
    '"id="x" #fe0101 url(#',
    "\u202eevil",
    "中文",
    " ",
    "\n",
    "&amp;",
)


def heading(name: str) -> Heading:
    return Heading(name, Text("A <b>title</b>"), Text("A caption & more."))


def series(label: str = "learned", seeds: int = 3) -> Series:
    x = np.arange(5)
    return Series(label, x, x / 5, x / 5 - 0.1, x / 5 + 0.1, seeds)


def axes() -> Axes:
    references = (Reference(Text("chance"), 0.2), Reference(Text("switch"), 2, "vertical"))
    return Axes(say("input token"), say("attention weight"), y_range=(0, 1), references=references)


def figure(kind: str, name: str = "") -> Figure:
    head = heading(name or kind)
    weights = np.tril(np.ones((9, 9))) / np.arange(1, 10)[:, None]
    match kind:
        case "curves":
            return curves(head, [series(word) for word in HOSTILE[:4]], axes())
        case "panels":
            return panels(head, [Panel(word, (series(), series("other"))) for word in HOSTILE[:5]], axes())
        case "dots":
            return dots(head, [Dot(w, Interval(0.5, 0.4, 0.6, 3), say("input token")) for w in HOSTILE], axes())
        case "bars":
            values = tuple(Interval(0.5, float("nan"), float("nan"), 1) for _ in HOSTILE)
            return bars(head, HOSTILE, [BarSeries("a", values), BarSeries("b", values)], axes())
        case "heatmap":
            matrix = Matrix(np.ones((2, 9)), ("a", "b"), HOSTILE, say("input token"), "column")
            return heatmap(head, matrix, ColourScale(say("attention weight"), "diverging"), numbers=True)
        case "attention":
            return attention_map(head, weights, HOSTILE)
        case "wall":
            return wall(head, [[Tile(w, weights, "0.5") for w in HOSTILE[:3]]] * 2, ColourScale("weight"))
        case "lens":
            grid = LensGrid(
                HOSTILE, ("layer 0", "layer 1"), (HOSTILE, HOSTILE[::-1]), np.ones((2, 9)), (HOSTILE, HOSTILE)
            )
            return lens_grid(head, grid, ColourScale("probability", low=0, high=1))
    raise AssertionError(kind)


KINDS = ("curves", "panels", "dots", "bars", "heatmap", "attention", "wall", "lens")
