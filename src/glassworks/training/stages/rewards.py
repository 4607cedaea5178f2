"""What answers are rewarded by: a reward model that an earlier stage left, or a rule with a name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, PreTrainedTokenizerBase

from glassworks.core.errors import InvalidInput, NotFound, UnknownName
from glassworks.core.files import read_json
from glassworks.core.text import say
from glassworks.models.pretrained import Wanted, pretrained_tokenizer
from glassworks.models.quiet import quiet_bars
from glassworks.training.stages.chat import Chat, Conversation, Encoded, fitted, padded

SCALE_FILE = "reward.json"
"""Beside a reward model: the mean and spread of its raw scores over demonstrations."""
# Rows of a forward pass; scores do not depend on it beyond rounding.
_ROWS = 16


@dataclass(frozen=True)
class Answers:
    """Conversations and what was answered to them."""

    prompts: tuple[Conversation, ...]
    texts: tuple[str, ...]


Score = Callable[[Answers], Float[Tensor, " answer"]]


@dataclass(frozen=True, eq=False)
class RewardModel:
    """A classifier with one output, as a score of answers: its number less its mean over demonstrations (lifecycle.md 4)."""

    model: nn.Module
    chat: Chat
    length: int
    """Tokens that it reads; longer conversations lose their oldest ones."""
    mean: float = 0.0

    def __call__(self, answers: Answers) -> Float[Tensor, " answer"]:
        """One number per answer."""
        pairs = zip(answers.prompts, answers.texts, strict=True)
        return self.scores([self._row(prompt, text) for prompt, text in pairs]) - self.mean

    def scores(self, rows: Sequence[Encoded]) -> Float[Tensor, " answer"]:
        """The raw numbers of conversations in tokens."""
        device = next(self.model.parameters()).device
        fill = cast(int, self.chat.tokenizer.pad_token_id)
        found: list[Tensor] = []
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad():
            for first in range(0, len(rows), _ROWS):
                ids, real = padded([row.ids for row in rows[first : first + _ROWS]], fill, "right")
                output = cast(Any, self.model)(input_ids=ids.to(device), attention_mask=real.long().to(device))
                found.append(output.logits[:, 0].float().cpu())
        self.model.train(was_training)
        return torch.cat(found) if found else torch.zeros(0)

    def _row(self, prompt: Conversation, text: str) -> Encoded:
        # A policy may say what spells a mark; here it is only read, so it is left out instead of refused.
        row = self.chat.answer(prompt, self.chat.without_marks(text))
        kept = fitted([row], self.length).rows
        return kept[0] if kept else Encoded(row.ids[-self.length :], row.answers[-self.length :])


def load_reward_model(folder: str | Path, device: torch.device) -> RewardModel:
    """The reward model of a folder; InvalidInput where it is another kind of model."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise NotFound(
            say("{path} is not there", path=str(folder)),
            right=say("the folder that a stage reward left, or a rule: {known}", known=known_rules()),
            next_command="glassworks train reward --help",
        )
    settings = read_json(path / "config.json")
    heads = cast(list[str], settings.get("architectures") or [])
    if not any(name.endswith("ForSequenceClassification") for name in heads):
        raise InvalidInput(
            say("{path} holds no reward model", path=str(path)),
            given=", ".join(heads),
            right=say("the folder that a stage reward left, or a rule: {known}", known=known_rules()),
            next_command=f"glassworks train reward --start {path}",
        )
    with quiet_bars():
        model = cast(PreTrainedModel, AutoModelForSequenceClassification.from_pretrained(path))
    if model.config.num_labels != 1:
        raise InvalidInput(
            say("{path} sorts into classes instead of scoring", path=str(path)),
            given=say("{count} outputs", count=model.config.num_labels),
            right=say("a model with one output"),
        )
    chat = Chat(cast(PreTrainedTokenizerBase, pretrained_tokenizer(str(path), Wanted(torch.float32, device))))
    scale = read_json(path / SCALE_FILE) if (path / SCALE_FILE).is_file() else {}
    longest = cast(int, scale.get("length") or positions_of(model) or 512)
    # The module's own `to`, for the library's class types it for some arguments only.
    nn.Module.to(model, device)
    return RewardModel(model, chat, longest, float(scale.get("mean", 0.0)))


def positions_of(model: PreTrainedModel) -> int | None:
    """Tokens that a model has positions for; None where its config does not say."""
    found = model.config.get_text_config().to_dict().get("max_position_embeddings")
    return found if isinstance(found, int) else None


def _contains(word: str) -> Score:
    """1 for an answer in which a word stands, 0 for any other."""
    return lambda answers: torch.tensor([float(word.lower() in text.lower()) for text in answers.texts])


def _words(wanted: str) -> Score:
    """1 for an answer of so many words, less by the share of words too many or too few, at least 0."""
    if not wanted.isdecimal() or int(wanted) < 1:
        raise InvalidInput(
            say("the rule words needs a number of words"),
            given=wanted,
            right=say("for example {example}", example="words:20"),
        )
    count = int(wanted)
    return lambda answers: torch.tensor(
        [max(0.0, 1 - abs(len(text.split()) - count) / count) for text in answers.texts]
    )


RULES: dict[str, Callable[[str], Score]] = {"contains": _contains, "words": _words}
"""Rules by name; `name:detail` names one."""


def known_rules() -> str:
    """How rules are named, for messages."""
    return "contains:WORD, words:COUNT"


def score_of(name: str, device: torch.device) -> Score:
    """The score that a name means: `contains:WORD`, `words:COUNT`, or the folder of a reward model."""
    rule, separator, detail = name.partition(":")
    if separator and not Path(name).exists():
        if rule not in RULES:
            raise UnknownName("rule", rule, RULES)
        return RULES[rule](detail)
    if not name:
        raise InvalidInput(
            say("no reward is named"),
            right=say("reward=FOLDER of a stage reward, or a rule: {known}", known=known_rules()),
            next_command="glassworks train reward --help",
        )
    return load_reward_model(name, device)
