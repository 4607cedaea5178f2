"""What all stages have in common that learn from rewards of their own answers: prompts, rewards, how answers are drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal, cast

import torch
from pydantic import Field
from transformers import PreTrainedModel

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.base import Desk, LearningSpec
from glassworks.training.stages.chat import Chat, Conversation
from glassworks.training.stages.examples import entries_of
from glassworks.training.stages.instructions import prompts_of, read_demonstrations
from glassworks.training.stages.preferences import read_preferences
from glassworks.training.stages.rewards import Score, positions_of, score_of


class ReinforcedSpec(LearningSpec):
    """Learning from rewards: prompts from files, answers from the policy, KL to where it started (lifecycle.md 4)."""

    later: ClassVar[frozenset[str]] = frozenset({"held_out"})
    models: ClassVar[tuple[str, ...]] = ("start", "reward", "gold")
    files: ClassVar[tuple[str, ...]] = ("data",)
    follows: ClassVar[tuple[str, ...]] = ("sft",)

    data: tuple[str, ...] = ()
    """Files whose prompts are answered: demonstrations or preferences."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of the prompts that is never answered in training: at least what the stages before kept for judging."""
    reward: str = ""
    """The folder of a reward model, or a rule: contains:WORD, words:COUNT."""
    gold: str = ""
    """Another reward that is logged beside the one learned from, to see over-optimisation; none unless given."""
    steps: int = Field(default=100, ge=1)
    """Rounds of answering and learning."""
    rate: float = Field(default=1e-4, gt=0)
    """Highest learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "constant"
    """How the rate falls after the warm-up."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    beta: float = Field(default=0.02, ge=0)
    """Reward that a nat of divergence from the start costs."""
    answers: int = Field(default=64, ge=2)
    """Answers of a round."""
    answer_length: int = Field(default=64, ge=1)
    """Tokens of an answer at most."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the drawn answers; 1 draws from the policy itself."""
    unfinished: float | None = None
    """Score of an answer that does not end within its length; as the reward says unless given."""
    log_every: int = Field(default=1, ge=1)
    """Rounds between two rows of the history."""


def read_prompts(paths: Sequence[str], held_out: float = 0.1) -> tuple[Conversation, ...]:
    """The prompts of demonstrations or preferences, each once; the share that is held out for judging is left out."""
    if not paths:
        raise InvalidInput(say("no file of prompts is named"), right=say("data=FILE of demonstrations or preferences"))
    found: dict[Conversation, None] = {}
    for path in paths:
        _, first = next(entries_of(Path(path)))
        if "chosen" in first:
            found |= dict.fromkeys(pair.prompt for pair in read_preferences([path], held_out).fit)
        else:
            found |= dict.fromkeys(prompts_of(read_demonstrations([path], held_out).fit))
    return tuple(found)


def fitting_prompts(
    chat: Chat, prompts: Sequence[Conversation], model: PreTrainedModel, spec: ReinforcedSpec
) -> tuple[tuple[Conversation, ...], int]:
    """Prompts that leave room for an answer within `length` and the model's positions, and how many do not."""
    room = min(spec.length, positions_of(model) or spec.length) - spec.answer_length
    kept = tuple(prompt for prompt in prompts if len(chat.prompt(prompt)) <= room)
    if not kept:
        raise InvalidInput(
            say("no prompt leaves room for an answer"),
            given=say("{count} prompts; room for {room} tokens of a prompt", count=len(prompts), room=room),
            right=say("a larger length, a smaller answer_length, or shorter prompts"),
        )
    return kept, len(prompts) - len(kept)


def drawn_prompts(prompts: Sequence[Conversation], count: int, seed: Seed) -> tuple[Conversation, ...]:
    """Prompts of a round, which depend on the seed alone; none twice unless there are too few."""
    chance = seed.numpy()
    places = chance.choice(len(prompts), size=count, replace=count > len(prompts))
    return tuple(prompts[place] for place in cast(list[int], places.tolist()))


def scores_of(spec: ReinforcedSpec, desk: Desk) -> tuple[Score, Score | None]:
    """The reward that is learned from, and the one that is only watched."""
    device: torch.device = desk.options.device
    return score_of(spec.reward, device), score_of(spec.gold, device) if spec.gold else None
