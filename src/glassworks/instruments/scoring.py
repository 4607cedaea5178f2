"""What a model said against the text and against another model: loss and divergence at each token."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.anatomy.tokens import TokenBatch


def log_probabilities(logits: Float[Tensor, "*any vocabulary"]) -> Float[Tensor, "*any vocabulary"]:
    """Logarithms of the probabilities, in float32 at least."""
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), -1)


def losses(
    logs: Float[Tensor, "batch position vocabulary"], batch: TokenBatch, is_causal: bool
) -> Float[np.ndarray, "batch position"]:
    """-log p of the token to be said at each position, in nats; NaN where the text does not tell and on padding.

    For a causal model that is the next token; for one that looks ahead the token that stands there.
    """
    ids, real = batch.ids.to(logs.device), batch.real.to(logs.device)
    said, known = ids, real
    if is_causal:
        said, known = ids.roll(-1, 1), real & real.roll(-1, 1)
        known[:, -1] = False
    found = -logs.gather(-1, said[..., None])[..., 0]
    return torch.where(known, found, torch.nan).double().cpu().numpy()


def divergences(
    logs: Float[Tensor, "batch position vocabulary"],
    others: Float[Tensor, "batch position vocabulary"],
    batch: TokenBatch,
) -> Float[np.ndarray, "batch position"]:
    """KL(first || other) at each position, in nats; exactly 0 for equal ones, NaN on padding."""
    # A token that the first never says costs nothing, also where both say so with minus infinity.
    terms = torch.where(logs.isneginf(), 0.0, logs.exp() * (logs - others.to(logs.device)))
    real = batch.real.to(logs.device)
    return torch.where(real, terms.sum(-1), torch.nan).double().cpu().numpy()
