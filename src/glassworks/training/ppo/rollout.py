"""Sampling answers from a policy, and reading them once more with policy, reference and critic."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import GenerationConfig

from glassworks.models.generating import NO_CUTS, NO_HABITS
from glassworks.tensors.seeds import Seed
from glassworks.training.ppo.losses import entropy, token_log_probs
from glassworks.training.ppo.models import Networks
from glassworks.training.stages.chat import padded

Prompt = tuple[int, ...]


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


def rollout_of(prompts: Sequence[Prompt], answers: Sequence[Prompt], ends: Sequence[bool], fill: int) -> Rollout:
    """Rows from prompts and answers in tokens."""
    rows = [(*prompt, *answer) for prompt, answer in zip(prompts, answers, strict=True)]
    ids, real = padded(rows, fill, "right")
    begins = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    places = torch.arange(1, ids.shape[1])[None]
    said = (places >= begins) & real[:, 1:]
    return Rollout(ids, real, said, tuple(prompts), tuple(answers), torch.tensor(list(ends)))


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn."""

    longest: int
    """Tokens of an answer at most."""
    temperature: float
    end: int
    """The token that ends an answer."""
    fill: int
    """The token of padding."""


def sample(policy: nn.Module, prompts: Sequence[Prompt], drawing: Drawing, seed: Seed) -> Rollout:
    """One answer to each prompt, drawn from the policy alone: no likeliest-tokens cut, which the ratios could not know of."""
    # Said only where it undoes a habit: the library sorts the whole alphabet for it at every token.
    least = {} if cast(Any, policy).generation_config.min_p is None else {"min_p": 0.0}
    config = GenerationConfig(
        do_sample=True,
        temperature=drawing.temperature,
        **NO_HABITS,
        **NO_CUTS,
        **least,
        max_new_tokens=drawing.longest,
        eos_token_id=drawing.end,
        pad_token_id=drawing.fill,
    )
    device = next(policy.parameters()).device
    ids, real = padded(prompts, drawing.fill, "left")
    was_training = policy.training
    policy.eval()
    with torch.no_grad(), torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []):
        torch.manual_seed(seed.value % 2**63)
        made: Tensor = cast(Any, policy).generate(
            ids.to(device), attention_mask=real.long().to(device), generation_config=config
        )
    policy.train(was_training)
    answers: list[Prompt] = []
    ended: list[bool] = []
    for row in cast(list[list[int]], made[:, ids.shape[1] :].tolist()):
        stop = row.index(drawing.end) + 1 if drawing.end in row else len(row)
        answers.append(tuple(row[:stop]))
        ended.append(row[stop - 1] == drawing.end)
    return rollout_of(prompts, answers, ended, drawing.fill)


def look(networks: Networks, rollout: Rollout, temperature: float = 1.0, rows: int = 16) -> Looked:
    """Log-probabilities, values, KL and entropy under the networks as they are now, without gradients.

    So many rows are read at a time: the predictions of all of them would not fit beside a large alphabet.
    """
    parts: list[tuple[Tensor, ...]] = []
    with torch.no_grad():
        for places in torch.arange(len(rollout)).split(rows):
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
    return Looked(*(torch.cat(column) for column in zip(*parts, strict=True)))


def logits_of(model: nn.Module, rollout: Rollout) -> Float[Tensor, "sample place token"]:
    """The predictions of every token but the first."""
    found = cast(Any, model)(input_ids=rollout.ids, attention_mask=rollout.real.long(), use_cache=False)
    return found.logits[:, :-1]


def values_of(networks: Networks, rollout: Rollout) -> Float[Tensor, "sample place"]:
    """The critic's value before every token but the first."""
    return networks.critic(rollout.ids, rollout.real)[:, :-1]
