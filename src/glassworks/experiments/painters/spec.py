"""Painters: the settings of the reproduction, at three scales; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.base import Bench, Experiment, Paper, Study
from glassworks.experiments.painters import drawings, story
from glassworks.experiments.painters.claims import CLAIMS
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

# More than any benchmark has: all of them.
ALL = 1_000_000


class Painters(Experiment):
    """Transformer Layers as Painters: what skipping, repeating, shuffling and merging layers does (Sun et al. 2025)."""

    kind: Literal["painters"] = "painters"
    paper: ClassVar[Paper] = Paper(
        title="Transformer Layers as Painters",
        authors="Sun, Pickett, Nain, Jones",
        year=2025,
        reference="AAAI 2025, arXiv 2407.09298 v4",
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS
    studies: ClassVar[tuple[Study, ...]] = (
        Study("single", say("one layer skipped, two neighbours switched")),
        Study("strategies", say("all strategies on the middle layers, for every start")),
        Study("protected", say("the same with the attention sink's layers kept in place")),
        Study("loops", say("how many loops are best, against one scaled step")),
        Study("order", say("damage against the number of inversions")),
        Study("tasks", say("the strategies on benchmarks")),
        Study("blocks", say("every block of layers left out or repeated")),
        Study("similarity", say("how alike layers' outputs are, in four definitions")),
        Study("cache", say("generation with the exact and with the averaged cache")),
        Study("encoder", say("an encoder under all plans, and classifiers on it")),
        Study("healing", say("a short training after a cut")),
        Study("encoder_decoder", say("the strategies on each stack of an encoder-decoder")),
    )
    effort: ClassVar[tuple[str, ...]] = (
        "windows", "short_windows", "window", "questions", "queries", "cache_sequences", "cache_tokens", "texts",
        "classifier_examples", "heal_steps",
    )  # fmt: skip

    scale: Scale = Scale.LAPTOP
    seeds: tuple[int, ...] = Field(default=tuple(range(10)), min_length=1)
    """Seeds of the random orders."""
    training_seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of classifiers and of healing."""
    decoder: str = "smollm2-135m"
    """The language model that is operated on: a name of the gallery or the hub, or a folder."""
    encoder: str | None = "minilm"
    """The encoder; None leaves its study out."""
    encoder_decoder: str | None = "t5-title"
    """The encoder-decoder; None leaves its study out."""
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    """Number format of the sweeps on the decoder; cosines, cache and small models are measured in float32."""
    text: str | None = None
    """The running text: a file, or the name of one in the data folders; None for the test part of WikiText-2."""
    windows: int = Field(default=8, ge=2)
    """Windows of text that the strategies are scored on."""
    short_windows: int = Field(default=4, ge=2)
    """Windows of text for the large plan sets: loops, orders, blocks."""
    window: int = Field(default=128, ge=8)
    """Tokens of a window."""
    texts: int = Field(default=24, ge=2)
    """Windows over which cosines and sinks are measured."""
    loops: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16)
    """Loop counts K of the heat map; 1 must be among them."""
    gains: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
    """Factors on the mean update of a single parallel step."""
    shares: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9)
    """Shares of the largest possible number of inversions."""
    tasks: tuple[str, ...] = ("lambada", "arc_easy", "piqa", "winogrande")
    """Benchmarks of the tasks study; those that ask for generated text cannot be swept."""
    questions: int = Field(default=24, ge=2)
    """Questions of each benchmark."""
    task_seeds: int = Field(default=2, ge=1)
    """Random orders on the benchmarks: so many of the seeds, from the first."""
    longest_block: int = Field(default=15, ge=1)
    """The largest block that is left out."""
    queries: int = Field(default=200, ge=4)
    """Paragraphs of the retrieval benchmark; titles of the encoder-decoder's are an eighth of it."""
    cache_sequences: int = Field(default=24, ge=2)
    """Sequences that are decoded token by token."""
    cache_prompt: int = Field(default=48, ge=1)
    """Tokens that are read at once before."""
    cache_tokens: int = Field(default=32, ge=2)
    """Tokens that are decoded."""
    classifier_tasks: tuple[str, ...] = ("cola", "rte", "sst2")
    """Classification tasks for the encoder."""
    classifier_examples: int = Field(default=600, ge=10)
    """Training examples of a classifier; each seed draws its own."""
    classifier_length: int = Field(default=64, ge=8)
    """Tokens that a classified text is cut to."""
    heal_steps: int = Field(default=40, ge=1)
    """Steps of training after a cut."""
    heal_batch: int = Field(default=4, ge=1)
    """Windows in a step of that training."""

    @model_validator(mode="after")
    def _check_grids(self) -> Painters:
        if 1 not in self.loops or list(self.loops) != sorted(set(self.loops)):
            raise ImpossibleValue(
                say("loop counts must rise, from 1 on"), say("for example {example}", example="loops=[1,2,3,4]")
            )
        if 3 not in self.loops:
            raise ImpossibleValue(say("the loop counts lack 3, the paper's main choice"), say("1, 2 and 3 among them"))
        return self

    @classmethod
    def at(cls, scale: Scale) -> Painters:
        """smoke: seconds on a model of 260 thousand parameters, decides nothing; laptop; paper: Llama 2 7B, BERT."""
        match scale:
            case Scale.SMOKE:
                return cls(
                    scale=scale, seeds=(0, 1), training_seeds=(0,), decoder="stories260k", encoder=None,
                    encoder_decoder=None, precision="float32", text="tinyshakespeare.txt", windows=2, short_windows=2, window=32, texts=2,
                    loops=(1, 2, 3), gains=(2.0, 3.0), shares=(0.5,), tasks=("lambada", "arc_easy", "winogrande"),
                    questions=4, task_seeds=1, longest_block=2, queries=8, cache_sequences=2, cache_prompt=6,
                    cache_tokens=4, classifier_examples=20, heal_steps=2, heal_batch=2,
                )  # fmt: skip
            case Scale.LAPTOP:
                return cls(scale=scale)
            case Scale.PAPER:
                return cls(
                    scale=scale, decoder="llama-2-7b", encoder="bert-large", windows=64, short_windows=32, window=512,
                    texts=100, loops=tuple(range(1, 29)),
                    tasks=("lambada", "arc_challenge", "hellaswag", "winogrande", "arc_easy"),
                    questions=ALL, task_seeds=10, longest_block=31, queries=1000, cache_sequences=200,
                    cache_tokens=128, classifier_examples=10_000, classifier_length=128, heal_steps=500,
                )  # fmt: skip

    def check(self, studies: Sequence[str]) -> None:
        """Raises NotFound for a model that is not here, with the command that fetches it, and for unknown tasks."""
        from glassworks.experiments.painters.sweeps import check

        check(self, studies)

    def measure(self, study: str, bench: Bench) -> Sequence[Measurement]:
        """What a study measures."""
        from glassworks.experiments.painters.measure import measure

        return measure(self, study, bench)

    def draw(self, evidence: Evidence) -> Sequence[Figure]:
        """The paper's figures and ours, from our own measurements."""
        return drawings.draw(evidence)

    def sections(self, evidence: Evidence, figures: Mapping[str, Figure]) -> Sequence[Section]:
        """One section for each of the eight questions, and what goes beyond them."""
        return story.sections(evidence, figures, self.decoder)

    def summary(self, evidence: Evidence) -> Sequence[SummaryLine]:
        """What was found and what was not."""
        return story.summary(evidence)

    def limits(self) -> Sequence[Text]:
        """What the report does not show."""
        return story.limits(self)
