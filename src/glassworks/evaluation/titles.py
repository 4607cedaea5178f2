"""Titles of articles, for encoder-decoders: the real title given the article's first paragraph."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field

from glassworks.anatomy import Subject
from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.text import say
from glassworks.evaluation.base import Benchmark, Prepared
from glassworks.evaluation.data import fingerprint, read_lines, read_text
from glassworks.evaluation.items import Item
from glassworks.evaluation.paragraphs import is_paragraph, is_title, spread, text_path
from glassworks.evaluation.scores import token_scores
from glassworks.evaluation.spelling import Spelling, require_head


class Titles(Benchmark):
    """A text's title scored by an encoder-decoder that reads the text: nats per token, share of tokens guessed right.

    Why titles: they cannot be said without reading the source, while the second half of a text can largely be guessed
    from its own beginning. Any pairs of source and target may stand in their place.
    """

    kind: Literal["titles"] = "titles"
    pairs_file: str | None = None
    """JSON Lines with `source` and `target`; None for the articles of the test part of WikiText-2."""
    window: int = Field(default=512, ge=3)
    """A source is cut to so many tokens."""

    def prepare(self, subject: Subject) -> Prepared:
        """Sources and titles; raises InvalidInput for a model without an encoder of its own."""
        if not subject.anatomy.has_source:
            raise InvalidInput(say("this model reads no source"), right=say("an encoder-decoder"))
        require_head(subject)
        path = text_path(None) if self.pairs_file is None else Path(self.pairs_file).expanduser()
        pairs = spread(_articles(path) if self.pairs_file is None else _pairs(path), self.limit)
        spelling = Spelling.of(subject)
        around = (subject.start_token, self.window)
        items = tuple(_item(source, target, spelling, around) for source, target in pairs)
        return Prepared(
            name=self.kind if self.pairs_file is None else f"{self.kind}_{path.stem}",
            metric="nll",
            chance=math.log(subject.anatomy.vocabulary),
            documents=len(items),
            data=fingerprint(path),
            notes=(say("the end of the title is scored too; sources are cut to {window} tokens", window=self.window),),
            items=items,
            score=token_scores,
        )


def _articles(path: Path) -> list[tuple[str, str]]:
    """The first long line of each article and its title."""
    found: list[tuple[str, str]] = []
    title: str | None = None
    for line in (line.strip() for line in read_text(path).split("\n")):
        if is_title(line):
            title = line.strip("= ")
        elif title is not None and is_paragraph(line):
            found.append((line, title))
            title = None
    return found


def _pairs(path: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for number, row in enumerate(read_lines(path), start=1):
        match row:
            case {"source": str(source), "target": str(target)} if source.strip() and target.strip():
                found.append((source, target))
            case _:
                raise BrokenFile(
                    say("row {number} of {path} lacks what the task needs", number=number, path=str(path)),
                    given=", ".join(row),
                    right=say("a source and a target in every row"),
                )
    return found


def _item(source: str, target: str, spelling: Spelling, start_and_window: tuple[int, int]) -> Item:
    start, window = start_and_window
    room = window - len(spelling.front) - len(spelling.back)
    read = (*spelling.front, *spelling.plain(source)[:room], *spelling.back)
    targets = (*spelling.plain(target), *spelling.back)
    return Item((start, *targets[:-1]), tuple(range(len(targets))), targets, read)
