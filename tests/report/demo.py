"""A full page from synthetic measurements: `python -m tests.report.demo out.html` writes it for the eye."""

import sys
from pathlib import Path

import numpy as np

from glassworks.core.text import Text
from glassworks.evidence.claims import Outcome, Scale, Verdict
from glassworks.evidence.measurements import Measurement
from glassworks.evidence.statistics import Interval
from glassworks.figures import (
    Axes,
    ColourScale,
    Dot,
    Figure,
    Heading,
    LensGrid,
    Reference,
    Tile,
    attention_map,
    curves,
    dots,
    lens_grid,
    series_of,
    wall,
)
from glassworks.report import Check, FileLink, Page, Row, Section, SummaryLine, Table, render

TOKENS = ("<s>", " Once", " upon", " a", " time", ",", "\n", " Once", " upon", " a", " time", ".")


def recall_curves() -> Figure:
    rng = np.random.default_rng(0)
    steps = np.arange(0, 1001, 25)
    names = ("W_O² recall", "W_K² recall", "W_K¹ recall")
    rise = np.array([150.0, 400.0, 560.0])[:, None, None] + rng.normal(0, 30, (3, 5, 1))
    values = 1 / (1 + np.exp(-(steps - rise) / 50))
    found = Measurement(
        "recall",
        Text("Memory recall"),
        values,
        ("probe", "seed", "step"),
        {"probe": names, "seed": (0, 1, 2, 3, 4), "step": tuple(steps.tolist())},
        "fraction",
    )
    series = [series_of(found.at(probe=name), name) for name in names]
    axes = Axes(
        Text("training step"),
        Text("memory recall (fraction)"),
        y_range=(0, 1.02),
        references=(Reference(Text("chance"), 1 / 65), Reference(Text("triggers change"), 700, "vertical")),
    )
    caption = Text("How much of each associative memory is written, over training.")
    return curves(Heading("recall-curves", Text("The memories are learned from the top down"), caption), series, axes)


def scores() -> Figure:
    rows = [
        Dot(f"L{layer}H{head}", Interval(mean, mean - 0.05, mean + 0.06, 3), Text(group))
        for layer, head, mean, group in (
            (0, 0, 0.94, "previous token"),
            (0, 1, 0.12, "previous token"),
            (1, 0, 0.88, "induction"),
            (1, 1, 0.07, "induction"),
        )
    ]
    axes = Axes(
        Text("score (fraction of attention)"),
        "",
        x_range=(0, 1),
        references=(Reference(Text("chance"), 0.02),),
    )
    return dots(
        Heading("head-scores", Text("Two heads do the work"), Text("Mean attention to the named position.")),
        rows,
        axes,
    )


def maps() -> tuple[Figure, ...]:
    rng = np.random.default_rng(1)
    count = len(TOKENS)
    weights = np.tril(rng.random((count, count)) ** 6 + 1e-6)
    weights /= weights.sum(1, keepdims=True)
    tiles = [
        [Tile(f"L{i}H{j}", np.tril(rng.random((32, 32)) ** 5), f"{rng.random():.2f}") for j in range(8)]
        for i in range(4)
    ]
    words = tuple(tuple(TOKENS[(layer + i) % count] for i in range(count)) for layer in range(4))
    share = rng.random((4, count))
    grid = LensGrid(
        TOKENS,
        tuple(f"layer {i}" for i in range(4)),
        words,
        share,
        tuple(tuple(f"{p:.2f}" for p in row) for row in share),
    )
    return (
        attention_map(
            Heading("attention-l1h0", Text("L1H0 looks one behind its match"), Text("One prompt.")),
            weights,
            TOKENS,
        ),
        wall(
            Heading("all-heads", Text("Every head"), Text("Number: induction score.")),
            tiles,
            ColourScale(Text("attention weight"), low=0),
        ),
        lens_grid(
            Heading("lens", Text("What each layer would say"), Text("Second line: probability.")),
            grid,
            ColourScale(Text("probability of the top word"), low=0, high=1),
        ),
    )


def verdicts() -> tuple[Verdict, ...]:
    said = Text("Memories are learned in the order output, second-layer key, first-layer key.")
    because = Text("The three curves cross one half at steps 152, 401 and 566, in this order for every seed.")
    outcomes = (
        (Outcome.HOLDS, Interval(0.982, 0.974, 0.990, 5), "fraction"),
        (Outcome.HOLDS_IN_PART, Interval(-3.1, -3.4, -2.8, 5), "nats"),
        (Outcome.FAILS, Interval(0.31, 0.22, 0.40, 5), "fraction"),
        (Outcome.UNDECIDED, Interval(float("nan"), float("nan"), float("nan"), 0), "fraction"),
    )
    return tuple(
        Verdict(
            f"birth.order-{i}",
            said,
            Text("section 5, figure 3"),
            outcome,
            value,
            unit,
            because,
            (0, 1, 2, 3, 4),
            Scale.LAPTOP,
        )
        for i, (outcome, value, unit) in enumerate(outcomes)
    )


def demo_page() -> Page:
    """Every part of a report at once."""
    table = Table(
        "thresholds",
        Text("First step at which each memory passes one half"),
        (Text("memory"), Text("step"), Text("interval")),
        (("W_O²", 152, "140 to 164"), ("W_K²", 401.25, "380 to 421"), ("W_K¹", float("nan"), None)),
        Text("Five seeds."),
    )
    attention, heads, lens = maps()
    return Page(
        title=Text("Birth of a Transformer: a two-layer model learns to copy from context"),
        lead=Text("A two-layer transformer was trained on sequences whose answer stands earlier in them."),
        summary=(
            SummaryLine(Text("The model reaches 98.2 % in-context accuracy after 620 steps."), "recall-curves"),
            SummaryLine(Text("Head L0H0 attends one back, L1H0 to what followed the earlier trigger."), "head-scores"),
            SummaryLine(
                Text("Of four claims, one holds, one holds in part, one fails and one is undecided."),
                "verdicts",
            ),
        ),
        passport=(
            Row(Text("model"), "decoder, 2 layers, 1 head, width 128"),
            Row(Text("parameters"), "98 432"),
            Row(Text("device and precision"), "cpu, float32"),
            Row(Text("digest"), "3f9a0c12d77be410"),
        ),
        fidelity=(
            Check(Text("Hooked against plain logits, largest difference"), "0", True),
            Check(Text("Recomputed against real attention, largest difference"), "3.1e-07", True),
            Check(Text("Cached against uncached generation"), Text("token 7 differs"), False),
        ),
        verdicts=verdicts(),
        sections=(
            Section(
                "training",
                Text("How the memories form"),
                (Text("Each weight matrix is asked which pairs it stores."),),
                (recall_curves(),),
                (table,),
            ),
            Section("attention", Text("Where the heads look"), (), (scores(), attention, heads)),
            Section("lens-grid", Text("What each layer would say"), (), (lens,)),
        ),
        limits=(
            Text("Attention is not explanation."),
            Text("One synthetic language; nothing here speaks of natural text."),
        ),
        cost=(Row(Text("time"), "211 s"), Row(Text("peak memory"), "0.9 GB")),
        files=(
            FileLink("measurements.csv", Text("all numbers, one per row")),
            FileLink("verdicts.json", Text("the verdicts")),
        ),
        command="glassworks reproduce birth --scale laptop --seed 0",
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(demo_page()), encoding="utf-8")
