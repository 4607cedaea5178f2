"""Supervised fine-tuning: demonstrations are learned, their answers only (lifecycle.md 4), on TRL's trainer."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from glassworks.core.errors import InvalidInput, Unavailable
from glassworks.core.text import say
from glassworks.training.stages.base import Desk, Facts, LearningSpec, needed
from glassworks.training.stages.chat import (
    IGNORED,
    Chat,
    Conversation,
    Encoded,
    Fitted,
    fitted,
    keeps_texts_apart,
    padded,
)
from glassworks.training.stages.instructions import read_demonstrations
from glassworks.training.stages.opened import open_start
from glassworks.training.stages.quiet_trainers import quiet_library
from glassworks.training.stages.sharding import trainer_of
from glassworks.training.stages.spread import in_order, settled
from glassworks.training.stages.trainer import arguments, fit, learner_of, save_model

# Rows of a forward pass when a loss is measured.
_ROWS = 16


class SftSpec(LearningSpec):
    """Learning to answer from demonstrations: the loss is on the answers' tokens and their end."""

    files: ClassVar[tuple[str, ...]] = ("data",)
    # 2: every update is full, also where the data begin anew.
    revision: ClassVar[int] = 2

    kind: Literal["sft"] = "sft"
    data: tuple[str, ...] = ()
    """Files of demonstrations: instructions with outputs, messages, judged answers."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of the prompts kept for judging."""
    packing: bool = False
    """Whether several conversations share a row, none seeing another; fewer padded tokens."""
    steps: int = Field(default=200, ge=1)
    """Updates."""
    rate: float = Field(default=3e-4, gt=0)
    """Highest learning rate."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""

    def run(self, desk: Desk) -> Facts:
        """Trains; leaves the folder of a model that answers."""
        needed("trl")
        opened = open_start(self, desk)
        if self.packing and not keeps_texts_apart(opened.model):
            raise Unavailable(
                say("this model cannot keep texts apart that share a row"),
                given="packing=true",
                right=say("packing=false, or mixers that begin anew with each text"),
            )
        found = read_demonstrations(_named(self.data), self.held_out)
        learned, judged = (encoded(opened.chat, some, self.length) for some in (found.fit, found.held_out))
        before = answer_loss(opened.model, judged.rows, opened.chat)
        model = learner_of(desk, opened.model, self)
        with quiet_library():
            fit(_trainer(self, desk, model, opened.chat, learned.rows), desk)
        after = answer_loss(model, judged.rows, opened.chat)
        save_model(desk, model, opened.tokenizer)
        return {
            "demonstrations": len(learned.rows),
            "held_out": len(judged.rows),
            "duplicates": found.duplicates,
            "judged_bad": found.refused,
            "cut": learned.cut,
            "too_long": learned.dropped,
            "answer_tokens": sum(sum(row.answers) for row in learned.rows),
            "held_out_loss_before": before,
            "held_out_loss": after,
        }


def encoded(chat: Chat, conversations: Sequence[Conversation], length: int) -> Fitted:
    """Conversations in tokens, within a length; InvalidInput where none is short enough."""
    rows = fitted([chat.encode(conversation) for conversation in conversations], length)
    if not rows.rows:
        raise InvalidInput(
            say("no demonstration fits into {length} tokens", length=length),
            given=say("{count} demonstrations", count=len(conversations)),
            right=say("a larger length, or shorter answers"),
        )
    return rows


@torch.no_grad()
def answer_loss(model: Any, rows: Sequence[Encoded], chat: Chat) -> float:
    """Mean loss over all answer tokens, in nats, in float32."""
    fill = cast(int, chat.tokenizer.pad_token_id)
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        ids, real = (tensor.to(model.device) for tensor in padded([row.ids for row in part], fill, "right"))
        labels: Tensor = torch.full_like(ids, IGNORED)
        for place, row in enumerate(part):
            labels[place, : len(row.ids)] = torch.tensor(row.labels)
        logits = model(input_ids=ids, attention_mask=real.long(), use_cache=False).logits.float()
        losses = F.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
        )
        total += float(losses)
        count += int((labels[:, 1:] != IGNORED).sum())
    model.train(was_training)
    return total / max(count, 1)


def _named(paths: tuple[str, ...]) -> tuple[str, ...]:
    if paths:
        return paths
    raise InvalidInput(
        say("no file of demonstrations is named"),
        right=say("data=FILE, .json or .jsonl"),
    )


def _trainer(spec: SftSpec, desk: Desk, model: Any, chat: Chat, rows: Sequence[Encoded]) -> Any:
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    # Tokens and labels are ready, so the library neither writes conversations nor cuts them in its own way.
    data = Dataset.from_list([{"input_ids": list(row.ids), "labels": row.labels} for row in rows])
    settings = settled(SFTConfig, arguments(desk, spec) | {"max_length": spec.length, "packing": spec.packing})
    kind = trainer_of(SFTTrainer, desk)
    return in_order(kind(model=model, args=settings, train_dataset=data, processing_class=chat.tokenizer), spec)
