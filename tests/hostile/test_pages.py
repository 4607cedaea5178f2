"""A report on a model whose words and name are programs: opened in a browser, it shows them and runs none."""

from pathlib import Path
from typing import Any

import pytest

from tests.hostile.doors import knock, ready
from tests.hostile.folders import WORDS, gpt2

pytestmark = pytest.mark.slow
PROGRAMS = (
    "<script>document.title='owned'</script>",
    "</script><script>document.title='owned'</script>",
    "<img/src=x/onerror=\"document.title='owned'\">",
    "<svg/onload=\"document.title='owned'\">",
    "]]><script>document.title='owned'</script>",
    "\"onmouseover=\"document.title='owned'",
    "{{7*7}}${7*7}",
    "javascript:document.title='owned'",
    "=cmd|'/C",
    "\u202e\x1b[31mred",
)


def test_a_report_shows_programs_and_runs_none(tmp_path: Path, chromium: Any) -> None:
    ready()
    words = (WORDS[0], *PROGRAMS, *WORDS[1 + len(PROGRAMS) :])
    folder = gpt2(tmp_path / "<img src=x onerror=document.title='owned'>", words)
    found = knock("examine", folder, "--text", " ".join(PROGRAMS), "--out", tmp_path / "out", seconds=60)
    assert (found.trouble, found.code) == ("", 0), found
    [report] = (tmp_path / "out").rglob("report.html")
    page = chromium.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.goto(report.as_uri())
    page.mouse.move(200, 200)
    page.wait_for_timeout(300)
    assert "<img src=x" in page.title()
    assert "owned'</script>" in page.inner_text("body")
    assert asked == [report.as_uri()], "nothing else was asked for, from this machine or another"
    assert page.locator("main img, main iframe, main object, main embed, main form").count() == 0
    for picture in (tmp_path / "out").rglob("*.svg"):
        page.goto(picture.as_uri())
        page.wait_for_timeout(50)
        assert page.evaluate("document.title") != "owned"
        assert page.evaluate("document.querySelectorAll('script, foreignObject, [onload], [onerror]').length") == 0
    page.close()
