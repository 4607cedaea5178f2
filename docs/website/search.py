"""Search in Chinese without a dictionary: a mark of no width between Chinese characters makes each one a word.

The search in the page cuts what a reader types by the words that the index has, so that 归纳头 finds the places where the three
characters stand; the separator in mkdocs.yml names the same mark.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

MARK = "\u200b"
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def spaced(text: str) -> str:
    """The text with the mark around each Chinese character."""
    return re.sub(f"{MARK}+", MARK, _HAN.sub(lambda sign: f"{MARK}{sign.group(0)}{MARK}", text)).strip(MARK)


def space_index(path: Path) -> None:
    """Rewrites the search index of a built site."""
    index = json.loads(path.read_text(encoding="utf-8"))
    for entry in index["docs"]:
        entry["title"], entry["text"] = spaced(entry["title"]), spaced(entry["text"])
    path.write_text(json.dumps(index, separators=(",", ":"), ensure_ascii=False), encoding="utf-8")
