"""What is shipped: the wheel carries the built pages and the bundled model, and nothing that only builds them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from glassworks.core.errors import Unavailable
from glassworks.studio import server

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_carries_the_pages_and_the_model(tmp_path: Path) -> None:
    server.pages_folder()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "static/index.html",
        "static/favicon.svg",
        "bundled/duet/model.safetensors",
        "bundled/duet/tokenizer.json",
    ):
        assert f"glassworks/studio/{name}" in names
    assert any(name.startswith("glassworks/studio/static/assets/index-") for name in names)
    assert not [name for name in names if "node_modules" in name or name.startswith("web/")]


def test_pages_that_are_not_built_are_named_with_the_command_that_builds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(server.PAGES, str(tmp_path))
    with pytest.raises(Unavailable, match="not built") as told:
        server.pages_folder()
    assert told.value.next_command == "make pages"
