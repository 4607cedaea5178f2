"""Offline, deterministic, one thread; `glassworks` must not be imported here, for the shape checks hook its import."""

import os
import shutil
from collections.abc import Generator
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["GLASSWORKS_LANG"] = "en"

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow and GPU tests run only when `-m` asks for them; with `--dist loadgroup` a costly fixture is made in one process."""
    if config.getoption("-m"):
        for item in items:
            if isinstance(item, pytest.Function) and (shared := _shared_by_a_module(item)):
                item.add_marker(pytest.mark.xdist_group(shared))
        return
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="not of the fast tier; run with -m slow or -m gpu"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """An error where groups would silently not be kept: xdist tells them by the end of a test's name."""
    grouped = [item.nodeid for item in session.items if item.get_closest_marker("xdist_group")]
    if getattr(session.config.option, "loadgroup", False) and not all("@" in name for name in grouped):
        raise pytest.UsageError(
            "this xdist does not keep groups with this pytest; constraints.txt holds two that agree"
        )


def _shared_by_a_module(item: pytest.Function) -> str | None:
    """The module whose own fixtures (scope "module" or "class") a test takes; None where it shares nothing."""
    if "smoke_run" in item.fixturenames:
        return "smoke_run"
    fixtures = item._fixtureinfo.name2fixturedefs.values()
    if any(one.scope in ("module", "class") for definitions in fixtures for one in definitions):
        return item.path.stem if item.cls is None else f"{item.path.stem}.{item.cls.__name__}"
    return None


@pytest.fixture(autouse=True, scope="session")
def _deterministic() -> None:
    import torch

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def chromium() -> Generator[Any]:
    """A headless browser, one for all tests of a process (Playwright's plain way knows no second); a skip where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine; `make browser` installs it where it may")
    from playwright.sync_api import sync_playwright

    flags = (
        "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync",
    )  # fmt: skip
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=path, args=list(flags))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory):
    """The whole of Birth at smoke scale, run once for all tests that look at it."""
    from glassworks.evidence.claims import Scale
    from glassworks.experiments import Birth
    from glassworks.experiments.run import RunOptions, run_experiment

    return run_experiment(Birth.at(Scale.SMOKE), RunOptions(out=tmp_path_factory.mktemp("smoke")))


@pytest.fixture(autouse=True)
def _default_language():
    """A test that runs the command line with `--lang zh` leaves no Chinese to the next one."""
    yield
    from glassworks.core import text

    text._chosen.set(None)
