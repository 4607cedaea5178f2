"""The figures and tables of the Infini study: what is drawn of the numbers, and what is left out."""

import numpy as np
import pytest

from glassworks.evidence.claims import Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.infini import drawings, tables
from glassworks.experiments.infini.drawings_shared import STYLES
from glassworks.experiments.infini.names import length_name, model_name
from glassworks.experiments.infini.story import PARTS
from glassworks.figures import Figure
from tests.experiments.infini.infini_numbers import (
    BITS,
    LENGTHS,
    POSITIONS,
    drawn,
    everything,
    facts,
    gate_paths,
    keys,
    live,
    measurement,
    positions,
    sizes,
    sums,
)


def figures(*found: Measurement) -> dict[str, Figure]:
    return {figure.name: figure for figure in drawings.draw(alone(*found))}


def alone(*found: Measurement) -> Evidence:
    return Evidence({one.name: one for one in found}, Scale.LAPTOP)


def column(figure: Figure, name: str, **where: object) -> list[object]:
    table = figure.table
    kept = [i for i in range(len(table[name])) if all(table[key][i] == value for key, value in where.items())]
    return [table[name][i] for i in kept]


def test_every_figure_stands_in_one_section_and_every_section_has_figures():
    named = [name for part in PARTS for name in part.figures]
    assert sorted(named) == sorted(figures(*everything(*drawn()).measurements.values()))
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("name", sorted({*everything().measurements, *(one.name for one in drawn())}))
def test_each_measurement_is_drawn_or_told_on_its_own(name):
    found = everything(*drawn())[name]
    for figure in drawings.draw(alone(found)):
        assert figure.title.zh != figure.title.en
    for build in (tables.sizes, tables.language, tables.gates, tables.keys):
        for table in build(alone(found)):
            assert all(len(row) == len(table.columns) for row in table.rows)


def test_sizes_are_drawn_kept_and_in_progress_and_nothing_stays_blank():
    bars = figures(sizes())["memory-sizes"]
    assert column(bars, "mean", label="Infini-Transformer") == [1_585_152.0, 50_331_648.0]
    assert np.isnan(column(bars, "mean", label="full cache, 1M tokens", group="segment in progress")[0])


def test_a_model_that_fails_beyond_its_training_length_does_not_flatten_the_others():
    found = positions({"full": 2.1})
    found.values[list(BITS).index("full"), :, np.array(POSITIONS) > 1024] = 40.0
    axes = drawings.drawings_language._places(found, drawings.drawings_language._series(found, list(BITS), "position"))
    assert axes.y_range is not None
    assert axes.y_range[1] < 5
    assert drawings.drawings_language._places(
        positions(), drawings.drawings_language._series(positions(), list(BITS), "position")
    ).y_range is None  # fmt: skip


def test_leads_are_told_in_the_direction_of_the_claims():
    leads = figures(positions())["language-leads"]
    assert column(leads, "mean", label="local attention")[0] == pytest.approx(0.2, abs=1e-5)
    assert column(leads, "mean", label="full attention")[0] == pytest.approx(-0.1, abs=1e-5)
    assert "Infini, linear" not in leads.table["label"]


def test_shares_of_gates_add_up_to_one():
    shares = figures(gate_paths())["gate-histogram"]
    for setting in ("rate and decay of all weights", "own rate, no decay", "own rate, with decay"):
        assert sum(column(shares, "mean", group=setting)) == pytest.approx(1.0)
    assert column(shares, "mean", group="own rate, no decay", label="below 0.1") == [pytest.approx(2 / 12)]


def test_gate_maps_show_each_seed_with_layers_and_heads_from_one():
    maps = figures(gate_paths())["gate-maps"]
    assert len(set(maps.table["panel"])) == 9
    assert set(maps.table["row"]) == {"1", "2", "3"}
    assert "Layer 0" not in maps.caption.en
    first = column(maps, "weight of the memory", panel="own rate, no decay, seed 0", row="1", column="3")
    assert first == [pytest.approx(0.97)]


def test_key_maps_leave_out_lengths_that_were_not_read():
    found = keys()
    found.values[[2, 3], :, 4:] = np.nan
    maps = figures(found)
    assert list(dict.fromkeys(maps["passkey-map"].table["column"])) == [length_name(n) for n in LENGTHS]
    assert list(dict.fromkeys(maps["passkey-map-off"].table["column"])) == ["1K", "4K", "8K", "16K"]
    assert column(maps["passkey-map"], "digits right (%)", row="linear, middle", column="1M") == [pytest.approx(99.0)]


def test_sums_that_overflow_end_their_curve():
    errors = figures(sums())["running-sums"]
    drawn_at = column(errors, "segments", panel="segments of 2048", series="float16")
    assert max(drawn_at) == 27
    assert max(column(errors, "segments", panel="segments of 2048", series="bfloat16")) == 10_000


def test_bands_of_shares_stay_between_nothing_and_all():
    found = facts(0.1, 0.2, 0.5, [0.9, 1.0, 0.6])
    shown = figures(found)["facts"].table
    assert max(shown["high"]) <= 1.0
    assert min(shown["low"]) >= 0.0


def test_no_two_models_of_one_figure_share_a_style():
    for models in (drawings.drawings_language.PUBLISHED, drawings.drawings_language.OTHERS):
        assert len({STYLES[model] for model in models}) == len(models)
    compared = drawings.drawings_passkey._COMPARED
    assert len({STYLES[model] for model in compared}) == len(compared)


def test_tables_show_the_factor_the_losses_and_the_depths():
    evidence = everything(*drawn())
    rows = {row[0].en: row for row in tables.sizes(evidence)[0].rows}
    assert rows["Memorizing Transformers"][1:] == ("183,451,648", "50,331,648", "115.7", "183M")
    book = {row[0].en: row for row in tables.language(evidence)[0].rows}
    assert str(book["Infini, linear"][1]).startswith("2.2 ")
    assert str(book["Infini, linear"][2]).startswith("4.59 ")
    digits = {row[0].en: row for row in tables.keys(evidence)[0].rows}
    assert digits["delta"][-1] == "99 / 100 / 98"
    assert digits["texts of a seed"][1] == "16"


def test_tables_of_missing_numbers_show_dashes():
    found = keys()
    found.values[0, 0, 2] = np.nan
    found.values[0, :, 3] = np.nan
    digits = {row[0].en: row for row in tables.keys(everything(found))[0].rows}
    assert digits["linear"][3:5] == ("- / 99 / 100", "-")
    assert all(row[1] == row[2] for row in tables.sizes(everything(live()))[1].rows)


def test_gates_that_were_never_logged_are_left_out():
    found = gate_paths()
    found.values[2] = np.nan
    assert len(set(figures(found)["gate-maps"].table["panel"])) == 6
    assert [row[0].en for row in tables.gates(everything(found))[0].rows] == [
        "rate and decay of all weights",
        "own rate, no decay",
    ]


def test_names():
    assert [length_name(n) for n in (512, 1000, 1024, 131_072, 1_048_576)] == ["512", "1000", "1K", "128K", "1M"]
    assert model_name("something new").en == "something new"
    nothing = measurement("memory_growth", np.full((1, 2), np.nan), model=("infini",), tokens=(128, 256))
    assert [figure.table["series"] for figure in drawings.draw(alone(nothing))] == [[]]
