"""A model that is cut into shards from the outset: each process makes room for its own part alone, and fills it.

Its form comes from a config and takes no memory. Its numbers come, part by part, out of mapped safetensors files, out of the
generator that draws them, or, where a file has them in another form, out of the whole model, which one process at a time
then holds for a moment.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.folders import tokenizer_in, weight_files
from glassworks.models.hollow import Hollow, StoredNumbers, hollow_from
from glassworks.models.load import load
from glassworks.models.pretrained import Wanted, pretrained_tokenizer
from glassworks.tensors.processes import in_turn, own_part, world
from glassworks.training.stages.base import Desk
from glassworks.training.stages.folder import folder_of
from glassworks.training.stages.sharding import cut, hollow

Rows = Callable[[slice], Tensor]
Numbers = Iterable[tuple[str, Rows]]
"""Tensors by name; of each, some rows may be asked for."""


@dataclass(frozen=True, eq=False)
class Laid:
    """A model that lies over the processes."""

    model: Any
    learner: Any
    """The model with adapters around it; the model itself without."""
    hollow: nn.Module
    """The learner without numbers, to put it together in."""


@dataclass(frozen=True)
class Manner:
    """How a model is cut."""

    device: torch.device
    adapt: Callable[[Any], Any] = lambda model: model
    """Puts adapters around it."""
    add: bool = False
    """Whether gradients of the processes are added up instead of averaged."""


def lay(model: nn.Module, numbers: Numbers, manner: Manner, named: Callable[[str], str] = str) -> Laid:
    """Cuts a model whose parameters take no memory, and fills each process's part with `numbers`, in place.

    `named` gives the name under which the numbers of one of the model's tensors come. Parameters that have numbers keep
    them. Nothing is sent: each process reads or draws for itself.
    """
    places = _places(model, named)
    learner = _adapted(model, manner.adapt)
    bare = hollow(learner)
    cut(learner, manner.device, add=manner.add)
    _make_room(learner, manner.device)
    for name, rows in numbers:
        for module, own in places.pop(name, ()):
            _fill(_own(module)[own].detach(), rows)
    assert not places, f"no numbers for {next(iter(places))}"
    return Laid(model, learner, bare)


def _adapted(model: nn.Module, adapt: Callable[[Any], Any]) -> Any:
    """The model with adapters, which have numbers: their library puts them where it finds the weights beside them.

    So parameters without memory are held to be on the CPU meanwhile, as one number seen everywhere.
    """
    stood: list[tuple[nn.Module, str, nn.Parameter]] = []
    one: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, bare in [*module.named_parameters(recurse=False)]:
            if bare.is_meta:
                seen = torch.zeros((), dtype=bare.dtype).expand(bare.shape)
                setattr(module, name, one.setdefault(id(bare), nn.Parameter(seen, bare.requires_grad)))
                stood.append((module, name, bare))
    learner = adapt(model)
    for module, name, bare in stood:
        # Adapters leave weights where they are, and decide which of them learn.
        bare.requires_grad = _own(module)[name].requires_grad
        setattr(module, name, bare)
    return learner


def _own(module: nn.Module) -> dict[str, Tensor]:
    """A module's own tensors, without those of its parts."""
    return dict[str, Tensor](module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))


def _places(model: nn.Module, named: Callable[[str], str]) -> dict[str, list[tuple[nn.Module, str]]]:
    """Where numbers are wanted, by the name under which they come: parameters without memory, and kept buffers.

    A tensor with two names is filled once.
    """
    kept, seen = model.state_dict().keys(), set[int]()
    found: dict[str, list[tuple[nn.Module, str]]] = {}
    for path, module in model.named_modules():
        for own, tensor in _own(module).items():
            name = f"{path}.{own}".lstrip(".")
            if name not in kept or id(tensor) in seen:
                continue
            seen.add(id(tensor))
            if tensor.is_meta or not isinstance(tensor, nn.Parameter):
                found.setdefault(named(name), []).append((module, own))
    return found


