import csv
import json
from pathlib import Path

import numpy as np
import pytest

from glassworks.core.errors import BrokenFile, InvalidInput, UnknownName
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement, load_measurements, save_measurements, save_table


def recall() -> Measurement:
    values = np.arange(12, dtype=np.float64).reshape(2, 3, 2)
    coords = {"seed": (0, 1), "step": (0, 10, 20), "probe": ("W_K", "W_O")}
    return Measurement("recall", say("missing"), values, ("seed", "step", "probe"), coords, "fraction", (say("next"),))


def accuracy() -> Measurement:
    return Measurement("accuracy", say("next"), np.array([0.5, np.nan]), ("layer",), {"layer": (0, "all")}, "fraction")


def test_labels_cut_out_the_named_part() -> None:
    part = recall().at(probe="W_O", seed=1)
    assert part.dims == ("step",)
    assert part.values.tolist() == [7.0, 9.0, 11.0]
    assert part.along("step").tolist() == [0.0, 10.0, 20.0]
    assert recall().interval(step=10, probe="W_K").mean == pytest.approx((2 + 8) / 2)


def test_an_unknown_label_or_dimension_gets_the_nearest() -> None:
    with pytest.raises(UnknownName, match="W_K"):
        recall().at(probe="W_k")
    with pytest.raises(UnknownName, match="step"):
        recall().at(stp=3)


def test_the_long_table_has_one_row_per_number() -> None:
    table = recall().table()
    assert {len(column) for column in table.values()} == {12}
    row = {name: column[9] for name, column in table.items()}
    assert row == {
        "seed": 1,
        "step": 10,
        "probe": "W_O",
        "metric": "recall",
        "value": 9.0,
        "unit": "fraction",
    }


def test_one_number_without_dimensions_is_a_table_of_one_row() -> None:
    single = Measurement("n", say("missing"), np.array(3.0), (), {}, "bits")
    assert single.table() == {"metric": ["n"], "value": [3.0], "unit": ["bits"]}
    assert single.seeds == ()
    assert single.interval().mean == 3.0


def test_shapes_must_fit_their_labels() -> None:
    with pytest.raises(AssertionError, match="labels"):
        Measurement("n", say("missing"), np.zeros(3), ("seed",), {"seed": (0, 1)}, "bits")


def test_measurements_survive_the_disk(tmp_path: Path) -> None:
    steps = {"step": tuple(np.arange(2.0))}
    labelled = Measurement("n", say("missing"), np.zeros(2), ("step",), steps, "bits")
    save_measurements(tmp_path, [recall(), accuracy(), labelled])
    found = load_measurements(tmp_path)
    assert list(found) == ["recall", "accuracy", "n"]
    np.testing.assert_array_equal(found["recall"].values, recall().values)
    np.testing.assert_array_equal(found["accuracy"].values, accuracy().values)
    assert found["recall"].coords == recall().coords
    assert found["recall"].caveats[0].zh == say("next").zh
    assert found["accuracy"].coords["layer"] == (0, "all")
    assert [type(label) for label in labelled.coords["step"]] == [float, float]


def test_equal_measurements_are_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_measurements(tmp_path / name, [recall()])
    assert (tmp_path / "a" / "measurements.npz").read_bytes() == (tmp_path / "b" / "measurements.npz").read_bytes()


@pytest.mark.parametrize("harm", ["truncate", "mix", "relabel", "remove", "list"])
def test_a_damaged_pair_is_named(tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "study" / "run"
    save_measurements(folder, [recall()])
    arrays, header = folder / "measurements.npz", folder / "measurements.json"
    match harm:
        case "truncate":
            arrays.write_bytes(arrays.read_bytes()[:40])
        case "mix":
            save_measurements(tmp_path, [accuracy()])
            arrays.write_bytes((tmp_path / "measurements.npz").read_bytes())
        case "relabel":
            found = json.loads(header.read_text())
            found["measurements"][0]["coords"]["seed"] = [0]
            header.write_text(json.dumps(found))
        case "remove":
            arrays.unlink()
        case _:
            header.write_text("[]")
    with pytest.raises(BrokenFile, match=r"measurements\.npz"):
        load_measurements(folder)


def test_one_csv_holds_measurements_of_different_shape(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    save_table([recall(), accuracy()], path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 14
    # Seeds and steps stay whole numbers although the second measurement has none.
    assert (rows[3]["seed"], rows[3]["step"], rows[3]["value"]) == ("0", "10", "3.0")
    assert (rows[12]["seed"], rows[12]["layer"], rows[13]["layer"], rows[13]["value"]) == ("", "0", "all", "")
    meanings = json.loads((tmp_path / "table.csv.columns.json").read_text())
    assert meanings["unit"]


def test_parquet_takes_labels_of_two_types(tmp_path: Path) -> None:
    import pandas as pd

    path = tmp_path / "table.parquet"
    save_table([recall(), accuracy()], path)
    frame = pd.read_parquet(path)
    assert frame["layer"].dropna().tolist() == ["0", "all"]
    assert frame["value"].dropna().sum() == pytest.approx(66.5)


def test_a_table_is_refused_in_another_format(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"\.xls"):
        recall().save(tmp_path / "table.xls")
    save_table([], tmp_path / "empty.csv")


def test_a_measurement_shows_itself_without_running_what_it_holds() -> None:
    hostile = Measurement("<script>", say("missing"), np.zeros(1), ("x",), {"x": ("<img onerror=1>",)}, "<b>")
    shown = hostile._repr_html_()
    assert "<script>" not in shown
    assert "<img" not in shown
    assert "fraction" in repr(recall())
