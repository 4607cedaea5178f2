"""The runs on disk at a glance. No torch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import BrokenFile
from glassworks.core.runs import RunFolder
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Outcome, Verdict
from glassworks.experiments.finding import reason_of, settings_of, verdicts_of
from glassworks.experiments.variants import VARIANTS
from glassworks.surgery.choice import SWEEP

# What stands in the column of an experiment's scale.
_ABOUT = {SWEEP: "model", VARIANTS: "task"}


@dataclass(frozen=True)
class Entry:
    """One run at a glance; `broken` is why it cannot be read."""

    path: Path
    experiment: str
    scale: str
    studies: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    size: int
    age: float
    finished: bool
    broken: Text | None = None

    @classmethod
    def of(cls, run: RunFolder) -> Entry:
        """Reads a run; one that is damaged is listed with the reason instead of ending the list."""
        size, age = 0, 0.0
        try:
            size = sum(path.stat().st_size for path in run.path.rglob("*") if path.is_file())
            age = time.time() - max(path.stat().st_mtime for path in run.path.iterdir())
            # A sweep has a model where an experiment has a scale, and benchmarks where that has studies.
            settings = settings_of(run)
            scale = str(settings.get(_ABOUT.get(run.experiment, "scale"), "–"))
            studies, verdicts = _studies_of(run), verdicts_of(run)
            return cls(run.path, run.experiment, scale, studies, verdicts, size, age, run.has("manifest.json"))
        except Exception as problem:  # whatever one folder holds, the others are still to be listed
            return cls(run.path, run.path.parent.name, "?", (), (), size, age, False, reason_of(problem))

    @property
    def state(self) -> Text:
        """Finished, unfinished, or why it cannot be read."""
        if self.broken is not None:
            return say("unreadable: {reason}", reason=self.broken)
        return say("finished") if self.finished else say("unfinished")

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        counts = {outcome.value: sum(v.outcome is outcome for v in self.verdicts) for outcome in Outcome}
        return {
            "run": str(self.path),
            "experiment": self.experiment,
            "digest": self.path.name,
            "scale": self.scale,
            "studies": list(self.studies),
            "verdicts": counts,
            "bytes": self.size,
            "age_seconds": round(self.age, 1),
            "finished": self.finished,
            "report": str(self.path / "report.html") if (self.path / "report.html").is_file() else None,
            "broken": None if self.broken is None else str(self.broken),
        }


def _studies_of(run: RunFolder) -> tuple[str, ...]:
    if run.experiment == SWEEP:
        return tuple(str(one["name"]) for one in run.read_json("benchmarks.json")) if run.has("benchmarks.json") else ()
    if run.experiment == VARIANTS:
        return tuple(map(str, settings_of(run).get("names", ())))
    found = run.read_json("studies.json") if run.has("studies.json") else {}
    if not isinstance(found, dict):
        raise BrokenFile(say("{path} names no studies", path=str(run.path / "studies.json")))
    return tuple(cast(dict[str, Any], found))
