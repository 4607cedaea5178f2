"""Who this process is among those of one training, and what they tell each other."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from glassworks.core.errors import InvalidInput, Unavailable
from glassworks.core.text import say

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

Value = TypeVar("Value")

# Seconds that a process waits for the others in a step of training, unless another time is asked for.
PATIENCE = 600.0
# What one process does for all (spelling a corpus, judging a model) may take as long as it takes.
_ENDLESS = timedelta(days=30)
_PARENT_LOOKED_FOR_EVERY = 1.0
_ALIVE_TOLD_EVERY, _LONGEST_PAUSE = 1.0, 0.02
_GONE = "gone"
# Seconds for the step under way and its state, where whoever started this process is gone.
_LAST_STEP = 60


@dataclass(frozen=True)
class World:
    """The processes of one training, as torchrun numbers them; alone unless it started this one."""

    rank: int = 0
    """The place of this process among all of them, from 0."""
    size: int = 1
    """How many there are."""
    local_rank: int = 0
    """The place of this process among those on its machine."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody to wait for."""
        return self.size == 1

    def share(self, count: int) -> slice:
        """The part of `count` things in a row that is this process's own; the parts differ by one thing at most."""
        return self.share_of(self.rank, count)

    def share_of(self, rank: int, count: int) -> slice:
        """The part of `count` things in a row that belongs to a process."""
        return slice(rank * count // self.size, (rank + 1) * count // self.size)


def world() -> World:
    """The processes of this training, from the variables that torchrun sets (RANK, WORLD_SIZE, LOCAL_RANK).

    Alone where the first two are not both there as numbers: then something else left one of them.
    """
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if not (rank.isdecimal() and size.isdecimal()) or int(size) < 2:
        return World()
    return World(int(rank), int(size), int(os.environ.get("LOCAL_RANK", "0")))


def check_shards(shard: bool) -> None:
    """Raises InvalidInput where a training is to be cut into shards and there is one process."""
    if shard and world().is_alone:
        raise InvalidInput(
            say("one process cannot shard a training"), right=say("several: --launch 2 --shard, or no --shard")
        )


@contextmanager
def joined(device: torch.device, patience: float = PATIENCE) -> Generator[torch.device]:
    """Inside the `with`, this process can talk to the others; gives the device that is its own.

    Messages on a CPU go by gloo, those on a CUDA device by NCCL. A process that waits for another in a step for more than
    `patience` seconds raises RuntimeError (gloo) or is ended (NCCL). What the first does for all may take longer, as long as
    it gives signs of life: without any for `patience` seconds, RuntimeError. Nothing is done where the process is alone or
    joined already; a process group that the caller made is used and left, and those who stand still are not found in it.
    """
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    here = world()
    own = device if here.is_alone else _own_device(device, here)
    if here.is_alone or _Patient.group is not None:
        yield own
        return
    with _ended_with_its_parent():
        is_ours = not dist.is_initialized()
        if is_ours:
            common, rank, size = next(rendezvous("env://", here.rank, here.size))
            # A later `joined` of the same processes finds nothing of this one.
            store = PrefixStore(f"joined {next(_Patient.times)}", common)
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if own.type == "cuda" else "gloo",
                timeout=timedelta(seconds=patience),
                device_id=own if own.type == "cuda" else None,
                store=PrefixStore("group", store),
                rank=rank,
                world_size=size,
            )
            _Patient.signs = _Signs(PrefixStore("alive", store), here, patience)
        # Those who have met talk to each other at once; without signs of life the others are waited for in the talk itself.
        limit = timedelta(seconds=patience) if is_ours else _ENDLESS
        group = dist.new_group(backend="gloo", timeout=limit)
        assert not isinstance(group, int | None), "every process is of the group"
        _Patient.group = group
        _Patient.for_steps = dist.new_group(backend="gloo", timeout=timedelta(seconds=patience))
        try:
            yield own
        except BaseException:
            # The others may be waiting for this one, and a group with work under way does not end. The exit of this
            # process ends theirs.
            if _Patient.signs is not None:
                _Patient.signs.end(failed=True)
            raise
        else:
            wait_for_all()
            if is_ours:
                dist.destroy_process_group()
        finally:
            if _Patient.signs is not None:
                _Patient.signs.end()
            _Patient.group = _Patient.signs = _Patient.for_steps = None


def from_first(value: Value) -> Value:
    """The first process's value, in every process; plain data. The others wait for it as long as it takes."""
    if world().is_alone:
        return value
    import torch.distributed as dist

    box: list[Value] = [value]
    wait_for_all()
    dist.broadcast_object_list(box, src=0, group=_patient(), device=torch.device("cpu"))
    return box[0]


def from_all(value: Value) -> list[Value]:
    """Every process's value in the order of their ranks; plain data."""
    if world().is_alone:
        return [value]
    import torch.distributed as dist

    found: list[Value] = [value] * world().size
    wait_for_all()
    dist.all_gather_object(found, value, group=_patient())
    return found


def true_for_any(value: bool) -> bool:
    """Whether it is true in any process, as all of them find together; they wait for each other as in a step."""
    if world().is_alone:
        return value
    import torch.distributed as dist

    group = _Patient.for_steps
    assert group is not None, "processes talk inside `joined`"
    assert not isinstance(group, int), "every process is of the group"
    found = torch.tensor([value], dtype=torch.int32)
    dist.all_reduce(found, dist.ReduceOp.MAX, group=group)
    return bool(found.item())


