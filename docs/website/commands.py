"""The reference of the command line, from the dataclasses that read it."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from tyro.conf import Positional

from website.words import code, escaped, table

FOLDER = "reference/commands"


@dataclasses.dataclass(frozen=True)
class Verb:
    """One command: its name, what it does, its options."""

    name: str
    says: str
    options: type


def verbs() -> list[Verb]:
    """All commands in the order of `glassworks --help`."""
    from glassworks.cli import options

    found = list[Verb]()
    for member in typing.get_args(options.Command):
        kind, told = typing.get_args(member)
        found.append(Verb(str(told.name), str(told.description), kind))
    return found


def pages() -> dict[str, str]:
    """Place on the site -> Markdown: the list of commands and a page for each."""
    known = verbs()
    rows = [(f"[{verb.name}]({verb.name}.md)", escaped(verb.says)) for verb in known]
    head = (
        "# Commands\n\nEvery command takes `--help`. Results go to standard output, everything else to standard error. "
        "Exit codes: 0 done, 1 a cause that the message names, 2 a command line that could not be read, 130 after Ctrl-C.\n\n"
    )
    found = {f"{FOLDER}/index.md": head + table(("command", "what it does"), rows)}
    return found | {f"{FOLDER}/{verb.name}.md": _page(verb) for verb in known}


def _page(verb: Verb) -> str:
    hints = typing.get_type_hints(verb.options, include_extras=True)
    named, placed = list[tuple[str, str, str]](), list[tuple[str, str, str]]()
    for field in dataclasses.fields(verb.options):
        marks = list(getattr(hints[field.name], "__metadata__", ()))
        row = _row(field, hints[field.name], marks)
        (placed if Positional in marks else named).append(row)
    usage = " ".join(["glassworks", verb.name, *(f"[{words}]" if default != "required" else words
                                                 for words, default, _ in placed), "[options]"])  # fmt: skip
    parts = [f"# {verb.name}\n", f"{escaped(verb.says)}\n", f"```text\n{usage}\n```\n"]
    for title, rows in (("Arguments", placed), ("Options", named)):
        if rows:
            shown = [
                (code(words), ("required" if default == "required" else code(default)) if default else "", meaning)
                for words, default, meaning in rows
            ]
            parts += [f"## {title}\n", table((title.lower().rstrip("s"), "default", "meaning"), shown)]
    return "\n".join(parts)


def _row(field: dataclasses.Field[Any], hint: Any, marks: list[Any]) -> tuple[str, str, str]:
    """What is typed, its default, what it means."""
    told = next((mark for mark in marks if type(mark).__name__ == "_ArgConfig"), None)
    help_words = "" if told is None or told.help is None else str(told.help)
    name = "--" + (field.name if told is None or not told.name else str(told.name)).replace("_", "-")
    bare = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    value = "" if bare is bool else _metavar(told, bare)
    words = value if Positional in marks else " ".join(part for part in (name, value) if part)
    aliases = [] if told is None or not told.aliases else list(told.aliases)
    return ", ".join([*aliases, words]), _default(field), escaped(help_words)


def _metavar(told: Any, bare: Any) -> str:
    if told is not None and told.metavar:
        return str(told.metavar)
    choices = [str(choice) for part in (bare, *typing.get_args(bare)) if typing.get_origin(part) is typing.Literal
               for choice in typing.get_args(part)]  # fmt: skip
    return "|".join(choices) or {int: "N", float: "NUMBER"}.get(bare, "VALUE")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is dataclasses.MISSING:
        return "required" if field.default_factory is dataclasses.MISSING else str(field.default_factory())
    return "" if field.default in (None, False, ()) else str(field.default)
