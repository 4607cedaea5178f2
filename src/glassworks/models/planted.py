"""The induction head built by hand as three sums of outer products (birth.md 2.3): it solves the task untrained."""

import torch
from jaxtyping import Float
from torch import Tensor

from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.spec import TransformerSpec
from glassworks.models.transformer import build_model
from glassworks.tasks import Bigram
from glassworks.tensors.seeds import Seed

# Each stored pair scores this before the softmax: large enough to saturate it (birth.md 2.3, b = 20).
PAIR_SCORE = 20.0


def planted_induction_head(
    spec: TransformerSpec, task: Bigram, seed: Seed, *, all_tokens: bool = True
) -> GlassworksForCausalLM:
    """A simplified model (identity query, no norm) whose W_K^1, W_K^2, W_O^2 are the memories of birth.md 2.3.

    `all_tokens` stores every character in W_K^2; otherwise only the task's fixed triggers.
    """
    model = build_model(spec, seed)
    first, second = (layer.self_attn for layer in model.model.layers)
    tokens = model.model.embed_tokens.weight.detach()
    places = model.model.position_vectors(task.longest).detach()
    scale = spec.sizes.scale
    written = tokens @ (first.o_proj.weight @ first.v_proj.weight).detach().T
    carried = tokens @ second.v_proj.weight.detach().T
    fixed = task.fixed_triggers
    asked = slice(None) if all_tokens or fixed is None else list(fixed)
    with torch.no_grad():
        # W_K^1 = sum_t p_t p_{t-1}^T, W_K^2 = sum_k w_E(k) w_1(k)^T, W_O^2 = sum_k w_U(k) (W_V^2 w_E(k))^T
        first.k_proj.weight.copy_(_memory(places[1:], places[:-1], PAIR_SCORE / scale))
        second.k_proj.weight.copy_(_memory(tokens[asked], written[asked], PAIR_SCORE / scale))
        second.o_proj.weight.copy_(_memory(model.lm_head.weight.detach(), carried, PAIR_SCORE))
    return model


def _memory(
    answers: Float[Tensor, "pair width"], asks: Float[Tensor, "pair width"], score: float
) -> Float[Tensor, "width width"]:
    """sum_i answer_i ask_i^T, with the gain at which a stored pair scores `score` on average."""
    gain = (answers.square().sum(1) * asks.square().sum(1)).mean()
    return answers.T @ asks * (score / gain)
