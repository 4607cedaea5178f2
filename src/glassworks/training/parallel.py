"""How a training lies over its processes: whole in one, copied to each (DDP), or cut into shards (FSDP2)."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.nn.parallel import DistributedDataParallel
from transformers import PreTrainedModel

from glassworks.tensors.processes import World, check_shards, spread, summed, world
from glassworks.training.building import build_untrained
from glassworks.training.objectives import Forward
from glassworks.training.spec import TrainingSpec


@dataclass(frozen=True)
class MicroBatch:
    """Sequences of a batch that go through the model at a time."""

    rows: slice
    """Their places in the whole batch, which every process draws alike."""
    is_last: bool
    """Whether the gradients of all processes are added up after it."""
    counts: bool = True
    """False where a process has run out of sequences and reads one only to take part."""


class Layout(ABC):
    """What the processes of a training do together; the loop is the same for all layouts."""

    def __init__(self, here: World, device: torch.device) -> None:
        self.here, self.device = here, device

    @property
    def can_freeze_later(self) -> bool:
        """Whether parameters may begin to ask for gradients after the first step."""
        return True

    @abstractmethod
    def build(self, spec: TrainingSpec) -> PreTrainedModel:
        """The model before its first step, on the device, in the form that it is trained in."""

    @abstractmethod
    def forward_of(self, model: PreTrainedModel, *, compile: bool) -> Forward:
        """What is called to read a micro-batch."""

    @abstractmethod
    def accumulating(self, micro: MicroBatch) -> AbstractContextManager[None]:
        """Surrounds the forward and backward pass of a micro-batch."""

    def micro_batches(self, size: int, largest: int) -> list[MicroBatch]:
        """This process's part of a batch of `size` sequences, at most `largest` at a time; as many for every process."""
        own = self.here.share(size)
        most = max(_length(self.here.share_of(rank, size)) for rank in range(self.here.size))
        count = -(-most // largest)
        starts = [own.start + number * largest for number in range(count)]
        return [
            MicroBatch(slice(start, min(start + largest, own.stop)), number == count - 1)
            if start < own.stop
            else MicroBatch(slice(0, 1), number == count - 1, counts=False)
            for number, start in enumerate(starts)
        ]

    def rows(self, size: int) -> slice:
        """This process's own sequences of a batch."""
        return self.here.share(size)

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        return summed(tensor)

    @abstractmethod
    def sum_gradients(self, model: nn.Module) -> None:
        """Adds up the gradients where the passes themselves did not: of sequences that were read in pieces."""

    @abstractmethod
    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the training as plain ones on the CPU in the first process; other processes may get nothing."""

    @abstractmethod
    def fill(self, tensor: Tensor, source: Tensor | None) -> None:
        """Puts the first process's numbers into a tensor of the training; the others give None."""

    @property
    def is_sharded(self) -> bool:
        """Whether no process holds the whole state."""
        return False


class Alone(Layout):
    """One process, which has everything."""

    def build(self, spec: TrainingSpec) -> PreTrainedModel:
        """The model on the device."""
        model = build_untrained(spec)
        nn.Module.to(model, self.device)
        return model

    def forward_of(self, model: PreTrainedModel, *, compile: bool) -> Forward:
        """The model itself."""
        return torch.compile(model, dynamic=False) if compile else model

    def accumulating(self, micro: MicroBatch) -> AbstractContextManager[None]:
        """Nothing to do."""
        return nullcontext()

    def sum_gradients(self, model: nn.Module) -> None:
        """There is nobody to add to; the gradients are whole."""
        assert self.here.is_alone, "one process"

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies: tied and expanded tensors share memory, and the originals change with the next step."""
        return {name: tensor.detach().clone().cpu() for name, tensor in tensors.items()}

    def fill(self, tensor: Tensor, source: Tensor | None) -> None:
        """Copies."""
        assert source is not None, "one process reads for itself"
        with torch.no_grad():
            tensor.copy_(source)


class Replicated(Layout):
    """Every process has the whole model and optimiser; gradients are added up by DDP while the backward pass runs."""

    def __init__(self, here: World, device: torch.device) -> None:
        super().__init__(here, device)
        self._wrapped: DistributedDataParallel | None = None

    @property
    def can_freeze_later(self) -> bool:
        """DDP asks once, when it is made, which parameters take part."""
        return False

    def build(self, spec: TrainingSpec) -> PreTrainedModel:
        """The model on the device; the seed makes it the same everywhere, up to what machines compute differently."""
        model = build_untrained(spec)
        nn.Module.to(model, self.device)
        for tensor in (*model.parameters(), *model.buffers()):
            spread(tensor.detach())
        return model

    def forward_of(self, model: PreTrainedModel, *, compile: bool) -> Forward:
        """The model in DDP, which adds gradients up; where nothing is trained there are none."""
        if not any(parameter.requires_grad for parameter in model.parameters()):
            return model
        self._wrapped = DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            init_sync=False,
            forward_sync_buffers=False,
            # A mixer may leave a parameter out of a short sequence; it then gets no gradient, as in one process.
            find_unused_parameters=True,
        )
        # Each process's loss is its share of the mean over the whole batch, so gradients are added, not averaged.
        self._wrapped.register_comm_hook(None, _sum_of_bucket)
        return torch.compile(self._wrapped, dynamic=False) if compile else self._wrapped

    def accumulating(self, micro: MicroBatch) -> AbstractContextManager[None]:
        """Gradients stay here until the last micro-batch."""
        return nullcontext() if micro.is_last or self._wrapped is None else self._wrapped.no_sync()

    def sum_gradients(self, model: nn.Module) -> None:
        """Adds up all gradients in one message: DDP hears only of passes through itself."""
        found = [p for p in model.parameters() if p.requires_grad]
        if not found:
            return
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in found])
        used = torch.tensor([float(p.grad is not None) for p in found], device=flat.device)
        parts = summed(flat).split([p.numel() for p in found])
        for parameter, part, count in zip(found, parts, summed(used).tolist(), strict=True):
            parameter.grad = part.view_as(parameter).clone() if count else None

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of the first process's; the others are equal."""
        if not self.here.is_first:
            return {}
        return {name: tensor.detach().clone().cpu() for name, tensor in tensors.items()}

    def fill(self, tensor: Tensor, source: Tensor | None) -> None:
        """Copies in the first process, and tells the others."""
        with torch.no_grad():
            if source is not None:
                tensor.copy_(source)
            spread(tensor)


def layout_of(device: torch.device, *, shard: bool) -> Layout:
    """The layout for the processes that there are. Raises InvalidInput for a single one that is to be sharded."""
    check_shards(shard)
    here = world()
    if here.is_alone:
        return Alone(here, device)
    if shard:
        from glassworks.training.sharded import Sharded

        return Sharded(here, device)
    return Replicated(here, device)


def _length(part: slice) -> int:
    return part.stop - part.start


def _sum_of_bucket(_: None, bucket: GradBucket) -> torch.futures.Future[Tensor]:
    """DDP's hook: the sum of a bucket of gradients over all processes, while the backward pass goes on."""
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])
