"""The report of the tree study: figures and sections as far as measured, every claim told once, both languages."""

from types import SimpleNamespace

import numpy as np
import pytest

from glassworks.evidence.claims import Evidence, Scale, judge
from glassworks.experiments.tree import drawings, story, tables
from glassworks.experiments.tree.claims import CLAIMS
from glassworks.experiments.tree.spec import FamilyTree
from glassworks.report.page import Page
from glassworks.report.render import render
from tests.experiments.tree.tree_numbers import everything, positions

STUDY = SimpleNamespace(
    depth=4, width=96, steps=400, batch=8, length=128, seeds=(0, 1, 2), translating_steps=300, translating_batch=48
)


def page_of(evidence: Evidence) -> Page:
    figures = {figure.name: figure for figure in drawings.draw(evidence)}
    return Page(
        title=story.PARTS[0].title,
        summary=tuple(story.summary(evidence)),
        verdicts=tuple(judge(CLAIMS, evidence)),
        sections=tuple(story.sections(evidence, figures)),
        limits=tuple(story.limits(STUDY)),
    )


def test_every_claim_is_told_in_one_section_and_every_figure_shown_in_one():
    told = [claim for part in story.PARTS for claim in part.claims]
    assert sorted(told) == sorted(claim.key for claim in CLAIMS)
    assert set(story.HEADLINES) <= set(told)
    drawn = [figure.name for figure in drawings.draw(everything())]
    assert sorted(drawn) == sorted(name for part in story.PARTS for name in part.figures)


def test_what_was_not_run_is_left_out():
    blocks = {n: m for n, m in everything().measurements.items() if n.startswith("blocks")}
    keys = [section.key for section in page_of(Evidence(blocks, Scale.LAPTOP)).sections]
    assert keys == ["blocks-study"]
    assert page_of(Evidence({}, Scale.LAPTOP)).sections == ()


@pytest.mark.slow
def test_the_report_speaks_both_languages():
    page = render(page_of(everything()))
    for sentence in ("Which choices of LLaMA matter here", "LLaMA 的哪些选择在这里要紧", "家族树的三个分支"):
        assert sentence in page
    assert "differ by at most 1.10 per cent" in page


def test_the_tables_show_what_was_found_and_a_dash_where_nothing_can_be():
    (blocks,) = tables.blocks(everything(positions({"relu": 2.123})))
    rows = {row[0].en: row for row in blocks.rows}
    assert str(rows["ReLU"][1]).startswith("2.12")
    assert rows["learned positions"][2].en == "none"
    branches, sizes = tables.branches(everything())
    assert branches.rows[0][3:] == (None, None, None)
    assert str(branches.rows[1][3]).startswith("2.5")
    assert len(sizes.rows) == 4


def test_leads_are_drawn_from_llamas_side():
    (figure,) = (f for f in drawings.draw(everything()) if f.name == "blocks-leads")
    leads = dict(zip(figure.table["label"], figure.table["mean"], strict=True))
    assert leads["ReLU"] == pytest.approx(0.06)
    assert leads["RMSNorm after"] == pytest.approx(0.0, abs=1e-9)
    assert "LLaMA's block" not in leads


@pytest.mark.parametrize("scale", list(Scale))
def test_the_settings_of_every_scale_are_possible_and_reach_it(scale):
    study = FamilyTree.at(scale)
    assert study.reached_scale() is scale
    assert FamilyTree.parse(study.to_json()) == study
    assert np.isfinite(study.rate)
