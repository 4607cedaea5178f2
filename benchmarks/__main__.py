"""`make bench`: every ratio side by side in one run, printed and written to benchmarks/results.json."""

import argparse
import json
import os
from pathlib import Path

# Set before torch is loaded: as many threads as cores, no more.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))

from rich.console import Console
from rich.table import Table

from benchmarks import birth, capture, decoding, infini, mesa, pretraining, studio, studio_playground, surgery, worlds
from benchmarks.measure import Ratio, as_json, machine

RESULTS = Path(__file__).parent / "results.json"


def main() -> None:
    """Runs the chosen benchmarks; `--runs` repeats each (the long one thrice at most)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument(
        "--only",
        choices=[
            "generation",
            "step",
            "head",
            "capture",
            "surgery",
            "mesa",
            "infini",
            "worlds",
            "decoding",
            "pretraining",
            "studio_playground",
            "studio",
        ],
        action="append",
    )
    parser.add_argument("--head-runs", type=int, default=1, help="repeats of the time to the head; each takes minutes")
    given = parser.parse_args()
    chosen = given.only or [
        "generation",
        "step",
        "capture",
        "surgery",
        "mesa",
        "infini",
        "worlds",
        "decoding",
        "pretraining",
        "studio_playground",
        "studio",
        "head",
    ]
    console = Console()
    difference = birth.simplified_reference_is_the_same_model()
    console.print(f"both sides with equal weights: largest logit difference {difference:.1e}")
    work = {
        "generation": lambda: [birth.generation(given.runs)],
        "step": lambda: [birth.training_step(given.runs), birth.training_step(given.runs, batch=64)],
        "capture": lambda: [capture.residual_sites(max(given.runs, 15))],
        "surgery": lambda: surgery.rows(given.runs),
        "mesa": lambda: mesa.rows(given.runs),
        "infini": lambda: infini.rows(given.runs),
        "worlds": lambda: worlds.rows(given.runs),
        "pretraining": lambda: pretraining.rows(given.runs),
        "decoding": lambda: decoding.rows(given.runs),
        "studio_playground": lambda: studio_playground.rows(given.runs),
        "studio": lambda: studio.rows(given.runs),
        "head": lambda: [birth.time_to_head(given.head_runs)],
    }
    about = machine()
    rows = [one for name in chosen for one in work[name]()]
    console.print(_table(rows))
    console.print(about)
    # What was not measured this time keeps its last figures.
    before = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else []
    found = as_json(rows, about)
    found["rows"] += [row for row in before if row["what"] not in {one.what for one in rows}]
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    console.print(f"written to {RESULTS}")


def _table(rows: list[Ratio]) -> Table:
    table = Table("what", "against", "asked", "ours (median)", "theirs (median)", "ratio", "met", "facts")
    for one in rows:
        ours, theirs = (sorted(t)[len(t) // 2] if t else float("nan") for t in (one.ours, one.theirs))
        facts = "\n".join(f"{k}: {v}" for k, v in one.facts.items())
        unit = one.facts.get("unit", "s")
        table.add_row(
            one.what,
            one.against,
            one.target,
            f"{ours:.3g} {unit}",
            f"{theirs:.3g} {unit}",
            f"{one.ratio:.2f}",
            "yes" if one.met else "NO",
            facts,
        )
    return table


if __name__ == "__main__":
    main()
