"""FamilyTree: the settings of the study of blocks and branches, at three scales; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.base import Bench, Experiment, Paper, Study
from glassworks.experiments.tree import drawings, story
from glassworks.experiments.tree.claims import CLAIMS
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    from glassworks.training.spec import TrainingSpec

# A long book in the public domain, without a frame of licence text around it.
BOOK = "kjv-bible.txt"
# Sentences with a label, training and held out; English and German captions of pictures.
SENTENCES = ("stsa.binary.train", "stsa.binary.test")
QUESTIONS = ("TREC.train.all", "TREC.test.all")
CAPTIONS = ("train.en.gz", "train.de.gz", "test_2016_flickr.en.gz", "test_2016_flickr.de.gz")


class FamilyTree(Experiment):
    """LLaMA (Touvron and others 2023): which of its choices matter here, and the tree's branches side by side."""

    kind: Literal["tree"] = "tree"
    paper: ClassVar[Paper] = Paper(
        title="LLaMA: Open and Efficient Foundation Language Models",
        authors="Touvron and others",
        year=2023,
        reference="arXiv 2302.13971; the branches after Vaswani and others 2017, arXiv 1706.03762",
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS
    studies: ClassVar[tuple[Study, ...]] = (
        Study("blocks", say("LLaMA's block, each of its choices undone, and older blocks, at equal size and bytes")),
        Study("branches", say("encoder, decoder, prefix decoder and encoder-decoder: to understand, go on, translate")),
    )
    effort: ClassVar[tuple[str, ...]] = (
        "width", "depth", "length", "batch", "steps", "hasty_steps", "held_out", "branch_width", "branch_depth",
        "understanding_steps", "continuing_steps", "translating_steps", "translated",
    )  # fmt: skip

    scale: Scale = Scale.LAPTOP
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Every training is repeated with each of these."""
    text: str | None = None
    """The text that is predicted: a file, or the name of one in the data folders; None for the KJV Bible."""
    width: int = Field(default=96, ge=8)
    """Numbers in the stream of every block."""
    depth: int = Field(default=4, ge=1)
    """Layers of every model of the blocks study."""
    heads: int = Field(default=4, ge=1)
    """Heads of every layer, of both studies."""
    length: int = Field(default=128, ge=8)
    """Bytes of a training window (T)."""
    batch: int = Field(default=8, ge=1)
    """Windows per step."""
    steps: int = Field(default=400, ge=2)
    """Steps of each block."""
    rate: float = Field(default=3e-3, gt=0)
    """Highest learning rate of all blocks."""
    hasty_factor: float = Field(default=10.0, gt=1)
    """Times that rate in the test of stability, without warm-up, decline and clipping."""
    hasty_steps: int = Field(default=100, ge=2)
    """Steps of the test of stability."""
    held_out: int = Field(default=32, ge=1)
    """Held-out windows for each seed, each four times as long as those of training."""
    timed_steps: int = Field(default=12, ge=2)
    """Steps of each block that are timed, in turns."""
    branch_width: int = Field(default=96, ge=8)
    """Numbers in the stream of every model of the branches study."""
    branch_depth: int = Field(default=4, ge=2)
    """Layers of encoders and decoders; an encoder-decoder has half of them on each side."""
    pieces: int = Field(default=2048, ge=300)
    """Word pieces of sentences and translations."""
    branch_rate: float = Field(default=3e-3, gt=0)
    """Highest learning rate of all models of the branches study."""
    understanding_steps: int = Field(default=160, ge=2)
    """Steps of each model that learns to label sentences."""
    understanding_batch: int = Field(default=32, ge=1)
    """Sentences per step."""
    continuing_steps: int = Field(default=200, ge=2)
    """Steps of each model that learns to go on with a text."""
    translating_steps: int = Field(default=300, ge=2)
    """Steps of each model that learns to translate."""
    translating_batch: int = Field(default=48, ge=1)
    """Pairs per step."""
    translated: int = Field(default=256, ge=2)
    """Held-out sentences that are translated."""
    probe_every: int = Field(default=10, ge=1)
    """Steps between two rows of a history."""

    @classmethod
    def at(cls, scale: Scale) -> FamilyTree:
        """smoke: seconds, decides nothing; laptop: half an hour of one core; paper: sizes at which choices are made."""
        match scale:
            case Scale.SMOKE:
                return cls(
                    scale=scale, seeds=(0,), width=16, depth=2, heads=2, length=16, batch=2, steps=3, hasty_steps=3, held_out=2,
                    timed_steps=2, branch_width=16, branch_depth=2, pieces=300, understanding_steps=2, understanding_batch=4,
                    continuing_steps=2, translating_steps=2, translating_batch=4, translated=4, probe_every=1,
                )  # fmt: skip
            case Scale.LAPTOP:
                return cls(scale=scale)
            case Scale.PAPER:
                return cls(
                    scale=scale, width=768, depth=12, heads=12, length=1024, batch=64, steps=20_000, rate=6e-4, hasty_steps=1000,
                    held_out=64, timed_steps=50, branch_width=768, branch_depth=12, pieces=16_384, branch_rate=1e-3,
                    understanding_steps=2000, continuing_steps=20_000, translating_steps=20_000, translating_batch=128,
                    translated=1000, probe_every=100,
                )  # fmt: skip

    def text_path(self) -> Path:
        """The file of the text; raises NotFound, saying where it may be put."""
        from glassworks.evaluation.data import needed_file

        if self.text is not None and Path(self.text).expanduser().is_file():
            return Path(self.text).expanduser()
        return needed_file(self.text or BOOK)

    def check(self, studies: Sequence[str]) -> None:
        """Raises NotFound where a file that a study needs is not on this machine."""
        from glassworks.evaluation.data import needed_file

        self.text_path()
        if "branches" in studies:
            for name in (*SENTENCES, *QUESTIONS, *CAPTIONS):
                needed_file(name)

    def trainings(self, study: str) -> Mapping[str, TrainingSpec]:
        """What a study trains; the hasty trainings of the blocks study are made while it measures, since they may break."""
        if study == "blocks":
            from glassworks.experiments.tree.blocks import trainings

            return trainings(self)
        from glassworks.experiments.tree.branches import trainings as trainings_of_branches

        return trainings_of_branches(self)

    def measure(self, study: str, bench: Bench) -> Sequence[Measurement]:
        """What a study measures."""
        if study == "blocks":
            from glassworks.experiments.tree.measure_blocks import measure

            return measure(self, bench)
        from glassworks.experiments.tree.measure_branches import measure as measure_branches

        return measure_branches(self, bench)

    def draw(self, evidence: Evidence) -> Sequence[Figure]:
        """Losses, leads, stability, speed and reach of the blocks; what each branch can do."""
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
