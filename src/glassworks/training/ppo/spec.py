"""The choices of proximal policy optimisation, which are those of InstructGPT unless said (lifecycle.md 4)."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.training.stages.base import Desk, Facts
from glassworks.training.stages.reinforced import ReinforcedSpec


class PpoSpec(ReinforcedSpec):
    """Proximal policy optimisation: a critic foresees the reward, small clipped steps follow what did better than foreseen.

    What is maximised is the mean of r(x, y) - beta x log(policy(y|x) / start(y|x)).
    """

    files: ClassVar[tuple[str, ...]] = ("data", "mix")
    # 2: each answer is drawn by a chance of its own.
    revision: ClassVar[int] = 2

    kind: Literal["ppo"] = "ppo"
    batch: int = Field(default=16, ge=1)
    """Answers of one update."""
    epochs: int = Field(default=2, ge=1)
    """Times that the answers of a round are learned from."""
    ratio_clip: float = Field(default=0.2, gt=0)
    """How far the ratio to the sampling policy counts beyond 1."""
    value_clip: float = Field(default=0.2, gt=0)
    """How far a value counts beyond the one before the round, in units of reward."""
    value_weight: float = Field(default=0.5, ge=0)
    """Of the critic's loss."""
    critic_rate: float = Field(default=0.0, ge=0)
    """The critic's highest learning rate; the policy's for 0."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """What a reward one token later is worth."""
    decay: float = Field(default=0.95, ge=0, le=1)
    """The lambda of generalised advantage estimation."""
    kl_target: float | None = Field(default=None, gt=0)
    """Divergence from the start, in nats per answer, that beta is moved towards (Ziegler et al. 2019); beta stays unless given."""
    kl_horizon: int = Field(default=2000, ge=1)
    """Answers over which beta is moved."""
    mix: tuple[str, ...] = ()
    """Files of text on which language modelling goes on beside the rewards (PPO-ptx)."""
    mix_weight: float = Field(default=0.0, ge=0)
    """Of the loss on that text, in nats per token."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "PpoSpec":
        if self.batch > self.answers:
            raise ImpossibleValue(
                say("an update takes {batch} answers, a round has {answers}", batch=self.batch, answers=self.answers),
                say("batch={answers} or less", answers=self.answers),
            )
        if bool(self.mix) != (self.mix_weight > 0):
            raise ImpossibleValue(
                say("texts to mix in and their weight belong together"),
                say("mix=FILE and mix_weight above 0, or neither"),
            )
        return self

    def rate_at(self, step: int) -> float:
        """The share of the highest rate in a round, counted from 0."""
        return share_of_rate(self, step)

    def run(self, desk: Desk) -> Facts:
        """Trains the policy; raises Diverged at a reward or weight that is not finite."""
        from glassworks.training.ppo.stage import run_ppo

        return run_ppo(self, desk)


def share_of_rate(spec: ReinforcedSpec, step: int) -> float:
    """Warm-up, then what the schedule says, as a share of the highest rate."""
    import math

    if step < spec.warmup_steps:
        return (step + 1) / spec.warmup_steps
    done = (step - spec.warmup_steps) / max(1, spec.steps - spec.warmup_steps)
    match spec.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - done
        case "cosine":
            return spec.final + (1 - spec.final) * 0.5 * (1 + math.cos(math.pi * done))
