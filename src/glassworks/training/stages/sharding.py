"""A stage's weights, gradients and optimiser cut into shards, one for each process (FSDP2), the same on CPU and GPU.

The library's Trainer takes FSDP2 on accelerators only (on a CPU it copies the model to every process and says nothing), and
keeps no optimiser of a model that was cut before it came. So the cutting, and the states to go on from, are ours; the rest
of the Trainer works as ever.
"""

import copy
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from glassworks.core.files import writing
from glassworks.tensors.processes import summed, wait_for_all, world
from glassworks.training.shards import load_together, save_together
from glassworks.training.stages.base import Desk, LearningSpec

SHARDS = "shards"
"""Folder inside a checkpoint where each process writes its part of weights and optimiser."""
# The library's own names inside a checkpoint.
_OPTIMISER, _SCHEDULE = "optimizer.pt", "scheduler.pt"

# Numbers of a message in which gradients are added up: few enough to fit beside them, enough to be worth the way.
_MESSAGE = 25_000_000


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The layers of a model, those that its authors say may not be split; none where they do not say."""
    names: set[str] = set()
    for part in model.modules():
        if isinstance(part, PreTrainedModel):
            names |= set(part._no_split_modules or ())  # pyright: ignore[reportPrivateUsage] - the library's own word for it
    # From the inside out, as they have to be cut.
    return [part for part in model.modules() if type(part).__name__ in names][::-1]


def cut(model: nn.Module, device: torch.device, *, add: bool = False) -> None:
    """Cuts a model in place, layer by layer: each process keeps about 1/N of every weight.

    Gradients of the processes are averaged, or added up where `add` is true. Nothing is sent; parameters may lie on meta.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world().size,))
    root = _root_of(model)
    for part in (*blocks_of(model), root):
        made = fully_shard(part, mesh=mesh)
        if add:
            made.set_gradient_divide_factor(1.0)
            made.set_force_sum_reduction_for_comms(True)
    if isinstance(root, PreTrainedModel):
        # By this sign `generate` goes on in all processes until the last answer has ended.
        cast(Any, root)._is_fsdp_managed_module = True


def is_cut(model: nn.Module) -> bool:
    """Whether a model was cut into shards."""
    from torch.distributed.fsdp import FSDPModule

    return any(isinstance(part, FSDPModule) for part in model.modules())


def close(model: nn.Module) -> None:
    """Takes apart again what a pass without gradients left put together; nothing for a model that is whole."""
    from torch.distributed.fsdp import FSDPModule

    for part in model.modules():
        if isinstance(part, FSDPModule):
            part.reshard()


def _root_of(model: nn.Module) -> nn.Module:
    """The outermost model of the library that holds all weights: what is around it (adapters) is passed by in `generate`."""
    count = sum(1 for _ in model.parameters())
    found = (part for part in model.modules() if isinstance(part, PreTrainedModel))
    return next((part for part in found if sum(1 for _ in part.parameters()) == count), model)


