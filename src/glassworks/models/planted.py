"""The induction head built by hand as three sums of outer products (birth.md 2.3): it solves the task untrained."""

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.spec import TransformerSpec
from glassworks.models.transformer import build_model
from glassworks.tasks import Bigram
from glassworks.tensors.seeds import Seed

# What each stored pair contributes to its own score, on average, before the softmax: enough to saturate it (birth.md
# 2.3, b = 20). Cross-talk with the other pairs comes on top.
PAIR_SCORE = 20.0


def planted_induction_head(
    spec: TransformerSpec, task: Bigram, seed: Seed, *, all_tokens: bool = True
) -> GlassworksForCausalLM:
    """A simplified model (identity query, no norm) whose W_K^1, W_K^2, W_O^2 are the memories of birth.md 2.3.

    `all_tokens` stores every character in W_K^2; otherwise only the task's fixed triggers.
    """
    model = build_model(spec, seed)
    decoder = model.model
    with torch.no_grad():
        tokens, places = decoder.token_vectors, decoder.position_vectors(task.longest)
        written = tokens @ (decoder.matrix(0, "output") @ decoder.matrix(0, "value")).T
        carried = tokens @ decoder.matrix(1, "value").T
        fixed = task.fixed_triggers
        stored = torch.arange(len(tokens)) if all_tokens or fixed is None else torch.tensor(fixed)
        score = PAIR_SCORE / spec.sizes.scale
        # W_K^1 = sum_t p_t p_{t-1}^T, W_K^2 = sum_k w_E(k) w_1(k)^T, W_O^2 = sum_k w_U(k) (W_V^2 w_E(k))^T
        decoder.matrix(0, "key").copy_(_memory(places[1:], places[:-1], score))
        decoder.matrix(1, "key").copy_(_memory(tokens[stored], written[stored], score))
        decoder.matrix(1, "output").copy_(_memory(model.lm_head.weight, carried, PAIR_SCORE))
    return model


def _memory(
    answers: Float[Tensor, "pair width"], asks: Float[Tensor, "pair width"], score: float
) -> Float[Tensor, "width width"]:
    """sum_i answer_i ask_i^T, with the gain at which a stored pair scores `score` on average."""
    gain = (answers.square().sum(1) * asks.square().sum(1)).mean()
    return answers.T @ asks * (score / gain)
