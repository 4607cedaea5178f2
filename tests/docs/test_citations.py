"""Comments that cite a page of a paper by section ("mesa.md 4") cite a section that is there."""

import re

from tests.docs.pages import ROOT

CITED = re.compile(r"\b([a-z-]+\.md) (\d+(?:\.\d+)*)")
PAPERS = {page.name: page for page in (ROOT / "docs" / "papers").glob("*.md")}


def sections(name: str) -> set[str]:
    headings = re.findall(r"^#{2,4} (\d+(?:\.\d+)*)\.? ", PAPERS[name].read_text(encoding="utf-8"), re.MULTILINE)
    return set(headings)


def test_every_cited_section_of_a_paper_exists():
    known = {name: sections(name) for name in PAPERS}
    missing = {
        f"{path.relative_to(ROOT)}: {page} {section}"
        for folder in ("src", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        for page, section in CITED.findall(path.read_text(encoding="utf-8"))
        if page in known and section not in known[page]
    }
    assert not missing
