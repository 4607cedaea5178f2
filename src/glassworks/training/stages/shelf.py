"""Every stage by its kind, in the order of a model's life."""

from glassworks.core.shelf import Shelf
from glassworks.training.ppo.spec import PpoSpec
from glassworks.training.stages.base import StageSpec
from glassworks.training.stages.dpo import DpoSpec
from glassworks.training.stages.grpo import GrpoSpec, RlooSpec
from glassworks.training.stages.pretrain import PretrainSpec
from glassworks.training.stages.reward import RewardSpec
from glassworks.training.stages.sft import SftSpec
from glassworks.training.stages.tokenizer import TokenizerSpec

STAGES: Shelf[StageSpec] = Shelf(
    "stage", TokenizerSpec, PretrainSpec, SftSpec, RewardSpec, DpoSpec, GrpoSpec, RlooSpec, PpoSpec
)
