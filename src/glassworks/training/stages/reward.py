"""The reward model: a binary classifier of preference, -log sigmoid(r(chosen) - r(rejected)) (lifecycle.md 4)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from glassworks.core.errors import InvalidInput
from glassworks.core.files import write_json
from glassworks.core.text import say
from glassworks.evidence.statistics import wilson_interval
from glassworks.models.hollow import hollow_of
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.base import Desk, Facts, LearningSpec, needed
from glassworks.training.stages.chat import Chat, Encoded, fitted
from glassworks.training.stages.instructions import read_demonstrations
from glassworks.training.stages.opened import Opened, lay_down, open_start
from glassworks.training.stages.preferences import Pair, Preferences, read_preferences
from glassworks.training.stages.quiet_trainers import quiet_library
from glassworks.training.stages.rewards import SCALE_FILE, RewardModel
from glassworks.training.stages.sharding import trainer_of
from glassworks.training.stages.spread import in_order, settled
from glassworks.training.stages.trainer import arguments, fit, learner_of, save_model


class PairedSpec(LearningSpec):
    """Learning from pairs of answers of which one is preferred."""

    files: ClassVar[tuple[str, ...]] = ("data",)
    follows: ClassVar[tuple[str, ...]] = ("sft",)
    # 2: every update is full, also where the data begin anew.
    revision: ClassVar[int] = 2

    data: tuple[str, ...] = ()
    """Files of pairs: chosen and rejected answers."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of the prompts kept for judging."""
    steps: int = Field(default=200, ge=1)
    """Updates."""
    rate: float = Field(default=1e-4, gt=0)
    """Highest learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""

    def pairs(self) -> Preferences:
        """The pairs of the files; InvalidInput where none are named."""
        if not self.data:
            raise InvalidInput(
                say("no file of pairs is named"), right=say("data=FILE, .json or .jsonl, gzipped or not")
            )
        return read_preferences(self.data, self.held_out)


class RewardSpec(PairedSpec):
    """Learning what is preferred: one number per answer, larger for the better one, on TRL's trainer."""

    files: ClassVar[tuple[str, ...]] = ("data", "demonstrations")

    kind: Literal["reward"] = "reward"
    demonstrations: tuple[str, ...] = ()
    """Files of answers whose mean reward becomes 0; the preferred answers unless given."""

    def run(self, desk: Desk) -> Facts:
        """Trains; leaves a folder of a classifier with one output, and the mean to take off in reward.json."""
        needed("trl")
        opened = open_start(self, desk, lays=False)
        found = self.pairs()
        learned, judged = (encoded_pairs(opened.chat, some, self.length) for some in (found.fit, found.held_out))
        model = self._scoring(opened, desk)
        with quiet_library():
            fit(_trainer(self, desk, model, opened.chat, learned), desk)
        judge = RewardModel(model, opened.chat, self.length)
        raw = judge.scores(self._demonstrated(opened.chat, learned))
        accuracy = pair_accuracy(judge, judged)
        fitted_accuracy = pair_accuracy(judge, learned[: 4 * len(judged)])
        save_model(desk, model, opened.tokenizer)
        scale = {"mean": float(raw.mean()), "spread": float(raw.std()), "length": self.length}
        if desk.writes:
            write_json(desk.path / SCALE_FILE, scale)
        interval = wilson_interval(round(accuracy * len(judged)), len(judged))
        shorter = sum(len(chosen.ids) < len(rejected.ids) for chosen, rejected in judged) / len(judged)
        return {
            "pairs": len(learned),
            "held_out": len(judged),
            "pairs_too_long": len(found.fit) + len(found.held_out) - len(learned) - len(judged),
            "held_out_accuracy": accuracy,
            "held_out_accuracy_low": interval.low,
            "held_out_accuracy_high": interval.high,
            "fit_accuracy": fitted_accuracy,
            "shorter_is_preferred": shorter,
            "raw_mean": scale["mean"],
            "raw_spread": scale["spread"],
        } | found.left_out

    def _scoring(self, opened: Opened, desk: Desk) -> Any:
        """What learns: a classifier on the model's body."""
        if opened.source is not None:
            lay_down(opened.source, self, desk, made=lambda form: hollow_with_score(form, Seed(self.seed)))
            return learner_of(desk, opened.model, self).train()
        return learner_of(desk, with_score(opened.model, Seed(self.seed)), self)

    def _demonstrated(self, chat: Chat, learned: Sequence[tuple[Encoded, Encoded]]) -> list[Encoded]:
        if not self.demonstrations:
            return [chosen for chosen, _ in learned]
        told = read_demonstrations(self.demonstrations, self.held_out).fit
        return list(fitted([chat.encode(conversation) for conversation in told], self.length).rows)


