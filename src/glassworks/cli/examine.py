"""examine: looks inside a model and writes a report, tables and figures."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.api import load
from glassworks.cli.options import Examine
from glassworks.cli.prompts import drawn_prompt, typed_prompt
from glassworks.cli.reproduce import go_offline, typed_command
from glassworks.cli.speak import new_table, print_json, remarks, results
from glassworks.core.errors import InvalidInput
from glassworks.core.files import writing
from glassworks.core.text import say

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.instruments import Instrument
    from glassworks.instruments.examine import Examination


def examine(command: Examine) -> int:
    """Looks, writes, prints; the path of the report is the last line of stdout."""
    go_offline(command.offline)
    prompt = typed_prompt(command.text, command.text_file, command.tokens)
    from glassworks.instruments.examine import examine as look

    instruments = [instrument_of(name) for name in command.instrument]
    subject = load(
        command.source,
        device=command.device,
        dtype=command.dtype,
        trust_remote_code=command.trust_remote_code,
        out=command.out,
    )
    batch = subject.batch(drawn_prompt(subject, command.seed) if prompt is None else prompt)
    if not command.json:
        _show_anatomy(subject)
    found = look(subject, batch, instruments, seed=command.seed, command=typed_command(sys.argv[1:]))
    folder = keep(found, instruments, Path(command.out))
    if command.json:
        print_json(
            {
                "report": str(folder / "report.html"),
                **found.to_json(),
                "tables": _names(folder / "tables"),
                "figures": _names(folder / "figures"),
            }
        )
    else:
        _show(found)
        print(folder / "report.html")
    return 0


def instrument_of(text: str) -> Instrument:
    """An instrument by kind, with settings after a colon: `attention_maps:layer=1,head=0`."""
    from glassworks.instruments import INSTRUMENTS

    kind, _, settings = text.partition(":")
    found: Instrument = INSTRUMENTS.parse({"kind": kind})
    for assignment in filter(None, settings.split(",")):
        if "=" not in assignment:
            raise InvalidInput(
                say("an instrument's setting needs name=value"),
                given=assignment,
                right=say("for example {example}", example="attention_maps:layer=1,head=0"),
            )
        found = found.replaced_from_text(assignment)
    return found


def keep(found: Examination, instruments: list[Instrument], out: Path) -> Path:
    """Writes everything into `out/examinations/<name>-<digest>`: filled aside, then renamed into place."""
    root = out / "examinations"
    folder = root / f"{_file_name(found.subject.origin.name)}-{_digest(found, instruments)}"
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".", dir=root))
    try:
        found.save(aside / "new")
        if folder.exists():
            folder.rename(aside / "old")
        (aside / "new").rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _digest(found: Examination, instruments: list[Instrument]) -> str:
    origin = found.subject.origin
    identity = {
        "source": [origin.name, origin.source, origin.revision],
        "tokens": found.batch.ids.tolist(),
        "instruments": [one.identity() for one in instruments],
        "dtype": str(next(found.subject.model.parameters()).dtype),
        "seed": found.seed,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip(".-") or "model"


def _names(folder: Path) -> list[str]:
    return (
        sorted(str(path) for path in folder.iterdir() if not path.name.endswith(".columns.json"))
        if folder.is_dir()
        else []
    )


def _show_anatomy(subject: Subject) -> None:
    table = new_table(say("what was found"), subject.origin.name)
    if subject.origin.taken is not None:
        table.add_row(str(say("which of the run's models")), str(subject.origin.taken))
    table.add_row(str(say("parameters")), f"{subject.parameter_count:,}")
    for name, value in subject.anatomy.rows():
        table.add_row(str(name), value)
    world: Any = subject.world
    if world is not None:
        table.add_row(str(say("trained on")), world.kind)
    results().print(table)
    for note in (*subject.anatomy.notes, *subject.origin.notes):
        remarks().print(str(note))


def _show(found: Examination) -> None:
    console = results()
    checks = new_table(say("fidelity"), say("largest difference"), say("allowed"), "")
    for row in found.fidelity.rows():
        state = say("not done") if row.holds is None else say("passed") if row.holds else say("FAILED")
        value = "–" if row.value != row.value else "0" if row.value == 0 else f"{row.value:.1e}"
        checks.add_row(str(row.says), value, f"{row.allowed:.0e}" if row.allowed else "0", str(state))
    console.print(checks)
    for line in found.page().summary:
        console.print(f"• {line.says}")
    for name, problem in found.skipped.items():
        remarks().print(
            str(say("{instrument} was left out: {reason}", instrument=name, reason=problem.what)), style="dim"
        )
    console.print()
