"""Offline, deterministic, one thread; `glassworks` must not be imported here, for the shape checks hook its import."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["GLASSWORKS_LANG"] = "en"

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Slow and GPU tests run only when `-m` asks for them."""
    if config.getoption("-m"):
        return
    for item in items:
        if item.get_closest_marker("slow") or item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="not of the fast tier; run with -m slow or -m gpu"))


@pytest.fixture(autouse=True, scope="session")
def _deterministic() -> None:
    import torch

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)


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