def hollow(model: nn.Module, *, buffers: bool = True) -> Any:
    """A copy of a model without its numbers, for `put_together`; takes no memory for weights.

    Where `buffers` is false these are copied with their numbers.
    """
    taken: dict[int, Any] = {}
    for tensor in (*model.parameters(), *(model.buffers() if buffers else ())):
        bare = torch.empty_like(tensor, device="meta")
        taken[id(tensor)] = nn.Parameter(bare, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else bare
    return copy.deepcopy(model, taken)


def put_together(hollow: nn.Module, model: nn.Module) -> nn.Module:
    """The hollow copy with the numbers of a model that was cut, in the first process; all processes call it together."""
    found: dict[str, Tensor] = {}
    for name, tensor in (*model.named_parameters(remove_duplicate=False), *model.named_buffers()):
        full = whole(tensor)
        if world().is_first:
            found[name] = full.detach().cpu()
    if world().is_first:
        # One tensor under two names stays one.
        shared: dict[int, Tensor] = {}
        for name, bare in (*hollow.named_parameters(remove_duplicate=False), *hollow.named_buffers()):
            owner, _, own = name.rpartition(".")
            held = shared.setdefault(id(bare), found[name])
            part = hollow.get_submodule(owner)
            filled = nn.Parameter(held, bare.requires_grad) if isinstance(bare, nn.Parameter) else held
            shared[id(bare)] = filled
            # A module puts it where the bare one was, among its weights or its buffers.
            setattr(part, own, filled)
    for name, part in hollow.named_modules():
        if isinstance(part, PreTrainedModel):
            # What a stage has settled since.
            settled = cast(Any, model.get_submodule(name))
            part.config = settled.config
            if settled.can_generate():
                part.generation_config = settled.generation_config
    return hollow


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its shards, in every process; all call it together."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def laid_out(tensor: Tensor, like: Tensor) -> Tensor:
    """The first process's numbers as another tensor lies: cut as it is, on its device; all call it together."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    tensor = tensor.to(like.device)
    return distribute_tensor(tensor, like.device_mesh, like.placements) if isinstance(like, DTensor) else tensor


def add_gradients(weights: Iterable[nn.Parameter]) -> None:
    """Adds up the gradients of all processes, in messages of about 100 MB; the graph must be the same in all."""
    if world().is_alone:
        return
    waiting: list[Tensor] = []
    for gradient in (weight.grad for weight in weights if weight.grad is not None):
        waiting.append(gradient)
        if sum(one.numel() for one in waiting) > _MESSAGE:
            _add(waiting)
            waiting = []
    _add(waiting)


def _add(tensors: Sequence[Tensor]) -> None:
    if tensors:
        flat = summed(torch.cat([tensor.flatten() for tensor in tensors]))
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


def with_start(model: Any) -> Any:
    """A model with adapters and the second set of them, named "ref", that the library compares trained ones with."""
    model.add_adapter("ref", model.peft_config["default"])
    return model


@contextmanager
def start_kept(desk: Desk) -> Generator[None]:
    """Has the library use the adapters of `with_start`, where the model is cut: those it adds itself would not be."""
    model = desk.learner
    if model is None or not (isinstance(desk.spec, LearningSpec) and desk.spec.lora):
        yield
        return
    model.__dict__["add_adapter"] = _nothing_added
    try:
        yield
    finally:
        del model.__dict__["add_adapter"]


def _nothing_added(name: str, _: object) -> None:
    """What stands for PeftModel.add_adapter where the adapters of that name are there."""
    assert name == "ref", "the one that the library adds"


def trainer_of(kind: type[Any], desk: Desk) -> type[Any]:
    """A trainer of the library that takes up states of any layout, and cuts its model where the desk says so."""
    is_cut = desk.options.shard and not world().is_alone
    return type(kind.__name__, (AnyLayout, kind), {"is_cut": is_cut})


class AnyLayout:
    """Put before a trainer of the library: its states go on whole or in shards, on any number of processes."""

    model: Any
    optimizer: Any
    lr_scheduler: Any
    args: Any
    accelerator: Any
    is_distributed_loading_by_transformers: bool
    is_cut: bool = False
    """Whether the model is cut into shards."""

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: Any) -> Any:
        """Has the trainer leave placement and gradients to a model that is cut."""
        if self.is_cut:
            # Its shards are what the optimiser is to change.
            close(self.model)
            self.is_distributed_loading_by_transformers = True
        return cast(Any, super())._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Generator[None]:
        """Gradients are cut after every pass, so that no process ever holds all of them."""
        yield

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The whole model; nothing where it is cut: then the weights lie in shards beside the optimiser."""
        if not self.is_cut:
            cast(Any, super()).save_model(output_dir, _internal_call)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_cut:
            cast(Any, super())._save_optimizer_and_scheduler(output_dir)
            return
        folder = Path(output_dir) / SHARDS
        if self.args.should_save:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        wait_for_all()
        save_together(folder, self._live())
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / _SCHEDULE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """The weights of a state that was kept whole; those of one in shards are read with the optimiser."""
        folder = Path(resume_from_checkpoint)
        if (folder / SHARDS).is_dir():
            return
        if not self.is_cut:
            cast(Any, super())._load_from_checkpoint(resume_from_checkpoint, model)
            return
        from glassworks.training.stages.laying import fill_from_checkpoint

        close(self.model)
        fill_from_checkpoint(self.model, folder)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        shards = folder / SHARDS
        if not self.is_cut and not shards.is_dir():
            cast(Any, super())._load_optimizer_and_scheduler(checkpoint)
            return
        self._make_room()
        if shards.is_dir():
            with torch.no_grad():
                load_together(shards, self._live())
        else:
            self._fill_from(torch.load(folder / _OPTIMISER, map_location="cpu", weights_only=True, mmap=True)["state"])
        self.lr_scheduler.load_state_dict(torch.load(folder / _SCHEDULE, weights_only=True))
        # A schedule knows the rate of the next step, but tells the optimiser only after it.
        for group, rate in zip(self.optimizer.param_groups, self.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate

    def _live(self) -> dict[str, Tensor]:
        """What training changes, by name, as it is in use: trained weights, and what the optimiser remembers of each."""
        close(self.model)
        found: dict[str, Tensor] = {}
        for name, weight in self.model.named_parameters():
            if weight.requires_grad:
                found[f"weight/{name}"] = weight.detach()
                found |= {f"{key}/{name}": value for key, value in self.optimizer.state[weight].items()}
        return found

    def _make_room(self) -> None:
        """Has the optimiser make its memory, by a step of length 0 that changes nothing."""
        groups = self.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        for group in groups:
            group["lr"] = 0.0
            for weight in group["params"]:
                weight.grad = torch.zeros_like(weight)
        self.optimizer.step()
        self.optimizer.zero_grad()
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate

    def _fill_from(self, kept: dict[int, dict[str, Tensor]]) -> None:
        """Fills the optimiser's memory from one that was kept whole, weights by their number."""
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        with torch.no_grad():
            for number, weight in enumerate(weights):
                for key, value in self.optimizer.state[weight].items():
                    value.copy_(laid_out(kept[number][key], value))
