"""Models whose weights are set by hand, so that what an instrument must find is known before it looks.

Plain modules of torch, on purpose of no library's shape: nothing of ours or of transformers is in them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

VOCABULARY = 31
POSITIONS = 64
WIDTH = 256
# Every stored pair scores this much before the softmax: saturated, as birth.md 2.3 asks.
PAIR_SCORE = 20.0


class Attention(nn.Module):
    """One head of full width, identity query: score(t -> s) = x_t W_K x_s / sqrt(width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = x[:, None], self.key(x)[:, None], self.value(x)[:, None]
        return self.output(F.scaled_dot_product_attention(query, key, value, is_causal=True)[:, 0])


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = Attention(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x)


class Places(nn.Module):
    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)

    def forward(self, length: int) -> Tensor:
        return self.vectors[:length]


class Decoder(nn.Module):
    """w_E + p_t, attention-only layers, W_U: the simplified model of birth.md 2.2."""

    def __init__(self, layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.places = Places(_near_orthonormal(POSITIONS, generator))
        self.blocks = nn.ModuleList([Layer(WIDTH) for _ in range(layers)])
        self.unembed = nn.Linear(WIDTH, VOCABULARY, bias=False)
        with torch.no_grad():
            self.tokens.weight.copy_(_near_orthonormal(VOCABULARY, generator))
            self.unembed.weight.copy_(_near_orthonormal(VOCABULARY, generator))
            for layer in self.blocks:
                for part in (layer.attention.key, layer.attention.value, layer.attention.output):
                    part.weight.copy_(torch.randn(WIDTH, WIDTH, generator=generator) / WIDTH**0.5)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.places(ids.shape[1])
        for block in self.blocks:
            x = block(x)
        return self.unembed(x)


def _near_orthonormal(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, WIDTH, generator=generator) / WIDTH**0.5


def _memory(answers: Tensor, asks: Tensor, score: float) -> Tensor:
    """sum_i answer_i ask_i^T with the gain at which a stored pair scores `score`."""
    return answers.T @ asks * (score / (answers.square().sum(1) * asks.square().sum(1)).mean())


@torch.no_grad()
def previous_token_head() -> Decoder:
    """Layer 0 attends to the position before: W_K = sum_t p_t p_{t-1}^T."""
    model = Decoder(2, torch.Generator().manual_seed(0))
    places = model.places.vectors
    model.blocks[0].attention.key.weight.copy_(_memory(places[1:], places[:-1], PAIR_SCORE * WIDTH**0.5))
    return model


@torch.no_grad()
def induction_head() -> Decoder:
    """The three sums of outer products of birth.md 2.3.

    Predicts what followed the last occurrence of a token.
    """
    model = previous_token_head()
    first, second = (block.attention for block in model.blocks)
    tokens = model.tokens.weight
    written = tokens @ (first.output.weight @ first.value.weight).T
    carried = tokens @ second.value.weight.T
    second.key.weight.copy_(_memory(tokens, written, PAIR_SCORE * WIDTH**0.5))
    second.output.weight.copy_(_memory(model.unembed.weight, carried, PAIR_SCORE))
    return model


@torch.no_grad()
def duplicate_token_head() -> Decoder:
    """Layer 0 attends to equal tokens.

    W_K = sum_k w_E(k) w_E(k)^T, on the part of w_E that no position shares.
    """
    model = Decoder(1, torch.Generator().manual_seed(1))
    basis = torch.linalg.qr(model.places.vectors.T).Q
    tokens = model.tokens.weight - model.tokens.weight @ basis @ basis.T
    model.blocks[0].attention.key.weight.copy_(_memory(tokens, tokens, PAIR_SCORE * WIDTH**0.5))
    return model


@torch.no_grad()
def first_token_sink() -> Decoder:
    """Layer 0 attends to position 0 from everywhere: W_K = sum_t p_t p_0^T."""
    model = Decoder(1, torch.Generator().manual_seed(2))
    places = model.places.vectors
    model.blocks[0].attention.key.weight.copy_(
        _memory(places, places[:1].expand(POSITIONS, -1), PAIR_SCORE * WIDTH**0.5)
    )
    return model


@torch.no_grad()
def copying_layer() -> Decoder:
    """Layer 0 does nothing; layer 1 looks at its own token and writes it into the output.

    The model says what it reads.
    """
    model = Decoder(2, torch.Generator().manual_seed(3))
    first, second = (block.attention for block in model.blocks)
    first.output.weight.zero_()
    tokens, places = model.tokens.weight, model.places.vectors
    second.key.weight.copy_(_memory(places, places, PAIR_SCORE * WIDTH**0.5))
    second.output.weight.copy_(_memory(model.unembed.weight, tokens @ second.value.weight.T, PAIR_SCORE))
    return model
