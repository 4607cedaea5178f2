"""compare: two models beside each other on the same text; a report, tables and figures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.cli.api import load, placement_of
from glassworks.cli.keeping import files_in, identity_of, keep
from glassworks.cli.options import Compare
from glassworks.cli.prompts import drawn_prompt, typed_prompt
from glassworks.cli.reproduce import go_offline, typed_command
from glassworks.cli.speak import new_table, print_json, remarks, results
from glassworks.core.text import say

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.instruments.compare import Comparison


def compare(command: Compare) -> int:
    """Loads both, compares, prints; the path of the report is the last line of stdout."""
    go_offline(command.offline)
    prompt = typed_prompt(command.text, command.text_file, command.tokens)
    from glassworks.instruments.compare import compare as look

    first, second = (_loaded(command, source) for source in (command.source, command.other))
    if prompt is None:
        prompt = drawn_prompt(first, command.seed)
    found = look(first, second, prompt, seed=command.seed, command=typed_command(sys.argv[1:]))
    identity = {
        "models": [identity_of(subject) for subject in (first, second)],
        "tokens": [batch.ids.tolist() for batch in found.pair.batches],
        "seed": command.seed,
    }
    name = f"{first.origin.name}-{second.origin.name}"
    folder = keep(found, Path(command.out) / "comparisons", name, identity, png=command.png)
    if command.json:
        print_json(found.to_json() | files_in(folder))
    else:
        _show(found)
        print(folder / "report.html")
    return 0


def _loaded(command: Compare, source: str) -> Subject:
    return load(
        source,
        device=command.device,
        dtype=command.dtype,
        trust_remote_code=command.trust_remote_code,
        out=command.out,
        **placement_of(command),
    )


def _show(found: Comparison) -> None:
    page = found.page()
    console = results()
    checks = new_table(say("fidelity"), say("largest difference"), "")
    for check in page.fidelity:
        checks.add_row(str(check.name), str(check.value), str(say("passed") if check.ok else say("FAILED")))
    console.print(checks)
    for line in page.summary:
        console.print(f"• {line.says}")
    for name, problem in found.skipped.items():
        told = say("{instrument} was left out: {reason}", instrument=name, reason=problem.what)
        remarks().print(str(told), style="dim")
    console.print()
