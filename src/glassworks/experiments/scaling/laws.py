"""The law of loss over parameters and data, its best split of a budget, and the laws that were published (lifecycle.md 5).

L(N, D) = E + A / N^alpha + B / D^beta, with compute C = 6 N D. No torch: plans and reports read this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

NATS_PER_TOKEN, BITS_PER_BYTE = "nats per token", "bits per byte"
# Multiplications and additions of a forward and backward pass, per parameter and token.
FLOP_PER_PARAMETER_AND_TOKEN = 6.0
# The same of a forward pass alone.
FLOP_PER_PARAMETER_READ = 2.0
NUMBERS = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True)
class Law:
    """Five constants and the unit of the loss that they give."""

    irreducible: float
    """E: what no size and no data take away."""
    size_factor: float
    """A."""
    data_factor: float
    """B."""
    alpha: float
    """The power of parameters."""
    beta: float
    """The power of tokens."""
    unit: str = NATS_PER_TOKEN

    def loss(self, parameters: int | float, tokens: int | float) -> float:
        """The loss of a model of this size after so many tokens, in `unit`."""
        size = self.size_factor * parameters**-self.alpha
        return self.irreducible + size + self.data_factor * tokens**-self.beta

    @property
    def size_power(self) -> float:
        """a: the best number of parameters grows as C^a."""
        return self.beta / (self.alpha + self.beta)

    @property
    def data_power(self) -> float:
        """b: the best number of tokens grows as C^b; a + b = 1."""
        return self.alpha / (self.alpha + self.beta)

    def best_parameters(self, flop: int | float) -> float:
        """The size with the lowest loss for a budget of operations."""
        ratio = (self.alpha * self.size_factor) / (self.beta * self.data_factor)
        balance = ratio ** (1 / (self.alpha + self.beta))
        return balance * (flop / FLOP_PER_PARAMETER_AND_TOKEN) ** self.size_power

    def best_tokens(self, flop: int | float) -> float:
        """The tokens that this size can then read."""
        return flop / (FLOP_PER_PARAMETER_AND_TOKEN * self.best_parameters(flop))

    def tokens_for(self, loss: int | float, parameters: int | float) -> float:
        """Tokens after which a model of this size has reached a loss; infinity where it never does."""
        left = loss - self.irreducible - self.size_factor * parameters**-self.alpha
        return math.inf if left <= 0 else (self.data_factor / left) ** (1 / self.beta)

    def numbers(self) -> Float[np.ndarray, " number"]:
        """The constants in the order of `NUMBERS`."""
        return np.array([self.irreducible, self.size_factor, self.data_factor, self.alpha, self.beta])

    @classmethod
    def of_numbers(cls, numbers: Float[np.ndarray, " number"], unit: str = NATS_PER_TOKEN) -> Law:
        """The law of constants in the order of `NUMBERS`."""
        e, a, b, alpha, beta = (float(number) for number in numbers)
        return cls(e, a, b, alpha, beta, unit)


HOFFMANN = Law(1.69, 406.4, 410.7, 0.34, 0.28)
BESIROGLU = Law(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
PUBLISHED: Mapping[str, Law] = {"hoffmann": HOFFMANN, "besiroglu": BESIROGLU}


@dataclass(frozen=True)
class Model:
    """A model whose size and data were published."""

    name: str
    parameters: int | float
    tokens: int | float

    @property
    def flop(self) -> int | float:
        """What its training costs."""
        return FLOP_PER_PARAMETER_AND_TOKEN * self.parameters * self.tokens


GOPHER, CHINCHILLA = Model("Gopher", 280e9, 300e9), Model("Chinchilla", 70e9, 1.4e12)
# lifecycle.md 3, 4, 5: models whose sizes and data are spoken of beside these two.
MODELS = (
    GOPHER, CHINCHILLA, Model("GPT-3", 175e9, 300e9), Model("LLaMA 7B", 6.7e9, 1.0e12), Model("LLaMA 13B", 13.0e9, 1.0e12),
    Model("LLaMA 65B", 65.3e9, 1.4e12), Model("Llama 2 70B", 69.0e9, 2.0e12),
)  # fmt: skip


def break_even(bits: float, other_bits: float, model_bytes: int | float) -> float:
    """Bytes of text from which on a model with its weights is smaller than a compressor; infinity where it never is."""
    return math.inf if bits >= other_bits else 8 * model_bytes / (other_bits - bits)
