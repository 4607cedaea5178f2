import math

import numpy as np
import pytest
import torch

from glassworks.evidence.claims import Scale
from glassworks.experiments.infini import capacity
from glassworks.experiments.infini.spec import InfiniAttention
from glassworks.tensors.seeds import Seed

STUDY = InfiniAttention.at(Scale.SMOKE)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=Seed(3).generator(), dtype=torch.float64)


@pytest.mark.parametrize("rule", capacity.RULES)
@pytest.mark.parametrize(("pairs", "segment"), [(1, 1), (7, 1), (12, 3), (40, 1)])
def test_what_is_read_is_what_the_equations_say(rule: str, pairs: int, segment: int) -> None:
    keys, values, queries = drawn(2, pairs, 5), drawn(2, pairs, 3), drawn(2, 4, 5)
    found = capacity.reading(capacity.store(rule, keys, values, segment=segment), queries)

    def sigma(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    total, normaliser = torch.zeros(2, 5, 3, dtype=torch.float64), torch.zeros(2, 5, dtype=torch.float64)
    for first in range(0, pairs, segment):
        k, v = sigma(keys[:, first : first + segment]), values[:, first : first + segment]
        known = (k @ total) / (k @ normaliser[..., None]) if first and rule == "delta" else 0
        total, normaliser = total + k.mT @ (v - known), normaliser + k.sum(1)
    expected = (sigma(queries) @ total) / (sigma(queries) @ normaliser[..., None])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_of_keys_that_do_not_answer_to_each_other_delta_loses_what_the_memory_said_before() -> None:
    # sigma of these keys is 9 in a channel of their own and e^-30 elsewhere.
    keys = torch.full((1, 3, 3), -30.0, dtype=torch.float64)
    keys[0].fill_diagonal_(8.0)
    values = drawn(1, 3, 3)
    linear, delta = (capacity.reading(capacity.store(rule, keys, values), keys)[0] for rule in capacity.RULES)
    torch.testing.assert_close(linear, values[0], rtol=0, atol=1e-9)
    # A reading is a mean of what is stored even where no key is alike: the second finds the first value, and the third
    # the mean of the first and of what is left of the second.
    first, second, third = values[0]
    expected = torch.stack([first, second - first, third - second / 2])
    torch.testing.assert_close(delta, expected, rtol=0, atol=1e-9)


def test_one_pair_is_always_kept_and_shares_are_shares() -> None:
    found = capacity.capacity(STUDY)
    assert found.dims == ("rule", "width", "pairs", "seed")
    assert found.coords["rule"] == ("linear", "delta")
    assert found.coords["pairs"][0] == 1
    assert (found.at(pairs=1).values == 1).all()
    assert found.values.min() >= 0
    assert found.values.max() <= 1
    # Each count holds whole pairs.
    for count in found.coords["pairs"]:
        right = found.at(pairs=count).values * int(count)
        assert np.allclose(right, right.round())
    assert found.seeds == tuple(range(STUDY.draws))


def test_the_same_pair_again_and_again_is_read_whole_by_linear_and_as_its_half_by_delta() -> None:
    found = capacity.repeats(STUDY)
    assert found.coords["times"] == (1, 2, 3, 10, 100, 1000)
    assert found.at(rule="linear").values == pytest.approx(1.0, abs=1e-9)
    assert found.at(rule="delta").values.tolist() == pytest.approx([1.0, 0.5, 0.5, 0.5, 0.5, 0.5], abs=1e-9)


def test_of_a_changed_value_linear_reads_the_mean_and_delta_the_new_one() -> None:
    found = capacity.update(STUDY)
    assert found.at(rule="linear", towards="mean").values == pytest.approx(1.0, abs=1e-9)
    assert found.at(rule="delta", towards="new").values == pytest.approx(1.0, abs=1e-9)
    crossed = found.at(rule="linear", towards="new").values
    assert crossed == pytest.approx(found.at(rule="linear", towards="old").values)
    assert crossed < 0.99


def test_sums_in_half_precision_fail_where_arithmetic_says_and_ours_do_not() -> None:
    # A segment adds 1.16 x 2048 to each entry: the largest number of float16 is passed in the 28th.
    counts = range(1, 32)
    errors = capacity._sum_errors(2048, 2, counts)
    float16, ours = errors[capacity.FORMATS.index("float16")], errors[capacity.FORMATS.index("ours")]
    assert np.flatnonzero(np.isinf(float16))[0] + 1 in (27, 28, 29)
    assert ours.max() < 1e-5
    bfloat16 = capacity._sum_errors(8, 4, (10, 1000))[capacity.FORMATS.index("bfloat16")]
    assert bfloat16[0] < 0.1
    assert bfloat16[1] > 0.5


def test_sums_that_a_short_study_does_not_reach_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {28, 110, 200, 10_000} <= set(capacity.COUNTS)
    assert {512, 2048} <= set(capacity.LENGTHS)
    monkeypatch.setattr(capacity, "COUNTS", (1, 20, 1000, 10_000))
    found = capacity.running_sums(STUDY.replaced("longest", 1024))
    assert found.dims == ("format", "length", "segments")
    assert np.isnan(found.at(length=2048).values).all()
    known = found.at(length=64, format="ours").values
    assert (known[:3] < 1e-5).all()
    assert np.isnan(known[3])


def test_untrained_keys_are_told_apart_as_their_distribution_says() -> None:
    x = np.linspace(-12, 12, 200_001)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    sigma = np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
    weights = density * (x[1] - x[0])
    expected = (sigma**2 * weights).sum() / (sigma * weights).sum() ** 2
    found = capacity.kernel_ratio(STUDY)
    assert found.dims == ("width", "seed")
    assert found.at(width=128).values == pytest.approx(expected, rel=0.02)