def encoded_pairs(chat: Chat, pairs: Sequence[Pair], length: int) -> list[tuple[Encoded, Encoded]]:
    """Chosen and rejected conversations in tokens; a pair of which one answer alone is too long is left out."""
    found: list[tuple[Encoded, Encoded]] = []
    for pair in pairs:
        both = fitted([chat.answer(pair.prompt, text) for text in (pair.chosen, pair.rejected)], length).rows
        if len(both) == 2:
            found.append((both[0], both[1]))
    if not found:
        raise InvalidInput(
            say("no pair fits into {length} tokens", length=length),
            given=say("{count} pairs", count=len(pairs)),
            right=say("a larger length, or shorter answers"),
        )
    return found


def with_score(model: PreTrainedModel, seed: Seed) -> PreTrainedModel:
    """A classifier with one output on a decoder's body; its head is drawn small (Stiennon et al. 2020)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed.child("score").value % 2**63)
        scoring = cast(PreTrainedModel, AutoModelForSequenceClassification.from_config(_of_one_output(model)))
    scoring.base_model.load_state_dict(model.base_model.state_dict())
    head = _head_of(scoring)
    with torch.no_grad():
        head.weight.copy_(_drawn_head(head, seed))
    torch.nn.Module.to(scoring, device=model.device, dtype=torch.float32)
    return scoring.train()


def hollow_with_score(form: PreTrainedModel, seed: Seed) -> PreTrainedModel:
    """The same of a model without its numbers; the head has them."""
    scoring = hollow_of(AutoModelForSequenceClassification.from_config, _of_one_output(form), dtype=torch.float32)
    head = _head_of(scoring)
    head.weight = torch.nn.Parameter(_drawn_head(head, seed))
    return scoring


def _of_one_output(model: PreTrainedModel) -> Any:
    config: Any = type(model.config).from_dict(model.config.to_dict())
    config.num_labels = 1
    return config


def _head_of(scoring: PreTrainedModel) -> torch.nn.Linear:
    return next(part for name, part in scoring.named_modules() if isinstance(part, torch.nn.Linear) and "." not in name)


def _drawn_head(head: torch.nn.Linear, seed: Seed) -> Tensor:
    spread = (head.in_features + 1) ** -0.5
    return spread * torch.randn(head.weight.shape, generator=seed.child("head").generator())


def pair_accuracy(judge: RewardModel, pairs: Sequence[tuple[Encoded, Encoded]]) -> float:
    """Share of pairs whose chosen answer scores higher; an exact tie counts half."""
    chosen = judge.scores([pair[0] for pair in pairs])
    rejected = judge.scores([pair[1] for pair in pairs])
    wins: Tensor = (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
    return float(wins.mean())


def _trainer(spec: RewardSpec, desk: Desk, model: Any, chat: Chat, pairs: Sequence[tuple[Encoded, Encoded]]) -> Any:
    from datasets import Dataset
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    data = Dataset.from_list([{"chosen_ids": list(c.ids), "rejected_ids": list(r.ids)} for c, r in pairs])
    settings = settled(RewardConfig, arguments(desk, spec) | {"max_length": spec.length})
    kind = trainer_of(RewardTrainer, desk)
    trainer = kind(model=model, args=settings, train_dataset=data, processing_class=chat.tokenizer)
    return in_order(trainer, spec)
