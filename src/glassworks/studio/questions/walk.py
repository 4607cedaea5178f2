"""The walk through one pass: the text, then stage by stage its numbers, and where each number comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from glassworks.studio.questions.base import Answer, Question

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk
    from glassworks.studio.walk.graph import Graph

# Longer texts are no use here, and a page can send anything.
LONGEST_TEXT = 20_000


class _Walked(Question):
    """A question about one text in one model."""

    model: str
    """An identifier of the listing."""
    text: str = Field(max_length=LONGEST_TEXT)
    """What the model reads; of a model without a tokenizer its ids as numbers."""

    def graph(self, desk: Desk) -> Graph:
        """The parts of the pass, which is made where it is not kept."""
        from glassworks.studio.walk.graph import graph_of

        return graph_of(desk.subject(self.model), self.text)


class WalkText(_Walked):
    """The text as the model reads it, and what the model is made of."""

    kind: Literal["walk"] = "walk"
    stack: Literal["", "encoder"] = ""
    """Of an encoder-decoder: which of its stacks is walked through."""

    def answer(self, desk: Desk) -> Answer:
        """Tokens, sizes, and the parts outside the layers."""
        from glassworks.studio.walk.answers import overview

        return overview(self.graph(desk), self.stack)


class WalkBeginning(_Walked):
    """Token vectors, position vectors, and the first stream."""

    kind: Literal["walk_beginning"] = "walk_beginning"
    stack: Literal["", "encoder"] = ""
    start: int = Field(default=0, ge=0)
    """A token of the window that is shown."""

    def answer(self, desk: Desk) -> Answer:
        """Arrays of the window."""
        from glassworks.studio.walk.answers import beginning

        return beginning(self.graph(desk), self.stack, self.start)


class WalkLayer(_Walked):
    """One block: streams, norms, feed-forward, and every head small."""

    kind: Literal["walk_layer"] = "walk_layer"
    stack: Literal["", "encoder"] = ""
    layer: int = 0
    start: int = Field(default=0, ge=0)
    """A token of the window that is shown."""

    def answer(self, desk: Desk) -> Answer:
        """Arrays of the window."""
        from glassworks.studio.walk.answers import layer

        return layer(self.graph(desk), self.stack, self.layer, self.start)


class WalkHead(_Walked):
    """One head of a block: queries, keys, values, scores, weights, and what it gives."""

    kind: Literal["walk_head"] = "walk_head"
    stack: Literal["", "encoder"] = ""
    layer: int = 0
    head: int = 0
    half: Literal["mixer", "cross"] = "mixer"
    """The layer's own attention, or the one to the source."""
    start: int = Field(default=0, ge=0)
    """A token of the window that is shown."""

    def answer(self, desk: Desk) -> Answer:
        """Arrays of the window."""
        from glassworks.studio.walk.answers import head

        return head(self.graph(desk), self.stack, self.layer, self.head, self.half, self.start)


class WalkEnd(_Walked):
    """What comes after the last block at one position: the last norm, logits, probabilities; and what each block would say."""

    kind: Literal["walk_end"] = "walk_end"
    stack: Literal["", "encoder"] = ""
    position: int = Field(default=0, ge=0)
    count: int = Field(default=20, ge=1, le=200)
    """Candidates."""

    def answer(self, desk: Desk) -> Answer:
        """The likeliest tokens with logit, chance and id; `lens` has a row for each block where tokens are said."""
        from glassworks.studio.walk.saying import end, lens

        graph = self.graph(desk)
        said = {"rows": []} if self.stack else lens(graph, self.position)
        return end(graph, self.stack, self.position, self.count) | {"lens": said}


class WalkNumber(_Walked):
    """Where one number comes from."""

    kind: Literal["walk_number"] = "walk_number"
    site: str = Field(max_length=200)
    """The part that it stands in, such as layers.0.mixer.scores."""
    index: tuple[int, ...] = Field(max_length=4)

    def answer(self, desk: Desk) -> Answer:
        """Its formula with the real values, the line of PyTorch, and its sources."""
        from glassworks.studio.walk.card import card

        return card(self.graph(desk), self.site, self.index)


ALL: tuple[type[Question], ...] = (WalkText, WalkBeginning, WalkLayer, WalkHead, WalkEnd, WalkNumber)
