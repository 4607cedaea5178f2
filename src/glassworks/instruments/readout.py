"""Final norm and head as the model applies them, in float32 whatever the model runs in, all tokens or chosen ones."""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from glassworks.anatomy.calls import stream_of
from glassworks.anatomy.offloaded import matrix_of, resident
from glassworks.anatomy.places import module_at
from glassworks.anatomy.subject import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say


@dataclass(frozen=True)
class Readout:
    """What turns the last layer's stream into logits: some modules, then one row of weights for each token.

    `rows` is None where the last module is no plain linear map onto the vocabulary (BERT's head); then it is
    among `modules`.
    """

    modules: tuple[nn.Module, ...]
    rows: Tensor | None
    offset: Tensor | None
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, subject: Subject) -> "Readout":
        """The readout of a model; raises InvalidInput where it has no head."""
        model, anatomy = subject.model, subject.anatomy
        if not anatomy.head and not anatomy.tied_head:
            raise InvalidInput(say("the model has no head, so there is nothing to read the stream with"))
        modules: list[nn.Module] = []
        for path in anatomy.readout:
            if path == anatomy.head and anatomy.head_scale != 1.0:
                modules.append(_Scale(anatomy.head_scale))
            modules.append(resident(module_at(model, path)))
        if any(p.dtype not in (torch.float32, torch.float64) for module in modules for p in module.parameters()):
            modules = [copy.deepcopy(module).float() for module in modules]
        first = next((p for module in modules for p in module.parameters()), None)
        dtype = torch.float32 if first is None else first.dtype
        device = subject.device if first is None else first.device
        if anatomy.tied_head:
            table = matrix_of(module_at(model, anatomy.embedding))
            return cls(tuple(modules), table.to(device, dtype), None, dtype, device)
        match modules:
            case [*before, nn.Linear() as head]:
                offset = None if head.bias is None else head.bias.detach()  # pyright: ignore[reportUnnecessaryComparison] - torch's stub forgets bias=False
                return cls(tuple(before), head.weight.detach(), offset, dtype, device)
            case _:
                return cls(tuple(modules), None, None, dtype, device)

    def __call__(self, stream: Float[Tensor, "*any width"]) -> Float[Tensor, "*any vocabulary"]:
        """Logits of all tokens."""
        return self.logits(self.normed(stream))

    def normed(self, stream: Float[Tensor, "*any width"]) -> Float[Tensor, "*any normed"]:
        """The stream through everything before the token rows."""
        state = stream.to(self.device, self.dtype)
        # The modules were made for a batch of sequences.
        state = state[None] if stream.ndim < 3 else state
        for module in self.modules:
            found = stream_of(module(state))
            assert found is not None
            state = found
        return state[0] if stream.ndim < 3 else state

    def logits(
        self, normed: Float[Tensor, "*any normed"], tokens: Int[Tensor, " chosen"] | None = None
    ) -> Float[Tensor, "*any said"]:
        """Logits of a stream that went through `normed`: of all tokens, or of those chosen."""
        if self.rows is None:
            return normed if tokens is None else normed[..., tokens]
        rows = self.rows if tokens is None else self.rows[tokens]
        offset = self.offset if tokens is None or self.offset is None else self.offset[tokens]
        return nn.functional.linear(normed, rows, offset)


class _Scale(nn.Module):
    """The stream times a number, as T5 has it before its head."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self._scale = scale

    def forward(self, stream: Tensor) -> Tensor:
        return stream * self._scale
