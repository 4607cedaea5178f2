"""Other people's trackers beside our own run folder: each row of the history goes to trackio, TensorBoard, W&B or MLflow."""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glassworks.core.errors import Unavailable, UnknownName
from glassworks.core.events import Event, StepDone
from glassworks.core.text import say
from glassworks.training.stages.base import needed

# Tracker -> the package it needs, as it is imported.
TRACKERS: Mapping[str, str] = {"trackio": "trackio", "tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
PROJECT = "glassworks"
LOGS = "tracking"


def check_tracker(name: str) -> None:
    """Raises UnknownName for a tracker that accelerate does not know, Unavailable for one whose package is not here."""
    if name not in TRACKERS:
        raise UnknownName("tracker", name, TRACKERS)
    needed("accelerate")
    if find_spec(TRACKERS[name]) is None:
        raise Unavailable(
            say("the package {package} is not installed", package=TRACKERS[name]),
            right=say("the optional part {extra}, or no --track: the run folder keeps everything", extra="track"),
            next_command=f"pip install {TRACKERS[name]}",
        )


@contextmanager
def tracking(name: str, folder: Path, run: str, settings: Mapping[str, Any]) -> Generator[Callable[[Event], None]]:
    """A listener that hands each row of the history to a tracker, inside the `with`; its files lie in `folder`/tracking."""
    check_tracker(name)
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    kind: Any = LOGGER_TYPE_TO_CLASS[name]
    logs = folder / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    tracker = _made(kind, name, logs, run)
    tracker.start()
    tracker.store_init_configuration(_flat(settings))

    def hear(event: Event) -> None:
        if isinstance(event, StepDone):
            tracker.log({key: value for key, value in event.scores.items() if value == value}, step=event.step)

    try:
        yield hear
    finally:
        # A tracker that fails to say goodbye must not take a finished stage with it.
        with suppress(Exception):
            tracker.finish()


def _made(kind: Any, name: str, logs: Path, run: str) -> Any:
    match name:
        case "tensorboard":
            return kind(run, logging_dir=str(logs))
        case "mlflow":
            return kind(PROJECT, logging_dir=str(logs), run_name=run)
        case "wandb":
            # Without an account nothing is sent; `wandb sync` sends it later.
            os.environ.setdefault("WANDB_MODE", "offline")
            return kind(PROJECT, name=run, dir=str(logs))
        case _:
            os.environ.setdefault("TRACKIO_DIR", str(logs))
            return kind(PROJECT, name=run)


def _flat(settings: Mapping[str, Any], front: str = "") -> dict[str, str | int | float | bool]:
    """Nested settings by dotted path; what is no number is text, for not all trackers take more."""
    found: dict[str, str | int | float | bool] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{front}{name}.")
        else:
            found[front + name] = value if isinstance(value, bool | int | float) else str(value)
    return found
