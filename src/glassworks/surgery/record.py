"""A finished sweep as it lies in its folder: rows, cost, report; shows and saves itself, and needs no torch."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.events import read_events
from glassworks.core.files import write_bytes
from glassworks.core.runs import RunFolder
from glassworks.core.text import Text, say
from glassworks.figures import Figure
from glassworks.report import Page, render
from glassworks.surgery.choice import SWEEP, SweepSpec

if TYPE_CHECKING:
    import pandas as pd

    from glassworks.surgery.pages import Standing

ROWS = "tables/rows.parquet"


@dataclass(frozen=True)
class BenchmarkFacts:
    """What is told of a benchmark: where its questions come from and what a reader must know."""

    name: str
    metric: str
    chance: float
    documents: int
    data: str
    tokens: int
    batches: int
    notes: tuple[Text, ...]

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> BenchmarkFacts:
        """Reads what a sweep wrote."""
        notes = tuple(Text.from_json(note) for note in found["notes"])
        return cls(**{name: value for name, value in found.items() if name != "notes"}, notes=notes)


@dataclass(frozen=True, eq=False)
class SweepRecord:
    """A finished sweep; in a notebook it shows its figures, `.plot(name)` one of them, `.rows` the tidy table."""

    run: RunFolder

    @classmethod
    def open(cls, path: Path) -> SweepRecord:
        """The sweep of a run folder; raises NotFound, or InvalidInput where it is no sweep or not finished."""
        run = RunFolder.open(path)
        if run.experiment != SWEEP:
            raise InvalidInput(
                say("the run in {path} is one of {experiment}", path=str(path), experiment=run.experiment)
            )
        if not run.has(ROWS):
            raise InvalidInput(
                say("{path} holds no finished sweep", path=str(path)),
                right=say("the same `glassworks sweep` command again"),
                next_command=command_of(run) or None,
            )
        return cls(run)

    @cached_property
    def spec(self) -> SweepSpec:
        """Model and choice."""
        return SweepSpec.parse(self.run.header()["spec"])

    @cached_property
    def rows(self) -> pd.DataFrame:
        """One row for each variant, benchmark and metric."""
        import pandas as pd

        return pd.read_parquet(self.run.path / ROWS)

    @cached_property
    def benchmarks(self) -> tuple[BenchmarkFacts, ...]:
        """What was scored."""
        found: list[dict[str, Any]] = self.run.read_json("benchmarks.json")
        return tuple(BenchmarkFacts.from_json(one) for one in found)

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """Versions, platform, device, command."""
        return self.run.read_json("environment.json")

    @cached_property
    def cost(self) -> Mapping[str, int]:
        """`plans`; layer runs over each batch: `asked` plan by plan, `done` with shared beginnings."""
        return self.run.read_json("cost.json")

    @cached_property
    def seconds(self) -> float:
        """Seconds of work over all starts, finished or not."""
        total = last = 0.0
        for event in read_events(self.run.path / "events.jsonl"):
            match event.kind:
                case "run_started":
                    total, last = total + last, 0.0
                case "progressed" | "run_done":
                    last = max(last, event.seconds)
                case _:
                    pass
        return total + last

    @property
    def report(self) -> Path:
        """The report, one HTML file that opens from disk."""
        return self.run.report

    @property
    def command(self) -> str:
        """The command that made it, and makes it again."""
        return command_of(self.run)

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """Every figure by name."""
        from glassworks.surgery.drawings import figures_of

        return {figure.name: figure for figure in figures_of(self.rows)}

    def plot(self, name: str | None = None) -> Figure:
        """The figure of a name, or the first; an unknown name raises UnknownName with the nearest."""
        if name is None:
            return next(iter(self.figures.values()))
        if name not in self.figures:
            raise UnknownName("figure", name, self.figures)
        return self.figures[name]

    def standings(self) -> list[Standing]:
        """The strategies on the middle layers, the least harmful first."""
        from glassworks.surgery.pages import compared, standings

        return standings(compared(self.rows))

    def to_pandas(self) -> pd.DataFrame:
        """The rows."""
        return self.rows

    def page(self) -> Page:
        """The report as a value."""
        # Deferred: `pages` needs the values of this module.
        from glassworks.surgery.pages import page_of

        return page_of(self)

    def save(self, path: str | Path) -> Path:
        """Writes .html (the report), .csv or .parquet (the rows)."""
        path = Path(path)
        match path.suffix.lower():
            case ".html":
                write_bytes(path, render(self.page()).encode())
            case ".csv":
                write_bytes(path, self.rows.to_csv(index=False).encode())
            case ".parquet":
                write_bytes(path, (self.run.path / ROWS).read_bytes())
            case other:
                raise InvalidInput(
                    say("a sweep cannot be written as {suffix}", suffix=other or "-"),
                    right=say(".html, .csv or .parquet"),
                )
        return path

    def write_report(self) -> None:
        """Draws the figures and writes the report into the run folder, then seals it."""
        with self.run.lock():
            for figure in self.figures.values():
                for theme in ("light", "dark"):
                    self.run.write_bytes(f"figures/{figure.name}.{theme}.svg", figure.svg(theme).encode())
                self.run.write_bytes(f"figures/{figure.name}.png", figure.png("light"))
            self.run.write_bytes("report.html", render(self.page()).encode())
            self.run.seal()

    def _repr_html_(self) -> str:
        head = f"<p><b>{html.escape(self.spec.model)}</b>: {html.escape(str(self.page().lead))}</p>"
        shown = list(self.figures.values())[:2]
        path = html.escape(str(self.report))
        return head + "".join(figure._repr_html_() for figure in shown) + f"<p><code>{path}</code></p>"  # pyright: ignore[reportPrivateUsage] - the notebook protocol

    def __str__(self) -> str:
        return f"sweep of {self.spec.model}: {self.spec.choice.plans} on {self.spec.choice.evals}, {self.report}"


def command_of(run: RunFolder) -> str:
    """The command that a run was begun with; empty where none was noted."""
    return str(run.read_json("environment.json").get("command", "")) if run.has("environment.json") else ""
