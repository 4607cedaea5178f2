"""Notebooks as pages: their words, their code, and what it printed and drew when it was run last."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from website.outside import ROOT
from website.words import escaped, table

FOLDER = ROOT / "docs" / "notebooks"


def pages() -> dict[str, str]:
    """Place on the site -> Markdown, one page per notebook and their list."""
    found, rows = dict[str, str](), list[tuple[str, str]]()
    for path in sorted(FOLDER.glob("*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        place = f"notebooks/{path.stem}.md"
        found[place] = _page(notebook, path)
        title, gives = _title_and_gift(notebook)
        rows.append((f"[{title}]({path.stem}.md)", escaped(gives)))
    head = (
        "# Notebooks\n\nEach runs in under a minute on one core, without a network, and is run again with every change. "
        "Open one with `jupyter lab docs/notebooks` or any other reader of notebooks.\n\n"
    )
    return found | {"notebooks/index.md": head + table(("notebook", "what you have at the end"), rows)}


def _page(notebook: dict[str, Any], path: Path) -> str:
    parts = list[str]()
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif source.strip():
            parts.append(f"```python\n{source}\n```")
            parts += [_output(output) for output in cell["outputs"]]
    # A link in HTML: the notebook itself is wanted here, not its page.
    note = f'<p><a href="{path.name}" download>This page as a notebook</a>; what is printed here came out when it was run last.</p>'
    return "\n\n".join([parts[0], note, *parts[1:]]) + "\n"


def _title_and_gift(notebook: dict[str, Any]) -> tuple[str, str]:
    """The title of a notebook and its sentence "At the end ..."."""
    lines = "".join(notebook["cells"][0]["source"]).split("\n\n")
    gives = next((line for line in lines if line.startswith("At the end ")), "")
    return lines[0].removeprefix("# ").strip(), " ".join(gives.split())


def _output(output: dict[str, Any]) -> str:
    """What a cell printed as text, what it drew as it stands; warnings to the terminal are left out."""
    if output["output_type"] == "stream":
        return "" if output["name"] != "stdout" else _plain("".join(output["text"]))
    data = output.get("data", {})
    if "text/html" in data:
        return _drawn("".join(data["text/html"]))
    if "image/svg+xml" in data:
        return _drawn("".join(data["image/svg+xml"]))
    if "image/png" in data:
        return _drawn(f'<img alt="" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">')
    return _plain("".join(data.get("text/plain", "")))


def _plain(text: str) -> str:
    return (
        f'<div class="output"><pre>{_unbroken(html.escape(text.rstrip(), quote=False))}</pre></div>'
        if text.strip()
        else ""
    )


def _drawn(inside: str) -> str:
    return f'<div class="output drawn">{_unbroken(inside)}</div>'


def _unbroken(inside: str) -> str:
    """Without empty lines, which would end the block."""
    return inside.replace("\n\n", "\n&#8203;\n")