def wait_for_all() -> None:
    """Returns once every process has come here, however long that takes.

    RuntimeError where one of them gave no sign of life for the patience that `joined` was given.
    """
    if not world().is_alone:
        import torch.distributed as dist

        if _Patient.signs is not None:
            _Patient.signs.meet()
        dist.barrier(group=_patient())


@contextmanager
def first_goes_ahead() -> Generator[bool]:
    """The body, first in the first process and then in the others, which find what it left; True in the first.

    Where the body fails in the first process the others wait until they are ended with it.
    """
    here = world()
    if not here.is_first:
        wait_for_all()
    yield here.is_first
    if here.is_first:
        wait_for_all()


@contextmanager
def in_turn() -> Generator[None]:
    """The body in one process after the other, so that no two of them hold what it needs at once."""
    here = world()
    for _ in range(here.rank):
        wait_for_all()
    yield
    for _ in range(here.rank, here.size):
        wait_for_all()


def summed(tensor: Tensor) -> Tensor:
    """The sum of a tensor over all processes, the same in each; the tensor is replaced in place."""
    if not world().is_alone:
        import torch.distributed as dist

        dist.all_reduce(tensor)
    return tensor


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor: its shard of one that is cut (DTensor), else all of it."""
    if world().is_alone:
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def spread(tensor: Tensor) -> Tensor:
    """The first process's numbers in every process, in place."""
    if not world().is_alone:
        import torch.distributed as dist

        dist.broadcast(tensor, src=0)
    return tensor


def _own_device(device: torch.device, here: World) -> torch.device:
    """Each process of a machine takes the CUDA device of its number; Unavailable where there are fewer."""
    if device.type != "cuda":
        return torch.device("cpu")
    present = torch.cuda.device_count()
    if here.local_rank >= present:
        raise Unavailable(
            say("process {number} of this machine finds no CUDA device of its own", number=here.local_rank),
            given=say("{count} devices", count=present),
            right=say("at most {count} processes on this machine, or --device cpu", count=present),
            next_command="glassworks doctor",
        )
    own = torch.device("cuda", here.local_rank)
    torch.cuda.set_device(own)
    return own


class _Signs:
    """Who has come to a meeting, and signs of life: each process leaves one every second, as long as anything in it runs."""

    def __init__(self, store: "Store", here: World, patience: float) -> None:
        self._store, self._here, self._patience = store, here, patience
        self._ended, self._telling = threading.Event(), threading.Lock()
        self._meetings = 0
        self._tell(0)
        threading.Thread(target=self._go_on, name="alive", daemon=True).start()

    def meet(self) -> None:
        """Returns once every process has come here; RuntimeError where one gave no sign for the patience."""
        name, before = f"meeting {self._meetings}", f"meeting {self._meetings - 1}"
        self._meetings += 1
        seen, pause, look_at = dict[int, tuple[bytes, float]](), 0.0005, time.monotonic() + _ALIVE_TOLD_EVERY
        come = self._store.add(name, 1)
        while come < self._here.size:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            come = self._store.add(name, 0)
            now = time.monotonic()
            if now > look_at:
                if now > look_at + 5 * _ALIVE_TOLD_EVERY:
                    # This process was held itself, and the others perhaps with it: their silence proves nothing.
                    seen.clear()
                look_at = now + _ALIVE_TOLD_EVERY
                self._look(seen)
        if self._here.is_first:
            # All have left it, for all have come to this one.
            self._store.delete_key(before)

    def end(self, failed: bool = False) -> None:
        """Leaves no further sign; of one that `failed` the others know at once."""
        with self._telling:
            self._ended.set()
            if failed:
                with suppress(RuntimeError):
                    self._store.set(str(self._here.rank), _GONE)

    def _look(self, seen: dict[int, tuple[bytes, float]]) -> None:
        for rank in range(self._here.size):
            sign, now = self._store.get(str(rank)), time.monotonic()
            if sign == _GONE.encode():
                raise RuntimeError(f"Connection closed by peer: process {rank} has ended")
            if rank not in seen or seen[rank][0] != sign:
                seen[rank] = sign, now
            elif now - seen[rank][1] > self._patience + 2 * _ALIVE_TOLD_EVERY:
                raise RuntimeError(f"Timed out waiting {self._patience:g} s for a sign of life of process {rank}")

    def _go_on(self) -> None:
        for count in itertools.count(1):
            if self._ended.wait(_ALIVE_TOLD_EVERY):
                return
            try:
                self._tell(count)
            except RuntimeError:
                # The store is gone; whoever talks to the others next is told so.
                return

    def _tell(self, count: int) -> None:
        with self._telling:
            if not self._ended.is_set():
                self._store.set(str(self._here.rank), str(count))


class _Patient:
    """The group in which the first does something for all, while there is one, and the signs of life of those in it."""

    group: "ProcessGroup | None" = None
    signs: "_Signs | None" = None
    times = itertools.count()
    for_steps: "ProcessGroup | int | None" = None
    """One by which processes talk between steps, from CPU to CPU, with the patience of a step."""


def _patient() -> "ProcessGroup":
    group = _Patient.group
    assert group is not None, "processes talk inside `joined`"
    return group


@contextmanager
def _ended_with_its_parent() -> Generator[None]:
    """Inside the `with`, this process ends by SIGTERM when the one that started it is gone: no orphan trains on."""
    parent, left = os.getppid(), threading.Event()

    def look() -> None:
        while not left.wait(_PARENT_LOOKED_FOR_EVERY):
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                # A process that is deep in foreign code and does not answer.
                time.sleep(_LAST_STEP)
                os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=look, name="parent", daemon=True).start()
    yield
    # Not after an error: it is told after a while, and that while must end, too.
    left.set()
