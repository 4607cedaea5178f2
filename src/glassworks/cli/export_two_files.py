"""export MODEL --two-files DIR: the parameters, and one short program that runs them."""

from __future__ import annotations

from pathlib import Path

from glassworks.cli.options_export import Export
from glassworks.cli.reproduce import go_offline
from glassworks.cli.speak import remarks, size_words, tell_of_torch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say


def export_two_files(command: Export) -> tuple[Path, list[Path]]:
    """Writes both; returns the folder and the files."""
    assert command.two_files is not None, "asked by the caller"
    if not command.two_files.strip():
        raise InvalidInput(say("{name} is empty", name="--two-files"), given=repr(command.two_files))
    if command.run is None:
        raise InvalidInput(say("which model?"), right=say("glassworks export MODEL --two-files DIR"))
    extra = {"--to": command.to, "--plan": command.plan, "--model": command.model, "--out": command.out}
    given = ", ".join(name for name, value in extra.items() if value is not None)
    if given:
        raise InvalidInput(
            say("a model as two files needs no other choice"), given=given, right=say("MODEL --two-files DIR alone")
        )
    go_offline(command.offline)
    tell_of_torch(as_json=command.json)
    from glassworks.cli.api import load
    from glassworks.models.two_files import write_two_files

    subject = load(command.run, device=command.device, dtype=command.dtype, trust_remote_code=command.trust_remote_code)
    folder = Path(command.two_files)
    written = write_two_files(subject, folder)
    if not command.json:
        words = say(
            '{size} of parameters and {lines} lines of program; run them with: python {path} "Once upon a time"',
            size=size_words(written.bytes),
            lines=len(written.program.read_text(encoding="utf-8").splitlines()),
            path=str(written.program),
        )
        remarks().print(str(words), style="dim")
    return folder, [written.parameters, written.program]
