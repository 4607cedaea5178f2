"""The wheel as somebody gets it, in an environment that holds nothing but what it asks for."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement

from tests.docs.pages import ROOT


@dataclass(frozen=True)
class Environment:
    """A Python of its own, and an empty folder to work in."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    def run(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """A command in the folder `work`, with nothing of this repository in sight."""
        work = self.root / "work"
        work.mkdir(exist_ok=True)
        settings = {"HOME": str(work), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            words, cwd=work, env=settings, capture_output=True, text=True, timeout=timeout, check=False
        )

    def glassworks(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(str(self.root / "bin" / "glassworks"), *words)


def built_wheel(folder: Path) -> Path:
    """The wheel, built from the working tree as it stands; the studio's pages must have been made."""
    words = ["wheel", "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("glassworks-*.whl")
    return wheel


def downloaded(root: Path, wheel: Path) -> Environment:
    """As a person installs it: a new environment, pip, and whatever the wheel asks pip for."""
    venv.create(root, with_pip=True)
    made = Environment(root)
    # On Linux the public index serves torch with CUDA; the tested version, which the registry here may have for CPUs.
    for words in (["torch==2.13.0"], [str(wheel)]):
        subprocess.run([made.python, "-m", "pip", "install", "--quiet", *words], check=True, timeout=1800)
    return made


def linked(root: Path, wheel: Path) -> Environment:
    """The same without a download: links to the installed packages that the wheel asks for, and to no others."""
    venv.create(root, with_pip=False)
    made = Environment(root)
    (packages,) = (root / "lib").glob("python*/site-packages")
    for one in closure(wheel):
        _link(one, packages)
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(made.python), "install", "--quiet", "--no-deps", str(wheel)],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return made


def closure(wheel: Path) -> list[Distribution]:
    """The distributions that the wheel needs without extras, and those that they need."""
    import zipfile
    from email.parser import Parser

    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        asked = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist") or []
    found = dict[str, Distribution]()
    waiting = [Requirement(words) for words in asked if _applies(Requirement(words).marker, "")]
    while waiting:
        wanted = waiting.pop()
        key = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if key in found and not wanted.extras:
            continue
        try:
            found[key] = distribution(wanted.name)
        except PackageNotFoundError:
            raise AssertionError(f"{wanted.name}, which the wheel needs, is not installed here") from None
        inside = [Requirement(words) for words in found[key].requires or []]
        waiting += [
            one for one in inside if any(_applies(one.marker, extra) for extra in ("", *wanted.extras))
            and re.sub(r"[-_.]+", "-", one.name).lower() not in found
        ]  # fmt: skip
    return list(found.values())


def _applies(marker: Marker | None, extra: str) -> bool:
    return marker is None or marker.evaluate({"extra": extra})


def _link(one: Distribution, packages: Path) -> None:
    """Links the top folders and files of a distribution, as its record lists them."""
    at = Path(str(one.locate_file("")))
    tops = {Path(str(file)).parts[0] for file in one.files or [] if not str(file).startswith("..")}
    for top in tops - {"__pycache__"}:
        place = packages / top
        if not place.exists() and (at / top).exists():
            place.symlink_to(at / top)
