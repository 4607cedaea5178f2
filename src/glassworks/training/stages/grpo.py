"""GRPO and RLOO: several answers to each prompt, each compared with its siblings, so that no critic is needed.

Shao et al. 2024 (arXiv 2402.03300): the advantage is reward - mean of the group, here not divided by its spread, which would
weigh prompts by how alike their answers are; the KL stands in the loss. Ahmadian et al. 2024 (arXiv 2402.14740): the
advantage is reward - mean of the other answers; the KL is taken off the reward. Both run on TRL's trainers.
"""

import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator

from glassworks.core.spec import ImpossibleValue
from glassworks.core.text import say
from glassworks.models.quiet import quiet_bars
from glassworks.tensors.processes import wait_for_all, world
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.base import Desk, Facts, needed
from glassworks.training.stages.chat import Conversation, Turn
from glassworks.training.stages.drawing import Drawing, draw
from glassworks.training.stages.laying import Manner
from glassworks.training.stages.opened import Opened, open_start
from glassworks.training.stages.quiet_trainers import quiet_library
from glassworks.training.stages.reinforced import ReinforcedSpec, fitting_prompts, read_prompts, scores_of
from glassworks.training.stages.rewards import Answers, Score
from glassworks.training.stages.sharding import start_kept, trainer_of
from glassworks.training.stages.spread import settled, share_of
from glassworks.training.stages.trainer import arguments, fit, learner_of, save_model

REFERENCE = "reference"
"""Folder inside a stage's where the start is written, which TRL reads its reference from; gone when the stage is done."""

# What the library logs beside measurements.
_CLOCKS = ("num_tokens", "frac_reward_zero_std", "step_time")


class GroupSpec(ReinforcedSpec):
    """Several answers to each prompt, each judged against its siblings."""

    has_reference: ClassVar[bool] = True

    # 2: each answer is drawn by a chance of its own.
    revision: ClassVar[int] = 2

    batch: int = Field(default=16, ge=2)
    """Answers of a forward and backward pass."""
    group: int = Field(default=8, ge=2)
    """Answers to each prompt."""

    @model_validator(mode="after")
    def _check_sizes(self) -> "GroupSpec":
        if self.answers % self.batch or self.answers % self.group:
            raise ImpossibleValue(
                say(
                    "{answers} answers of a round are no whole number of passes of {batch} and groups of {group}",
                    answers=self.answers,
                    batch=self.batch,
                    group=self.group,
                ),
                say("answers a multiple of both"),
            )
        if self.unfinished is not None:
            raise ImpossibleValue(
                say("an unfinished answer has no score of its own here"), say("no unfinished, or kind=ppo")
            )
        return self

    def run(self, desk: Desk) -> Facts:
        """Trains; leaves the policy's folder."""
        needed("trl")
        opened = open_start(self, desk)
        reward, gold = scores_of(self, desk)
        prompts, left_out = fitting_prompts(opened.chat, read_prompts(self.data, self.held_out), opened.model, self)
        told = Told(desk, reward, gold)
        rows = [{"prompt": [turn.to_message() for turn in prompt]} for prompt in prompts]
        with quiet_library():
            trainer = group_trainer(self, desk, opened, told, rows)
            fit(trainer, desk)
        save_model(desk, trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False), opened.tokenizer)
        if desk.writes:
            shutil.rmtree(desk.path / REFERENCE, ignore_errors=True)
        facts: Facts = {"prompts": len(prompts), "prompts_too_long": left_out}
        last = {name: column[-1] for name, column in desk.history.metrics.items()}
        return facts | {f"last_{name}": last[name] for name in ("reward", "gold", "kl") if name in last}


class GrpoSpec(GroupSpec):
    """Group-relative policy optimisation."""

    kind: Literal["grpo"] = "grpo"
    beta: float = Field(default=0.04, ge=0)
    """Weight of the divergence in the loss."""


class RlooSpec(GroupSpec):
    """REINFORCE with the other answers of the group as the baseline."""

    kind: Literal["rloo"] = "rloo"


Judge = Callable[..., list[float]]


class Told:
    """A score as TRL's trainers call it; a reward that is no number stops the training, which they would pass over."""

    __name__ = "reward"

    def __init__(self, desk: Desk, reward: Score, gold: Score | None = None) -> None:
        self.desk, self.reward, self.gold, self.calls = desk, reward, gold, 0

    def __call__(self, prompts: Sequence[Any], completions: Sequence[Any], **more: Any) -> list[float]:
        """The rewards of some answers; Diverged where one is NaN or infinite."""
        answers = Answers(
            tuple(_conversation(prompt) for prompt in prompts), tuple(str(said[0]["content"]) for said in completions)
        )
        scores = self.reward(answers)
        if not bool(torch.isfinite(scores).all()):
            step = cast(int, more["trainer_state"].global_step)
            raise self.desk.diverged(step, "reward", say("a reward that is a number for every answer"))
        if self.gold is not None:
            more["log_metric"]("gold", float(self.gold(answers).float().mean()))
        return cast(list[float], scores.tolist())


