"""Plans on disk: our own `plan.json` with the model it was made for, and mergekit's recipes; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.files import read_json, write_json
from glassworks.core.reading import LARGEST_RECIPE, read_bytes
from glassworks.core.text import say
from glassworks.surgery.mergekit import from_mergekit
from glassworks.surgery.plans import Plan

_RECIPES = (".yml", ".yaml")


@dataclass(frozen=True)
class SavedPlan:
    """A plan and what is known of the model it is for: name, where it is loaded from, digest of weights, stack, depth."""

    plan: Plan
    model: str | None = None
    source: str | None = None
    weights: str | None = None
    stack: str | None = None
    depth: int | None = None

    def save(self, path: Path) -> Path:
        """Writes it as JSON, which `read_plan` reads back."""
        known = {name: value for name, value in vars(self).items() if name != "plan"}
        write_json(path, {**self.plan.to_json(), **known})
        return path

    def fitting(self, depth: int, stack: str) -> Plan:
        """The plan for a stack of a depth; raises InvalidInput where it was made for another one."""
        if self.stack is not None and self.stack != stack:
            raise InvalidInput(
                say("this plan was saved for the {saved} of a model", saved=self.stack),
                given=stack,
                right=say("--stack {saved}", saved=self.stack),
            )
        if self.depth is not None and self.depth != depth:
            raise InvalidInput(
                say(
                    "this plan was saved for a stack of {saved} layers, and this one has {depth}",
                    saved=self.depth,
                    depth=depth,
                ),
                given=str(self.plan),
                right=say("a plan for layers 0 to {last}", last=depth - 1),
            )
        self.plan.check(depth)
        return self.plan


def read_plan(given: str, depth: int | None = None) -> SavedPlan:
    """A plan from what was typed: its text, the path of a `plan.json`, or that of a mergekit recipe (.yml, .yaml).

    With `depth` the layers of a text are checked. Raises InvalidInput, NotFound or BrokenFile.
    """
    path = Path(given).expanduser()
    suffix = path.suffix.lower()
    if suffix not in (".json", *_RECIPES):
        return SavedPlan(Plan.parse(given, depth))
    if not path.is_file():
        raise NotFound(say("{path} is not there", path=given), right=say("a saved plan, or the text of one"))
    if suffix in _RECIPES:
        try:
            text = read_bytes(path, LARGEST_RECIPE).decode("utf-8")
        except UnicodeDecodeError:
            raise BrokenFile(say("{path} is no text in UTF-8", path=given)) from None
        plan, model = from_mergekit(text)
        return SavedPlan(plan, model, model)
    return _of_json(path, read_json(path))


def _of_json(path: Path, found: Any) -> SavedPlan:
    entry = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    match entry.get("plan"):
        case str(text):
            pass
        case _:
            raise BrokenFile(
                say("{path} holds no plan", path=str(path)), right=say("what `glassworks surgery --save` writes")
            )
    depth = entry.get("depth")
    words = {name: entry.get(name) for name in ("model", "source", "weights", "stack")}
    return SavedPlan(
        Plan.parse(text),
        depth=depth if isinstance(depth, int) else None,
        **{name: value if isinstance(value, str) else None for name, value in words.items()},
    )
