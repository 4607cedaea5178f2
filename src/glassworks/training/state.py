"""The state of a training as named tensors, kept and taken up again on any number of processes."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from glassworks.core.errors import BrokenFile
from glassworks.core.text import say
from glassworks.tensors.processes import from_first, own_part, wait_for_all
from glassworks.training.parallel import Layout
from glassworks.training.store import Checkpoint, Progress, StoreEntry


@dataclass(frozen=True)
class LiveState:
    """The tensors that a training goes on with: `model/<name>` and `optimiser/<key>/<parameter>`, as they are in use."""

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    optimiser: Optimizer

    def tensors(self) -> dict[str, Tensor]:
        """All of them by name; those of the optimiser once it has made them."""
        found: dict[str, Tensor] = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    found[f"optimiser/{key}/{name}"] = value
        return found

    def make_room(self, names: list[str], entry: StoreEntry) -> dict[str, Tensor]:
        """The tensors of these names, those of the optimiser made where it has none yet; BrokenFile where they do not fit."""
        for name in names:
            if not name.startswith("optimiser/"):
                continue
            _, key, parameter = [*name.split("/", 2), "", ""][:3]
            if parameter not in self.parameters:
                raise _foreign(entry, name)
            held = self.parameters[parameter]
            # AdamW counts its steps on the CPU whatever the device, one number for each parameter.
            self.optimiser.state[held][key] = torch.zeros(()) if key == "step" else torch.zeros_like(held)
        found = self.tensors()
        odd = sorted(set(found) ^ set(names))
        if odd:
            raise _foreign(entry, odd[0])
        return found


def take_up(entry: StoreEntry, live: LiveState, layout: Layout) -> Progress | None:
    """Puts the last checkpoint's numbers in place, whatever layout wrote it; None where there is none.

    Raises BrokenFile for one that is damaged or not of this training.
    """
    shards = from_first(entry.shards() if layout.here.is_first else None)
    if shards is not None and layout.is_sharded:
        from glassworks.training.shards import read_shards

        live_tensors = live.make_room(shards.names, entry)
        read_shards(shards, live_tensors)
        return shards.progress
    checkpoint = entry.load_checkpoint() if layout.here.is_first else None
    found = from_first(None if checkpoint is None else (list(checkpoint.tensors), checkpoint.progress))
    if found is None:
        return None
    names, progress = found
    for name, tensor in live.make_room(names, entry).items():
        source = None if checkpoint is None else checkpoint.tensors[name]
        if source is not None and source.shape != tensor.shape:
            raise _foreign(entry, name)
        layout.fill(tensor, source)
    return progress


def keep(entry: StoreEntry, live: LiveState, layout: Layout, progress: Progress) -> None:
    """Replaces the checkpoint: one file where a process has everything, else a folder with each process's shards."""
    if layout.is_sharded:
        from glassworks.training.shards import write_shards

        write_shards(entry, live.tensors(), progress)
        return
    tensors = layout.whole(live.tensors())
    if layout.here.is_first:
        entry.save_checkpoint(Checkpoint(tensors, progress))
    # A slow disk is no process that stands still: the patience of a step begins after it.
    wait_for_all()


def first_not_finite(tensors: Mapping[str, Tensor], layout: Layout) -> str | None:
    """The name of a tensor with NaN or infinity in any process, the same in all of them."""
    names = list(tensors)
    bad = torch.stack(
        [(~torch.isfinite(own_part(tensor)).all()).float().to(layout.device) for tensor in tensors.values()]
    )
    found = layout.summed(bad).nonzero()
    return names[int(found[0])] if len(found) else None


def _foreign(entry: StoreEntry, name: str) -> BrokenFile:
    return BrokenFile(
        say("the checkpoint in {path} is not of this training: {name} does not fit", path=str(entry.path), name=name),
        right=say("delete it to train from the start"),
    )
