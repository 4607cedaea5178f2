import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.figures import (
    Axes,
    ColourScale,
    Dot,
    LensGrid,
    Matrix,
    Reference,
    Series,
    Tile,
    attention_map,
    curves,
    dots,
    heatmap,
    lens_grid,
    series_of,
    wall,
)
from glassworks.figures.canvas import painting, power_label
from glassworks.figures.colours import ink_on, mappable
from glassworks.figures.curves import seed_note_of
from glassworks.figures.labels import spread
from glassworks.figures.palette import LIGHT
from tests.figures.charts import heading, series

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> dict[str, tuple[float, float]]:
    """Words of an upright text to their place in points."""
    found: dict[str, tuple[float, float]] = {}
    for node in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        if "x" in node.attrib:
            found["".join(node.itertext())] = (float(node.attrib["x"]), float(node.attrib["y"]))
    return found


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12))
def test_spread_labels_keep_order_distance_and_stay_near(wanted: list[float]) -> None:
    placed = spread(wanted, 8.0, 0.0, 100.0)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    gaps = [placed[b] - placed[a] for a, b in itertools.pairwise(order)]
    assert all(gap >= 8 - 1e-9 for gap in gaps)
    assert min(placed) >= -1e-9
    assert max(placed) <= 100 + 1e-9
    if all(wanted[b] - wanted[a] >= 8 for a, b in itertools.pairwise(order)):
        assert placed == pytest.approx(wanted)


def test_names_at_the_ends_of_equal_curves_do_not_cover_each_other() -> None:
    svg = curves(heading("c"), [series(f"curve {i}") for i in range(6)], Axes("x", "y")).svg()
    heights = sorted(y for words, (_, y) in texts(svg).items() if words.startswith("curve "))
    assert len(heights) == 6
    assert min(np.diff(heights)) >= 9


def test_no_label_leaves_the_picture() -> None:
    figure = curves(heading("c"), [series("a curve with quite a long name to read")], Axes("x", "y"))
    ((x, _),) = [place for words, place in texts(figure.svg()).items() if words.startswith("a curve")]
    # 39 characters of 8.5 points are about 180 points wide.
    assert x < 570 - 170


def test_a_series_carries_the_band_of_its_seeds() -> None:
    values = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    found = Measurement("n", say("missing"), values, ("seed", "step"), {"seed": (0, 1, 2), "step": (0, 10)}, "nats")
    one = series_of(found, "n")
    assert one.mean.tolist() == [2.0, 3.0]
    assert one.seeds == 3
    assert one.low is not None
    assert one.low[0] == pytest.approx(2 - 4.303 * 2 / np.sqrt(3))
    assert series_of(found.at(seed=1), "n").low is None


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ([3, 3], "Mean and 95 % interval over 3 seeds."),
        ([3, 5, 0], "Mean and 95 % interval over 3 to 5 seeds."),
        ([1], "One seed, so no interval is known."),
    ],
)
def test_the_caption_counts_the_seeds(counts: list[int], sentence: str) -> None:
    note = seed_note_of(counts)
    assert note is not None
    assert note.en == sentence
    caption = curves(heading("c"), [series(str(i), count) for i, count in enumerate(counts)], Axes("x", "y")).caption
    assert caption.en == f"A caption & more. {sentence}"


def test_numbers_without_chance_say_nothing_of_seeds() -> None:
    assert seed_note_of([0, 0]) is None


def test_a_curve_of_nothing_measured_still_draws() -> None:
    nothing = np.full(3, np.nan)
    figure = curves(heading("c"), [Series("gone", np.arange(3), nothing, nothing, nothing, 3)], Axes("x", "y"))
    assert "gone" not in texts(figure.svg())
    assert figure.table["mean" if "mean" in figure.table else "y"]


def test_the_table_holds_what_the_curve_shows() -> None:
    table = curves(heading("c"), [series("learned")], Axes(Text("step"), Text("recall"))).table
    assert list(table) == ["series", "step", "recall", "low", "high", "seeds"]
    assert table["recall"][2] == pytest.approx(0.4)
    assert {len(column) for column in table.values()} == {5}


def test_a_logarithmic_axis_has_plain_tick_labels() -> None:
    x = np.geomspace(1, 1e6, 7)
    svg = curves(heading("c"), [Series("n", x, x)], Axes("x", "y", x_scale="log", y_scale="log")).svg()
    words = texts(svg)
    assert "100" in words
    assert "10⁶" in words
    assert not [word for word in words if "$" in word or "\\" in word]


@pytest.mark.parametrize(
    ("value", "words"),
    [(1, "1"), (0.01, "0.01"), (10_000, "10 000"), (1e5, "10⁵"), (3e-7, "3·10⁻⁷"), (0, "0"), (-2, "−2")],
)
def test_powers_are_written_as_people_write_them(value: float, words: str) -> None:
    assert power_label(value) == words


def test_attention_has_queries_down_and_keys_across_and_a_blank_future() -> None:
    tokens = [f"t{i}" for i in range(4)]
    weights = np.arange(16.0).reshape(4, 4)
    figure = attention_map(heading("a"), weights, tokens)
    rows = list(zip(*figure.table.values(), strict=True))
    assert ("t3", "t1", 13.0) in rows
    assert len(rows) == 10
    assert ("t0", "t1", 1.0) not in rows
    places = texts(figure.svg())
    assert "query (attends from)" in figure.svg()
    assert "key (attends to)" in places


