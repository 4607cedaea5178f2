"""tree: the evolution tree of language models, by branch and year."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glassworks.cli.options_family import Tree
from glassworks.cli.speak import print_json, remarks, results
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from rich.text import Text as Styled
    from rich.tree import Tree as Drawn

    from glassworks.models.lineage import Model


def tree(command: Tree) -> int:
    """Draws the tree, or one branch of it; as JSON the list of its models, oldest first."""
    from glassworks.models.lineage import BRANCHES, lineage

    chosen = lineage(command.branch)
    if command.json:
        print_json({"branches": list(BRANCHES), "tree": [model.to_json() for model in chosen]})
        return 0
    results().print(drawn(chosen))
    remarks().print(
        str(
            say(
                "● open weights, ○ closed, – none of its own. Built here by: glassworks presets NAME; as data: glassworks tree --json"
            )
        )
    )
    return 0


def drawn(models: tuple[Model, ...]) -> Drawn:
    """A tree for the terminal: branches, and on each the models under what they build on."""
    from rich.tree import Tree as Drawn

    from glassworks.models.lineage import BRANCHES, drawn_under
    from glassworks.models.presets import branch_words

    root = Drawn(str(say("language models")), guide_style="dim")
    for branch in BRANCHES:
        here = [model for model in models if model.branch == branch]
        if not here:
            continue
        places = {"": root.add(str(branch_words(branch)), style="bold")}
        for model in here:
            above = drawn_under(model) or ""
            places[model.name] = places.get(above, places[""]).add(_line(model), style="not bold")
    return root


def _line(model: Model) -> Styled:
    from rich.text import Text as Styled

    line = Styled(f"{model.date}  ", "dim").append(f"{_sign(model)} ", "not dim").append(model.name, "bold not dim")
    sizes = ", ".join(model.sizes) if model.sizes else str(say("sizes not disclosed"))
    line.append(f"  {model.organisation}, {sizes}", "not dim")
    if model.is_prefix:
        line.append(f", {say('prefix decoder')}", "not dim")
    line.append(f"\n{model.changed}", "italic not dim")
    beside = _beside(model)
    if beside is not None:
        line.append(f"; {beside}", "not dim")
    if model.presets:
        line.append(f"\n{say('here: {names}', names=', '.join(model.presets))}", "dim")
    return line


def _sign(model: Model) -> str:
    return {"open": "●", "closed": "○", "none": "–"}[model.weights]


def _beside(model: Model) -> Text | None:
    """What else it builds on, where the drawing cannot show it."""
    from glassworks.models.lineage import drawn_under

    others = [parent for parent in model.parents if parent != drawn_under(model)]
    return say("from {parents}", parents=", ".join(others)) if others else None
