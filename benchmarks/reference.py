"""The other side of each ratio: the published recipe, written plainly from its description (docs/papers/birth.md).

A plain Python and numpy loop for the data, and a straightforward eager float32 PyTorch model for the equations of
section 2.2. Nothing of Glassworks is used here, so that both sides stay independent.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sample_sequence(rng: np.random.Generator, unigram: np.ndarray, bigram: np.ndarray, triggers: int, length: int):
    """One sequence of section 1.1, token by token: tokens, and how often each trigger occurred."""
    size = len(unigram)
    chosen = rng.choice(size, triggers, replace=False, p=unigram)
    outputs = {int(q): int(rng.integers(size)) for q in chosen}
    seen = dict.fromkeys(outputs, 0)
    tokens, occurrence = [int(rng.choice(size, p=unigram))], []
    for _ in range(length):
        token = tokens[-1]
        if token in outputs:
            seen[token] += 1
            occurrence.append(seen[token])
            tokens.append(outputs[token])
        else:
            occurrence.append(0)
            tokens.append(int(rng.choice(size, p=bigram[token])))
    return tokens, occurrence


def sample_batch(
    rng: np.random.Generator, unigram: np.ndarray, bigram: np.ndarray, triggers: int, size: int, length: int
):
    """A batch as tensors: inputs, targets, occurrence."""
    rows = [sample_sequence(rng, unigram, bigram, triggers, length) for _ in range(size)]
    tokens = torch.tensor([row[0] for row in rows])
    return tokens[:, :-1], tokens[:, 1:], torch.tensor([row[1] for row in rows])


class SimplifiedModel(nn.Module):
    """Section 2.2 in eager float32: one matrix a letter, explicit mask, scores and softmax."""

    def __init__(self, vocabulary: int, width: int, length: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)

        def uniform(*shape: int, trained: bool = False) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound), requires_grad=trained)

        self.embed = nn.Parameter(torch.randn(vocabulary, width), requires_grad=False)
        self.register_buffer("position", torch.randn(length, width))
        self.register_buffer("mask", torch.full((length, length), -torch.inf).triu(1))
        self.unembed = uniform(vocabulary, width)
        self.key_1, self.key_2 = uniform(width, width, trained=True), uniform(width, width, trained=True)
        self.value_1, self.output_1 = uniform(width, width), uniform(width, width)
        self.value_2, self.output_2 = uniform(width, width), uniform(width, width, trained=True)

    def attend(self, x: Tensor, key: Tensor, value: Tensor, output: Tensor) -> Tensor:
        """One layer: scores x W_K x / sqrt(d), softmax over the past, values, output."""
        scores = x @ (x @ key.T).transpose(-1, -2) / math.sqrt(x.shape[-1])
        weights = torch.softmax(scores + self.mask, dim=-1)
        return (weights @ (x @ value.T)) @ output.T

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits at every position."""
        x = self.embed[tokens] + self.position
        x = x + self.attend(x, self.key_1, self.value_1, self.output_1)
        x = x + self.attend(x, self.key_2, self.value_2, self.output_2)
        return x @ self.unembed.T


def training_step(model: SimplifiedModel, optimiser: torch.optim.Optimizer, batch: tuple[Tensor, ...]) -> float:
    """One published step: loss on in-context tokens; returns in-context accuracy before the update."""
    inputs, targets, occurrence = batch
    mask = occurrence >= 2
    logits = model(inputs)[mask]
    loss = F.cross_entropy(logits, targets[mask])
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return float((logits.argmax(-1) == targets[mask]).float().mean())


def published_optimiser(model: nn.Module, rate: float = 0.2) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum 0.9 and weight decay 1e-4."""
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate, momentum=0.9, weight_decay=1e-4)
