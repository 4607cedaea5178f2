"""Experiment: a paper as a value: its claims, its trainings, its measurements and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import field_validator

from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    import torch

    from glassworks.core.events import EventLog
    from glassworks.training.loop import Probe, Trained
    from glassworks.training.spec import TrainingSpec

# What a signed 64-bit column of a table can hold.
LARGEST_SEED = 2**63


@dataclass(frozen=True)
class Paper:
    """What is reproduced: title, authors, where it appeared."""

    title: str
    authors: str
    year: int
    reference: str


@dataclass(frozen=True)
class Study:
    """A part of an experiment that can be run alone."""

    name: str
    says: Text


@dataclass(frozen=True)
class Bench:
    """What a study has at hand while it measures: trained models by label, store, device, events and its own name."""

    trained: Mapping[str, Trained]
    store: Path
    device: torch.device
    events: EventLog
    study: str = ""


class Experiment(Spec):
    """A reproduction; `at(scale)` gives its settings, every one of which can be changed."""

    paper: ClassVar[Paper]
    claims: ClassVar[tuple[Claim, ...]]
    studies: ClassVar[tuple[Study, ...]]
    # Fields that say how much is spent: a run below a scale's own values has not reached that scale.
    effort: ClassVar[tuple[str, ...]] = ()
    scale: Scale
    seeds: tuple[int, ...]

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds or len(set(seeds)) < len(seeds) or not all(0 <= seed < LARGEST_SEED for seed in seeds):
            raise ImpossibleValue(
                say("seeds must be different whole numbers, at least one"),
                say("for example {example}", example="seeds=[0,1,2]"),
            )
        return seeds

    def reached_scale(self) -> Scale:
        """The largest scale whose effort these settings reach, whatever `scale` calls them."""
        for scale in (Scale.PAPER, Scale.LAPTOP):
            standard = type(self).at(scale).to_json()
            mine = self.to_json()
            if self.scale.reaches(scale) and all(mine[name] >= standard[name] for name in self.effort):
                return scale
        return Scale.SMOKE

    @classmethod
    def at(cls, scale: Scale) -> Experiment:
        """The settings of a scale."""
        raise NotImplementedError

    def check(self, studies: Sequence[str]) -> None:
        """Raises what would stop one of these studies (a model that is not here), before any work is done."""

    def trainings(self, study: str) -> Mapping[str, TrainingSpec]:
        """What a study trains, by label; equal specs are trained once, whichever study asks. Nothing by default."""
        return {}

    def probe(self, spec: TrainingSpec) -> Probe | None:
        """The look inside that is taken while a model of this spec trains."""
        return None

    def measure(self, study: str, bench: Bench) -> Sequence[Measurement]:
        """What a study measures once its trainings are done."""
        raise NotImplementedError

    def draw(self, evidence: Evidence) -> Sequence[Figure]:
        """The figures of all measurements at hand; needs no torch."""
        raise NotImplementedError

    def sections(self, evidence: Evidence, figures: Mapping[str, Figure]) -> Sequence[Section]:
        """The body of the report; needs no torch."""
        raise NotImplementedError

    def summary(self, evidence: Evidence) -> Sequence[SummaryLine]:
        """What was found and what was not, in a few plain sentences; needs no torch."""
        raise NotImplementedError

    def limits(self) -> Sequence[Text]:
        """What the report does not show."""
        raise NotImplementedError
