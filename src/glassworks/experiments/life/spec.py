"""Life: the settings of a model's whole life, at three scales; no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from glassworks.core.text import Text, say
from glassworks.evidence.claims import Claim, Evidence, Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.base import Bench, Experiment, Paper, Study
from glassworks.experiments.life import drawings, story
from glassworks.experiments.life.claims import CLAIMS
from glassworks.figures import Figure
from glassworks.report.page import Section, SummaryLine


class Life(Experiment):
    """One model through all stages: tokenizer, pretraining, fine-tuning, reward model, reinforcement (lifecycle.md 4)."""

    kind: Literal["life"] = "life"
    paper: ClassVar[Paper] = Paper(
        title="The life of a language model",
        authors="after Ouyang et al. 2022, Gao et al. 2022, Touvron et al. 2023",
        year=2022,
        reference="arXiv 2203.02155, 2210.10760, 2307.09288",
    )
    claims: ClassVar[tuple[Claim, ...]] = CLAIMS
    studies: ClassVar[tuple[Study, ...]] = (
        Study("pretraining", say("a tokenizer and a model that continues text; its bits against packers")),
        Study("tuning", say("demonstrations, and what they cost and bring")),
        Study("reward", say("which of two answers people chose")),
        Study("reinforcement", say("PPO, GRPO and DPO: reward, distance, answers")),
        Study("overoptimisation", say("the learned reward against the true one")),
        Study("inside", say("streams, heads and layers after every stage")),
    )
    effort: ClassVar[tuple[str, ...]] = (
        "width", "depth", "vocabulary", "pretrain_steps", "tune_steps", "reward_steps", "direct_steps", "policy_steps", "free_steps",
        "judged", "gold_pairs", "windows",
    )  # fmt: skip

    scale: Scale = Scale.LAPTOP
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Every stage after pretraining is repeated with each of these."""
    texts: tuple[str, ...] = ("tinystories-4mb.txt", "wiki_demo.txt", "c4_demo.jsonl")
    """What pretraining reads: files, or names of files in the data folders."""
    demonstrations: tuple[str, ...] = ("alpaca_en_demo.json",)
    """What fine-tuning imitates."""
    preferences: tuple[str, ...] = ("hh-harmless-base-test.jsonl.gz", "dpo_en_demo.json")
    """Pairs of answers of which people chose one."""
    vocabulary: int = Field(default=2048, ge=264)
    """Tokens of the learned tokenizer."""
    width: int = Field(default=160, ge=8)
    """Numbers in the stream."""
    depth: int = Field(default=4, ge=1)
    """Layers."""
    heads: int = Field(default=5, ge=1)
    """Heads of a layer."""
    length: int = Field(default=192, ge=16)
    """Longest sequence, in tokens."""
    pretrain_steps: int = Field(default=800, ge=1)
    """Updates of pretraining."""
    pretrain_batch: int = Field(default=24, ge=1)
    """Windows of an update of pretraining."""
    pretrain_rate: float = Field(default=3e-3, gt=0)
    """Highest learning rate of pretraining."""
    batch: int = Field(default=16, ge=1)
    """Conversations or pairs of an update of fine-tuning, reward model and DPO."""
    tune_steps: int = Field(default=120, ge=1)
    """Updates of fine-tuning."""
    tune_rate: float = Field(default=1e-3, gt=0)
    """Highest learning rate of fine-tuning."""
    reward_steps: int = Field(default=80, ge=1)
    """Updates of a reward model."""
    reward_rate: float = Field(default=3e-4, gt=0)
    """Highest learning rate of a reward model."""
    direct_steps: int = Field(default=50, ge=1)
    """Updates of DPO."""
    direct_rate: float = Field(default=5e-5, gt=0)
    """Highest learning rate of DPO."""
    policy_steps: int = Field(default=20, ge=1)
    """Rounds of PPO and of GRPO."""
    policy_rate: float = Field(default=3e-4, gt=0)
    """Learning rate of PPO and of GRPO."""
    critic_rate: float = Field(default=1e-3, gt=0)
    """Learning rate of PPO's critic."""
    free_steps: int = Field(default=32, ge=2)
    """Rounds of PPO without a price on the KL, against the proxy."""
    beta: float = Field(default=0.05, gt=0)
    """Price of a nat of KL; ten times as much for the policy that is held near."""
    answers: int = Field(default=32, ge=2)
    """Answers of a round."""
    answer_length: int = Field(default=32, ge=4)
    """Tokens of an answer at most."""
    proxy_steps: int = Field(default=40, ge=1)
    """Updates of the proxy reward model."""
    gold_pairs: int = Field(default=320, ge=2)
    """Pairs of the model's own answers that the gold reward model labels for the proxy."""
    best_of: tuple[int, ...] = (1, 2, 4, 8, 16)
    """The n of best-of-n."""
    judged: int = Field(default=64, ge=2)
    """Prompts on which every stage is judged."""
    windows: int = Field(default=40, ge=4)
    """Windows of held-out text on which bits per byte and layers are measured."""

    @classmethod
    def at(cls, scale: Scale) -> Life:
        """smoke: about a minute, decides nothing; laptop: at most forty minutes on two cores; paper: for a cluster."""
        match scale:
            case Scale.SMOKE:
                return cls(
                    scale=scale, seeds=(0,), vocabulary=400, width=16, depth=2, heads=2, length=96, pretrain_steps=3, pretrain_batch=2, batch=4,
                    tune_steps=2, reward_steps=2, proxy_steps=2, direct_steps=2, policy_steps=2, free_steps=2, answers=4, answer_length=6, gold_pairs=60,
                    best_of=(1, 2, 4), judged=4, windows=4,
                )  # fmt: skip
            case Scale.LAPTOP:
                return cls(scale=scale)
            case Scale.PAPER:
                return cls(
                    scale=scale, vocabulary=32_000, width=4096, depth=32, heads=32, length=4096, pretrain_steps=500_000, pretrain_batch=1024,
                    pretrain_rate=3e-4, tune_steps=10_000, tune_rate=2e-5, reward_steps=10_000, reward_rate=1e-5, proxy_steps=2000, direct_steps=10_000,
                    direct_rate=5e-7, policy_steps=2000, policy_rate=1e-6, critic_rate=1e-5, free_steps=4000, beta=0.02, answers=512, answer_length=512,
                    gold_pairs=60_000, best_of=(1, 2, 4, 8, 16, 32, 64, 128), judged=1000, windows=1000,
                )  # fmt: skip

    def files(self, field: str) -> tuple[Path, ...]:
        """The files that `texts`, `demonstrations` or `preferences` name; raises NotFound, saying where they may be put."""
        from glassworks.evaluation.data import needed_file

        named = {"texts": self.texts, "demonstrations": self.demonstrations, "preferences": self.preferences}[field]
        paths = (Path(name).expanduser() for name in named)
        return tuple(path if path.is_file() else needed_file(path.name) for path in paths)

    def check(self, studies: Sequence[str]) -> None:
        """Raises NotFound where texts, demonstrations or pairs are not on this machine, Unavailable without the trainers."""
        from glassworks.training.stages.base import needed

        needed("trl")
        for field in ("texts", "demonstrations", "preferences"):
            self.files(field)

    def measure(self, study: str, bench: Bench) -> Sequence[Measurement]:
        """What a study measures; the stages that it needs are run first, or found in the store."""
        from glassworks.experiments.life.measure import measure

        return measure(self, study, bench)

    def draw(self, evidence: Evidence) -> Sequence[Figure]:
        """Losses, rewards, over-optimisation and insides, from our own measurements."""
        return drawings.draw(evidence)

    def sections(self, evidence: Evidence, figures: Mapping[str, Figure]) -> Sequence[Section]:
        """One section for each part of the life."""
        return story.sections(evidence, figures)

    def summary(self, evidence: Evidence) -> Sequence[SummaryLine]:
        """What was found and what was not."""
        return story.summary(evidence)

    def limits(self) -> Sequence[Text]:
        """What the report does not show."""
        return story.limits(self)
