"""Hands MkDocs what the site has beside the written pages: reference, examples, notebooks, pages from elsewhere, llms.txt.

MkDocs imports this file with `docs` on the path. Nothing here is fetched; heavy imports happen inside the generators.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

from website import catalogue, commands, llms, notebooks, outside, search, specs, style, tables

# Pages that a command writes, and that may not be there yet.
WRITTEN_LATER = ("benchmarks.md",)
_told: dict[str, llms.Told] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Words of the package are English on the site, whatever the builder's language."""
    os.environ["GLASSWORKS_LANG"] = "en"
    _told.clear()
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the generated pages and the style, then fills in the navigation."""
    made = {**outside.pages(), **outside.example_pages(), **notebooks.pages(), **commands.pages(), **specs.pages(), **catalogue.pages()}  # fmt: skip
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    for place, data in style.files().items():
        files.append(File.generated(config, place, content=data))
    assert config.nav is not None
    known = sorted(file.src_uri for file in files.documentation_pages())
    config.nav = _filled(config.nav, known, set(_named(config.nav)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links to where the site has their targets, and tables into what the site's Markdown reads."""
    return tables.readable(outside.followed(markdown, page.file.src_uri))


def on_nav(nav: Navigation, config: MkDocsConfig, files: Files) -> Navigation:
    """Remembers the order and the sections of the pages for llms.txt."""
    for page in nav.pages:
        top = page.ancestors[-1].title if page.ancestors else "Pages"
        _told[page.file.src_uri] = llms.Told(page.file.dest_uri, "", str(top), "")
    return nav


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keeps a page's title and words for llms.txt; a table that is too wide scrolls by itself."""
    told = _told.get(page.file.src_uri)
    if told is not None:
        _told[page.file.src_uri] = llms.Told(told.place, str(page.title), told.section, page.markdown or "")
    return html


@event_priority(-100)
def on_post_build(config: MkDocsConfig) -> None:
    """Writes llms.txt, and makes the search index readable in Chinese (after the search plugin wrote it)."""
    site = Path(config.site_dir)
    (site / "llms.txt").write_text(llms.llms(list(_told.values())), encoding="utf-8")
    search.space_index(site / "search" / "search_index.json")


def _named(nav: Any) -> list[str]:
    """The pages that the navigation names one by one."""
    if isinstance(nav, str):
        return [nav]
    inside = nav.values() if isinstance(nav, dict) else nav
    return [name for part in inside for name in _named(part)]


def _filled(nav: Any, known: list[str], named: set[str]) -> Any:
    """The navigation with every `folder/*` replaced by the pages of that folder that are named nowhere else."""
    if isinstance(nav, dict):
        return {title: _filled(part, known, named) for title, part in nav.items()}
    if not isinstance(nav, list):
        return nav
    found = list[Any]()
    for part in nav:
        if part in WRITTEN_LATER and part not in known:
            continue
        if isinstance(part, str) and part.endswith("/*"):
            inside = [name for name in known if name.rpartition("/")[0] == part[:-2] and name not in named]
            found += sorted(inside, key=lambda name: (not name.endswith(("/index.md", "/README.md")), name))
        else:
            found.append(_filled(part, known, named))
    return found
