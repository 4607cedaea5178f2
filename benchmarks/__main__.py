"""`make bench`: every ratio side by side in one run, printed, kept in benchmarks/results.json and written to docs/benchmarks.md."""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Set before torch is loaded: one thread, so that CPU seconds mean the same on every side and other work counts little.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console
from rich.table import Table

from benchmarks import environments, page, results
from benchmarks.measure import Ratio, machine


@dataclass(frozen=True)
class Suite:
    """A name for `--only`: how long it takes, and whether `--quick` leaves it out."""

    minutes: float
    """On a quiet machine of the kind that the page names, with `--quick` where it is part of that."""
    work: Callable[[int, bool], list[Ratio]]
    """From runs and whether it shall be quick to its rows."""
    slow: bool = False


def _module(name: str, function: str = "rows") -> Callable[[int, bool], list[Ratio]]:
    """A suite of one module, which is loaded when it is its turn."""
    return lambda runs, quick: getattr(importlib.import_module(f"benchmarks.{name}"), function)(runs, quick)


def _peer(name: str) -> Callable[[int, bool], list[Ratio]]:
    def work(runs: int, quick: bool) -> list[Ratio]:
        from benchmarks import peers

        return peers.rows(name, runs)

    return work


SUITES = {
    "peer-captures": Suite(1.7, _peer("peer-captures")),
    "peer-scoring": Suite(0.6, _peer("peer-scoring")),
    "peer-tuning": Suite(1.5, _peer("peer-tuning")),
    "peer-mixers": Suite(0.8, _peer("peer-mixers")),
    "peer-infini": Suite(0.6, _peer("peer-infini")),
    "generation": Suite(0.7, _module("birth", "generation_rows")),
    "step": Suite(0.7, _module("birth", "step_rows")),
    "capture": Suite(0.5, _module("capture")),
    "worlds": Suite(0.2, _module("worlds")),
    "surgery": Suite(0.8, _module("surgery")),
    "mesa": Suite(1.2, _module("mesa")),
    "infini": Suite(0.5, _module("infini")),
    "decoding": Suite(0.8, _module("decoding")),
    "pretraining": Suite(0.7, _module("pretraining")),
    "ranks": Suite(2.5, _module("ranks")),
    "studio_playground": Suite(0.2, _module("studio_playground")),
    "studio": Suite(0.8, _module("studio")),
    "gpu": Suite(0.1, _module("gpu")),
    "infini-long": Suite(4, _module("infini", "long_rows"), slow=True),
    "peer-infini-long": Suite(3, _peer("peer-infini-long"), slow=True),
    "head": Suite(12, _module("birth", "head_rows"), slow=True),
}
QUICK_RUNS, USUAL_RUNS = 3, 7


def main() -> int:
    """Runs the chosen suites, prints one table and writes results, page and figure."""
    given = _parser().parse_args()
    # In a file there is no edge to break lines at.
    console = Console(width=None if sys.stdout.isatty() else 200)
    if given.list:
        console.print(_plan(list(SUITES)))
        return 0
    failed: list[str] = []
    if not given.page_only:
        chosen = [name for name in SUITES if given.only is None or name in given.only]
        if given.quick and given.only is None:
            chosen = [name for name in chosen if not SUITES[name].slow]
        console.print(_plan(chosen))
        failed = _measure(console, chosen, given.runs or (QUICK_RUNS if given.quick else USUAL_RUNS), given.quick)
    for path in page.write(results.read()):
        console.print(f"written: {path}")
    for line in failed:
        console.print(f"[red]failed[/red] {line}")
    return 1 if failed else 0


def _measure(console: Console, chosen: Sequence[str], runs: int, quick: bool) -> list[str]:
    """One suite after the other; each is kept as soon as it is done, so that a run that is cut off loses one at most.

    Returns what failed, one line each.
    """
    about = machine()
    console.print(about)
    found: list[Ratio] = []
    failed: list[str] = []
    for name in chosen:
        started = time.perf_counter()
        try:
            rows = SUITES[name].work(runs, quick)
        except Exception as problem:
            console.print_exception()
            failed.append(f"{name}: {type(problem).__name__}: {problem}")
            continue
        for row in rows:
            row.suite = name
        results.write(results.read().added(rows, about, installed()))
        found += rows
        console.print(f"{name}: {len(rows)} rows in {(time.perf_counter() - started) / 60:.1f} minutes")
    console.print(table_of(found))
    return failed


def installed() -> dict[str, dict[str, str]]:
    """The peers whose environments are ready: title, licence, address and the versions that matter."""
    found: dict[str, dict[str, str]] = {}
    for name, one in environments.ENVIRONMENTS.items():
        if one.is_ready:
            versions = one.versions()
            known = [f"{package} {versions[package]}" for package in ("torch", "transformers") if package in versions]
            found[name] = {
                "title": one.title, "licence": one.licence, "address": one.address, "installed": ", ".join(known),
            }  # fmt: skip
    return found


def table_of(rows: Sequence[Ratio]) -> Table:
    """The rows for the terminal: medians, ratio and spread."""
    table = Table("what", "beside", "asked", "ours", "theirs", "ratio", "spread", "met", "facts")
    for row in rows:
        unit = str(row.facts.get("unit", "s"))
        ours, theirs = (f"{sorted(t)[len(t) // 2]:.3g} {unit}" if t else "-" for t in (row.ours, row.theirs))
        spread = f"{row.spread[0]:.2f} to {row.spread[1]:.2f}" if row.spread else "-"
        equal = [] if row.difference is None else [f"equal to {row.difference:.0e}"]
        facts = "\n".join([*equal, *(f"{k}: {v}" for k, v in row.facts.items() if k != "unit"), row.reason])
        met = "-" if row.met is None else "yes" if row.met else "NO"
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.what, row.against, row.target, ours, theirs, ratio, spread, met, facts.strip())
    return table


def _plan(chosen: Sequence[str]) -> str:
    """What will run, and for how long."""
    missing = [one.name for one in environments.ENVIRONMENTS.values() if not one.is_ready]
    lines = [f"{name:18} {SUITES[name].minutes:4.1f} minutes" for name in chosen]
    lines.append(
        f"{'together':18} {sum(SUITES[name].minutes for name in chosen):4.1f} minutes, one thread, quiet machine"
    )
    if missing and any(name.startswith("peer-") for name in chosen):
        lines.append(f"and about a minute each to install, once, in {environments.cache()}: {', '.join(missing)}")
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer runs, without what takes minutes")
    parser.add_argument("--runs", type=int, help=f"runs of each side ({USUAL_RUNS}; {QUICK_RUNS} with --quick)")
    parser.add_argument("--only", choices=SUITES, action="append", help="one suite; may be given several times")
    parser.add_argument("--list", action="store_true", help="what there is, with minutes, and nothing else")
    parser.add_argument("--page-only", action="store_true", help="page and figure from what was measured before")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
