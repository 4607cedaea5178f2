import numpy as np
import pytest

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.instruments import RepeatedTokens
from tests.families import subject as examined
from tests.planted.models import induction_head, previous_token_head


def induction_of(subject: Subject, layer: int, half: int) -> dict[str, float]:
    found = RepeatedTokens(half=half).read(subject, subject.batch([1, 2]))
    values = found.at(score="induction", layer=layer).values[0]
    return dict(zip(map(str, found.coords["quantity"]), values, strict=True))


def test_a_planted_induction_head_is_found_whatever_the_text() -> None:
    found = induction_of(Subject.of(induction_head()), layer=1, half=24)
    assert found["value"] > 0.8
    assert found["low"] > 3 * found["chance"]


def test_a_head_that_only_looks_that_far_back_does_not_pass_for_an_induction_head() -> None:
    # With two tokens said twice the token after the earlier one is the previous token.
    found = induction_of(Subject.of(previous_token_head()), layer=0, half=2)
    assert found["value"] > 0.9
    assert found["chance"] == pytest.approx(found["value"], abs=0.01)


def test_its_tokens_follow_its_seed_and_not_the_text() -> None:
    subject = examined("llama")
    first, second = (RepeatedTokens().read(subject, subject.batch(ids)) for ids in ([1, 2], [3, 4, 5]))
    np.testing.assert_array_equal(first.values, second.values)
    other = RepeatedTokens(seed=1).read(subject, subject.batch([1, 2]))
    assert not np.array_equal(first.values, other.values)
    assert "seed 1" in other.says.en
    assert "24 random tokens" in first.says.en


def test_a_context_too_short_to_repeat_is_named() -> None:
    from dataclasses import replace

    subject = examined("gpt2")
    short = replace(subject, anatomy=replace(subject.anatomy, context=3))
    with pytest.raises(InvalidInput, match="too short"):
        RepeatedTokens().read(short, short.batch([1, 2]))