def _make_room(model: nn.Module, device: torch.device) -> None:
    """Memory for this process's part of every parameter that has none; parameters that are one stay one."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in [*module.named_parameters(recurse=False)]:
            if parameter.is_meta:
                room = made.get(id(parameter))
                if room is None:
                    empty = torch.empty_like(parameter, device=device)
                    room = made[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
                setattr(module, name, room)
    # Has FSDP2 look at its parameters anew.
    nn.Module.to(model, device)


@torch.no_grad()
def _fill(tensor: Tensor, rows: Rows) -> None:
    """This process's part of a tensor, which FSDP2 cuts along its first dimension."""
    own = own_part(tensor)
    if own is tensor:
        tensor.copy_(rows(slice(None)))
        return
    each = -(-tensor.shape[0] // world().size)
    first = min(world().rank * each, tensor.shape[0])
    if len(own):
        own.copy_(rows(slice(first, first + len(own))))


def from_files(found: Hollow) -> Iterator[tuple[str, Rows]]:
    """The numbers of a folder, by the model's names for them."""
    stored = StoredNumbers(weight_files(found.folder))
    try:
        for name, held in found.names.items():
            yield name, partial(stored.rows, held)
    finally:
        stored.close()


def fill_from_checkpoint(model: nn.Module, folder: Path) -> None:
    """Fills what is trained of a model that is cut from a state that was kept whole, of its weights or its adapters.

    Raises InvalidInput where its files have the numbers in another form than the model.
    """
    adapters = folder / "adapter_model.safetensors"
    stored = StoredNumbers([adapters] if adapters.is_file() else weight_files(folder))
    names = stored.names
    one: dict[int, list[str]] = {}
    for name, tensor in model.named_parameters(remove_duplicate=False):
        one.setdefault(id(tensor), []).append(name.replace(".default.", ".") if adapters.is_file() else name)
    try:
        for tensor in model.parameters():
            held = next((name for name in one[id(tensor)] if name in names), None)
            if held is not None and stored.shape(held) == tuple(tensor.shape):
                _fill(tensor.detach(), partial(stored.rows, held))
            elif tensor.requires_grad:
                raise InvalidInput(
                    say(
                        "the state in {path} cannot be cut into shards: {name}",
                        path=str(folder),
                        name=one[id(tensor)][0],
                    ),
                    right=say("the same command without --shard, or without that folder to train from the start"),
                )
    finally:
        stored.close()


def from_tensors(tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Rows]]:
    """The numbers of tensors that are there."""
    for name, tensor in tensors:
        yield name, partial(_some, tensor)


def _some(tensor: Tensor, rows: slice) -> Tensor:
    return tensor[rows] if tensor.ndim else tensor


def _tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


@dataclass(frozen=True)
class About:
    """What is known of a model beside its numbers."""

    tokenizer: Any
    """The library's, an alphabet, or None."""
    kind: str
    """What it learns from a text: the "next" token, "hidden" ones, or "gaps"."""
    context: int | None
    """The longest text in tokens; None where there is no bound."""


class Source:
    """A model folder, file or name that a stage starts from, laid over the processes as often as it is wanted.

    `about` is what is known of it, `form` the model without its numbers.
    """

    def __init__(self, source: str, device: torch.device) -> None:
        self.source, self.device = source, device
        # A group of its own, so that no process makes it in another's turn.
        init_device_mesh(device.type, (world().size,))
        folder = folder_of(source)
        # An alphabet of a toy world is read with its model.
        is_folder = folder is not None and folder.is_dir() and not (folder / "world.json").is_file()
        self._found = hollow_from(folder) if folder is not None and is_folder else None
        if self._found is None:
            self.about, self.form = self._told()
        else:
            self.about, self.form = self._read(self._found), self._found.model

    def laid(
        self,
        manner: Manner,
        made: Callable[[Any], nn.Module] | None = None,
        named: Callable[[str], str] = str,
    ) -> Laid:
        """The model cut into shards, or another that `made` builds of the model without its numbers.

        `named` gives the model's own name of a tensor that the other one has.
        """
        change = made or _unchanged
        if self._found is not None:
            return lay(change(hollow(self.form, buffers=False)), from_files(self._found), manner, named)
        with in_turn():
            whole: Any = load(self.source, device="cpu", dtype="float32").model
            return lay(change(hollow(whole, buffers=False)), from_tensors(_tensors_of(whole)), manner, named)

    def _read(self, found: Hollow) -> About:
        model, folder = found.model, found.folder
        wanted = Wanted(torch.float32, torch.device("cpu"))
        tokenizer = pretrained_tokenizer(str(folder), wanted) if tokenizer_in(folder) else None
        kind = "gaps" if model.config.is_encoder_decoder else "next" if model.can_generate() else "hidden"
        settings = model.config.get_text_config().to_dict()
        context = settings.get("max_position_embeddings") or settings.get("n_positions")
        return About(tokenizer, kind, context)

    def _told(self) -> tuple[About, Any]:
        with in_turn():
            subject = load(self.source, device="cpu", dtype="float32")
            anatomy = subject.anatomy
            kind = "gaps" if anatomy.has_source else "next" if anatomy.causal else "hidden"
            return About(subject.tokenizer, kind, anatomy.context), hollow(subject.model, buffers=False)


def _unchanged(model: Any) -> Any:
    return model


def is_laid(desk: Desk) -> bool:
    """Whether a stage's models are cut into shards: that was asked for, and there are several processes."""
    return desk.options.shard and not world().is_alone
