"""Birth: the settings of the reproduction, at three scales; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.base import Bench, Experiment, Paper, Study
from glassworks.experiments.birth import drawings, story
from glassworks.experiments.birth.claims import CLAIMS
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    from glassworks.training.loop import Probe
    from glassworks.training.spec import TrainingSpec


class Birth(Experiment):
    """Birth of a Transformer: how an induction head forms as associative memories (Bietti et al. 2023)."""

    kind: Literal["birth"] = "birth"
    paper: ClassVar[Paper] = Paper(
        title="Birth of a Transformer: A Memory Viewpoint",
        authors="Bietti, Cabannes, Bouchacourt, Jégou, Bottou",
        year=2023,
        reference="NeurIPS 2023, arXiv 2306.00802",
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS
    studies: ClassVar[tuple[Study, ...]] = (
        Study("main", say("the simplified model forms its induction head")),
        Study("theory", say("three gradient steps, and the lemmas")),
        Study("width", say("the hand-built head at several widths, with no training")),
        Study("depth", say("the full transformer with one and with two layers")),
        Study("freezing", say("memories held back until a later step")),
        Study("data", say("how many triggers, how frequent, fixed or random")),
        Study("shift", say("outputs of one law in training, of the other in test")),
    )

    effort: ClassVar[tuple[str, ...]] = (
        "width", "batch", "length", "steps", "data_steps", "depth_steps", "held_out", "theory_samples",
    )  # fmt: skip

    scale: Scale = Scale.LAPTOP
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Every training is repeated with each of these."""
    width: int = Field(default=128, ge=2)
    """Width of the residual stream (d)."""
    batch: int = Field(default=64, ge=1)
    """Sequences per step; the paper's simplified model has 512."""
    length: int = Field(default=256, ge=8)
    """Tokens per sequence (T)."""
    steps: int = Field(default=600, ge=2)
    """Steps of the simplified model in the main and the freezing study."""
    data_steps: int = Field(default=800, ge=2)
    """Steps where all tokens are learned (data, shift)."""
    depth_steps: int = Field(default=800, ge=2)
    """Steps of the full transformer."""
    rate: float = Field(default=0.2, gt=0)
    """Learning rate of the simplified model (SGD, momentum 0.9)."""
    full_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of the full transformer (AdamW)."""
    release: int = Field(default=300, ge=1)
    """Step at which held-back memories are released."""
    probe_every: int = Field(default=10, ge=1)
    """Steps between two looks inside."""
    held_out: int = Field(default=256, ge=1)
    """Sequences of a measurement after training."""
    widths: tuple[int, ...] = Field(default=(64, 128, 256, 512), min_length=2)
    """Widths of the hand-built head."""
    theory_samples: int = Field(default=60_000, ge=100)
    """Sequences behind each theoretical gradient step; the theory has infinitely many, and 20,000 fail for some seeds."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Matrix products of all trainings; "auto" takes bfloat16 where the machine has it in hardware."""

    @model_validator(mode="after")
    def _check_studies(self) -> Birth:
        if self.release >= self.steps:
            raise ImpossibleValue(
                say(
                    "the release at step {release} is not before the last of {steps} steps",
                    release=self.release,
                    steps=self.steps,
                ),
                say("a release below {steps}", steps=self.steps),
            )
        if list(self.widths) != sorted(set(self.widths)) or self.widths[0] < 2:
            raise ImpossibleValue(
                say("widths must rise, from 2 on"), say("for example {example}", example="widths=[64,128]")
            )
        return self

    @classmethod
    def at(cls, scale: Scale) -> Birth:
        """smoke: seconds, decides nothing; laptop: minutes; paper: batch 512 and five seeds."""
        match scale:
            case Scale.SMOKE:
                return cls(
                    scale=scale, seeds=(0,), width=32, batch=8, length=32, steps=12, data_steps=12, depth_steps=12,
                    release=6, probe_every=3, held_out=16, widths=(32, 64), theory_samples=500,
                )  # fmt: skip
            case Scale.LAPTOP:
                return cls(scale=scale)
            case Scale.PAPER:
                return cls(
                    scale=scale, seeds=(0, 1, 2, 3, 4), batch=512, steps=1000, data_steps=1000, depth_steps=2000,
                    probe_every=5, held_out=512,
                )  # fmt: skip

    def trainings(self, study: str) -> Mapping[str, TrainingSpec]:
        """What a study trains, by label."""
        from glassworks.experiments.birth.trainings import trainings

        return trainings(self, study)

    def probe(self, spec: TrainingSpec) -> Probe | None:
        """Memory recall of the simplified model; none for the full one (birth.md 4: not meaningful there)."""
        from glassworks.experiments.birth.probes import probe_for

        return probe_for(spec)

    def measure(self, study: str, bench: Bench) -> Sequence[Measurement]:
        """What a study measures."""
        from glassworks.experiments.birth.measure import measure

        return measure(self, study, bench)

    def draw(self, evidence: Evidence) -> Sequence[Figure]:
        """The paper's figures, from our own measurements."""
        return drawings.draw(evidence)

    def sections(self, evidence: Evidence, figures: Mapping[str, Figure]) -> Sequence[Section]:
        """One section per study."""
        return story.sections(evidence, figures)

    def summary(self, evidence: Evidence) -> Sequence[SummaryLine]:
        """What was found and what was not."""
        return story.summary(evidence)

    def limits(self) -> Sequence[Text]:
        """What the report does not show."""
        return story.limits()
