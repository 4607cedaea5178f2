"""A checkpoint in shards: each process writes its own safetensors file, by torch's distributed checkpoint."""

import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from glassworks.core.errors import BrokenFile
from glassworks.core.files import read_json, sync_folder, write_json, writing
from glassworks.core.text import say
from glassworks.tensors.processes import from_all, own_part, wait_for_all, world

if TYPE_CHECKING:
    from glassworks.training.store import Progress, StoreEntry

# Folders that are being written; one that a killed process left is removed by the next.
PARTIAL = "checkpoint.partial"
_INDEX = "checkpoint.json"


@dataclass(frozen=True)
class Shards:
    """A whole checkpoint in shards."""

    path: Path
    names: list[str]
    numbers: frozenset[str]
    """Names of single numbers, which lie in the shards as lists of one."""
    progress: "Progress"


def shards_path(folder: Path, step: int) -> Path:
    """Where the shards of the state after `step` steps lie."""
    return folder / f"checkpoint-{step:08d}"


def found_shards(folder: Path) -> list[Path]:
    """The whole checkpoints in shards below the folder of a training, oldest first."""
    return sorted(path for path in folder.glob("checkpoint-*") if path.is_dir())


def open_shards(path: Path) -> Shards:
    """What a folder of shards says of itself; BrokenFile where a shard is missing or has another size."""
    from glassworks.training.store import Progress

    found = read_json(path / _INDEX)
    try:
        files = {str(name): int(size) for name, size in found["files"].items()}
        names, numbers = [str(name) for name in found["names"]], frozenset(map(str, found["numbers"]))
        shards = Shards(path, names, numbers, Progress.from_json(found))
    except (KeyError, ValueError, TypeError, AttributeError) as problem:
        raise _broken(path, repr(problem)) from None
    for name, size in files.items():
        shard = path / name
        if Path(name).name != name or not shard.is_file() or shard.stat().st_size != size:
            raise _broken(path, name)
    return shards


def write_shards(entry: "StoreEntry", tensors: Mapping[str, Tensor], progress: "Progress") -> None:
    """Every process writes its shards; the folder takes its name when all are on disk, and former checkpoints go.

    A process killed on the way leaves the former checkpoint as it was. All processes must see the same folder.
    """
    partial, here = entry.path / PARTIAL, world()
    if here.is_first:
        shutil.rmtree(partial, ignore_errors=True)
        with writing(partial):
            partial.mkdir(parents=True)
    wait_for_all()
    with writing(partial):
        save_together(partial, tensors)
    own = sorted(partial.glob(f"shard-{here.rank + 1:05d}-*.safetensors"))
    for path in own:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    sizes = from_all({path.name: path.stat().st_size for path in own})
    if here.is_first:
        files = {name: size for part in sizes for name, size in part.items()}
        numbers = [name for name, tensor in tensors.items() if not tensor.shape]
        index = {"names": list(tensors), "numbers": numbers, "files": files}
        write_json(partial / _INDEX, progress.to_json() | index)
        with writing(partial):
            place = shards_path(entry.path, progress.step)
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
            sync_folder(entry.path)
        entry.forget_checkpoints(but=place)
    wait_for_all()


def read_shards(shards: Shards, tensors: Mapping[str, Tensor]) -> None:
    """All processes fill their tensors from shards of any layout; BrokenFile where one cannot be read."""
    load_together(shards.path, tensors)


def load_together(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """All processes fill their tensors from a folder that `save_together` left; BrokenFile where one cannot be read."""
    room = _with_a_dimension(tensors)
    _load(path, room, together=not world().is_alone)
    for name, tensor in tensors.items():
        if not tensor.shape:
            tensor.copy_(room[name][0])


def read_whole(shards: Shards) -> dict[str, Tensor]:
    """All tensors of a checkpoint in shards, put together by this process alone; BrokenFile where one cannot be read."""
    import torch
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    try:
        described = HuggingFaceStorageReader(str(shards.path)).read_metadata().state_dict_metadata
    except Exception as problem:  # safetensors has an error of its own, which is a bare Exception
        raise _broken(shards.path, str(problem)) from None
    room: dict[str, Tensor] = {}
    for name in shards.names:
        one = described.get(name)
        if not isinstance(one, TensorStorageMetadata):
            raise _broken(shards.path, name)
        room[name] = torch.empty(one.size, dtype=one.properties.dtype)
    _load(shards.path, room, together=False)
    return {name: tensor[0] if name in shards.numbers else tensor for name, tensor in room.items()}


def _load(path: Path, room: Mapping[str, Tensor], *, together: bool) -> None:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(path))
    try:
        with warnings.catch_warnings():
            # That a single process reads is meant so.
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            load(dict[str, Any](room), storage_reader=reader, no_dist=not together)
    except (CheckpointException, Exception) as problem:  # the first is no Exception; safetensors' own is a bare one
        reason = str(problem).strip().splitlines() or [type(problem).__name__]
        raise _broken(path, reason[-1]) from None


def save_together(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """All processes write their parts of some tensors into a folder, as safetensors; OSError as it comes."""
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(path), save_distributed=True)
    try:
        save(dict[str, Any](_apart(_with_a_dimension(tensors))), storage_writer=writer)
    except CheckpointException as problem:
        causes = [cause for cause, _ in problem.failures.values() if isinstance(cause, OSError)]
        raise (causes[0] if causes else RuntimeError(str(problem))) from None


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tied weights as tensors of their own, for safetensors writes no memory twice."""
    taken: set[int] = set()
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = own_part(tensor).untyped_storage().data_ptr()
        found[name] = tensor.detach().clone() if place in taken else tensor
        taken.add(place)
    return found


def _with_a_dimension(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Single numbers as lists of one, which have a place in a shard."""
    return {name: tensor if tensor.shape else tensor.reshape(1) for name, tensor in tensors.items()}


def _broken(path: Path, reason: str) -> BrokenFile:
    return BrokenFile(
        say("{path} is no whole checkpoint: {reason}", path=str(path), reason=reason),
        right=say("delete it to train from the start"),
    )
