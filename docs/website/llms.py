"""`llms.txt`: the site for programs that read, a list of its pages with what each one gives."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

HEAD = """# Glassworks

> Trains transformers, looks inside any transformer, rearranges its layers, and judges claims from measurements; offline, with the evidence attached. Python 3.11+, `import glassworks as gw`, command `glassworks`.

Every command takes `--json` (one object on standard output) and `--out DIR`. Exit codes: 0 done, 1 a cause that the message names with the command to type next, 2 a command line that could not be read. Everything a run leaves is described in the run folder page.
"""


@dataclass(frozen=True)
class Told:
    """A page of the site: where, its title, its section of the navigation, its Markdown."""

    place: str
    title: str
    section: str
    text: str


def llms(pages: Sequence[Told]) -> str:
    """The file: the pages by section, each with its first sentence."""
    parts = [HEAD]
    for section in dict.fromkeys(page.section for page in pages):
        parts.append(f"## {section}\n")
        parts += [_line(page) for page in pages if page.section == section]
        parts.append("")
    return "\n".join(parts)


def _line(page: Told) -> str:
    gives = first_sentence(page.text)
    return f"- [{page.title}]({page.place})" + (f": {gives}" if gives else "")


def first_sentence(text: str) -> str:
    """The first sentence of a page below its title, as plain words; empty where it begins with something else."""
    for block in re.split(r"\n\s*\n", text):
        words = " ".join(block.split())
        if not words or re.match(r"[#|`!<>-]|Describes: ", words):
            continue
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|\*\*", lambda found: found.group(1) or "", words)
        return re.split(r"(?<=[.。])\s", plain)[0]
    return ""
