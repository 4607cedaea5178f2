"""What this machine is, read at once and without torch; the home page says from it what will be fast."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import psutil


def machine(out: Path) -> dict[str, Any]:
    """Cores, memory and disk in bytes, the system, the device that trainings would take, where files lie."""
    memory = psutil.virtual_memory()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "cores": os.cpu_count() or 1,
        "usable": _usable(),
        "memory": {"total": memory.total, "free": memory.available},
        "disk": {"free": _free_disk(out)},
        "device": _device(),
        "out": str(out.resolve()),
    }


def _usable() -> int:
    if psutil.LINUX or psutil.WINDOWS:
        return len(psutil.Process().cpu_affinity() or ()) or 1
    return os.cpu_count() or 1


def _device() -> str:
    """Cuda where a driver of NVIDIA's is, mps on Apple silicon, else cpu: a guess, since only torch knows."""
    if Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi"):
        return "cuda"
    return "mps" if platform.system() == "Darwin" and platform.machine() == "arm64" else "cpu"


def _free_disk(folder: Path) -> int:
    here = folder.absolute()
    while not here.exists():
        here = here.parent
    return shutil.disk_usage(here).free
