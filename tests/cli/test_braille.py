from hypothesis import given
from hypothesis import strategies as st

from glassworks.cli.braille import braille_curve

BLANK = chr(0x2800)


def dots(line: str) -> int:
    return sum((ord(sign) - 0x2800).bit_count() for sign in line)


def test_a_flat_curve_at_the_top_fills_the_first_line_only():
    top, bottom = braille_curve([(0.0, 1.0), (10.0, 1.0)], 10.0, 5, 2)
    assert dots(top) == 10
    assert bottom == BLANK * 5


def test_a_curve_reaches_only_as_far_as_its_points():
    (line,) = braille_curve([(0.0, 0.0), (5.0, 0.0)], 10.0, 10, 1)
    assert line[:4] == chr(0x28C0) * 4
    assert line[6:] == BLANK * 4


def test_a_jump_leaves_no_gap():
    lines = braille_curve([(0.0, 0.0), (1.0, 1.0), (100.0, 1.0)], 100.0, 10, 3)
    assert all(ord(line[0]) != 0x2800 for line in lines)


def test_values_beyond_the_frame_are_clipped_and_missing_ones_left_out():
    nan = float("nan")
    assert braille_curve([(0.0, nan)], 10.0, 4, 1) == [BLANK * 4]
    assert braille_curve([], 10.0, 4, 1) == [BLANK * 4]
    assert braille_curve([(0.0, 7.0), (10.0, nan), (10.0, 7.0)], 10.0, 4, 1) == braille_curve(
        [(0.0, 1.0), (10.0, 1.0)], 10.0, 4, 1
    )


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(allow_infinity=False)), max_size=30),
    st.integers(1, 40),
    st.integers(1, 5),
)
def test_the_frame_never_changes_its_size(points, width, height):
    lines = braille_curve(sorted(points, key=lambda point: point[0]), 100.0, width, height)
    assert [len(line) for line in lines] == [width] * height