def group_trainer(spec: GroupSpec, desk: Desk, opened: Opened, judge: Judge, rows: Sequence[Mapping[str, Any]]) -> Any:
    """The trainer of a spec on prompts, set up so that a stopped training goes on exactly."""
    from datasets import Dataset
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer
    from trl.trainer.rloo_config import RLOOConfig
    from trl.trainer.rloo_trainer import RLOOTrainer

    model: Any = opened.model
    if spec.beta and opened.source is None:
        if desk.writes:
            with quiet_bars():
                model.save_pretrained(desk.path / REFERENCE)
        wait_for_all()
        model.config._name_or_path = str(desk.path / REFERENCE)
    share = share_of(spec.batch, spec.answers // spec.batch, world().size)
    shared: dict[str, Any] = arguments(desk, spec) | {
        "per_device_train_batch_size": share.rows,
        "gradient_accumulation_steps": share.passes,
        "num_generations": spec.group,
        # Answers that are learned from twice would be drawn anew by a training that goes on between the two.
        "num_iterations": 1,
        "steps_per_generation": share.passes,
        "max_completion_length": spec.answer_length,
        "temperature": spec.temperature,
        "top_k": 0,
        "top_p": 1.0,
        "beta": spec.beta,
        "disable_dropout": True,
    }
    drawing = Drawing(
        spec.answer_length, spec.temperature,
        cast(int, opened.tokenizer.eos_token_id), cast(int, opened.tokenizer.pad_token_id),
    )  # fmt: skip
    data = Dataset.from_list([dict(row) for row in rows])
    given: dict[str, Any] = {"train_dataset": data, "processing_class": opened.tokenizer, "reward_funcs": [judge]}
    adapted = learner_of(desk, model, spec)
    if isinstance(spec, RlooSpec):
        kind, settings = RLOOTrainer, settled(RLOOConfig, shared | {"normalize_advantages": False})
    else:
        own = {"scale_rewards": "none", "loss_type": "grpo", "importance_sampling_level": "token"}
        kind, settings = GRPOTrainer, settled(GRPOConfig, shared | own)
    more = {"drawing": drawing, "chance": Seed(spec.seed).child("draw"), "gives_probabilities": kind is GRPOTrainer}
    with start_kept(desk), _reference_from(kind, opened, Manner(desk.options.device)):
        made = trainer_of(type(kind.__name__, (_Row, _Drawing, kind), more), desk)
        return made(model=adapted, args=settings, **given)


@contextmanager
def _reference_from(kind: type[Any], opened: Opened, manner: Manner) -> Generator[None]:
    """Has the library, which reads its reference whole from a folder, take one that is cut where the policy is."""
    if opened.source is None:
        yield
        return
    library = import_module(kind.__module__).__dict__
    reads = library["create_model_from_path"]
    library["create_model_from_path"] = lambda *_, **__: opened.reference(manner)
    try:
        yield
    finally:
        library["create_model_from_path"] = reads


class _Drawing:
    """Draws each answer by a chance of its own, which follows from the round and the answer's place in it."""

    drawing: Drawing
    chance: Seed
    gives_probabilities: bool
    state: Any
    accelerator: Any
    model: Any

    def _generate_single_turn(self, prompt_ids: Sequence[Sequence[int]], *rest: Any, **more: Any) -> Any:
        """The answers to this process's prompts, as the library's own method gives them."""
        first = self.accelerator.process_index * len(prompt_ids)
        prompts = [tuple(ids) for ids in prompt_ids]
        drawn = draw(self.model, prompts, self.drawing, self.chance.child("round", self.state.global_step), first)
        answers = [list(one.answer) for one in drawn]
        # GRPO's is asked for probabilities too, which only a foreign engine would know better.
        return (answers, None) if self.gives_probabilities else answers


class _Row:
    """Renames what the library logs, so that a row reads alike in all stages of reinforcement."""

    def log(self, logs: dict[str, Any], *rest: Any, **more: Any) -> None:
        """One row: reward, KL in nats per answer, entropy, length; then the library's own log."""
        own = cast(dict[str, list[Any]], cast(Any, self)._metrics["train"])
        length = _mean(own.pop("completions/mean_length", []))
        for name in list(own):
            if "/" in name or name in _CLOCKS:
                del own[name]
        if "kl" in own and length is not None:
            # Logged per token.
            own["kl"] = [value * length for value in own["kl"]]
        if length is not None:
            own["answer_length"] = [length]
        cast(Any, super()).log(logs, *rest, **more)


def _mean(values: Sequence[Any]) -> float | None:
    return sum(float(value) for value in values) / len(values) if values else None


def _conversation(messages: Sequence[Mapping[str, str]]) -> Conversation:
    return tuple(Turn(message["role"], message["content"]) for message in messages)
