"""A training whose weights, gradients and optimiser are cut into shards, one for each process (FSDP2)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from glassworks.models.blocks import Block
from glassworks.tensors.processes import World, spread
from glassworks.training.building import build_hollow, build_untrained
from glassworks.training.objectives import Forward
from glassworks.training.parallel import Layout, MicroBatch
from glassworks.training.spec import TrainingSpec


class Sharded(Layout):
    """Each process holds about 1/N of every layer; a layer is put together while it computes."""

    def __init__(self, here: World, device: torch.device) -> None:
        super().__init__(here, device)
        self.mesh = init_device_mesh(device.type, (here.size,))

    @property
    def can_freeze_later(self) -> bool:
        """FSDP2 asks once, at the first pass, which parameters take part."""
        return False

    @property
    def is_sharded(self) -> bool:
        """It is."""
        return True

    def build(self, spec: TrainingSpec) -> PreTrainedModel:
        """The sharded model. The first process alone draws its numbers; the others never hold more than a layer."""
        model = build_hollow(spec)
        for module in model.modules():
            if isinstance(module, Block):
                self._shard(module)
        self._shard(model)
        nn.Module.to(model, self.device)
        source: dict[str, Tensor] = {}
        if self.here.is_first:
            plain = build_untrained(spec)
            source = dict(plain.named_parameters()) | dict(plain.named_buffers())
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self.fill(tensor, source.get(name))
        return model

    def _shard(self, module: nn.Module) -> None:
        cut = fully_shard(module, mesh=self.mesh)
        # Each process's loss is its share of the mean over the whole batch, so gradients are added, not averaged.
        cut.set_gradient_divide_factor(1.0)
        cut.set_force_sum_reduction_for_comms(True)

    def forward_of(self, model: PreTrainedModel, *, compile: bool) -> Forward:
        """The model; compiled layer by layer, between the messages that put a layer together."""
        if compile:
            for module in model.modules():
                if isinstance(module, Block):
                    module.compile(dynamic=False)
        return model

    def accumulating(self, micro: MicroBatch) -> AbstractContextManager[None]:
        """Nothing to do: gradients are added up and cut after every micro-batch, so that no process holds all of them."""
        return nullcontext()

    def sum_gradients(self, model: nn.Module) -> None:
        """They are: FSDP2 hears every backward pass through a layer."""
        assert isinstance(model, FSDPModule), "as `build` made it"

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put together one at a time, and kept by the first process."""
        found: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
            if self.here.is_first:
                found[name] = full.detach().clone().cpu()
        return found

    def fill(self, tensor: Tensor, source: Tensor | None) -> None:
        """The first process cuts its numbers and sends each of the others its own."""
        with torch.no_grad():
            if not isinstance(tensor, DTensor):
                if source is not None:
                    tensor.copy_(source)
                spread(tensor)
                return
            full = torch.empty(tensor.shape, dtype=tensor.dtype, device=self.device)
            if source is not None:
                full.copy_(source)
            tensor.copy_(distribute_tensor(full, self.mesh, tensor.placements))
