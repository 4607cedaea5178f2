import pytest

from glassworks.core import errors
from glassworks.core.errors import GlassworksError, InvalidInput, UnknownName, nearest
from glassworks.core.text import say


def test_an_error_says_what_given_right_and_next() -> None:
    error = InvalidInput(
        say("missing"), given="", right=say("one of {known}", known="a"), next_command="glassworks runs"
    )
    assert str(error) == "missing\n  given: \n  would be right: one of a\n  next: glassworks runs"


def test_an_unknown_name_carries_the_nearest() -> None:
    error = UnknownName("mixer", "sofmax", ["softmax", "linear"])
    assert error.nearest == "softmax"
    assert "softmax (nearest); known: linear, softmax" in str(error)
    assert UnknownName("mixer", "zzz", ["softmax"]).nearest is None
    assert "one of -" in str(UnknownName("mixer", "zzz", []))


def test_a_huge_value_is_shortened_in_the_message() -> None:
    assert len(str(InvalidInput(say("missing"), given="x" * 10_000))) < 500
    assert len(str(UnknownName("mixer", "x" * 10_000, ["softmax"]))) < 800


def test_every_error_is_a_glassworks_error() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 8
    assert all(issubclass(kind, GlassworksError) for kind in kinds)


@pytest.mark.parametrize(("given", "expected"), [("sofmax", "softmax"), ("", None), ("qqqqq", None)])
def test_nearest_finds_only_what_resembles(given: str, expected: str | None) -> None:
    assert nearest(given, ["softmax", "linear"]) == expected
