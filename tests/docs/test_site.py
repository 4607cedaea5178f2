"""The built site: every link and picture has its target, nothing comes from elsewhere, search finds Chinese, phones can read it."""

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import ROOT

pytestmark = pytest.mark.slow
# What a page loads by itself; a link that a reader follows may lead elsewhere.
LOADED = {
    "script": "src",
    "img": "src",
    "link": "href",
    "source": "src",
    "iframe": "src",
    "video": "src",
    "object": "data",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` builds it; a warning is an error there."""
    folder = tmp_path_factory.mktemp("site") / "built"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@dataclass
class Read(HTMLParser):
    """What a page links to, loads, and can be jumped to."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag, attrs):
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag in LOADED and found.get(LOADED[tag]) and found.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(found[LOADED[tag]])
        elif tag == "a" and found.get("href"):
            self.links.append(found["href"])


@functools.cache
def read(path: Path) -> Read:
    page = Read()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def pages(site: Path) -> list[Path]:
    # The page of a missing address is served from anywhere, so its links begin at the root.
    found = [path for path in site.rglob("*.html") if path.name != "404.html"]
    assert len(found) > 120
    return found


def test_every_link_has_its_target_and_its_section(site):
    broken = list[str]()
    for path in pages(site):
        page = read(path)
        for target in page.links + page.loaded:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not there.is_file():
                broken.append(f"{path.relative_to(site)}: {target}")
            elif (
                parts.fragment
                and there.suffix == ".html"
                and unquote(parts.fragment) not in read(there).anchors | {"__"}
            ):
                broken.append(f"{path.relative_to(site)}: no section {target}")
    assert broken == []


def test_no_page_loads_anything_from_elsewhere(site):
    strangers = {target for path in pages(site) for target in read(path).loaded if re.match(r"(https?:)?//", target)}
    assert strangers == set()
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_the_site_holds_what_the_repository_offers(site):
    for name in ("index", "zh", "tutorials", "how-to", "changelog", "notebook", "glossary", "licence"):
        assert (site / f"{name}.html").is_file(), name
    assert len(list((site / "reference" / "commands").glob("*.html"))) > 18
    assert len(list((site / "examples").glob("[0-9]*.html"))) == len(
        list((ROOT / "docs" / "examples").glob("[0-9]*.py"))
    )
    assert not [path for path in site.rglob("*.py")]
    events = (site / "reference" / "events.html").read_text(encoding="utf-8")
    assert 'id="step_done"' in events


def test_a_notebook_is_shown_with_what_it_printed_and_can_be_taken_along(site):
    page = (site / "notebooks" / "01_look_inside_a_model.html").read_text(encoding="utf-8")
    assert page.count('class="output') >= 8
    assert page.count("<svg") >= 5
    assert "all fidelity checks hold: True" in page
    notebook = json.loads((site / "notebooks" / "01_look_inside_a_model.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4


def test_programs_find_every_page_in_llms_txt(site):
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert text.startswith("# Glassworks\n\n> ")
    listed = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", text, re.MULTILINE)
    built = {path.relative_to(site).as_posix() for path in pages(site)}
    assert set(listed) == built
    assert len(listed) == len(set(listed))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        """Says nothing."""


@pytest.fixture
def browser(site, chromium):
    """A page of a browser on the served site."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        context = chromium.new_context(
            base_url=f"http://127.0.0.1:{server.server_port}", viewport={"width": 390, "height": 800}
        )
        yield context.new_page()
        context.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_in_a_browser_nothing_is_fetched_from_elsewhere_no_phone_scrolls_sideways_and_search_knows_chinese(browser):
    asked, told = list[str](), list[str]()
    browser.on("request", lambda request: asked.append(request.url))
    browser.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    for place in (
        "index",
        "reference/presets",
        "notebook",
        "notebooks/01_look_inside_a_model",
        "reference/commands/train",
    ):
        browser.goto(f"/{place}.html")
        assert browser.evaluate("document.documentElement.scrollWidth") <= 390, place
    for words, wanted in (("归纳头", "glossary.html"), ("induction head", "03_an_induction_head_by_hand.html")):
        browser.goto("/index.html")
        browser.locator("label[for=__search]").first.click()
        browser.locator(".md-search__input").fill(words)
        browser.locator(f".md-search-result__link[href*='{wanted}']").first.wait_for(state="attached", timeout=60_000)
    assert [url for url in asked if not url.startswith(("http://127.0.0.1", "data:", "blob:"))] == []
    assert told == []
