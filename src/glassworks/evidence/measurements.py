"""Measurement: a labelled array with unit, seeds and caveats; the only carrier of numbers between rooms."""

from __future__ import annotations

import hashlib
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from glassworks.core.errors import BrokenFile, InvalidInput, UnknownName
from glassworks.core.files import read_json, write_atomically, write_bytes, write_json
from glassworks.core.text import Text, say
from glassworks.evidence.statistics import Interval, interval_over_seeds

if TYPE_CHECKING:
    import pandas as pd

Label = int | float | str


# Rows of a table that are made together; longer ones are written part by part.
MOST_AT_ONCE = 200_000


@dataclass(frozen=True, eq=False)
class Measurement:
    """Numbers with names: `values` has one axis per entry of `dims`, labelled by `coords`.

    A dimension called `seed` holds repetitions. NaN marks a value that was not measured.
    """

    name: str
    says: Text
    values: NDArray[np.float64]
    dims: tuple[str, ...]
    coords: Mapping[str, tuple[Label, ...]]
    unit: str
    caveats: tuple[Text, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.asarray(self.values, dtype=np.float64))
        # numpy's labels would not pass through JSON.
        plain = {
            dim: tuple(v.item() if isinstance(v, np.generic) else v for v in self.coords[dim]) for dim in self.dims
        }
        object.__setattr__(self, "coords", plain)
        expected = tuple(len(self.coords[dim]) for dim in self.dims)
        assert self.values.shape == expected, f"{self.name}: shape {self.values.shape}, labels {expected}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the repetitions; empty when the number involves no chance or one unnamed draw."""
        return tuple(int(s) for s in self.coords["seed"]) if "seed" in self.dims else ()

    def at(self, **labels: Label) -> Measurement:
        """The part at the given labels, those dimensions removed; an unknown label raises UnknownName."""
        values, dims = self.values, list(self.dims)
        for dim, label in labels.items():
            if dim not in dims:
                raise UnknownName(f"dimension of {self.name}", dim, self.dims)
            known = self.coords[dim]
            if label not in known:
                raise UnknownName(f"{dim} of {self.name}", str(label), [str(k) for k in known])
            values = np.asarray(np.take(values, known.index(label), axis=dims.index(dim)))
            dims.remove(dim)
        coords = {dim: self.coords[dim] for dim in dims}
        return Measurement(self.name, self.says, values, tuple(dims), coords, self.unit, self.caveats, self.columns)

    def along(self, dim: str) -> NDArray[np.float64]:
        """The numeric labels of a dimension, e.g. the steps of a curve."""
        return np.asarray(self.coords[dim], dtype=np.float64)

    def interval(self, **labels: Label) -> Interval:
        """Mean and 95 % interval over seeds of what remains at the labels: one value per seed."""
        part = self.at(**labels)
        assert part.dims in ((), ("seed",)), f"{self.name} at {labels} still has {part.dims}"
        return interval_over_seeds(np.atleast_1d(part.values))

    def table(self) -> dict[str, list[Any]]:
        """Long form: one column per dimension, then metric, value and unit."""
        grid = np.meshgrid(*[np.arange(len(self.coords[d])) for d in self.dims], indexing="ij")
        columns: dict[str, list[Any]] = {
            dim: [self.coords[dim][i] for i in axis.ravel()] for dim, axis in zip(self.dims, grid, strict=True)
        }
        size = self.values.size
        return columns | {
            "metric": [self.name] * size,
            "value": self.values.ravel().tolist(),
            "unit": [self.unit] * size,
        }

    def to_pandas(self) -> pd.DataFrame:
        """The long table as a pandas frame."""
        import pandas as pd

        return pd.DataFrame(self.table())

    def save(self, path: str | Path) -> Path:
        """Writes the long table as .csv or .parquet, with the meaning of its columns in a .json beside it."""
        path = Path(path)
        save_table([self], path)
        return path

    def _repr_html_(self) -> str:
        frame = self.to_pandas()
        caveats = "".join(f"<li>{html.escape(str(c))}</li>" for c in self.caveats)
        name, says, unit = (html.escape(str(part)) for part in (self.name, self.says, self.unit))
        head = f"<p><b>{name}</b>: {says} [{unit}]</p>"
        return head + (f"<ul>{caveats}</ul>" if caveats else "") + str(frame.head(20).to_html(index=False))

    def __repr__(self) -> str:
        shape = " x ".join(f"{dim} {len(self.coords[dim])}" for dim in self.dims) or "one number"
        return f"Measurement({self.name!r}, {shape}, unit {self.unit!r})"


