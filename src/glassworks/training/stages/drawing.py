"""Answers drawn from a policy, each by a chance of its own: who else is in the batch, and in which process, changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from glassworks.models.generating import NO_HABITS
from glassworks.tensors.seeds import Seed
from glassworks.training.stages.chat import padded

Prompt = tuple[int, ...]
# Devices that know float64, in which even the rarest token of a large alphabet is drawn as often as it should be.
_EXACT = ("cpu", "cuda")


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


@dataclass(frozen=True)
class Drawn:
    """One answer, its end included where it came to one."""

    answer: Prompt
    ended: bool
    """Whether it came to its end before the limit."""


def draw(policy: nn.Module, prompts: Sequence[Prompt], drawing: Drawing, seed: Seed, first: int = 0) -> list[Drawn]:
    """One answer to each prompt, drawn from the policy alone: no likeliest-tokens cut, which ratios could not know of.

    The prompts are those from place `first` on of all that are answered by this seed; an answer depends on its place, not on
    the prompts beside it.
    """
    config = GenerationConfig(
        # Chance comes in below; what the library leaves to choose from is one token.
        do_sample=False,
        **NO_HABITS,
        max_new_tokens=drawing.longest,
        eos_token_id=drawing.end,
        pad_token_id=drawing.fill,
    )
    device = next(policy.parameters()).device
    ids, real = padded(prompts, drawing.fill, "left")
    chance = chances(len(prompts), drawing.longest, seed, first).to(device)
    was_training = policy.training
    policy.eval()
    with torch.no_grad():
        made: Tensor = cast(Any, policy).generate(
            ids.to(device),
            attention_mask=real.long().to(device),
            generation_config=config,
            logits_processor=LogitsProcessorList([ByChance(chance, drawing.temperature)]),
        )
    policy.train(was_training)
    return [_cut(row, drawing.end) for row in cast(list[list[int]], made[:, ids.shape[1] :].tolist())]


def chances(count: int, longest: int, seed: Seed, first: int = 0) -> Float[Tensor, "answer position"]:
    """A number in [0, 1) for each token of each answer, from the seed and the answer's place alone; float64."""
    rows = [
        torch.rand(longest, dtype=torch.float64, generator=seed.child("answer", first + place).generator())
        for place in range(count)
    ]
    return torch.stack(rows)


class ByChance(LogitsProcessor):
    """Leaves one token to each row: the first at which the sum of probabilities passes the row's number (inverse transform)."""

    def __init__(self, chance: Float[Tensor, "answer position"], temperature: float) -> None:
        self.chance, self.temperature, self.place = chance, temperature, 0

    def __call__(
        self, input_ids: Int[Tensor, "answer position"], scores: Float[Tensor, "answer token"]
    ) -> Float[Tensor, "answer token"]:
        """The next token of every answer has 0, all others minus infinity."""
        kind = torch.float64 if scores.device.type in _EXACT else torch.float32
        sums = (scores.to(kind) / self.temperature).softmax(-1).cumsum(-1)
        wanted = self.chance[:, self.place, None].to(kind) * sums[:, -1:]
        # Rounding may put the very largest numbers behind the last token.
        token = torch.searchsorted(sums, wanted, right=True).clamp(max=scores.shape[-1] - 1)
        self.place += 1
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


def _cut(row: list[int], end: int) -> Drawn:
    stop = row.index(end) + 1 if end in row else len(row)
    return Drawn(tuple(row[:stop]), row[stop - 1] == end)
