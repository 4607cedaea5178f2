"""The life report: every claim is told once, every figure and table stands, nothing is drawn of what was not run."""

import numpy as np
import pytest

from glassworks.evidence.claims import Evidence, Scale
from glassworks.experiments.life import drawings, names, story
from glassworks.experiments.life.claims import CLAIMS
from tests.experiments.life.life_numbers import everything, stage_bits

ALL = everything()


def test_every_claim_is_told_in_one_section():
    told = [claim for part in story.PARTS for claim in part.claims]
    assert sorted(told) == sorted(claim.key for claim in CLAIMS)
    assert set(story.HEADLINES) <= set(told)


def test_figures_of_all_sections_are_drawn_and_no_other():
    drawn = {figure.name for figure in drawings.draw(ALL)}
    assert {name for part in story.PARTS for name in part.figures} <= drawn
    assert drawn - {name for part in story.PARTS for name in part.figures} == {"life-heads-first-token"}


def test_sections_hold_what_was_measured():
    figures = {figure.name: figure for figure in drawings.draw(ALL)}
    sections = story.sections(ALL, figures)
    assert [section.key for section in sections] == [part.key for part in story.PARTS]
    table = next(table for section in sections for table in section.tables if table.key == "life-samples")
    assert [row[2] for row in table.rows] == ["I am pretrained.", "I am sft."]
    few = Evidence({"stage_bits": stage_bits()}, Scale.LAPTOP)
    only = story.sections(few, {figure.name: figure for figure in drawings.draw(few)})
    assert [section.key for section in only] == ["tuning-study"]


@pytest.mark.slow
@pytest.mark.parametrize("figure", drawings.draw(ALL), ids=lambda figure: figure.name)
def test_figures_paint(figure):
    assert "<svg" in figure.svg("light")


def test_a_sample_comes_back_from_its_label():
    label = names.sample_label("sft", f"a{names.MARK}b", "c\nd")
    assert names.read_sample(label) == ("sft", "a b", "c\nd")


def test_a_stage_without_numbers_is_left_out():
    found = stage_bits()
    values = found.values.copy()
    values[2] = np.nan
    left = type(found)(found.name, found.says, values, found.dims, found.coords, found.unit)
    assert "dpo" not in drawings.known_stages(left)
