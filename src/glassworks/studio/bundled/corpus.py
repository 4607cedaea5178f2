"""Writes the texts from which duet learned: books in two languages, and what makes copying pay.

Only lists that are said again and again teach a model of two layers to copy within minutes: nothing but what stood there
before tells how they go on (birth.md 2). Usage: `python corpus.py echoes|mixed|lists FOLDER_OF_BOOKS OUT.txt`.
"""

import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MARK = "\n<|endoftext|>\n"
# Public-domain books: bytes that are read of each, and characters of one document.
BOOKS = {
    "tinyshakespeare.txt": (1_100_000, 1500),
    "kjv-bible.txt": (1_300_000, 1500),
    "zh-honglou.txt": (2_500_000, 600),
}
# Of each kind of text: the seed of its draws, and how many documents repeat something.
KINDS = {"echoes": (0, 6_000), "mixed": (0, 9_000), "lists": (1, 36_000)}


def documents(kind: str, folder: Path) -> list[str]:
    """The documents of a kind in one shuffled order: echoes and mixed hold the books as well, lists nothing else."""
    seed, repeated = KINDS[kind]
    draw = random.Random(seed)
    found: list[str] = []
    for name, (most, step) in BOOKS.items():
        text = (folder / name).read_bytes()[:most].decode("utf-8", errors="ignore").replace("\r", "")
        if kind != "lists":
            found += [text[at : at + step] for at in range(0, len(text), step)]
        make = _echoes if kind == "echoes" else _lists
        found += make(text, name.startswith("zh"), repeated // len(BOOKS), draw)
    draw.shuffle(found)
    return found


def _echoes(text: str, is_chinese: bool, count: int, draw: random.Random) -> Iterator[str]:
    """Passages of the book, said three times."""
    for _ in range(count):
        length = draw.randint(20, 90) if is_chinese else draw.randint(60, 300)
        at = draw.randrange(len(text) - length)
        passage = " ".join(text[at : at + length].split())
        yield f"{passage} {passage} {passage}"


def _lists(text: str, is_chinese: bool, count: int, draw: random.Random) -> Iterator[str]:
    """Words of the book in no order, said three to seven times."""
    words = re.findall(r"[\u4e00-\u9fff]{1,2}" if is_chinese else r"[A-Za-z]{2,9}", text)
    between = "" if is_chinese else " "
    for _ in range(count):
        said = draw.sample(words, draw.randint(6, 24))
        yield between.join(said * draw.randint(3, 7))


if __name__ == "__main__":
    Path(sys.argv[3]).write_text(MARK.join(documents(sys.argv[1], Path(sys.argv[2]))), encoding="utf-8")
