"""InfiniAttention: the settings of the reproduction, at three scales; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.base import Bench, Experiment, Paper, Study
from glassworks.experiments.infini import drawings, story
from glassworks.experiments.infini.claims import CLAIMS
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    from glassworks.training.loop import Probe
    from glassworks.training.spec import TrainingSpec

# A long book in the public domain, without a frame of licence text around it.
BOOK = "kjv-bible.txt"


class InfiniAttention(Experiment):
    """Leave no context behind: Infini-attention (Munkhdalai, Faruqui, Gopal 2024)."""

    kind: Literal["infini"] = "infini"
    paper: ClassVar[Paper] = Paper(
        title="Leave No Context Behind: Efficient Infinite Context Transformers with Infini-attention",
        authors="Munkhdalai, Faruqui, Gopal",
        year=2024,
        reference="arXiv 2404.07143 v2",
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS
    studies: ClassVar[tuple[Study, ...]] = (
        Study("memory-table", say("what each architecture keeps across segments, to the number")),
        Study("language", say("models of a long book at equal size and bytes, by position")),
        Study("gates", say("the gates while they are trained: stuck, and freed")),
        Study("passkey", say("a key hidden in up to a million bytes")),
        Study("books", say("several facts recalled, the more the more is read")),
        Study("capacity", say("how many pairs a memory keeps, and where half precision fails")),
    )
    effort: ClassVar[tuple[str, ...]] = (
        "width", "segment", "text_length", "text_steps", "text_batch", "held_out", "passkey_steps", "passkey_samples",
        "longest", "facts_steps", "facts_samples",
    )  # fmt: skip

    scale: Scale = Scale.LAPTOP
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Every training is repeated with each of these."""
    comparator_seeds: int = Field(default=1, ge=1)
    """Seeds, the first ones, of models that no claim about the paper needs: sliding window, gated linear, mesa."""
    width: int = Field(default=128, ge=8)
    """Numbers in the stream of every model."""
    depth: int = Field(default=3, ge=1)
    """Layers of every model."""
    heads: int = Field(default=4, ge=1)
    """Heads of every layer."""
    segment: int = Field(default=128, ge=2)
    """Bytes of a segment (N)."""
    text: str | None = None
    """The book of the language and gates studies: a file, or the name of one in the data folders; None for the KJV Bible."""
    text_length: int = Field(default=2048, ge=4)
    """Bytes of a training sequence (T)."""
    text_batch: int = Field(default=2, ge=1)
    """Sequences per step."""
    text_steps: int = Field(default=240, ge=2)
    """Steps of each model of the book."""
    text_rate: float = Field(default=3e-3, gt=0)
    """Highest learning rate of models of the book."""
    gate_factor: float = Field(default=10.0, gt=0)
    """Times the learning rate at which gates with a pace of their own learn."""
    memory_tokens: int = Field(default=16, ge=1)
    """Summary vectors of RMT."""
    neighbours: int = Field(default=16, ge=1)
    """Pairs that a query of Memorizing Transformers finds."""
    window: int = Field(default=256, ge=2)
    """Bytes of the sliding window."""
    held_out: int = Field(default=16, ge=2)
    """Held-out sequences, each eight times as long as those of training."""
    passkey_steps: int = Field(default=1200, ge=2)
    """Steps of the first stage of the passkey recipe; the others are in proportion."""
    passkey_batch: int = Field(default=16, ge=2)
    """Sequences of four segments per step; as many bytes where they are shorter or longer."""
    passkey_segment: int = Field(default=64, ge=2)
    """Bytes of a segment of the passkey models."""
    virtual: float = Field(default=4.5, ge=0, le=6)
    """Largest exponent u of the virtual length 10^u (infini.md 7)."""
    passkey_samples: int = Field(default=16, ge=1)
    """Texts per cell of the passkey table and seed; at the greatest length `longest_samples`."""
    longest_samples: int = Field(default=3, ge=1)
    """Texts per seed, depth and rule at the greatest length."""
    longest: int = Field(default=1_048_576, ge=256)
    """Bytes of the longest passkey text."""
    facts_steps: int = Field(default=700, ge=2)
    """Steps in which the passkey model learns to recall facts."""
    facts_virtual: float = Field(default=2.5, ge=0, le=6)
    """Largest exponent of the virtual length of facts: texts are to be read up to some ten thousand bytes."""
    facts_samples: int = Field(default=32, ge=1)
    """Texts per cell of the facts study."""
    draws: int = Field(default=5, ge=1)
    """Draws of keys and values of the capacity study."""
    probe_every: int = Field(default=20, ge=1)
    """Steps between two rows of a history, gates included."""

    @classmethod
    def at(cls, scale: Scale) -> InfiniAttention:
        """smoke: seconds, decides nothing; laptop: minutes a study; paper: the published sizes, for a cluster."""
        match scale:
            case Scale.SMOKE:
                return cls(
                    scale=scale, seeds=(0,), width=16, depth=2, heads=2, segment=16, text_length=64, text_batch=2, text_steps=3,
                    memory_tokens=2, neighbours=4, window=24, held_out=2, passkey_steps=3, passkey_batch=2, passkey_samples=2,
                    longest_samples=2, longest=1024, facts_steps=2, facts_samples=2, draws=2, probe_every=1,
                )  # fmt: skip
            case Scale.LAPTOP:
                return cls(scale=scale)
            case Scale.PAPER:
                return cls(
                    scale=scale, comparator_seeds=3, width=1024, depth=12, heads=8, segment=2048, text_length=32_768, text_batch=64, text_steps=30_000,
                    memory_tokens=100, neighbours=32, window=4096, held_out=64, passkey_steps=30_000, passkey_batch=64,
                    passkey_samples=64, facts_steps=4000, facts_samples=128, probe_every=100,
                )  # fmt: skip

    def text_path(self) -> Path:
        """The file of the book; raises NotFound, saying where it may be put."""
        from glassworks.evaluation.data import needed_file

        if self.text is not None and Path(self.text).expanduser().is_file():
            return Path(self.text).expanduser()
        return needed_file(self.text or BOOK)

    def check(self, studies: Sequence[str]) -> None:
        """Raises NotFound where the book is not on this machine and a study needs it."""
        if {"language", "gates"} & set(studies):
            self.text_path()

    def trainings(self, study: str) -> Mapping[str, TrainingSpec]:
        """What a study trains."""
        from glassworks.experiments.infini.trainings import trainings

        return trainings(self, study)

    def probe(self, spec: TrainingSpec) -> Probe | None:
        """The gates of every head."""
        from glassworks.experiments.infini.probes import probe_of

        return probe_of(spec)

    def measure(self, study: str, bench: Bench) -> Sequence[Measurement]:
        """What a study measures."""
        from glassworks.experiments.infini.measure import measure

        return measure(self, study, bench)

    def draw(self, evidence: Evidence) -> Sequence[Figure]:
        """The paper's tables and figures, from our own measurements."""
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
