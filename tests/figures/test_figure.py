import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.figures import DARK, LIGHT, Figure
from glassworks.figures.palette import SENTINEL, style_sheet
from glassworks.figures.words import printable, shortened, token_label
from tests.figures.charts import HOSTILE, KINDS, figure

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawn() -> dict[str, Figure]:
    return {kind: figure(kind) for kind in KINDS}


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@pytest.mark.parametrize("kind", KINDS)
def test_strings_of_the_data_are_text_and_never_markup(drawn: dict[str, Figure], kind: str) -> None:
    tree = parsed(drawn[kind].svg("auto", "both"))
    assert {element.tag.removeprefix(SVG) for element in tree.iter()} <= {
        "svg", "title", "desc", "g",
        "path", "use", "text", "tspan", "defs", "clipPath", "rect", "image", "pattern",
    }  # fmt: skip
    words = " ".join("".join(node.itertext()) for node in tree.iter(f"{SVG}text"))
    assert "\x1b" not in words
    assert any(part in words for part in ("<script>", "</tex"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_reference_inside_finds_its_id_and_ids_are_the_figures_own(drawn: dict[str, Figure], kind: str) -> None:
    svg = drawn[kind].svg()
    tags = "".join(re.findall(r"<[^>]*>", svg))
    ids = re.findall(r'\bid="([^"]+)"', tags)
    assert len(ids) == len(set(ids)) > 5
    assert all(i.startswith(f"{kind}-") for i in ids)
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', tags)
    assert {a or b for a, b in used} <= set(ids)
    assert set(re.findall(r'aria-labelledby="([^"]+)"', tags)[0].split()) <= set(ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("theme", ["auto", "light", "dark"])
def test_every_stand_in_colour_is_replaced(drawn: dict[str, Figure], kind: str, theme: str) -> None:
    svg = drawn[kind].svg(theme)  # type: ignore[arg-type]
    tags = "".join(re.findall(r"<[^>]*>", svg))
    assert not [colour for colour in SENTINEL.named().values() if colour in tags]
    assert ("var(--figure-ink, #1b1f24)" in tags) == (theme == "auto")
    assert (DARK.ink in tags) == (theme == "dark")


@pytest.mark.parametrize("kind", KINDS)
def test_both_languages_stand_in_one_picture(drawn: dict[str, Figure], kind: str) -> None:
    one = drawn[kind]
    translated = [label for label in one.labels if label.en != label.zh]
    both, chinese = one.svg("auto", "both"), one.svg("auto", "zh")
    for label in translated:
        assert f'<tspan class="lang-zh" lang="zh">{label.zh}</tspan>' in both
        assert f">{label.zh}</text>" in chinese
        assert f">{label.en}</text>" not in chinese
    if kind in ("curves", "attention", "lens"):
        assert translated


@pytest.mark.slow
def test_equal_figures_are_equal_files() -> None:
    assert figure("curves").svg() == figure("curves").svg()
    assert figure("attention").png() == figure("attention").png()
    assert not re.search(r"20\d\d-\d\d-\d\d", figure("curves").svg())


def test_the_same_chart_twice_on_a_page_shares_no_id() -> None:
    first, second = (
        set(re.findall(r'id="([^"]+)"', "".join(re.findall(r"<[^>]*>", figure("bars", name).svg()))))
        for name in ("one", "two")
    )
    assert first
    assert not first & second


@pytest.mark.parametrize("ending", [".svg", ".png", ".pdf", ".html"])
@pytest.mark.slow
def test_a_figure_is_saved_by_the_ending_of_its_path(tmp_path: Path, ending: str) -> None:
    path = figure("heatmap").save(tmp_path / "deep" / f"figure{ending}", "dark")
    starts = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".html": b"<!doctype html>"}
    assert path.read_bytes().startswith(starts[ending])


def test_another_ending_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"\.bmp"):
        figure("curves").save(tmp_path / "figure.bmp")
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_the_figure_with_its_words_escaped() -> None:
    shown = figure("curves")._repr_html_()
    assert "<svg" in shown
    assert "A &lt;b&gt;title&lt;/b&gt;" in shown
    assert "<b>title</b>" not in shown


def test_drawing_leaves_the_callers_style_alone_and_ignores_it() -> None:
    code = """
import sys, matplotlib
matplotlib.rcParams.update({"font.size": 31, "axes.facecolor": "pink", "svg.hashsalt": "mine"})
before = {key: matplotlib.rcParams[key] for key in matplotlib.rcParams if key != "backend"}
from tests.figures.charts import figure
svg = figure("curves").svg()
assert {key: matplotlib.rcParams[key] for key in before} == before
assert "31px" not in svg and "ffc0cb" not in svg
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_importing_the_room_loads_neither_matplotlib_nor_pandas() -> None:
    heavy = {"matplotlib", "pandas", "torch"}
    code = f"import sys, glassworks.figures, glassworks.report; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_that_is_used_for_words_has_aa_contrast(palette: object) -> None:
    assert isinstance(palette, type(LIGHT))
    for role, colour in palette.named().items():
        if role in ("grid", "background"):
            continue
        low, high = sorted((_luminance(colour), _luminance(palette.background)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{role} {colour}"


def test_the_style_sheet_names_every_variable_in_both_themes() -> None:
    sheet = style_sheet()
    for role in LIGHT.named():
        assert f"--figure-{role}:{LIGHT.named()[role]}" in sheet
        assert f"--figure-{role}:{DARK.named()[role]}" in sheet


def test_tokens_stay_visible_and_short() -> None:
    assert token_label(" the") == "␣the"
    assert token_label("  ") == "␣␣"
    assert token_label("\n") == "↵"
    assert token_label("a b") == "a b"
    assert token_label("") == ""
    long = token_label("extraordinarily", 8)
    assert (len(long), long[0], long[-1]) == (8, "e", "y")
    assert "…" in long
    assert printable("\x1b[0m\ud800") == "␛[0m�"
    assert all(len(shortened("abcdefgh", n)) == n for n in range(1, 9))
    assert [printable(word) for word in HOSTILE][5] == "中文"


def test_a_label_with_values_is_translated_as_drawn() -> None:
    label = say("one of {known}", known="<a>")
    from glassworks.figures import Axes, curves
    from tests.figures.charts import heading, series

    both = curves(heading("n"), [series()], Axes(label, "y")).svg("auto", "both")
    assert "one of &lt;a&gt;</tspan>" in both
    assert label.zh.replace("<", "&lt;").replace(">", "&gt;") in both
