"""MesaOptimization: the settings of the reproduction, at three scales; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.base import Bench, Experiment, Paper, Study
from glassworks.experiments.mesa import drawings, story
from glassworks.experiments.mesa.claims import CLAIMS
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine

if TYPE_CHECKING:
    from glassworks.training.spec import TrainingSpec


class MesaOptimization(Experiment):
    """Uncovering mesa-optimization: transformers that learn in context by gradient descent (von Oswald et al. 2023)."""

    kind: Literal["mesa"] = "mesa"
    paper: ClassVar[Paper] = Paper(
        title="Uncovering mesa-optimization algorithms in Transformers",
        authors="von Oswald, Schlegel, Meulemans, Kobayashi, Niklasson, Zucchet, Scherrer, Miller, Sandler, and others",
        year=2023,
        reference="arXiv 2309.05858 v2",
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS
    studies: ClassVar[tuple[Study, ...]] = (
        Study("one-layer", say("one linear layer is one gradient step; one mesa layer is ridge regression")),
        Study("deep", say("two, four and six linear layers: compression, theory, probes")),
        Study("softmax", say("softmax layers on raw tokens, and the hybrid with a mesa layer")),
        Study("binding", say("the first layer binds neighbouring tokens")),
        Study("linearise", say("softmax layers replaced by linear ones, in worlds of several dimensions")),
        Study("partial", say("states that are seen only in part")),
        Study("nonlinear", say("states that follow a nonlinear map")),
        Study("few-shot", say("regression prompts without training: separator, prefix, two tasks")),
        Study("contracting", say("laws whose states die away")),
        Study("fixed-teacher", say("one law for all sequences: nothing to learn in context")),
        Study("language", say("the same mixers on text")),
    )
    effort: ClassVar[tuple[str, ...]] = (
        "batch", "large_model_batch", "hidden", "length", "held_out", "one_layer_steps", "mesa_steps", "deep_steps", "raw_steps", "hybrid_steps",
        "partial_steps", "nonlinear_steps", "few_shot_steps", "linearise_steps", "control_steps", "prompt_steps",
        "solver_steps", "text_steps", "text_length",
    )  # fmt: skip

    scale: Scale = Scale.LAPTOP
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Every training is repeated with each of these."""
    hidden: int = Field(default=10, ge=2)
    """Numbers in a state of the linear worlds."""
    length: int = Field(default=50, ge=4)
    """Predictions per sequence (T)."""
    prompt_length: int = Field(default=224, ge=8)
    """Predictions per sequence of the models that are given few-shot prompts."""
    batch: int = Field(default=64, ge=1)
    """Fresh sequences per step; the published runs have 256."""
    large_model_batch: int = Field(default=32, ge=2)
    """The same for the larger models: partial, nonlinear and linearise; half as many for few-shot."""
    held_out: int = Field(default=2560, ge=8)
    """Sequences of a measurement after training."""
    probed: int = Field(default=1024, ge=8)
    """Sequences of a probe, half of them held out."""
    one_layer_steps: int = Field(default=3000, ge=2)
    """Steps of LSA-1."""
    mesa_steps: int = Field(default=3000, ge=2)
    """Steps of Mesa-1."""
    deep_steps: int = Field(default=3000, ge=2)
    """Steps of LSA-6; LSA-4 has five sixths of them, LSA-2 two thirds."""
    raw_steps: int = Field(default=3000, ge=2)
    """Steps of Softmax-3 and Softmax-7."""
    hybrid_steps: int = Field(default=1500, ge=2)
    """Steps of Hybrid-mesa and Full-mesa."""
    partial_steps: int = Field(default=1200, ge=2)
    """Steps in the partially observed world."""
    nonlinear_steps: int = Field(default=1200, ge=2)
    """Steps in the nonlinear world."""
    few_shot_steps: int = Field(default=800, ge=2)
    """Steps of the models that are given few-shot prompts."""
    linearise_steps: int = Field(default=1000, ge=2)
    """Steps of the models whose layers are replaced by linear ones."""
    control_steps: int = Field(default=1200, ge=2)
    """Steps in the contracting world and under the fixed teacher."""
    prompt_steps: int = Field(default=300, ge=1)
    """Steps in which a separator or a prefix is learned."""
    solver_steps: int = Field(default=1500, ge=1)
    """Steps in which the rates of the accelerated solver are learned."""
    constructed_rate: float = Field(default=5e-4, gt=0)
    """Learning rate of linear layers on constructed tokens."""
    mesa_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of a mesa layer on constructed tokens."""
    settle: float = Field(default=0.1, gt=0, le=1)
    """Share of the rate on constructed tokens that is left at the end; 1 keeps it constant, as published."""
    raw_rate: float = Field(default=3e-3, gt=0)
    """Highest learning rate of softmax layers on raw tokens."""
    hybrid_rate: float = Field(default=3e-3, gt=0)
    """Highest learning rate of models with a mesa layer on raw tokens."""
    partial_rate: float = Field(default=3e-3, gt=0)
    """Highest learning rate in the partially observed world."""
    nonlinear_rate: float = Field(default=1.5e-3, gt=0)
    """Highest learning rate of softmax layers in the nonlinear world."""
    nonlinear_hybrid_rate: float = Field(default=2e-3, gt=0)
    """Highest learning rate of the model with a mesa layer in the nonlinear world."""
    linearise_rate: float = Field(default=2e-3, gt=0)
    """Highest learning rate of the models whose layers are replaced."""
    dimensions: tuple[int, ...] = Field(default=(4, 10, 20), min_length=1)
    """Dimensions of the worlds whose models' layers are replaced by linear ones."""
    kernel_dimensions: tuple[int, ...] = Field(default=(4, 6, 10, 20, 40, 60), min_length=1)
    """Dimensions in which ridge and kernel regression are compared, without any training."""
    text: str | None = None
    """The text of the language study: a file, or the name of one in the data folders; None for tiny Shakespeare."""
    text_steps: int = Field(default=600, ge=2)
    """Steps of each model of text."""
    text_batch: int = Field(default=16, ge=1)
    """Windows per step."""
    text_length: int = Field(default=256, ge=8)
    """Bytes per window."""
    text_width: int = Field(default=128, ge=8)
    """Width of the models of text."""
    text_rate: float = Field(default=2e-3, gt=0)
    """Highest learning rate of the models of text."""
    probe_every: int = Field(default=50, ge=1)
    """Steps between two rows of a history."""
    snapshot_every: int = Field(default=100, ge=1)
    """Steps between two copies of the weights, from which interpolation and sensitivity are read afterwards."""

    @classmethod
    def at(cls, scale: Scale) -> MesaOptimization:
        """smoke: seconds, decides nothing; laptop: minutes a study; paper: the published settings."""
        match scale:
            case Scale.SMOKE:
                return cls(
                    scale=scale, seeds=(0,), hidden=4, length=12, prompt_length=16, batch=8, large_model_batch=4, held_out=32, probed=64,
                    one_layer_steps=6, mesa_steps=6, deep_steps=4, raw_steps=4, hybrid_steps=4, partial_steps=3, nonlinear_steps=3,
                    few_shot_steps=3, linearise_steps=3, control_steps=4, prompt_steps=2, solver_steps=3,
                    dimensions=(2, 4), kernel_dimensions=(2, 4), text_steps=3, text_batch=2, text_length=16, text_width=16,
                    probe_every=2, snapshot_every=2,
                )  # fmt: skip
            case Scale.LAPTOP:
                return cls(scale=scale)
            case Scale.PAPER:
                return cls(
                    scale=scale, seeds=(0, 1, 2, 3, 4), batch=256, large_model_batch=256, settle=1.0, one_layer_steps=5000, mesa_steps=5000, deep_steps=15_000,
                    raw_steps=10_000, hybrid_steps=20_000, partial_steps=20_000, nonlinear_steps=40_000,
                    few_shot_steps=15_000, linearise_steps=5000, control_steps=10_000, prompt_steps=5000,
                    solver_steps=20_000, constructed_rate=1e-4, mesa_rate=4e-4, raw_rate=8e-4, hybrid_rate=3e-4,
                    partial_rate=4e-4, nonlinear_rate=1e-3, nonlinear_hybrid_rate=4e-4, linearise_rate=4e-3, dimensions=(4, 6, 10, 20, 40, 60),
                    text_steps=20_000, text_batch=64, text_length=1024, text_width=256,
                )  # fmt: skip

    def text_path(self) -> Path:
        """The file of the language study; raises NotFound, saying where it may be put."""
        from glassworks.evaluation.data import needed_file

        if self.text is not None and Path(self.text).expanduser().is_file():
            return Path(self.text).expanduser()
        return needed_file(self.text or "tinyshakespeare.txt")

    def check(self, studies: Sequence[str]) -> None:
        """Raises NotFound where the text of the language study is not on this machine."""
        if "language" in studies:
            self.text_path()

    def trainings(self, study: str) -> Mapping[str, TrainingSpec]:
        """What a study trains."""
        from glassworks.experiments.mesa.trainings import trainings

        return trainings(self, study)

    def measure(self, study: str, bench: Bench) -> Sequence[Measurement]:
        """What a study measures."""
        from glassworks.experiments.mesa.measure import measure

        return measure(self, study, bench)

    def draw(self, evidence: Evidence) -> Sequence[Figure]:
        """The paper's figures, from our own measurements."""
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
