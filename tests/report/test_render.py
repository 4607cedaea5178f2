import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Outcome, Scale, Verdict
from glassworks.evidence.statistics import Interval
from glassworks.figures import ColourScale, Heading, Matrix, heatmap
from glassworks.report import Check, FileLink, Page, Row, Section, SummaryLine, Table, fragment, render
from glassworks.report.render import table_data, value_words
from tests.figures.charts import KINDS, figure
from tests.report.demo import demo_page

VOID = {"meta", "link", "input", "br", "img", "hr"}
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m{{ 7 * 7 }}\"' &amp; \u202e"


class Outline(HTMLParser):
    """Tags with their attributes, and whether every opened tag is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.found if attribute in attributes]


@pytest.fixture(scope="module")
def page() -> str:
    return render(demo_page())


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def hostile_page() -> Page:
    text, label = say("one of {known}", known=HOSTILE), HOSTILE
    picture = heatmap(
        Heading(HOSTILE, text, text),
        Matrix(np.ones((1, 1)), (label,), (text,), label, text),
        ColourScale(label),
    )
    verdict = Verdict(HOSTILE, text, text, Outcome.HOLDS, Interval(1.0, 0.0, 2.0, 3), HOSTILE, text, (0,), Scale.SMOKE)
    table = Table("t", text, (label, text), ((label, 1.0),), text)
    return Page(
        title=text, lead=text, summary=(SummaryLine(text, HOSTILE),), passport=(Row(text, label),),
        fidelity=(Check(text, label, True),), verdicts=(verdict,),
        sections=(Section("s", text, (text,), (picture,), (table,)),),
        limits=(text,), cost=(Row(text, label),), files=(FileLink(HOSTILE, text),), command=HOSTILE,
    )  # fmt: skip


def test_hostile_strings_stay_text_everywhere() -> None:
    page = render(hostile_page())
    outline = Outline(page)
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "49" not in "".join(outline.words)
    assert "{{ 7 * 7 }}" in "".join(outline.words)
    assert not [name for _, attributes in outline.found for name in attributes if name.startswith("on")]
    assert not [tag for tag, _ in outline.found if tag in ("img", "iframe", "object", "link")]
    scripts = [attributes for tag, attributes in outline.found if tag == "script"]
    # Two tables of data and the one script of the page.
    assert [a.get("type") for a in scripts] == ["application/json", "application/json", None]


def test_a_file_link_cannot_leave_its_meaning() -> None:
    page = dataclasses.replace(
        demo_page(), files=(FileLink("javascript:alert(1)", Text("x")), FileLink("a b.csv", Text("y")))
    )
    links = [a["href"] for tag, a in Outline(render(page)).found if tag == "a" and not a["href"].startswith("#")]
    assert links == ["javascript%3Aalert%281%29", "a%20b.csv"]


def test_nothing_is_fetched(page: str, outline: Outline) -> None:
    assert not [value for value in outline.values("src")]
    outside = [href for href in outline.values("href") if re.match(r"[a-z]+:", href)]
    assert outside == []
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    policy = next(a["content"] for _, a in outline.found if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert "script-src 'sha256-" in policy


def test_the_policy_lets_exactly_our_script_run(page: str) -> None:
    import base64
    import hashlib

    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in page


def test_every_id_is_unique_and_every_link_arrives(outline: Outline) -> None:
    ids = outline.values("id")
    assert len(ids) == len(set(ids)) > 50
    anchors = {href[1:] for href in outline.values("href") if href.startswith("#")}
    labels = {name for value in outline.values("aria-labelledby") for name in value.split()}
    assert anchors | labels | set(outline.values("for")) <= set(ids)


def test_the_parts_stand_in_the_promised_order(outline: Outline) -> None:
    sections = [a["id"] for tag, a in outline.found if tag == "section"]
    assert sections == [
        "summary", "passport", "fidelity", "verdicts", "training", "attention", "lens-grid",
        "limits", "cost", "data",
    ]  # fmt: skip


def test_every_figure_has_a_text_alternative_and_its_data(outline: Outline, page: str) -> None:
    pictures = [a for tag, a in outline.found if tag == "svg" and a.get("role") == "img"]
    assert len(pictures) == 5
    assert all(a.get("aria-labelledby") for a in pictures)
    for name, data in re.findall(r'<script type="application/json" data-table="([^"]+)">(.*?)</script>', page):
        columns = json.loads(data)
        assert len({len(column) for column in columns.values()}) == 1, name


def test_both_languages_are_inside_and_the_chosen_one_is_shown(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert '<span class="lang-en" lang="en">Verdicts</span><span class="lang-zh" lang="zh">判定</span>' in page
    assert '<html lang="en">' in page
    assert 'id="language-en" value="en" checked' in page
    monkeypatch.setenv("GLASSWORKS_LANG", "zh")
    chinese = render(demo_page())
    assert '<html lang="zh-Hans">' in chinese
    assert 'id="language-zh" value="zh" checked' in chinese


def test_a_failed_fidelity_check_is_said_before_anything_else(page: str) -> None:
    assert "read nothing below as a fact" in page
    good = dataclasses.replace(demo_page(), fidelity=(Check(Text("same"), "0", True),))
    assert "read nothing below as a fact" not in render(good)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_verdict_has_its_word_beside_its_colour(page: str, outcome: Outcome) -> None:
    word = outcome.value.replace("_", " ")
    badge = f'<td><span class="badge {outcome.value}"><span class="lang-en" lang="en">{word}<'
    assert page.count(badge) == 1


def test_a_value_has_interval_and_unit_or_is_a_dash() -> None:
    def shown(value: Interval) -> str:
        text = Text("x")
        return value_words(Verdict("k", text, text, Outcome.HOLDS, value, "nats", text, (), Scale.PAPER))

    nan = float("nan")
    assert shown(Interval(-1.5, -2.0, -1.0, 3)) == "−1.5 [−2, −1] nats"
    assert shown(Interval(1.5, nan, nan, 1)) == "1.5 nats"
    assert shown(Interval(nan, nan, nan, 0)) == "–"


def test_table_cells_are_rounded_for_the_eye_and_whole_in_the_data() -> None:
    table = Table("t", Text("x"), ("a", "b"), ((0.123456789, None), (-1e-9, "words"), (float("nan"), True)))
    page = render(Page(Text("p"), sections=(Section("s", Text("s"), tables=(table,)),)))
    assert '<td class="number">0.1235</td>' in page
    assert '<td class="number">−1e−09</td>' in page
    assert table_data(table) == {"a": [0.123456789, -1e-9, None], "b": [None, "words", True]}


def test_an_anchor_used_twice_or_leading_nowhere_is_our_own_mistake() -> None:
    section = Section("s", Text("s"))
    with pytest.raises(AssertionError, match="twice"):
        render(Page(Text("p"), sections=(section, section)))
    with pytest.raises(AssertionError, match="nowhere"):
        render(Page(Text("p"), summary=(SummaryLine(Text("x"), "nowhere"),), sections=(section,)))


def test_an_empty_page_renders() -> None:
    page = render(Page(Text("nothing was measured")))
    Outline(page)
    assert "<h1" in page
    assert "nothing was measured" in page
    assert "<figure" not in page


def test_equal_pages_are_equal_files_and_small(page: str) -> None:
    assert render(demo_page()) == page
    assert len(page.encode()) < 400_000


@pytest.mark.slow
def test_every_chart_can_stand_on_one_page() -> None:
    figures = tuple(figure(kind) for kind in KINDS)
    outline = Outline(render(Page(Text("p"), sections=(Section("all", Text("all"), figures=figures),))))
    ids = outline.values("id")
    assert len(ids) == len(set(ids))


def test_the_page_works_without_its_script(page: str, tmp_path: Path) -> None:
    silent = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    outline = Outline(silent)
    buttons = [a for tag, a in outline.found if tag == "p" and a.get("class") == "tools"]
    assert buttons
    assert all("hidden" in a for a in buttons)
    assert ":root:has(#language-zh:checked) .lang-en" in silent
    assert ":root:has(#theme-dark:checked)" in silent


def test_a_large_figure_is_one_click_away_and_can_be_pointed_to() -> None:
    shown, folded = figure("bars"), figure("wall")
    table = Table("long", say("missing"), ("a", "b"), ((1, 2),) * 40, flows=True)
    section = Section("part", say("missing"), (), (shown,), (table,), (folded,))
    page = render(Page(say("missing"), summary=(SummaryLine(say("missing"), folded.name),), sections=(section,)))
    outline = Outline(page)
    opened = page.index('<details class="folded">')
    assert (
        page.index(f'id="{shown.name}"') < opened < page.index(f'id="{folded.name}"') < page.index("</details>", opened)
    )
    assert "wide flows" in outline.values("class")


def test_a_fragment_says_the_page_in_one_language_and_without_its_frame(page: str) -> None:
    for language in ("en", "zh"):
        part = fragment(demo_page(), language)
        outline = Outline(part)
        assert not {"html", "head", "body", "style", "nav"} & {tag for tag, _ in outline.found}
        assert not any("lang-" in names for names in outline.values("class"))
        own = {name for name in outline.values("id") if name in re.findall(r'id="([^"]+)"', page)}
        assert {slug for slug in outline.values("id")} == own
        for text in (demo_page().sections[0].title, demo_page().fidelity[0].name):
            assert text.in_language(language) in " ".join(outline.words)


def test_hostile_strings_stay_text_in_a_fragment() -> None:
    for language in ("en", "zh"):
        part = Outline(fragment(hostile_page(), language))
        assert {tag for tag, _ in part.found} & {"img"} == set()
        scripts = [attributes for tag, attributes in part.found if tag == "script"]
        assert all(attributes.get("type") == "application/json" for attributes in scripts)


def test_the_rules_of_the_parts_touch_nothing_outside_a_report() -> None:
    rules = (Path("src/glassworks/report/templates/parts.css")).read_text(encoding="utf-8")
    bare = re.sub(r"/\*.*?\*/|@media[^{]*\{", "", rules, flags=re.DOTALL)
    selectors = [one.strip() for found in re.findall(r"([^{}]+)\{", bare) for one in found.split(",")]
    assert len(selectors) > 50
    assert [one for one in selectors if not one.startswith(".report ")] == []
