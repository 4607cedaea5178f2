"""Direct preference optimisation: -log sigmoid(beta x difference of log ratios), no reward model (lifecycle.md 4)."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from glassworks.evidence.statistics import wilson_interval
from glassworks.training.ppo.losses import token_log_probs
from glassworks.training.stages.base import Desk, Facts, needed
from glassworks.training.stages.chat import Chat, Encoded, padded
from glassworks.training.stages.laying import Manner
from glassworks.training.stages.opened import open_start
from glassworks.training.stages.quiet_trainers import quiet_library
from glassworks.training.stages.reward import PairedSpec, encoded_pairs
from glassworks.training.stages.sharding import start_kept, trainer_of
from glassworks.training.stages.spread import in_order, settled
from glassworks.training.stages.trainer import arguments, fit, learner_of, save_model

# Rows of a forward pass when answers are weighed.
_ROWS = 16


class DpoSpec(PairedSpec):
    """Learning from preferences at once: the policy itself is the reward model, measured against where it started."""

    has_reference: ClassVar[bool] = True

    kind: Literal["dpo"] = "dpo"
    beta: float = Field(default=0.1, gt=0)
    """How dear divergence from the start is, in units of reward per nat."""

    def run(self, desk: Desk) -> Facts:
        """Trains; leaves the policy's folder."""
        needed("trl")
        opened = open_start(self, desk)
        found = self.pairs()
        learned, judged = (encoded_pairs(opened.chat, some, self.length) for some in (found.fit, found.held_out))
        reference = opened.reference(Manner(desk.options.device))
        model = learner_of(desk, opened.model, self)
        with quiet_library():
            fit(dpo_trainer(self, desk, model, reference, opened.chat, learned), desk)
        wins, chosen = preferred(model, reference, judged, opened.chat)
        save_model(desk, model, opened.tokenizer)
        interval = wilson_interval(round(wins * len(judged)), len(judged))
        return {
            "pairs": len(learned),
            "held_out": len(judged),
            "pairs_too_long": len(found.fit) + len(found.held_out) - len(learned) - len(judged),
            "held_out_accuracy": wins,
            "held_out_accuracy_low": interval.low,
            "held_out_accuracy_high": interval.high,
            "held_out_chosen_log_ratio": chosen,
        } | found.left_out


def dpo_trainer(
    spec: DpoSpec,
    desk: Desk,
    model: Any,
    reference: PreTrainedModel,
    chat: Chat,
    pairs: Sequence[tuple[Encoded, Encoded]],
) -> Any:
    """TRL's trainer on pairs in tokens, which it takes as they are."""
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    class Ready(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *rest: Any, **more: Any) -> Any:
            """The tokens as they are: the library would write and cut conversations in its own way."""
            return dataset

    rows = [
        {
            "prompt_ids": _front(c),
            "chosen_ids": _own(c),
            "rejected_ids": _own(r),
            "prompt": "",
            "chosen": "",
            "rejected": "",
        }
        for c, r in _equal_fronts(pairs)
    ]
    settings = settled(DPOConfig, arguments(desk, spec) | {"max_length": spec.length, "beta": spec.beta})
    with start_kept(desk):
        trainer = trainer_of(Ready, desk)(
            model=model,
            # With adapters the start is the model without them.
            ref_model=None if spec.lora else reference,
            args=settings,
            train_dataset=Dataset.from_list(rows),
            processing_class=chat.tokenizer,
        )
    return in_order(trainer, spec)


@torch.no_grad()
def answer_log_probs(model: Any, rows: Sequence[Encoded], chat: Chat) -> Tensor:
    """The log-probability of each row's answer, in nats."""
    fill = chat.tokenizer.pad_token_id
    assert isinstance(fill, int), "a chat has a padding token"
    was_training = model.training
    model.eval()
    found: list[Tensor] = []
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        ids, real = (tensor.to(model.device) for tensor in padded([row.ids for row in part], fill, "right"))
        said, _ = padded([[int(x) for x in row.answers] for row in part], 0, "right")
        logits = model(input_ids=ids, attention_mask=real.long(), use_cache=False).logits
        each = token_log_probs(logits[:, :-1], ids[:, 1:])
        found.append((each * said[:, 1:].to(each.device)).sum(1).cpu())
    model.train(was_training)
    return torch.cat(found)


def preferred(model: Any, reference: Any, pairs: Sequence[tuple[Encoded, Encoded]], chat: Chat) -> tuple[float, float]:
    """Share of pairs whose chosen answer gained more against the reference, and the chosen answers' mean log ratio in nats."""
    chosen, rejected = (
        answer_log_probs(model, rows, chat) - answer_log_probs(reference, rows, chat)
        for rows in ([c for c, _ in pairs], [r for _, r in pairs])
    )
    return float((chosen > rejected).float().mean()), float(chosen.mean())


def dpo_loss(policy: tuple[Tensor, Tensor], reference: tuple[Tensor, Tensor], beta: float) -> Tensor:
    """The loss of pairs from log-probabilities of (chosen, rejected), eq. 7 of Rafailov et al. 2023; one number per pair."""
    margin = (policy[0] - reference[0]) - (policy[1] - reference[1])
    return -F.logsigmoid(beta * margin)


def _front(row: Encoded) -> list[int]:
    return list(row.ids[: row.answers.index(True)])


def _own(row: Encoded) -> list[int]:
    return list(row.ids[row.answers.index(True) :])


def _equal_fronts(pairs: Sequence[tuple[Encoded, Encoded]]) -> list[tuple[Encoded, Encoded]]:
    """Both answers after one prompt: where one of them forced the prompt to be cut, the other's is cut alike."""
    found: list[tuple[Encoded, Encoded]] = []
    for chosen, rejected in pairs:
        shorter = min(len(_front(chosen)), len(_front(rejected)))
        both = [
            Encoded(tuple(_cut(row, shorter)), (False,) * shorter + (True,) * len(_own(row)))
            for row in (chosen, rejected)
        ]
        found.append((both[0], both[1]))
    return found


def _cut(row: Encoded, length: int) -> list[int]:
    front = _front(row)
    return front[:1] + front[len(front) - length + 1 :] + _own(row) if len(front) > length else list(row.ids)
