"""Results: a finished run as a value that shows itself; from a run folder back to the model it trained."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.core.errors import InvalidInput, NotFound, UnknownName
from glassworks.core.files import write_bytes
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.evidence.claims import Evidence, Outcome, Verdict
from glassworks.evidence.measurements import Measurement, load_measurements, save_table
from glassworks.experiments.base import Experiment
from glassworks.figures import Figure

if TYPE_CHECKING:
    import pandas as pd

# Chosen to be told apart without colour vision; the word stands beside the colour anyway.
_COLOURS = {
    Outcome.HOLDS: "#0877bd",
    Outcome.HOLDS_IN_PART: "#5b9bd5",
    Outcome.FAILS: "#c05a00",
    Outcome.UNDECIDED: "#767676",
}


@dataclass(frozen=True, eq=False)
class Results:
    """What a reproduction found; in a notebook it shows its verdicts, `.plot(name)` its figures."""

    experiment: Experiment
    run: Path
    verdicts: tuple[Verdict, ...]
    measurements: Mapping[str, Measurement] = field(repr=False)
    seconds: float = float("nan")

    @classmethod
    def of(cls, experiment: Experiment, run: RunFolder, seconds: float = float("nan")) -> Results:
        """The results in a run folder; needs no torch."""
        if not run.has("verdicts.json"):
            raise InvalidInput(
                say("{path} holds no verdicts yet", path=str(run.path)),
                next_command=f"glassworks reproduce {experiment.kind} --resume {run.path}",
            )
        verdicts = tuple(Verdict.from_json(row) for row in run.read_json("verdicts.json"))
        return cls(experiment, run.path, verdicts, load_measurements(run.path), seconds)

    @property
    def report(self) -> Path:
        """The report, one HTML file that opens from disk."""
        return self.run / "report.html"

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """Every figure by name."""
        evidence = Evidence(self.measurements, self.experiment.reached_scale())
        return {figure.name: figure for figure in self.experiment.draw(evidence)}

    def plot(self, name: str | None = None) -> Figure:
        """The figure of a name, or the first; an unknown name raises UnknownName with the nearest."""
        if name is None:
            return next(iter(self.figures.values()))
        if name not in self.figures:
            raise UnknownName("figure", name, self.figures)
        return self.figures[name]

    def to_pandas(self) -> pd.DataFrame:
        """All measurements as one long table."""
        import pandas as pd

        return pd.concat([m.to_pandas() for m in self.measurements.values()], ignore_index=True)

    def save(self, path: str | Path) -> Path:
        """Writes .html (the report), .csv or .parquet (all measurements)."""
        path = Path(path)
        match path.suffix.lower():
            case ".html":
                write_bytes(path, self.report.read_bytes())
            case ".csv" | ".parquet":
                save_table(self.measurements.values(), path)
            case other:
                raise InvalidInput(
                    say("results cannot be written as {suffix}", suffix=other or "-"),
                    right=say(".html, .csv or .parquet"),
                )
        return path

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:left'>{html.escape(str(w))}</th>" for w in _COLUMNS)
        rows = "".join(_row(verdict) for verdict in self.verdicts)
        title = html.escape(self.experiment.paper.title)
        path = html.escape(str(self.report))
        return f"<p><b>{title}</b></p><table><tr>{head}</tr>{rows}</table><p><code>{path}</code></p>"

    def __str__(self) -> str:
        lines = [f"{v.outcome.value:<14} {v.claim}: {v.value} {v.unit}".rstrip() for v in self.verdicts]
        return "\n".join([*lines, str(self.report)])


_COLUMNS = (say("claim"), say("verdict"), say("value [95 % interval]"), say("because"))


def main_model(experiment: Experiment, run: RunFolder) -> Path:
    """The store folder of a run's main model: the first training of its first study that trains anything."""
    store = run.path.absolute().parents[2] / "store"
    for study in experiment.studies:
        for spec in experiment.trainings(study.name).values():
            folder = store / spec.digest()
            if (folder / "done.json").is_file():
                return folder
    raise NotFound(
        say("no trained model of this run is in {store}", store=str(store)),
        next_command=f"glassworks reproduce {experiment.kind} --resume {run.path}",
    )


def _row(verdict: Verdict) -> str:
    word = html.escape(verdict.outcome.value.replace("_", " ").lower())
    cells = (
        f"<b>{html.escape(verdict.claim)}</b><br>{html.escape(str(verdict.says))}",
        f"<b style='color:{_COLOURS[verdict.outcome]}'>{word}</b>",
        html.escape(f"{verdict.value} {verdict.unit}".strip()),
        html.escape(str(verdict.because)),
    )
    return "<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>"
