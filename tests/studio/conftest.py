"""A studio that runs for the session, and a browser that has its token."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import assets


@dataclass(frozen=True)
class Running:
    """A studio's process: its address without the token, the token, and the folder it works in."""

    base: str
    token: str
    out: Path
    process: subprocess.Popen[str]

    def address(self, path: str = "/") -> str:
        """The whole address of a page, with the token before the hash."""
        place, mark, state = path.partition("#")
        return f"{self.base}{place}{'&' if '?' in place else '?'}token={self.token}{mark}{state}"


@contextmanager
def running_studio(out: Path, *words: str) -> Iterator[Running]:
    """Starts `glassworks studio` as a person would, waits for its one line, ends it."""
    command = [
        sys.executable,
        "-m",
        "glassworks.cli.main",
        "studio",
        "--port",
        "0",
        "--no-browser",
        "--out",
        str(out),
        *words,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GLASSWORKS_ASSETS": str(assets.ROOT)}
    with (
        (out / "studio.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        base, _, token = line.partition("/?token=")
        assert token, f"{line!r} is no address; {(out / 'studio.log').read_text()}"
        try:
            yield Running(base, token, out, process)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Generator[Running]:
    """One studio for all tests that only look; a test that breaks things starts its own with `running_studio`."""
    with running_studio(tmp_path_factory.mktemp("studio")) as running:
        yield running


@pytest.fixture
def browser_page(chromium: Any, studio: Running) -> Generator[Callable[..., Any]]:
    """Opens a page of the studio: `browser_page("/walk#model=...", width=390, dark=True, lang="zh")`.

    At the end of the test no page may have written an error to the console.
    """
    opened: list[Any] = []
    errors: list[str] = []

    def open_page(
        path: str = "/", *, width: int = 1440, height: int = 900, dark: bool = False, lang: str = "en"
    ) -> Any:
        if named := re.search(r"model=gallery/([a-z0-9-]+)", path):
            assets.gallery_model(named[1])
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda problem: errors.append(str(problem)))
        place, mark, state = path.partition("#")
        page.goto(studio.address(f"{place}?lang={lang}{mark}{state}"))
        page.get_by_role("main").locator("h1").first.wait_for()
        return page

    yield open_page
    for context in opened:
        context.close()
    assert errors == []
