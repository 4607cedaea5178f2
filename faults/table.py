"""What happened as two tables: by injection, and by verb and injection; kept in results.json and in the guide."""

import json
import platform
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from faults.trying import Case

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "24-hard-to-break.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


def merged(before: Sequence[Case], now: Sequence[Case]) -> list[Case]:
    """The cases of before, those replaced whose verb and injection were tried again."""
    again = {(case.verb, case.injection) for case in now}
    return [case for case in before if (case.verb, case.injection) not in again] + list(now)


def tables(cases: Sequence[Case]) -> str:
    """Both tables in Markdown."""
    return f"{_by_injection(cases)}\n\n{_by_verb(cases)}"


def read(path: Path) -> list[Case]:
    """The cases of an earlier run; none where there was none."""
    if not path.is_file():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return [Case(**row | {"notes": tuple(row["notes"])}) for row in rows]


def write(path: Path, cases: Sequence[Case], seconds: float) -> None:
    """Every case, with the machine and the day."""
    about = {
        "day": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        "minutes": round(seconds / 60, 1),
        "cases": [case.to_json() for case in cases],
    }
    path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def write_page(cases: Sequence[Case]) -> None:
    """Puts the tables between the marks of the guide's page."""
    text = PAGE.read_text(encoding="utf-8")
    front, _, rest = text.partition(BEGIN)
    _, _, back = rest.partition(END)
    faults = [case for case in cases if case.outcome == "FAULT"]
    told = "\n".join(f"- {case.verb}, {case.injection}, {case.moment}: {'; '.join(case.notes)}" for case in faults)
    about = f"{len(cases)} injections on {time.strftime('%Y-%m-%d')}, {len(faults)} faults."
    parts = [about, tables(cases), *(["Faults:", told] if faults else [])]
    PAGE.write_text(f"{front}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{back}", encoding="utf-8")


def _by_injection(cases: Sequence[Case]) -> str:
    lines = [
        "| injected | times | went on to the same result | refused, then went on | was done before it was hit | crashed without a word, then went on | faults | seconds until it had ended, median |",
        "|---" * 8 + "|",
    ]
    for name in dict.fromkeys(case.injection for case in cases):
        these = [case for case in cases if case.injection == name]
        count = Counter(case.outcome for case in these)
        if count["not possible here"] == len(these):
            lines.append(f"| {name} | not possible on this machine | | | | | | |")
            continue
        seconds = sorted(case.seconds for case in these)[len(these) // 2]
        cells = [str(count[outcome]) for outcome in ("equal", "refused", "finished", "crashed", "FAULT")]
        lines.append(f"| {name} | {len(these)} | {' | '.join(cells)} | {seconds:.1f} |")
    return "\n".join(lines)


def _by_verb(cases: Sequence[Case]) -> str:
    names = list(dict.fromkeys(case.injection for case in cases))
    lines = ["| faults of times | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for verb in dict.fromkeys(case.verb for case in cases):
        cells: list[str] = []
        for name in names:
            these = [case.outcome for case in cases if (case.verb, case.injection) == (verb, name)]
            bad = these.count("FAULT")
            cells.append(f"**{bad}** of {len(these)}" if bad else f"0 of {len(these)}" if these else "–")
        lines.append(f"| {verb} | {' | '.join(cells)} |")
    return "\n".join(lines)
