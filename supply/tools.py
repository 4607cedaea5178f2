"""Running the tools of the supply chain, each pinned and in an environment of its own, so that none bends our set."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).parent / "uv"
PIP_AUDIT = "pip-audit==2.10.1"
CYCLONEDX = "cyclonedx-bom==7.5.0"


def uv(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs uv in the repository; what it prints is returned, its exit status is the caller's to judge."""
    return subprocess.run([UV, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def tool(package: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a pinned tool (`name==version`, then its program and arguments), installed on first use into uv's cache."""
    return uv("tool", "run", "--python", sys.executable, "--from", package, *words)
