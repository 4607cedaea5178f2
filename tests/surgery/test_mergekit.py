"""Plans as mergekit recipes and as files of our own, there and back."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.surgery.mergekit import from_mergekit, to_mergekit
from glassworks.surgery.plan_files import SavedPlan, read_plan
from glassworks.surgery.plans import Plan


@given(st.lists(st.integers(0, 11), min_size=1, max_size=20))
def test_a_recipe_read_back_is_the_plan(layers: list[int]) -> None:
    plan = Plan.of(layers)
    assert from_mergekit(to_mergekit(plan, "org/model")) == (plan, "org/model")


def test_slices_are_runs_of_neighbours_with_open_ends() -> None:
    recipe = yaml.safe_load(to_mergekit(Plan.parse("0..3 2..5 8"), "m", "float16"))
    assert [part["sources"][0]["layer_range"] for part in recipe["slices"]] == [[0, 4], [2, 6], [8, 9]]
    assert (recipe["merge_method"], recipe["dtype"]) == ("passthrough", "float16")


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("merge_method: linear\nslices: []", "only passthrough"),
        ("merge_method: passthrough\nslices: []", "empty"),
        ("merge_method: passthrough", "needs slices"),
        ("[1, 2", "no YAML"),
        ("merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [3, 3]}]}]", "layer range"),
        (
            "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [0, 3]}]}, {sources: [{model: b, layer_range: [0, 3]}]}]",
            "several",
        ),
    ],
)
def test_what_is_no_plan_is_named(recipe: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        from_mergekit(recipe)


def test_parallel_plans_have_no_recipe() -> None:
    with pytest.raises(InvalidInput, match="parallel"):
        to_mergekit(Plan.parse("0 (1 | 2) 3"), "m")


def test_a_plan_is_read_from_its_text_our_file_or_a_recipe(tmp_path: Path) -> None:
    saved = SavedPlan(Plan.parse("0..1 (2 | 3)x2 4"), "name", "/a/folder", "0123", "layers", 5)
    assert read_plan(str(saved.save(tmp_path / "plan.json"))) == saved
    assert read_plan("0..1 3", 4).plan == Plan.of([0, 1, 3])
    (tmp_path / "r.yml").write_text(to_mergekit(Plan.of([0, 2]), "org/m"))
    assert read_plan(str(tmp_path / "r.yml")) == SavedPlan(Plan.of([0, 2]), "org/m", "org/m")
    with pytest.raises(NotFound, match=r"absent\.json"):
        read_plan("absent.json")
    (tmp_path / "other.json").write_text(json.dumps({"layers": [1]}))
    with pytest.raises(BrokenFile, match="holds no plan"):
        read_plan(str(tmp_path / "other.json"))


def test_a_plan_saved_for_another_model_or_stack_does_not_fit() -> None:
    saved = SavedPlan(Plan.of([0, 2]), depth=5, stack="decoder")
    assert saved.fitting(5, "decoder") == saved.plan
    with pytest.raises(InvalidInput, match="5 layers, and this one has 6"):
        saved.fitting(6, "decoder")
    with pytest.raises(InvalidInput, match="saved for the decoder"):
        saved.fitting(5, "encoder")
    with pytest.raises(InvalidInput, match="no layer 2"):
        SavedPlan(Plan.of([0, 2])).fitting(2, "layers")
