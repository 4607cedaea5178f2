"""What a machine can do: measured matrix-product rates, memory, disk, cores."""

import os
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from glassworks.core.text import Text, say
from glassworks.tensors.seeds import Seed

# Large enough to fill the caches, small enough for a slow laptop to answer within a second.
GEMM_SIZE = {"cpu": 1024, "mps": 2048, "cuda": 8192}
FEWEST_REPEATS, MOST_REPEATS = 3, 50
# float32 keeps 24 bits: a product of this size is right to about 1e-6; bfloat16 keeps 8, so it is off by 1e-3.
STILL_FLOAT32 = 1e-5


@dataclass(frozen=True)
class Rate:
    """The speed of a square matrix product: floating-point operations per second, the best of several repeats.

    `error` is the relative error against float64 (Frobenius norm), which shows what the fast way rounds to.
    """

    name: str
    says: Text
    operations_per_second: float
    error: float


@dataclass(frozen=True)
class Memory:
    """Bytes in all and free: of the host, and of the accelerator where there is one."""

    host_total: int
    host_free: int
    device_total: int | None
    device_free: int | None


@dataclass(frozen=True)
class Processor:
    """Cores of the machine, cores this process may use, and the threads torch works with."""

    cores: int
    usable: int
    threads: int


def memory(device: torch.device) -> Memory:
    """Host memory, and the device's own where it has any."""
    host = psutil.virtual_memory()
    if device.type != "cuda":
        return Memory(host.total, host.available, None, None)
    free, total = torch.cuda.mem_get_info(device)
    return Memory(host.total, host.available, total, free)


def processor() -> Processor:
    """Cores and threads; the thread count is left to OMP_NUM_THREADS."""
    usable = len(psutil.Process().cpu_affinity() or ()) if psutil.LINUX or psutil.WINDOWS else os.cpu_count() or 1
    return Processor(os.cpu_count() or 1, usable, torch.get_num_threads())


def free_disk(folder: Path) -> int:
    """Free bytes where a folder lies or would be made."""
    here = folder.absolute()
    while not here.exists():
        here = here.parent
    return shutil.disk_usage(here).free


def gemm_rates(device: torch.device, seconds: float = 0.5) -> tuple[Rate, ...]:
    """Measured rates of float32, float32 as oneDNN or TF32 would do it, and bfloat16; `seconds` for each of them."""
    size = GEMM_SIZE[device.type]
    generator = Seed(0).generator()
    a, b = (torch.randn(size, size, generator=generator).to(device) for _ in range(2))
    a16, b16 = a.bfloat16(), b.bfloat16()
    faster = say("float32 with TF32 allowed") if device.type == "cuda" else say("float32 through oneDNN")
    found = [_rate("float32", say("float32, exact"), lambda: a @ b, device, seconds)]
    with _float32_precision("medium"):
        found.append(_rate("float32_fast", faster, lambda: a @ b, device, seconds))
    found.append(_rate("bfloat16", say("bfloat16"), lambda: a16 @ b16, device, seconds))
    return tuple(_with_error(rate, product, a, b) for rate, product in found)


def _rate(
    name: str, says: Text, product: Callable[[], Tensor], device: torch.device, seconds: float
) -> tuple[Rate, Tensor]:
    result = product()
    size = result.shape[0]
    best, until, repeats = float("inf"), time.perf_counter() + seconds, 0
    while repeats < FEWEST_REPEATS or (time.perf_counter() < until and repeats < MOST_REPEATS):
        _wait_for(device)
        begun = time.perf_counter()
        result = product()
        _wait_for(device)
        best = min(best, time.perf_counter() - begun)
        repeats += 1
    return Rate(name, says, 2.0 * size**3 / best, float("nan")), result


def _with_error(rate: Rate, product: Tensor, a: Tensor, b: Tensor) -> Rate:
    # One block of rows is enough for a relative error, and float64 is slow on many devices.
    rows = slice(0, 64)
    exact = a[rows].cpu().double() @ b.cpu().double()
    error = float((product[rows].cpu().double() - exact).norm() / exact.norm())
    return Rate(rate.name, rate.says, rate.operations_per_second, error)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _float32_precision(word: str) -> Generator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(word)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
