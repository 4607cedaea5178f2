"""examine: looks inside a model and writes a report, tables and figures."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glassworks.cli.api import load, placement_of
from glassworks.cli.estimate import estimated, examining
from glassworks.cli.keeping import files_in, identity_of, keep
from glassworks.cli.options import Examine
from glassworks.cli.prompts import drawn_prompt, read_text, typed_prompt
from glassworks.cli.reproduce import go_offline, typed_command
from glassworks.cli.speak import doing, new_table, print_json, remarks, results, size_words
from glassworks.core.errors import InvalidInput
from glassworks.core.files import refuse_unwritable
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from glassworks.anatomy import KeptActivations, Subject, TokenBatch
    from glassworks.instruments import Instrument
    from glassworks.instruments.examine import Examination


# The stream before the first layer and after each: what probes, lenses and similarities read.
STREAM = ("layers.0.in", "layers.*.out")


def examine(command: Examine) -> int:
    """Looks, writes, prints; the path of the report is the last line of stdout."""
    go_offline(command.offline)
    prompt = typed_prompt(command.text, command.text_file, command.tokens)
    from glassworks.instruments.examine import batch_of
    from glassworks.instruments.examine import examine as look

    instruments = [instrument_of(name) for name in command.instrument]
    if command.estimate:
        return estimated(command, examining(command, prompt, instruments))
    root = Path(command.out) / "examinations"
    refuse_unwritable(root)
    subject = load(
        command.source,
        device=command.device,
        dtype=command.dtype,
        trust_remote_code=command.trust_remote_code,
        out=command.out,
        **placement_of(command),
    )
    if not command.json:
        _show_anatomy(subject)
    with doing(quiet=command.json) as tell:
        if command.keep_activations is None and command.window is None and command.limit is None:
            read = batch = batch_of(subject, drawn_prompt(subject, command.seed) if prompt is None else prompt)
        else:
            read, batch = _long_text(subject, command, tell)
        found = look(subject, read, instruments, seed=command.seed, command=typed_command(sys.argv[1:]), tell=tell)
    identity = {
        **identity_of(subject),
        "tokens": batch.ids.tolist(),
        "instruments": [one.identity() for one in instruments],
        "seed": command.seed,
    }
    folder = keep(found, root, subject.origin.name, identity, png=command.png)
    if command.json:
        print_json(found.to_json() | files_in(folder))
    else:
        _show(found)
        print(folder / "report.html")
    return 0


def _long_text(
    subject: Subject, command: Examine, tell: Callable[[Text], None]
) -> tuple[TokenBatch | KeptActivations, TokenBatch]:
    """The windows of a text, and what is read of them: themselves, or their activations in a folder."""
    from glassworks.anatomy import keep_activations

    text: str | list[int] | None = command.text if command.text_file is None else read_text(Path(command.text_file))
    if command.tokens is not None:
        text = cast(list[int], typed_prompt(None, None, command.tokens))
    if not text:
        raise InvalidInput(
            say("which text? Windows are cut from one that is given"), right=say("--text, --text-file or --tokens")
        )
    batch = subject.windows(text, command.window, command.limit)
    if command.keep_activations is None:
        return batch, batch
    names = list(STREAM) if command.sites is None else [name.strip() for name in command.sites.split(",")]
    kept = keep_activations(subject, batch, names, command.keep_activations, tell=tell)
    if not command.json:
        size = size_words(sum(site.bytes_per_token for site in kept.sites.values()) * kept.all_tokens)
        told = say("{tokens} tokens at {sites} sites, {size}: {folder}", tokens=f"{kept.tokens:,}", sites=len(kept), size=size, folder=str(kept.folder))  # fmt: skip
        remarks().print(str(told))
    return kept, batch


def instrument_of(text: str) -> Instrument:
    """An instrument by kind, with settings after a colon: `attention_maps:layer=1,head=0`."""
    from glassworks.instruments import INSTRUMENTS

    kind, _, settings = text.partition(":")
    found: Instrument = INSTRUMENTS.parse({"kind": kind})
    # A comma ends a setting only where another one begins: texts and lists may hold commas.
    for assignment in filter(None, re.split(r",(?=\w+=)", settings)):
        if "=" not in assignment:
            raise InvalidInput(
                say("an instrument's setting needs name=value"),
                given=assignment,
                right=say("for example {example}", example="attention_maps:layer=1,head=0"),
            )
        found = found.replaced_from_text(assignment)
    return found


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
