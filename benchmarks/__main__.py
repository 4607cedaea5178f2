"""`make bench`: every ratio side by side in one run, printed and written to benchmarks/results.json."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

# Set before torch is loaded: as many threads as cores, no more.
os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count() or 1))

from rich.console import Console
from rich.table import Table

from benchmarks import birth, capture, decoding, infini, mesa, pretraining, studio, studio_playground, surgery, worlds
from benchmarks.measure import Ratio, as_json, machine

RESULTS = Path(__file__).parent / "results.json"


# In the order in which they run: what takes minutes comes last.
NAMES = (
    "generation", "step", "capture", "surgery", "mesa", "infini", "worlds", "decoding", "pretraining", "studio_playground",
    "studio", "head",
)  # fmt: skip


def main() -> None:
    """Runs the chosen benchmarks; `--runs` repeats each (the long one thrice at most)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--only", choices=NAMES, action="append")
    parser.add_argument("--head-runs", type=int, default=1, help="repeats of the time to the head; each takes minutes")
    given = parser.parse_args()
    chosen = given.only or NAMES
    console = Console()
    difference = birth.simplified_reference_is_the_same_model()
    console.print(f"both sides with equal weights: largest logit difference {difference:.1e}")
    work = _work(given.runs, given.head_runs)
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


def _work(runs: int, head_runs: int) -> dict[str, Callable[[], list[Ratio]]]:
    """What each name of `NAMES` measures."""
    return {
        "generation": lambda: [birth.generation(runs)],
        "step": lambda: [birth.training_step(runs), birth.training_step(runs, batch=64)],
        "capture": lambda: [capture.residual_sites(max(runs, 15))],
        "surgery": lambda: surgery.rows(runs),
        "mesa": lambda: mesa.rows(runs),
        "infini": lambda: infini.rows(runs),
        "worlds": lambda: worlds.rows(runs),
        "pretraining": lambda: pretraining.rows(runs),
        "decoding": lambda: decoding.rows(runs),
        "studio_playground": lambda: studio_playground.rows(runs),
        "studio": lambda: studio.rows(runs),
        "head": lambda: [birth.time_to_head(head_runs)],
    }


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
