"""The family tree of language models, and a preset of it, built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from glassworks.studio.questions.base import Answer, Question

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk


class Lineage(Question):
    """Who built on whom: every model of the tree, and every preset that can be built."""

    kind: Literal["lineage"] = "lineage"

    def answer(self, desk: Desk) -> Answer:
        """`models` oldest first, `presets` in the order of their shelf."""
        from glassworks.studio.family.blueprint import summaries, tree

        return {"models": tree(), "presets": summaries()}


class Blueprint(Question):
    """A preset, built without memory for its numbers: its parts, their counts, one layer of it, and its totals."""

    kind: Literal["preset"] = "preset"
    name: str
    """A name of `glassworks presets`."""

    def answer(self, desk: Desk) -> Answer:
        """Sizes, parts, modules, blocks, the printout; UnknownName with the nearest name."""
        from glassworks.models.presets import preset
        from glassworks.studio.family.blueprint import blueprint

        return blueprint(preset(self.name))


ALL: tuple[type[Question], ...] = (Lineage, Blueprint)
