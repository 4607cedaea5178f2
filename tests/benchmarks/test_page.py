import json
import math

import pytest
from benchmarks.measure import Ratio, ratio_of, row
from benchmarks.reasons import UNKNOWN, reason_of
from benchmarks.results import Results

from benchmarks import page, results


def measured(what="a step", against="another project 1.0", ours=(1.0, 1.0, 2.0), theirs=(2.0, 3.0, 2.0), **more):
    return ratio_of(what, against, (">= 1x", 1.0), (list(ours), list(theirs)), {}, **more)


def test_the_page_in_the_repository_is_what_the_results_make_of_it():
    assert page.PAGE.read_text(encoding="utf-8") == page.page_of(results.read())


def test_the_figure_in_the_repository_shows_the_rows_of_the_results():
    found = results.read()
    drawn = page.PICTURES["light"].read_text(encoding="utf-8")
    shown = page.figure_of(found.rows).table["label"]
    assert len(shown) == sum(
        page.group_of(one) in ("peer", "library", "recipe") and one.ratio is not None for one in found.rows
    )
    assert drawn.count("<svg") == 1
    assert all(path.is_file() for path in page.PICTURES.values())


def test_whatever_is_behind_has_its_reason_on_the_page():
    behind = [one for one in results.read().rows if page.needs_reason(one)]
    assert [one.what for one in behind if reason_of(one) == UNKNOWN] == []


def test_a_ratio_is_that_of_medians_and_its_spread_that_of_neighbouring_runs():
    found = measured()
    assert found.ratio == 2.0
    assert found.spread == (1.0, 3.0)


def test_two_sides_that_compute_different_things_have_no_ratio():
    found = measured(difference=2e-3, tolerance=1e-3)
    assert (found.ratio, found.met) == (None, None)
    assert "differ by 2.0e-03" in found.reason


def test_a_difference_that_is_no_number_is_not_equality():
    assert measured(difference=math.nan, tolerance=1e-3).ratio is None


def test_equal_results_within_the_tolerance_keep_their_ratio():
    assert measured(difference=1e-4, tolerance=1e-3).ratio == 2.0


def test_a_row_that_is_measured_again_takes_the_place_of_the_earlier_one_and_others_keep_theirs():
    about = {"processor": "a processor", "gemm_gflops": {"float32": 1}}
    first = Results().added([measured(), measured("another")], about, {})
    again = first.added([measured(ours=(4.0,), theirs=(4.0,))], about | {"processor": "a newer one"}, {})
    assert [(one.what, one.ratio) for one in again.rows] == [("a step", 1.0), ("another", 2.0)]
    assert again.rows[0].machine != again.rows[1].machine
    assert set(again.machines) == {one.machine for one in again.rows}


def test_results_are_the_same_after_writing_and_reading(tmp_path):
    about = {"processor": "a processor", "gemm_gflops": {"float32": 1}}
    found = Results().added([measured(difference=1e-7, tolerance=1e-3, environment="nnsight")], about, {})
    results.write(found, tmp_path / "results.json")
    assert results.read(tmp_path / "results.json") == found
    assert json.loads((tmp_path / "results.json").read_text())["rows"][0]["ratio"] == 2.0


def test_a_row_without_a_ratio_says_why_on_the_page():
    about = {"processor": "a processor", "gemm_gflops": {"float32": 1}}
    absent = Ratio(
        "a step",
        "a peer 1.0",
        ">= 1x",
        [],
        [],
        None,
        None,
        {},
        environment="nnsight",
        reason="not installed: no network",
    )
    text = page.page_of(Results().added([absent], about, {}))
    assert "| a step | a peer 1.0 | – | >= 1x | not installed: no network |" in text


def test_neither_side_is_ahead_where_the_spread_says_so_and_a_row_far_behind_needs_a_reason_of_its_own():
    near = row("x", "a peer", ("reported", 0.0), ([1.0, 1.0, 1.1], [0.9, 1.05, 0.95]), {})
    far = row("x", "a peer", ("reported", 0.0), ([2.0, 2.0], [1.0, 1.0]), {})
    assert reason_of(near) == "The spread of the runs includes 1: neither side is ahead."
    assert reason_of(far) == UNKNOWN


@pytest.mark.parametrize(
    ("against", "group"),
    [("what is asked for", "own"), ("transformers generate()", "library"), ("eager float32", "recipe")],
)
def test_every_other_side_has_its_part_of_the_page(against, group):
    assert page.group_of(row("x", against, ("", 0), ([1.0], [1.0]), {})) == group
