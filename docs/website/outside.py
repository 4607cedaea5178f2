"""Pages of the site whose text lies elsewhere in the repository, and links between all pages."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
# Where the text lies -> where it stands on the site.
WRITTEN: Mapping[str, str] = {
    "README.zh-CN.md": "zh.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "AGENTS.md": "agents.md",
    "tests/SKIPPED.md": "skipped.md",
    "src/glassworks/studio/bundled/README.md": "bundled-model.md",
}
PLAIN: Mapping[str, str] = {"LICENSE": "licence.md", "CITATION.cff": "citation.md"}
TITLES: Mapping[str, str] = {"LICENSE": "Licence", "CITATION.cff": "How to cite"}
# Folders and pages that a link may name, where another page of the site is what a reader wants.
STANDS_FOR: Mapping[str, str] = {
    "README.md": "index.md",
    "docs/examples": "examples/index.md",
    "docs/decisions": "decisions/README.md",
    "docs/errors": "errors/README.md",
    "docs/notebooks": "notebooks/index.md",
}
_LINK = re.compile(r"(\]\(|src=\")([^)\s\"]+)")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.DOTALL | re.MULTILINE)


def room_pages() -> dict[str, str]:
    """The README of each room -> its page."""
    found = sorted((ROOT / "src" / "glassworks").glob("*/README.md"))
    return {path.relative_to(ROOT).as_posix(): f"rooms/{path.parent.name}.md" for path in found}


def pages() -> dict[str, str]:
    """Place on the site -> Markdown, for everything that is written outside `docs`."""
    written = {**WRITTEN, **room_pages()}
    found = {target: (ROOT / origin).read_text(encoding="utf-8") for origin, target in written.items()}
    for origin, target in PLAIN.items():
        text = (ROOT / origin).read_text(encoding="utf-8")
        found[target] = f"# {TITLES[origin]}\n\n```text\n{text}\n```\n"
    return found


def origins() -> dict[str, str]:
    """Place on the site -> the file of the repository that its links are relative to."""
    return {target: origin for origin, target in {**WRITTEN, **PLAIN, **room_pages()}.items()}


def followed(text: str, place: str) -> str:
    """The Markdown of the page at `place` with its links turned to where the site has their targets.

    A target that the site does not have stays as it is, and the build then names it.
    """
    origin = origins().get(place, f"docs/{place}")
    parts = _CODE.split(text)
    return "".join(
        part if i % 2 else _LINK.sub(lambda m: _turned(m, origin, place), part) for i, part in enumerate(parts)
    )


def _turned(match: re.Match[str], origin: str, place: str) -> str:
    before, target = match.groups()
    if re.match(r"[a-z]+:|#|/", target):
        return match.group(0)
    path, mark, anchor = target.partition("#")
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
    there = place_of(wanted)
    if there is None:
        return match.group(0)
    return before + posixpath.relpath(there, posixpath.dirname(place) or ".") + mark + anchor


def place_of(wanted: str) -> str | None:
    """Where the site has a file of the repository; None where it does not."""
    known = {**WRITTEN, **PLAIN, **room_pages(), **STANDS_FOR}
    if wanted in known:
        return known[wanted]
    path = PurePosixPath(wanted)
    if path.parts[:1] != ("docs",):
        return None
    inside = path.relative_to("docs")
    if inside.suffix in {".py", ".ipynb"}:
        return inside.with_suffix(".md").as_posix()
    return inside.as_posix()


def example_pages() -> dict[str, str]:
    """A page for each example: what it says of itself, and the whole of it, ready to be copied."""
    found = dict[str, str]()
    rows = list[str]()
    for path in sorted((ROOT / "docs" / "examples").glob("[0-9][0-9]_*.py")):
        says, code = _said_and_code(path)
        title = f"{int(path.stem[:2])}. {path.stem[3:].replace('_', ' ').capitalize()}"
        found[f"examples/{path.stem}.md"] = (
            f"# {title}\n\n{says}\n\n```python\n{code}\n```\n\n"
            f"Run it: `python docs/examples/{path.name}`. It runs with every change, and what it asserts holds.\n"
        )
        rows.append(f"| [{title}]({path.stem}.md) | {says.splitlines()[0]} |")
    table = "\n".join(["| example | what it shows |", "|---|---|", *rows])
    found["examples/index.md"] = (
        f"# Examples\n\nEach is one file of at most two screens that runs as it stands.\n\n{table}\n"
    )
    return found


def _said_and_code(path: Path) -> tuple[str, str]:
    import ast

    text = path.read_text(encoding="utf-8")
    first = ast.parse(text).body[0]
    assert first.end_lineno is not None
    said = ast.get_docstring(ast.parse(text)) or ""
    return said, "\n".join(text.splitlines()[first.end_lineno :]).strip()
