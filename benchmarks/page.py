"""docs/benchmarks.md and its figure, made whole from benchmarks/results.json and nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import FREED_MEMORY, FROM_EXACT, Ratio
from benchmarks.reasons import reason_of
from benchmarks.results import Results
from glassworks.core.text import say
from glassworks.evidence.statistics import Interval
from glassworks.figures import Axes, Dot, Figure, Heading, Theme, dots
from glassworks.figures.curves import Reference

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
PICTURES: Mapping[Theme, Path] = {
    "light": DOCS / "pictures" / "benchmarks.svg",
    "dark": DOCS / "pictures" / "benchmarks-dark.svg",
}

# Against these, a row is a promise about ourselves: a limit, or two ways of our own.
_OWN = (
    "what is asked for", "our linear attention", "without", "early tokens", "16 times 256 tokens", "depth first",
    "every plan alone", "bare forward pass", "the first tenth", "at 10000 tokens", "attention inside segments alone", "one epoch of training",
    "full causal attention", "in one process",
)  # fmt: skip
# For the figure, whose names have room for 48 letters.
_SHORTER = (
    (" of the simplified model", ""), (" tokens, width ", " x "), ("peak memory", "memory"),
    ("recursion with autograd", "autograd recursion"), ("the paper's reversed", "reversed"),
    ("masked product of all tokens", "masked product"), ("plain Python and numpy loop", "numpy loop"),
    ("TensorFlow Playground's algorithm in ", ""), (" epoch,", ","), ("'s recipe written plainly", " recipe"),
    (" with LlamaForCausalLM", ""), ("plain transformers, 20 layers", "transformers"), (", eager float32", ""),
    ("start to in-context accuracy > 90 %, laptop preset", "start to induction head"), (", 6 layers of 384", ""),
    ("chunkwise conjugate gradient unrolled", "unrolled CG"), (" batch generation", " data"), ("smollm2-135m, ", ""),
)  # fmt: skip
_SHORTER_LABELS = (
    ("run_with_cache, residual stream", "capture, residual"), ("run_with_cache, with attention", "capture, attention"),
    ("flash-linear-attention", "fla"),
)  # fmt: skip
_LIBRARY = ("transformers", "Trainer", "plain transformers")
GROUPS = {
    "peer": "Other projects, each in its own environment",
    "library": "The library underneath",
    "recipe": "Published recipes and algorithms, written plainly",
    "gpu": "On a GPU",
    "own": "Promises about ourselves",
}
_ABOUT = {
    "peer": "Both sides are processes of their own with the same torch, the same weights and the same input. Results are compared"
    " first; where they differ by more than the tolerance there is no ratio. *Equal to* is the largest difference between what"
    " both sides computed, as a share of the largest number of that tensor; for trainings, between the losses (GRPO: the rewards) of every update."
    " *Freed memory kept*: neither process gave memory back between runs; where its heap happens to end would else decide about up to a third of the time."
    " The side of fla-core is its plain torch functions, which are all of it that runs on a processor; its fast kernels are for GPUs.",
    "library": "What Glassworks is built on, called as its documentation says.",
    "recipe": "The other side is written from the published description, for a comparison with nothing of ours in it.",
    "gpu": "Absolute figures, and what share of the rate that was measured on the same device they reach.",
    "own": "Limits that were set beforehand, and two ways of our own beside each other. A ratio is limit / found (of first paints the slowest, of steps the 95th percentile); no one is behind.",
}


def group_of(row: Ratio) -> str:
    """Which part of the page a row belongs to."""
    if row.suite == "gpu":
        return "gpu"
    if row.environment is not None:
        return "peer"
    if row.against.startswith(_OWN):
        return "own"
    return "library" if row.against.startswith(_LIBRARY) else "recipe"


def page_of(results: Results) -> str:
    """The whole page."""
    rows = results.rows
    parts = [_HEAD, _summary(rows), _PICTURE]
    for group, title in GROUPS.items():
        chosen = [row for row in rows if group_of(row) == group]
        if chosen:
            parts += [f"## {title}\n", f"{_ABOUT[group]}\n", _table(chosen, equal=group == "peer")]
    behind = [row for row in rows if needs_reason(row)]
    if behind:
        parts += ["## Where the other side is ahead, or there is no ratio\n", _reasons(behind)]
    parts += ["## The peers and their licences\n", _peers(results.peers), "## Machines\n", _machines(results), _FOOT]
    return "\n".join(parts)


def needs_reason(row: Ratio) -> bool:
    """Whether a row has no ratio, the other side ahead, or a target that was missed."""
    if row.ratio is None or row.met is False:
        return True
    return row.ratio < 1 and group_of(row) in ("peer", "library", "recipe")


def figure_of(rows: Sequence[Ratio]) -> Figure:
    """Ratios with their smallest and largest values on a logarithmic axis, in groups; peers, the library and recipes."""
    titles = {"peer": say("other projects"), "library": say("the library"), "recipe": say("published recipes")}
    chosen = [
        Dot(_short(row), _interval(row), titles[group])
        for group in titles
        for row in rows
        if group_of(row) == group and row.ratio is not None
    ]
    axes = Axes(
        x_label="times as fast, or times less memory",
        y_label="",
        x_scale="log",
        references=(Reference("equal", 1.0, "vertical"),),
    )
    caption = say(
        "Ratio of medians (dot) and smallest to largest ratio of runs that followed each other (line). Right of 1: Glassworks"
        " takes less time or memory than the other side."
    )
    return dots(Heading("benchmarks", say("Benchmarks"), caption), chosen, axes)


def write(results: Results) -> list[Path]:
    """Writes the page and both pictures; returns what was written."""
    PAGE.write_text(page_of(results), encoding="utf-8")
    figure = figure_of(results.rows)
    for theme, path in PICTURES.items():
        path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{figure.svg(theme, "en")}\n', encoding="utf-8")
    return [PAGE, *PICTURES.values()]


def _interval(row: Ratio) -> Interval:
    assert row.ratio is not None, "only measured rows are drawn"
    low, high = row.spread or (float("nan"), float("nan"))
    return Interval(row.ratio, low, high, 0)


def _short(row: Ratio) -> str:
    if row.label:
        found = f"{row.label} / {row.environment or row.against}"
        for long, short in _SHORTER_LABELS:
            found = found.replace(long, short)
        return found
    found = f"{', '.join(row.what.split(', ')[:2])} / {row.against.split(' (')[0]}"
    if row.what.startswith(("mesa", "linear", "peak")):
        found = f"{row.what} / {row.against}"
    for long, short in _SHORTER:
        found = found.replace(long, short)
    return found


def _summary(rows: Sequence[Ratio]) -> str:
    outside = [row for row in rows if group_of(row) in ("peer", "library", "recipe") and row.ratio is not None]
    ahead = sum(row.ratio > 1 for row in outside if row.ratio is not None)
    asked = [row for row in rows if row.met is not None and row.target not in ("reported", "shown, not asked")]
    return (
        f"Of {len(outside)} comparisons with others, Glassworks takes less in {ahead}. Of {len(asked)} rows with a target,"
        f" {sum(bool(row.met) for row in asked)} reach it; the others are listed with their reasons below.\n"
    )


def _table(rows: Sequence[Ratio], *, equal: bool) -> str:
    heads = [
        "what",
        "beside",
        "asked",
        "ours",
        "theirs",
        "ratio",
        "spread",
        "n",
        *(["equal to"] if equal else []),
        "measured",
    ]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        unit = str(row.facts.get("unit", "s"))
        low_high = row.spread
        cells = [
            row.what, row.against, row.target, _median(row.ours, unit), _median(row.theirs, unit),
            "–" if row.ratio is None else f"**{_plain(row.ratio)}**" if row.ratio >= 1 else _plain(row.ratio),
            "–" if low_high is None else f"{_plain(low_high[0])} to {_plain(low_high[1])}",
            str(len(row.ours)) if row.ours else "–",
            *([_equality(row)] if equal else []),
            row.day or "–",
        ]  # fmt: skip
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _equality(row: Ratio) -> str:
    if row.difference is None:
        return "–"
    exact = row.facts.get(FROM_EXACT)
    kept = "; freed memory kept" if FREED_MEMORY in row.facts else ""
    return f"{row.difference:.0e}" + (f" (from float64: ours {exact[0]}, theirs {exact[1]})" if exact else "") + kept


def _reasons(rows: Sequence[Ratio]) -> str:
    heads = ["what", "beside", "ratio", "asked", "why"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for row in rows:
        ratio = "–" if row.ratio is None else _plain(row.ratio)
        lines.append(_line([row.what, row.against, ratio, row.target, reason_of(row)]))
    return "\n".join(lines) + "\n"


def _peers(peers: Mapping[str, Mapping[str, Any]]) -> str:
    heads = ["peer", "licence", "home", "installed beside it"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for one in peers.values():
        lines.append(_line([one["title"], one["licence"], f"<{one['address']}>", one["installed"]]))
    return "\n".join(lines) + "\n"


def _machines(results: Results) -> str:
    heads = ["measured", "processor", "cores", "threads", "torch", "load at the start", "matrix products, GFLOP/s"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for name, one in results.machines.items():
        rates = ", ".join(f"{kind} {rate}" for kind, rate in one["gemm_gflops"].items())
        kept = [str(one.get(part, "–")) for part in ("processor", "cores", "threads", "torch", "load")]
        lines.append(_line([name.split(" ")[0], *kept, rates]))
    return "\n".join(lines) + "\n"


def _median(values: Sequence[float], unit: str) -> str:
    if not values:
        return "–"
    middle = sorted(values)[len(values) // 2]
    if unit == "s" and middle < 0.1:
        return f"{_plain(middle * 1000)} ms"
    return f"{_plain(middle)} {unit}"


def _plain(value: float) -> str:
    """Three digits without a power of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


