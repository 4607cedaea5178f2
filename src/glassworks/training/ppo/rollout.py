"""Sampling answers from a policy, and reading them once more with policy, reference and critic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from glassworks.tensors.seeds import Seed
from glassworks.training.ppo.losses import entropy, token_log_probs
from glassworks.training.ppo.models import Networks
from glassworks.training.stages.chat import padded
from glassworks.training.stages.drawing import Drawing, Prompt, draw


@dataclass(frozen=True, eq=False)
class Rollout:
    """Prompts with sampled answers, one row each, padded on the right."""

    ids: Int[Tensor, "sample position"]
    real: Bool[Tensor, "sample position"]
    said: Bool[Tensor, "sample place"]
    """Whether token `place + 1` is of the answer, its end included; one column less than `ids`."""
    prompts: tuple[Prompt, ...]
    answers: tuple[Prompt, ...]
    ended: Bool[Tensor, " sample"]
    """Whether an answer came to its end before the limit."""

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def lengths(self) -> Int[Tensor, " sample"]:
        """Tokens of each answer."""
        return self.said.sum(1)

    def part(self, rows: Int[Tensor, " row"]) -> "Rollout":
        """Some of the rows."""
        listed = cast(list[int], rows.tolist())
        return Rollout(
            self.ids[rows],
            self.real[rows],
            self.said[rows],
            tuple(self.prompts[row] for row in listed),
            tuple(self.answers[row] for row in listed),
            self.ended[rows],
        )


@dataclass(frozen=True, eq=False)
class Looked:
    """What the networks say of a rollout before any update; all per token of `said`, 0 elsewhere."""

    log_probs: Float[Tensor, "sample place"]
    reference: Float[Tensor, "sample place"]
    values: Float[Tensor, "sample place"]
    divergence: Float[Tensor, "sample place"]
    """KL(policy || reference) of each prediction, over the whole alphabet, in nats; never negative."""
    entropy: Float[Tensor, "sample place"]

    @property
    def columns(self) -> tuple[Float[Tensor, "sample place"], ...]:
        """All of them, in the order of the fields."""
        return self.log_probs, self.reference, self.values, self.divergence, self.entropy

    def part(self, rows: Int[Tensor, " row"]) -> "Looked":
        """Some of the rows."""
        return Looked(*(column[rows] for column in self.columns))

    def on(self, device: torch.device | str) -> "Looked":
        """The same on a device."""
        return Looked(*(column.to(device) for column in self.columns))


def joined_looks(parts: Sequence[Looked], places: int) -> Looked:
    """Rows of several looks under each other, all widened to so many places."""
    columns = zip(*([F.pad(c, (0, places - c.shape[1])) for c in part.columns] for part in parts), strict=True)
    return Looked(*(torch.cat(column) for column in columns))


def rollout_of(prompts: Sequence[Prompt], answers: Sequence[Prompt], ends: Sequence[bool], fill: int) -> Rollout:
    """Rows from prompts and answers in tokens."""
    rows = [(*prompt, *answer) for prompt, answer in zip(prompts, answers, strict=True)]
    ids, real = padded(rows, fill, "right")
    begins = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    places = torch.arange(1, ids.shape[1])[None]
    said = (places >= begins) & real[:, 1:]
    return Rollout(ids, real, said, tuple(prompts), tuple(answers), torch.tensor(list(ends)))


def sample(policy: nn.Module, prompts: Sequence[Prompt], drawing: Drawing, seed: Seed, first: int = 0) -> Rollout:
    """One answer to each prompt, drawn from the policy alone; `first` is the place of the first prompt among all of the seed."""
    drawn = draw(policy, prompts, drawing, seed, first)
    return rollout_of(prompts, [one.answer for one in drawn], [one.ended for one in drawn], drawing.fill)


def look(networks: Networks, rollout: Rollout, temperature: float = 1.0, rows: int = 16, passes: int = 0) -> Looked:
    """Log-probabilities, values, KL and entropy under the networks as they are now, without gradients.

    So many rows are read at a time: the predictions of all of them would not fit beside a large alphabet. At least `passes`
    times the networks are read: those in shards are put together by all processes, of which another may have more rows.
    """
    parts: list[tuple[Tensor, ...]] = []
    pieces = list(torch.arange(len(rollout)).split(rows))
    idle = max(0, passes - len(pieces))
    with torch.no_grad():
        for places in (*pieces, *[pieces[-1]] * idle):
            part = rollout.part(places)
            ours, theirs = (
                logits_of(model, part).float() / temperature for model in (networks.policy, networks.reference)
            )
            logs, reference = ours.log_softmax(-1), theirs.log_softmax(-1)
            next_ids = part.ids[:, 1:]
            told = (
                token_log_probs(ours, next_ids),
                token_log_probs(theirs, next_ids),
                values_of(networks, part),
                (logs.exp() * (logs - reference)).sum(-1),
                entropy(ours),
            )
            parts.append(tuple(numbers * part.said for numbers in told))
    return Looked(*(torch.cat(column) for column in zip(*parts[: len(pieces)], strict=True)))


def logits_of(model: nn.Module, rollout: Rollout) -> Float[Tensor, "sample place token"]:
    """The predictions of every token but the first."""
    found = cast(Any, model)(input_ids=rollout.ids, attention_mask=rollout.real.long(), use_cache=False)
    return found.logits[:, :-1]


def values_of(networks: Networks, rollout: Rollout) -> Float[Tensor, "sample place"]:
    """The critic's value before every token but the first."""
    return networks.critic(rollout.ids, rollout.real)[:, :-1]
