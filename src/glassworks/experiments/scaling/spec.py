"""Scaling: the settings of the study of sizes, data and compute, at three scales; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.base import Bench, Experiment, Paper, Study
from glassworks.experiments.scaling import drawings, story
from glassworks.experiments.scaling.claims import CLAIMS
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    from glassworks.training.spec import TrainingSpec

# Stories of one kind, so that the last tenth of the file is like the rest of it.
STORIES = "tinystories-4mb.txt"


class Shape(Spec):
    """One size of model."""

    kind: Literal["shape"] = "shape"
    width: int = Field(ge=2)
    """Numbers in the residual stream."""
    depth: int = Field(ge=1)
    """Layers."""
    heads: int = Field(ge=1)
    """Attention heads of a layer."""
    hidden: int = Field(ge=1)
    """Hidden numbers of the feed-forward."""


def _shapes(*sizes: tuple[int, int, int, int]) -> tuple[Shape, ...]:
    return tuple(Shape(width=width, depth=depth, heads=heads, hidden=hidden) for width, depth, heads, hidden in sizes)


# Each holds sqrt(3) times the parameters of the one before, within one per cent.
SHAPES = _shapes(
    (16, 2, 2, 48), (24, 2, 2, 54), (32, 2, 2, 84), (40, 3, 2, 74), (48, 3, 3, 132), (56, 4, 4, 154), (64, 5, 4, 202), (80, 6, 5, 230),
)  # fmt: skip


class Scaling(Experiment):
    """Sizes, data and compute: L(N, D), the best size for a budget, and models as compressors (Hoffmann et al. 2022)."""

    kind: Literal["scaling"] = "scaling"
    paper: ClassVar[Paper] = Paper(
        title="Training Compute-Optimal Large Language Models",
        authors="Hoffmann, Borgeaud, Mensch, and others",
        year=2022,
        reference="arXiv 2203.15556",
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS
    studies: ClassVar[tuple[Study, ...]] = (
        Study("published", say("published laws: what they foretell, and whether our fit finds them again in drawn points")),
        Study("families", say("small models over sizes and budgets of compute: losses, parabolas, the fit of L(N, D)")),
        Study("compression", say("bits per byte of a trained model against gzip, bzip2, xz and zstd; a file coded and decoded")),
    )  # fmt: skip
    effort: ClassVar[tuple[str, ...]] = ("seeds", "budgets", "repeats", "sizes_each", "held_out")

    scale: Scale = Scale.LAPTOP
    seeds: tuple[int, ...] = (0, 1, 2)
    text: str | None = None
    """The text that is read; the stories of the assets unless given."""
    shapes: tuple[Shape, ...] = SHAPES
    """Sizes of models, each larger than the one before."""
    budgets: tuple[float, ...] = (1.2e11, 3.6e11, 1.08e12, 3.24e12)
    """Operations that the trainings of a budget cost, 6 N D."""
    repeats: tuple[int, ...] = (3, 3, 3, 1)
    """Seeds of each budget, the first ones."""
    sizes_each: int = Field(default=5, ge=1)
    """Sizes that each budget is spent on."""
    length: int = Field(default=128, ge=2)
    """Bytes of a training sequence."""
    batch: int = Field(default=4, ge=1)
    """Sequences of a step."""
    rate: float = Field(default=1e-2, gt=0)
    """Highest learning rate at a width of 32."""
    rate_power: float = Field(default=1.0, ge=0)
    """How it falls with the width: rate · (32 / width)^power."""
    held_out: int = Field(default=1024, ge=2)
    """Held-out windows that losses are measured on, the same for all models."""
    resamples: int = Field(default=200, ge=2)
    """Draws of the bootstrap."""
    coded: int = Field(default=8192, ge=64)
    """Bytes of held-out text that are coded with a model and decoded again."""

    @model_validator(mode="after")
    def _check_grid(self) -> Scaling:
        if len(self.repeats) != len(self.budgets) or not all(1 <= n <= len(self.seeds) for n in self.repeats):
            raise ImpossibleValue(
                say("each budget needs a number of seeds between 1 and {count}", count=len(self.seeds)),
                say("{count} numbers in repeats", count=len(self.budgets)),
            )
        needed = len(self.budgets) + self.sizes_each - 1
        if len(self.shapes) < needed:
            raise ImpossibleValue(
                say("{given} sizes of models for a grid that needs {needed}", given=len(self.shapes), needed=needed),
                say("more shapes, or fewer budgets or sizes_each"),
            )
        if any(later <= earlier for earlier, later in zip(self.budgets, self.budgets[1:], strict=False)):
            raise ImpossibleValue(say("budgets must grow from one to the next"), say("for example 1e11, 3e11"))
        return self

    @classmethod
    def at(cls, scale: Scale) -> Scaling:
        """smoke: seconds, decides nothing; laptop: half an hour on one core; paper: budgets for a cluster."""
        match scale:
            case Scale.SMOKE:
                shapes = _shapes((8, 1, 1, 16), (12, 1, 1, 24), (16, 1, 1, 32), (20, 2, 2, 32))
                return cls(
                    scale=scale, seeds=(0,), shapes=shapes, budgets=(3e6, 9e6), repeats=(1, 1), sizes_each=3, length=32, batch=2,
                    held_out=4, resamples=4, coded=128,
                )  # fmt: skip
            case Scale.LAPTOP:
                return cls(scale=scale)
            case Scale.PAPER:
                shapes = _shapes(
                    (256, 6, 4, 704), (320, 8, 5, 864), (448, 8, 7, 1200), (512, 11, 8, 1376), (640, 13, 10, 1696),
                    (832, 13, 13, 2208), (1024, 15, 16, 2736), (1216, 18, 19, 3248), (1536, 20, 24, 4096),
                )  # fmt: skip
                return cls(
                    scale=scale, shapes=shapes, budgets=(1e16, 3e16, 9e16, 2.7e17, 8.1e17), repeats=(3, 3, 3, 3, 3), length=1024,
                    batch=64, rate=1.6e-2, held_out=4096, resamples=1000, coded=65_536,
                )  # fmt: skip

    def text_path(self) -> Path:
        """The file of the text; raises NotFound, saying where it may be put."""
        from glassworks.evaluation.data import needed_file

        if self.text is not None and Path(self.text).expanduser().is_file():
            return Path(self.text).expanduser()
        return needed_file(self.text or STORIES)

    def check(self, studies: Sequence[str]) -> None:
        """Raises NotFound where the text is not on this machine and a study needs it."""
        if {"families", "compression"} & set(studies):
            self.text_path()

    def trainings(self, study: str) -> Mapping[str, TrainingSpec]:
        """What a study trains."""
        from glassworks.experiments.scaling.trainings import trainings

        return trainings(self, study)

    def measure(self, study: str, bench: Bench) -> Sequence[Measurement]:
        """What a study measures."""
        from glassworks.experiments.scaling.measure import measure

        return measure(self, study, bench)

    def draw(self, evidence: Evidence) -> Sequence[Figure]:
        """Parabolas, surfaces, exponents and compressors, from our own measurements."""
        return drawings.draw(evidence)

    def sections(self, evidence: Evidence, figures: Mapping[str, Figure]) -> Sequence[Section]:
        """One section for each study."""
        return story.sections(evidence, figures)

    def summary(self, evidence: Evidence) -> Sequence[SummaryLine]:
        """What was found and what was not."""
        return story.summary(evidence)

    def limits(self) -> Sequence[Text]:
        """What the report does not show."""
        return story.limits(self)
