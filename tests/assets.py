"""Where the real models and corpora lie; tests that need them skip with a reason when they are absent."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("GLASSWORKS_ASSETS", Path(__file__).parents[2] / "shared" / "assets"))


def gallery_model(name: str) -> Path:
    """The folder of a model of the gallery; skips the test, with the reason, where it was not fetched."""
    from glassworks.models.gallery import GALLERY, located

    folder = located(GALLERY[name])
    if folder is None:
        pytest.skip(f"{name} is not on this machine; glassworks models get {name}")
    return folder


def asset(name: str) -> Path:
    """The path of one asset; skips the test, with the reason, where it is not there."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"{name} is not in {ROOT}; set GLASSWORKS_ASSETS")
    return path
