"""What was read from one model or two: shows itself in a notebook, saves itself as a page, tables or a folder."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.files import write_bytes, write_json
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement, save_table
from glassworks.figures import Figure
from glassworks.instruments.base import Reading
from glassworks.report.page import Page
from glassworks.report.render import render

if TYPE_CHECKING:
    import pandas as pd

# Above this many rows a table is kept as Parquet only: the text form would be larger than the model.
MOST_CSV_ROWS = 300_000


class Findings(ABC):
    """Readings by name, what was skipped and why, and the report of it all; `KIND` names its file of plain data."""

    KIND: ClassVar[str]
    readings: Mapping[str, Reading]
    skipped: Mapping[str, GlassworksError]
    environment: Mapping[str, Any]

    @abstractmethod
    def page(self) -> Page:
        """The report as a value."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain data for `--json`, without NaN."""

    def to_pandas(self) -> "pd.DataFrame":
        """All measurements as one long table."""
        import pandas as pd

        return pd.concat([reading.to_pandas() for reading in self.readings.values()], ignore_index=True)

    def plot(self, name: str) -> Figure:
        """The figure of a reading, by the names of `readings`."""
        return self.readings[name].figure

    def html(self) -> str:
        """The report as one self-contained page."""
        return render(self.page())

    def save(self, path: str | Path, *, png: bool = False) -> Path:
        """Writes .html (the page), .csv or .parquet (all tables as one), or a folder with everything.

        The figures of a folder are SVG; `png` adds PNG, which doubles the time.
        """
        path = Path(path)
        match path.suffix.lower():
            case ".html":
                write_bytes(path, self.html().encode())
            case ".csv" | ".parquet":
                save_table([reading.measurement for reading in self.readings.values()], path)
            case "":
                self._fill(path, (".svg", ".png") if png else (".svg",))
            case other:
                raise InvalidInput(
                    say("findings cannot be written as {suffix}", suffix=other),
                    right=say(".html, .csv, .parquet, or a folder"),
                )
        return path

    def _fill(self, folder: Path, pictures: tuple[str, ...]) -> None:
        for name, reading in self.readings.items():
            for suffix in table_suffixes(reading.measurement):
                save_table([reading.measurement], folder / "tables" / f"{name}{suffix}")
            for suffix in pictures:
                reading.figure.save(folder / "figures" / f"{name}{suffix}")
        write_json(folder / f"{self.KIND}.json", self.to_json() | {"environment": dict(self.environment)})
        write_bytes(folder / "report.html", self.html().encode())


def table_suffixes(measurement: Measurement) -> tuple[str, ...]:
    """The kinds of file a table is written as; a very long one is kept as Parquet only."""
    return (".csv", ".parquet") if measurement.values.size <= MOST_CSV_ROWS else (".parquet",)
