"""The written pages of the project, and what can be taken out of them: links, paths, command lines."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "src" / "glassworks").rglob("*.md"),
        *(ROOT / "tests").glob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]
)
GUIDE = sorted((ROOT / "docs" / "guide").glob("*.md"))
TOP_FOLDERS = ("src", "docs", "tests", "benchmarks")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def links(text: str) -> list[str]:
    """Targets of Markdown links and of pictures, without those of the web and within the page."""
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"src=\"([^\"]+)\"", text)
    return [target for target in found if not re.match(r"[a-z]+:|#", target)]


def paths(text: str) -> list[str]:
    """Paths of the repository in backticks, such as `src/glassworks/core/spec.py`; patterns are left out."""
    found = re.findall(rf"`((?:{'|'.join(TOP_FOLDERS)})/[\w./-]+)`", text)
    return [path for path in found if not re.search(r"/x\.py$|/NN_", path)]


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every `glassworks ...` line in the code blocks and in backticks."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(glassworks [^`…]+)`", text)
    lines = [line for line in lines if "..." not in line]
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words and Path(words[0]).name == "glassworks":
            yield words[1:]