_HEAD = """# Benchmarks

At the end you know how long Glassworks takes beside other ways of doing the same thing, how sure that is, and where it is behind.

Describes: `benchmarks/__main__.py`, `benchmarks/sides.py`, `benchmarks/environments.py`

This page and its figure are written by `make bench` from `benchmarks/results.json`; nothing here is typed by hand. A ratio is
theirs / ours in medians: 2 means that Glassworks takes half the time or memory. The spread is the smallest and the largest ratio of
runs that followed each other (n of each side, in turns). Times are CPU seconds of one thread, so that other work on the machine
counts little, except where a row is timed in a browser or from start to end.
"""
_PICTURE = """<picture>
<source media="(prefers-color-scheme: dark)" srcset="pictures/benchmarks-dark.svg">
<img alt="Ratio of each comparison with its spread on a logarithmic axis; right of 1 Glassworks takes less" src="pictures/benchmarks.svg">
</picture>
"""
_FOOT = """## Measure it yourself

```sh
make bench
python -m benchmarks --quick
python -m benchmarks --only peer-captures --only peer-tuning --runs 9
python -m benchmarks --list
```

`make bench` makes the peers' environments first, each with pinned versions, in `.bench/` or the folder that `GLASSWORKS_BENCH` names
(about a minute and 1.5 GB each, once). A peer that cannot be installed is a row that says why. `--only gpu` needs a CUDA device.
"""
