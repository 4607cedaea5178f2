"""Texts and examples that a person brought: OUT/data/, by safe names, within limits."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from glassworks.core.errors import InvalidInput
from glassworks.core.files import write_bytes
from glassworks.core.text import say

MOST_BYTES = 6 << 20
MOST_FILES = 200
_ENDINGS = (".txt", ".md", ".json", ".jsonl", ".csv")
_ASSETS = "GLASSWORKS_ASSETS"
# Where assets hold texts, demonstrations and preferences, as the experiments look for them.
_FOLDERS = {"text": "texts", "instruct": "demonstrations", "pref": "preferences"}


def data_folder(out: Path) -> Path:
    """Where brought files lie."""
    return out.resolve() / "data"


def listed(out: Path) -> list[dict[str, Any]]:
    """Files that a form can offer: brought ones, then those of the assets folder; name, path, bytes, sort."""
    places = [(data_folder(out), "brought")]
    named = os.environ.get(_ASSETS)
    if named:
        places += [(Path(named).expanduser() / folder, sort) for folder, sort in _FOLDERS.items()]
    found: list[dict[str, Any]] = []
    for folder, sort in places:
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if path.is_file() and path.name.removesuffix(".gz").endswith(_ENDINGS) and len(found) < MOST_FILES:
                found.append({"name": path.name, "path": str(path), "bytes": path.stat().st_size, "sort": sort})
    return found


def kept(out: Path, name: str, text: str) -> dict[str, Any]:
    """Writes a text below `out`/data; an equal name is replaced. InvalidInput for an empty or too large one."""
    data = text.encode("utf-8", "replace")
    if not data.strip():
        raise InvalidInput(say("the text is empty"))
    if len(data) > MOST_BYTES:
        raise InvalidInput(
            say("{count} bytes are too many to paste", count=len(data)),
            right=say("at most {count}; type the path of a larger file", count=MOST_BYTES),
        )
    path = data_folder(out) / _safe(name)
    here = [one for one in data_folder(out).iterdir()] if data_folder(out).is_dir() else []
    if len(here) >= MOST_FILES and path not in here:
        raise InvalidInput(say("{count} files lie there already", count=len(here)), right=say("delete some"))
    write_bytes(path, data)
    return {"name": path.name, "path": str(path), "bytes": len(data), "sort": "brought"}


def _safe(name: str) -> str:
    """Letters, digits, dash, underscore, dot; no folder, no hidden file, an ending that is known."""
    stem = re.sub(r"[^\w.-]+", "-", name.replace("\\", "/").rpartition("/")[2]).strip(".-")[:60] or "text"
    return stem if stem.endswith(_ENDINGS) else f"{stem}.txt"
