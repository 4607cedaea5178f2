"""Small programs in C, compiled once by whatever compiler is here and kept; None where there is none, which is no error."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from glassworks.models.gallery.keeping import home

COMPILERS = ("cc", "gcc", "clang")
# Sums may be taken in any order, which lets a compiler use wide registers; NaN and infinity stay what they are, and no
# flag that changes how the whole process rounds is among them (-ffast-math would).
_FLAGS = (
    "-O3", "-march=native", "-fno-math-errno", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math",
    "-ffp-contract=fast", "-fopenmp-simd", "-shared", "-fPIC", "-pthread",
)  # fmt: skip
_WIDE = "-mprefer-vector-width=512"
_PATIENCE_SECONDS = 120


@cache
def compiled(source: Path) -> ctypes.CDLL | None:
    """The library made of a C file, from the cache where it was made before on such a processor; None where it cannot be."""
    compiler = os.environ.get("CC") or next((name for name in COMPILERS if shutil.which(name)), None)
    if compiler is None or os.name != "posix":
        return None
    text = source.read_bytes()
    about = "|".join((compiler, *_FLAGS, platform.machine(), _features())).encode()
    target = home() / "kernels" / f"{source.stem}-{hashlib.sha256(text + about).hexdigest()[:16]}.so"
    try:
        if not target.is_file():
            _compile(compiler, source, target)
        return ctypes.CDLL(str(target))
    except (OSError, subprocess.SubprocessError):
        # A folder that cannot be written, a compiler without headers: everything still works, more slowly.
        return None


def _compile(compiler: str, source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / target.name
        for flags in ((*_FLAGS, _WIDE), _FLAGS):
            done = subprocess.run(
                [compiler, *flags, "-o", str(made), str(source), "-lm"],
                capture_output=True,
                timeout=_PATIENCE_SECONDS,
                check=False,
            )
            if done.returncode == 0:
                made.replace(target)
                return
    raise OSError(done.stderr.decode(errors="replace"))


def _features() -> str:
    """What the processor can do: a program for one with more would stop with an illegal instruction."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
