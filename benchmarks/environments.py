"""The peers' own environments: one folder each, made once with pinned versions, used by `benchmarks.sides`.

A peer never shares packages with Glassworks. All take the torch that runs here, so that a ratio tells of the peer's code and
not of another torch. Where an environment cannot be made, its rows say why and the run goes on.
"""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# A package index that does not answer must not hold up the run.
LIMIT_SECONDS = 1800
_MADE = "made.json"


class NotInstalled(Exception):
    """Why a peer cannot be had."""


@dataclass(frozen=True)
class Environment:
    """What one peer needs: pinned packages beside torch, and its licence, which the page names."""

    name: str
    packages: tuple[str, ...]
    licence: str
    address: str

    @property
    def title(self) -> str:
        """The peer and its version as rows name it."""
        return self.packages[0].replace("==", " ")

    @property
    def requirements(self) -> tuple[str, ...]:
        """Everything that is installed, torch first."""
        return (f"torch=={importlib.metadata.version('torch').split('+')[0]}", *self.packages)

    @property
    def folder(self) -> Path:
        """Where it lies; other requirements are another folder."""
        digest = hashlib.sha256("\n".join((sys.version, *self.requirements)).encode()).hexdigest()[:10]
        return cache() / "environments" / f"{self.name}-{digest}"

    @property
    def python(self) -> Path:
        """Its interpreter, whether it is made or not."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def is_ready(self) -> bool:
        """Made, and to the end."""
        return (self.folder / _MADE).is_file() and self.python.exists()

    def versions(self) -> dict[str, str]:
        """What was installed, by package; empty before it is made."""
        return json.loads((self.folder / _MADE).read_text(encoding="utf-8")) if self.is_ready else {}


_LIBRARY = ("transformers==5.23.0", "accelerate==1.15.0", "numpy==2.4.6")
ENVIRONMENTS = {
    one.name: one
    for one in (
        Environment(
            "transformer-lens",
            ("transformer-lens==4.3.0", *_LIBRARY),
            "MIT",
            "https://github.com/TransformerLensOrg/TransformerLens",
        ),
        Environment("nnsight", ("nnsight==0.8.1", *_LIBRARY), "MIT", "https://github.com/ndif-team/nnsight"),
        Environment(
            "lm-eval", ("lm-eval==0.4.13", *_LIBRARY), "MIT", "https://github.com/EleutherAI/lm-evaluation-harness"
        ),
        Environment(
            "trl", ("trl==1.16.0", "datasets==5.2.0", *_LIBRARY), "Apache-2.0", "https://github.com/huggingface/trl"
        ),
        Environment(
            "flash-linear-attention",
            ("fla-core==0.6.0", "einops", "triton", "transformers==5.23.0"),
            "MIT",
            "https://github.com/fla-org/flash-linear-attention",
        ),
        Environment(
            "infini",
            ("infini-transformer-pytorch==0.2.1",),
            "MIT",
            "https://github.com/lucidrains/infini-transformer-pytorch",
        ),
    )
}


def cache() -> Path:
    """Where environments and prepared inputs lie: `$GLASSWORKS_BENCH`, or `.bench` in the repository."""
    return Path(os.environ.get("GLASSWORKS_BENCH") or ROOT / ".bench").absolute()


def ready(environment: Environment) -> Path:
    """Its interpreter, made first where it is missing; raises NotInstalled with the last line of what went wrong."""
    if environment.is_ready:
        return environment.python
    shutil.rmtree(environment.folder, ignore_errors=True)
    environment.folder.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(environment.folder)])
    pip = [str(environment.python), "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", *environment.requirements])
    listed = json.loads(_run([*pip, "list", "--format", "json"]))
    versions = {package["name"]: package["version"] for package in listed}
    # Written last: a run that was cut off leaves a folder that is made anew.
    (environment.folder / _MADE).write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")
    return environment.python


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS)
    except subprocess.CalledProcessError as problem:
        said = [line for line in (problem.stderr or problem.stdout or "").splitlines() if line.strip()]
        raise NotInstalled(said[-1].strip() if said else f"{command[0]} failed") from None
    except (subprocess.TimeoutExpired, OSError) as problem:
        raise NotInstalled(str(problem)) from None
    return done.stdout
