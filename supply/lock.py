"""constraints.txt: the set that was tested, every package with the hashes of all its files on the package index.

torch is left out, and what it alone brings: which build of it is right depends on the machine (CPU, CUDA), so it is
installed first, pinned by version (`make setup`).
"""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from supply.tools import ROOT, uv

LOCK = ROOT / "constraints.txt"
# By itself, for peft and transformers load it wherever it is found, and seconds with it: tests find it in a folder apart.
APART = ROOT / "supply" / "quantized.txt"
PYTHON = "3.11.7"
# What comes with torch and with nothing else.
WITH_TORCH = re.compile(r"(torch|triton|nvidia-|cuda-)")
HEAD = """\
# The set that was tested together, with the hashes of all files of each package; `make lock` writes it.
# torch==2.13.0 is installed before it, for its build depends on the machine.
"""


def write() -> int:
    """Resolves pyproject.toml with all extras for every platform, keeping pinned versions, and writes the lock."""
    found = uv(
        "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal", "--python-version", PYTHON,
        "--generate-hashes", "--no-header", "--no-annotate", "--quiet", "--output-file", str(LOCK),
    )  # fmt: skip
    if found.returncode != 0:
        print(found.stderr, file=sys.stderr)
        return 1
    apart = uv(
        "pip", "compile", "pyproject.toml", "--extra", "quantized", "--python-version", PYTHON, "--generate-hashes",
        "--no-header", "--no-annotate", "--quiet", "--constraints", str(LOCK),
    )  # fmt: skip
    entry = next(one for one in _entries(apart.stdout) if one.startswith("bitsandbytes=="))
    APART.write_text(
        f"# What `--bits 8` needs beside the locked set; `make lock` writes it.\n{entry}\n", encoding="utf-8"
    )
    entries = _entries(LOCK.read_text(encoding="utf-8"))
    kept = [entry for entry in entries if not WITH_TORCH.match(entry)]
    LOCK.write_text(HEAD + "\n".join(kept) + "\n", encoding="utf-8")
    print(f"{len(kept)} packages in {LOCK.name}")
    return 0


def locked(path: Path = LOCK) -> dict[str, tuple[str, str, list[str]]]:
    """Each package of a lock: version, marker of the platforms that need it (or ""), hashes of its files."""
    found: dict[str, tuple[str, str, list[str]]] = {}
    for entry in _entries(path.read_text(encoding="utf-8")):
        head, *hashes = entry.replace("\\\n", " ").split("--hash=")
        named = re.match(r"([a-z0-9.\-]+)==([^\s;]+)(?:\s*;\s*(.*\S))?\s*$", head)
        if named is not None:
            found[named[1]] = (named[2], named[3] or "", [one.split()[0] for one in hashes])
    return found


def _entries(text: str) -> list[str]:
    """The packages of a lock, each with the lines of its hashes."""
    return re.split(r"\n(?=[a-z0-9])", text.strip())


def check() -> int:
    """Whether this environment holds exactly the locked versions."""
    wrong: list[str] = []
    entries = locked()
    for name, (wanted, marker, _) in entries.items():
        if marker and not Marker(marker).evaluate():
            continue
        try:
            here = version(canonicalize_name(name))
        except PackageNotFoundError:
            here = "absent"
        if here != wanted:
            wrong.append(f"{name}: locked {wanted}, here {here}")
    print("\n".join(wrong) or f"all of {len(entries)} locked packages are here in their versions")
    return int(bool(wrong))
