import numpy as np
import pytest

from glassworks.core.errors import InvalidSpec
from glassworks.core.spec import ImpossibleValue
from glassworks.evidence.claims import Evidence, Scale
from glassworks.experiments.scaling.claims import CLAIMS
from glassworks.experiments.scaling.spec import Scaling
from glassworks.experiments.scaling.story import ANCHORS, HEADLINES
from tests.experiments.scaling.scaling_numbers import STUDY, compression, families, losses, published

EVIDENCE = Evidence(families(losses()) | published() | compression(), Scale.LAPTOP)
FIGURES = ("isoflop", "loss-by-size", "loss-by-data", "best-split", "exponents", "gopher-chinchilla", "compressors")


def test_every_figure_is_drawn_in_both_themes_from_its_measurements():
    figures = STUDY.draw(EVIDENCE)
    assert tuple(figure.name for figure in figures) == FIGURES
    drawn = figures[0]
    assert "<svg" in drawn.svg("light")
    assert {"1.2e11 operations", "3.24e12 operations"} <= set(drawn.table["series"])


def test_figures_whose_measurements_are_missing_are_left_out():
    assert STUDY.draw(Evidence({}, Scale.LAPTOP)) == []
    assert [figure.name for figure in STUDY.draw(Evidence(published(), Scale.LAPTOP))] == ["gopher-chinchilla"]


def test_no_caption_calls_draws_of_a_bootstrap_seeds():
    by_name = {figure.name: figure for figure in STUDY.draw(EVIDENCE)}
    assert "seed" not in by_name["exponents"].caption.en
    assert "seed" not in by_name["best-split"].caption.en
    assert "3 seeds" in by_name["isoflop"].caption.en


def test_every_claim_stands_in_a_section_and_every_section_has_figures_and_tables():
    assert set(ANCHORS) == {claim.key for claim in CLAIMS}
    assert set(HEADLINES) <= set(ANCHORS)
    sections = STUDY.sections(EVIDENCE, {figure.name: figure for figure in STUDY.draw(EVIDENCE)})
    assert [section.key for section in sections] == ["families-study", "published-study", "compression-study"]
    assert all(section.figures and section.tables for section in sections)
    tables = {table.key: table for section in sections for table in section.tables}
    assert len(tables["scaling-grid-table"].rows) == 20
    assert tables["scaling-law-table"].rows[0][-1] == "0.5 [0.46, 0.551]"
    assert all(len(row) == len(table.columns) for table in tables.values() for row in table.rows)


def test_the_summary_says_how_many_claims_hold():
    lines = [str(line.says) for line in STUDY.summary(EVIDENCE)]
    assert any(line.startswith("Of 10 claims, 10 hold") for line in lines)


def test_tables_bear_what_was_not_measured():
    values = losses()
    values[1, 2] = np.nan
    found = families(losses()) | {"scaling_loss": families(values)["scaling_loss"]}
    sections = STUDY.sections(Evidence(found, Scale.LAPTOP), {})
    assert sections[0].tables


@pytest.mark.parametrize(
    "changes",
    [{"repeats": [3, 3, 3]}, {"repeats": [4, 3, 3, 1]}, {"sizes_each": 6}, {"budgets": [1e11, 1e11, 1e12, 1e13]}],
)
def test_grids_that_do_not_fit_are_refused(changes):
    with pytest.raises((InvalidSpec, ImpossibleValue)):
        STUDY.replaced_all(changes)


def test_every_scale_plans_and_smaller_effort_is_a_smaller_scale():
    for scale in Scale:
        assert Scaling.at(scale).reached_scale() is scale
    assert Scaling().replaced("held_out", 64).reached_scale() is Scale.SMOKE
