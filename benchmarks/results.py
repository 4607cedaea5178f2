"""What was measured, kept in benchmarks/results.json: rows with the day and the machine of each.

A run replaces the rows that it measured; all others keep their figures, with their own day and machine.
"""

import datetime
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.measure import Ratio

RESULTS = Path(__file__).parent / "results.json"


@dataclass
class Results:
    """Rows, and the machines that their `machine` names."""

    rows: list[Ratio] = field(default_factory=list)
    machines: dict[str, dict[str, Any]] = field(default_factory=dict)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By environment: title, licence, address, and what was installed."""

    def added(self, rows: Sequence[Ratio], about: Mapping[str, Any], peers: Mapping[str, Any]) -> "Results":
        """These results with new rows in the place of those that the same suites left before under the same names."""
        today = datetime.date.today().isoformat()
        name = f"{today} {about['processor']}"
        while self.machines.get(name, about) != about:
            name += "'"
        for row in rows:
            row.day, row.machine = today, name
        fresh = {row.key for row in rows}
        kept = [row for row in self.rows if row.key not in fresh]
        found = [*rows, *kept]
        used = {row.machine for row in found}
        machines = {key: one for key, one in (self.machines | {name: dict(about)}).items() if key in used}
        return Results(found, machines, self.peers | dict(peers))


def read(path: Path = RESULTS) -> Results:
    """What was measured so far; nothing where there is no file."""
    if not path.is_file():
        return Results()
    found = json.loads(path.read_text(encoding="utf-8"))
    known = {one.name for one in fields(Ratio)}
    rows = [Ratio(**{name: value for name, value in row.items() if name in known}) for row in found["rows"]]
    return Results(rows, found.get("machines", {}), found.get("peers", {}))


def write(results: Results, path: Path = RESULTS) -> None:
    """Writes the file whole."""
    found = {"machines": results.machines, "peers": results.peers, "rows": [asdict(row) for row in results.rows]}
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, path)
