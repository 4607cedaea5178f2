"""What capture and edits need of a subject; the subject itself is built on top of them."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from glassworks.anatomy.desk import AttentionDesk
from glassworks.anatomy.places import Anatomy
from glassworks.anatomy.tokens import TokenBatch


@runtime_checkable
class Examined(Protocol):
    """A model that can be run while it is listened to; `Subject` is one."""

    @property
    def model(self) -> nn.Module:
        """The untouched model."""
        ...

    @property
    def anatomy(self) -> Anatomy:
        """Where its parts are."""
        ...

    @property
    def desk(self) -> AttentionDesk:
        """The shared watch on its attention."""
        ...

    @property
    def modules(self) -> frozenset[str]:
        """All module paths."""
        ...

    @property
    def gathered_on(self) -> torch.device | None:
        """Where tensors of different layers are brought together; None where all layers compute on one device."""
        ...

    def forward(self, batch: TokenBatch) -> Tensor:
        """The plain model's logits."""
        ...