def save_table(measurements: Iterable[Measurement], path: Path) -> None:
    """One tidy table of measurements as .csv or .parquet; column meanings in `<path>.columns.json`."""
    import pandas as pd

    measurements = list(measurements)
    if path.suffix == ".parquet" and len(measurements) == 1 and measurements[0].values.size > MOST_AT_ONCE:
        write_atomically(path, lambda temporary: _write_in_parts(measurements[0], temporary))
        _write_meanings(measurements, path)
        return
    frame = pd.concat([m.to_pandas() for m in measurements], ignore_index=True) if measurements else pd.DataFrame()
    for name in frame.columns.drop("value", errors="ignore"):
        frame[name] = _whole(frame[name])
    if path.suffix == ".csv":
        write_bytes(path, frame.to_csv(index=False).encode())
    elif path.suffix == ".parquet":
        # One column may hold labels of two types (0, 1, "all"): Parquet wants one.
        for name in frame.columns:
            if frame[name].dtype == object and len({type(v) for v in frame[name].dropna()}) > 1:
                frame[name] = frame[name].map(lambda v: None if pd.isna(v) else str(v))
        write_atomically(path, lambda temporary: frame.to_parquet(temporary, index=False))
    else:
        raise InvalidInput(
            say("a table cannot be written as {suffix}", suffix=path.suffix or "-"),
            right=say(".csv or .parquet"),
        )
    _write_meanings(measurements, path)


def _write_meanings(measurements: Sequence[Measurement], path: Path) -> None:
    meanings = {
        "metric": "name of the measurement",
        "value": "the number, in `unit`",
        "unit": "unit of `value`",
    }
    for m in measurements:
        meanings |= dict(m.columns)
    write_json(path.with_name(path.name + ".columns.json"), meanings)


def _write_in_parts(measurement: Measurement, path: Path) -> None:
    """A long table as Parquet, some rows at a time: a frame of it all would take hundreds of bytes for each row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = {dim: pa.array(_alike(measurement.coords[dim])) for dim in measurement.dims}
    fields = [(dim, found.type) for dim, found in labels.items()]
    schema = pa.schema([*fields, ("metric", pa.string()), ("value", pa.float64()), ("unit", pa.string())])
    values = measurement.values.ravel()
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, values.size, MOST_AT_ONCE):
            part = values[start : start + MOST_AT_ONCE]
            places = np.unravel_index(np.arange(start, start + len(part)), measurement.values.shape)
            columns = [labels[dim].take(pa.array(place)) for dim, place in zip(measurement.dims, places, strict=True)]
            constant = [pa.array([word]).take(pa.array(np.zeros(len(part), np.int64))) for word in (measurement.name, measurement.unit)]  # fmt: skip
            writer.write_table(pa.table([*columns, constant[0], pa.array(part), constant[1]], schema=schema))


def _alike(labels: Sequence[Label]) -> list[Label]:
    """Labels of one type: Parquet wants one, and some columns hold numbers beside a word."""
    return list(labels) if len({type(label) for label in labels}) == 1 else [str(label) for label in labels]


def _whole(column: Any) -> Any:
    """Seeds and steps as 0, 1: pandas writes 0.0, 1.0 where a measurement without the dimension left gaps."""
    known = column.dropna().to_numpy()
    has_gaps = known.size < len(column)
    is_whole = known.dtype.kind == "f" and bool((known == known.round()).all())
    return column.astype("Int64") if has_gaps and is_whole else column


def save_measurements(folder: Path, measurements: Sequence[Measurement]) -> None:
    """Writes measurements.npz and measurements.json; the second names the digest of the first."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{m.name: m.values for m in measurements})
    data = buffer.getvalue()
    write_bytes(folder / "measurements.npz", data)
    write_json(
        folder / "measurements.json",
        {
            "arrays_sha256": hashlib.sha256(data).hexdigest(),
            "measurements": [_header_of(m) for m in measurements],
        },
    )


def load_measurements(folder: Path) -> dict[str, Measurement]:
    """Reads what `save_measurements` wrote, by name; a damaged or mixed pair raises BrokenFile."""
    found = cast(dict[str, Any], read_json(folder / "measurements.json"))
    path = folder / "measurements.npz"
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != found["arrays_sha256"]:
            raise ValueError("its digest is not the one in measurements.json")
        arrays = np.load(io.BytesIO(data), allow_pickle=False)
        return {h["name"]: _from_header(h, arrays[h["name"]]) for h in found["measurements"]}
    except (ValueError, KeyError, OSError, TypeError, AttributeError, AssertionError) as problem:
        raise BrokenFile(
            say("{path} is damaged: {reason}", path=str(path), reason=str(problem)),
            right=say("measure again from the stored models"),
            next_command=f"glassworks reproduce {folder.parent.name} --resume {folder}",
        ) from None


def _header_of(m: Measurement) -> dict[str, Any]:
    return {
        "name": m.name,
        "says": m.says.to_json(),
        "dims": list(m.dims),
        "coords": {dim: list(m.coords[dim]) for dim in m.dims},
        "unit": m.unit,
        "caveats": [c.to_json() for c in m.caveats],
        "columns": dict(m.columns),
    }


def _from_header(header: dict[str, Any], values: NDArray[np.float64]) -> Measurement:
    return Measurement(
        name=header["name"],
        says=Text.from_json(header["says"]),
        values=values,
        dims=tuple(header["dims"]),
        coords={dim: tuple(labels) for dim, labels in header["coords"].items()},
        unit=header["unit"],
        caveats=tuple(Text.from_json(c) for c in header["caveats"]),
        columns=header.get("columns", {}),
    )