def test_attention_with_a_memory_shows_the_newest_queries() -> None:
    figure = attention_map(heading("a"), np.ones((2, 5)), [f"t{i}" for i in range(5)])
    rows = set(zip(figure.table["row"], figure.table["column"], strict=True))
    assert ("t4", "t4") in rows
    assert ("t3", "t4") not in rows
    assert {row for row, _ in rows} == {"t3", "t4"}


def test_layer_zero_is_at_the_bottom_of_a_lens_grid_and_said_so() -> None:
    layers = ("layer 0", "layer 1", "layer 2")
    words = tuple(tuple(f"w{i}{j}" for j in range(2)) for i in range(3))
    figure = lens_grid(
        heading("l"), LensGrid(("a", "b"), layers, words, np.arange(6.0).reshape(3, 2)), ColourScale("p")
    )
    places = texts(figure.svg())
    assert places["layer 0"][1] > places["layer 1"][1] > places["layer 2"][1]
    assert places["w01"][1] > places["w11"][1] > places["w21"][1]
    assert "Layer 0 is at the bottom." in figure.caption.en


def test_a_long_lens_grid_draws_the_newest_positions_and_keeps_all_in_its_table() -> None:
    tokens = tuple(f"t{i}" for i in range(40))
    figure = lens_grid(heading("l"), LensGrid(tokens, ("layer 0",), (tokens,), np.ones((1, 40))), ColourScale("p"))
    assert "t39" in texts(figure.svg())
    assert "t3" not in texts(figure.svg())
    assert len(figure.table["position"]) == 40
    assert "last 16 of 40" in figure.caption.en


def test_a_wall_puts_layer_zero_at_the_bottom() -> None:
    rows = [[Tile(f"L{i}H{j}", np.ones((3, 3))) for j in range(2)] for i in range(2)]
    places = texts(wall(heading("w"), rows, ColourScale("weight")).svg())
    assert places["L0H0"][1] > places["L1H0"][1]
    assert places["L0H1"][0] > places["L0H0"][0]


def test_a_wall_of_big_matrices_keeps_the_report_small() -> None:
    rows = [[Tile(f"L{i}H{j}", np.ones((128, 128)), "0.1") for j in range(4)] for i in range(2)]
    figure = wall(heading("w"), rows, ColourScale("weight"))
    assert figure.table["tile"] == ["L0H0", "L0H1", "L0H2", "L0H3", "L1H0", "L1H1", "L1H2", "L1H3"]
    assert len(figure.svg()) < 100_000


def test_a_diverging_scale_is_symmetric_and_a_flat_one_has_width() -> None:
    with painting():
        norm = mappable(ColourScale("s", "diverging"), np.array([-1.0, 3.0])).norm
        flat = mappable(ColourScale("s"), np.array([2.0, 2.0])).norm
        empty = mappable(ColourScale("s", "diverging"), np.array([np.nan])).norm
    assert (norm.vmin, norm.vmax) == (-3.0, 3.0)
    assert (flat.vmin, flat.vmax) == (2.0, 3.0)
    assert empty.vmin is not None
    assert empty.vmax is not None
    assert empty.vmin < empty.vmax


def test_words_on_a_cell_are_readable_on_every_shade() -> None:
    with painting():
        shades = mappable(ColourScale("s"), np.array([0.0, 1.0])).to_rgba(np.linspace(0, 1, 11))
    assert ink_on(shades[0], "") == "#ffffff"
    assert ink_on(shades[-1], "") == "#111418"
    assert ink_on((0, 0, 0, 0), LIGHT.ink) == LIGHT.ink


@pytest.mark.slow
def test_crowded_labels_step_over_and_never_overlap() -> None:
    names = tuple(f"token {i}" for i in range(128))
    svg = heatmap(heading("h"), Matrix(np.eye(128), names, names), ColourScale("s")).svg()
    across = sorted({float(x) for x in re.findall(r"translate\(([\d.]+) [\d.]+\) rotate\(-90\)\">token", svg)})
    assert len(across) > 10
    assert min(np.diff(across)) >= 8


def test_one_cell_and_one_row_draw() -> None:
    assert heatmap(heading("h"), Matrix(np.ones((1, 1)), ("a",), ("b",)), ColourScale("s"), numbers=True).svg()
    from glassworks.evidence.statistics import Interval

    one = Dot("a", Interval(1.0, float("nan"), float("nan"), 1))
    assert dots(heading("d"), [one], Axes("x", "", references=(Reference("chance", 0.5),))).svg()


def test_a_curve_counts_only_the_seeds_it_was_measured_with():
    values = np.array([[1.0, 2.0, 3.0], [np.nan] * 3, [np.nan] * 3])
    coords = {"seed": (0, 1, 2), "step": (0, 1, 2)}
    part = Measurement("loss", say("loss"), values, ("seed", "step"), coords, "nats")
    found = series_of(part, say("loss"))
    assert found.seeds == 1
    assert list(found.mean) == [1.0, 2.0, 3.0]
