"""Plans as mergekit recipes, in and out: `merge_method: passthrough` with slices of layers."""

from __future__ import annotations

from typing import Any, cast

import yaml

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.surgery.plans import Plan

EXAMPLE = "slices:\n- sources:\n  - model: NAME\n    layer_range: [0, 8]"


def to_mergekit(plan: Plan, model: str, dtype: str = "bfloat16") -> str:
    """The recipe of a sequential plan in YAML; each slice is a run of neighbouring layers [first, end)."""
    if not plan.is_sequential:
        raise InvalidInput(
            say("a mergekit recipe lists layers one after the other, and this plan has parallel stages"),
            given=str(plan),
            right=say("a plan of skipped, repeated or reordered layers"),
        )
    slices: list[list[int]] = []
    for layer in plan.executions:
        if slices and slices[-1][1] == layer:
            slices[-1][1] = layer + 1
        else:
            slices.append([layer, layer + 1])
    recipe = {
        "slices": [{"sources": [{"model": model, "layer_range": part}]} for part in slices],
        "merge_method": "passthrough",
        "dtype": dtype,
    }
    return yaml.safe_dump(recipe, sort_keys=False, default_flow_style=None)


def from_mergekit(text: str) -> tuple[Plan, str]:
    """The plan of a passthrough recipe, and the model it names; other methods mix weights and are refused."""
    try:
        recipe: Any = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise InvalidInput(say("this is no YAML: {reason}", reason=str(problem).splitlines()[0])) from None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("slices"), list):
        raise InvalidInput(say("a mergekit recipe needs slices"), right=say("for example {example}", example=EXAMPLE))
    fields = cast(dict[str, Any], recipe)
    if fields.get("merge_method") != "passthrough":
        raise InvalidInput(
            say("only passthrough recipes are plans; others mix the weights of models"),
            given=fields.get("merge_method"),
            right=say("merge_method: passthrough"),
        )
    models: set[str] = set()
    layers: list[int] = []
    for part in fields["slices"]:
        model, first, end = _slice(part)
        models.add(model)
        layers += range(first, end)
    if len(models) > 1:
        raise InvalidInput(
            say("a plan is about one model, and this recipe names several"),
            given=", ".join(sorted(models)),
            right=say("slices of one model"),
        )
    if not layers:
        raise InvalidInput(say("the plan is empty"), right=say("for example {example}", example=EXAMPLE))
    return Plan.of(layers), models.pop()


def _slice(part: Any) -> tuple[str, int, int]:
    match part:
        case {"sources": [{"model": str(model), "layer_range": [int(first), int(end)]}]} if 0 <= first < end:
            return model, first, end
        case _:
            raise InvalidInput(
                say("a slice of a mergekit recipe needs one source with a model and a layer range"),
                given=part,
                right=say("for example {example}", example=EXAMPLE),
            )
