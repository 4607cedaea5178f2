from typing import Annotated, Literal

import pytest
from pydantic import Field, field_validator, model_validator

from glassworks.core.errors import InvalidSpec, UnknownName
from glassworks.core.shelf import Shelf
from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import say


class Inner(Spec):
    """A nested choice."""

    kind: Literal["inner"] = "inner"
    width: int = 4

    @field_validator("width")
    @classmethod
    def _even(cls, width: int) -> int:
        if width % 2:
            raise ImpossibleValue(say("one of {known}", known="2, 4"), say("for example {example}", example=4))
        return width


class Other(Spec):
    """Another variant."""

    kind: Literal["other"] = "other"
    depth: int = 1


class Pair(Spec):
    """Two numbers in order."""

    kind: Literal["pair"] = "pair"
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> "Pair":
        if self.low > self.high:
            raise ImpossibleValue(say("{low} is above {high}", low=self.low, high=self.high), say("low below high"))
        return self


class Outer(Spec):
    """A choice that holds others."""

    kind: Literal["outer"] = "outer"
    inner: Inner = Inner()
    many: tuple[Annotated[Inner | Other, Field(discriminator="kind")], ...] = (Inner(),)
    plain: Inner | Other = Inner()
    rate: float = 0.5


def test_equal_specs_have_equal_digests_and_any_field_changes_it() -> None:
    assert Outer().digest() == Outer.parse(Outer().to_json()).digest()
    digests = {
        spec.digest() for spec in (Outer(), Outer(rate=0.25), Outer(inner=Inner(width=6)), Outer(many=(Other(),)))
    }
    assert len(digests) == 4
    assert Outer(rate=1).digest() == Outer(rate=1.0).digest()


def test_a_nested_revision_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Outer().digest()
    monkeypatch.setattr(Inner, "revision", 2)
    assert Outer().digest() != before


def test_an_unknown_field_is_named_by_its_whole_path_with_the_nearest_name() -> None:
    with pytest.raises(InvalidSpec) as caught:
        Outer.parse({"inner": {"widht": 3}})
    assert caught.value.what.en == "unknown field inner.widht of Outer"
    assert caught.value.right is not None
    assert caught.value.right.en.startswith("width (nearest)")


def test_the_path_through_a_union_is_the_one_that_set_takes() -> None:
    with pytest.raises(InvalidSpec) as caught:
        Outer.parse({"many": [{"kind": "other", "dept": 2}]})
    assert caught.value.what.en == "unknown field many.0.dept of Outer"
    assert caught.value.right is not None
    assert "depth (nearest)" in caught.value.right.en
    assert Outer(many=(Other(),)).replaced("many.0.depth", 3).many == (Other(depth=3),)


def test_an_unknown_kind_gets_the_nearest_one() -> None:
    with pytest.raises(InvalidSpec) as caught:
        Outer.parse({"many": [{"kind": "othr"}]})
    assert "many.0" in caught.value.what.en
    assert caught.value.given == "othr"
    assert caught.value.right is not None
    assert caught.value.right.en == "other (nearest); known: inner, other"


def test_a_plain_union_tries_every_variant() -> None:
    assert Outer.parse({"plain": {"kind": "other", "depth": 2}}).plain == Other(depth=2)


def test_an_impossible_value_brings_its_own_cure() -> None:
    with pytest.raises(InvalidSpec) as caught:
        Outer(inner={"width": 3})  # pyright: ignore[reportArgumentType]
    assert caught.value.what.en == "inner.width of Outer: one of 2, 4"
    assert caught.value.right is not None
    assert caught.value.right.en == "for example 4"


def test_fields_that_do_not_fit_together_are_told_without_the_whole_spec() -> None:
    for build in (lambda: Pair(low=3, high=2), lambda: Pair.parse({"kind": "pair", "low": 3, "high": 2})):
        with pytest.raises(InvalidSpec) as caught:
            build()
        assert caught.value.given is None
        assert str(caught.value) == "Pair of Pair: 3 is above 2\n  would be right: low below high"
    with pytest.raises(InvalidSpec) as caught:
        Pair.parse({"low": "three"})
    assert caught.value.given == "three"


def test_a_wrong_spec_leaves_the_next_one_unharmed() -> None:
    for _ in range(2):
        with pytest.raises(InvalidSpec, match=r"width of Inner"):
            Inner(width="wide")  # pyright: ignore[reportArgumentType]
    assert Inner(width=2).width == 2


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("inner.width=8", Outer(inner=Inner(width=8))),
        ("rate=1e-3", Outer(rate=1e-3)),
        ('many=[{"kind":"other"}]', Outer(many=(Other(),))),
        ("many.0.width=2", Outer(many=(Inner(width=2),))),
    ],
)
def test_a_field_is_changed_from_the_command_line(assignment: str, expected: Outer) -> None:
    assert Outer().replaced_from_text(assignment) == expected


@pytest.mark.parametrize("assignment", ["rate", "=3", "inner.wdth=3", "many.7.width=2", "rate.x=1", "rate=fast"])
def test_a_wrong_assignment_is_refused_in_one_message(assignment: str) -> None:
    with pytest.raises(InvalidSpec):
        Outer().replaced_from_text(assignment)


def test_a_spec_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Inner().width = 3  # pyright: ignore[reportAttributeAccessIssue]


def test_a_shelf_lists_its_variants_in_order_and_names_the_nearest() -> None:
    shelf = Shelf("thing", Inner, Other)
    assert shelf.kinds == ("inner", "other")
    assert list(shelf) == [Inner, Other]
    assert shelf.parse({"kind": "other", "depth": 5}) == Other(depth=5)
    with pytest.raises(UnknownName) as caught:
        shelf["iner"]
    assert caught.value.nearest == "inner"
    for bad in ({}, 3, None, {"depth": 1}):
        with pytest.raises(InvalidSpec, match="needs a kind"):
            shelf.parse(bad)
