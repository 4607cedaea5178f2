"""The three networks of PPO: the policy that writes, a critic that foresees the reward, the reference that stays."""

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.core.errors import StrangeModel
from glassworks.core.text import say


class Critic(nn.Module):
    """The value of every position: the body of a language or reward model with one number read from its stream."""

    def __init__(self, body: PreTrainedModel, width: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, 1)
        # Values begin at 0 everywhere: before anything was seen the whitened return is the best guess of an advantage.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, ids: Int[Tensor, "sample position"], real: Bool[Tensor, "sample position"]
    ) -> Float[Tensor, "sample position"]:
        """The value expected after each position, in units of reward."""
        stream = cast(Any, self.body)(input_ids=ids, attention_mask=real.long(), use_cache=False).last_hidden_state
        # Its one number, summed: of a view FSDP2 warns that changes in place would go unheard.
        return self.head(stream.float()).sum(-1)


def critic_from(model: PreTrainedModel) -> Critic:
    """A critic on a copy of a model's body; where the model is a reward model, its scale is the head's beginning.

    Raises StrangeModel for a model whose body cannot be told from its head.
    """
    body = copy.deepcopy(model.base_model)
    width = model.config.get_text_config().hidden_size
    if body is model or not isinstance(body, PreTrainedModel) or not isinstance(width, int):
        raise StrangeModel(
            say("no body without head was found in this model"),
            given=type(model).__name__,
            right=say("a model of the transformers library with a base_model"),
        )
    critic = Critic(body, width)
    heads = [
        m for name, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == 1 and "." not in name
    ]
    if heads and heads[0].in_features == width:
        with torch.no_grad():
            critic.head.weight.copy_(heads[0].weight)
    return critic


@dataclass(frozen=True)
class Networks:
    """What a training by reinforcement works with."""

    policy: nn.Module
    """A decoder of the library, perhaps with adapters around it."""
    critic: Critic
    reference: PreTrainedModel
    """Never trained; in evaluation mode."""


def networks_of(policy: PreTrainedModel, critic: Critic | None = None) -> Networks:
    """Policy, its frozen copy as reference, and a critic, which starts from the policy unless given."""
    reference = copy.deepcopy(policy).eval()
    reference.requires_grad_(False)
    return Networks(policy, critic or critic_from(policy), reference)
