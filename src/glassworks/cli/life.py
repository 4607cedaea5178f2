"""life: a model's whole life before your eyes; the same as `reproduce life`."""

from __future__ import annotations

from dataclasses import asdict

from glassworks.cli.options import Reproduce
from glassworks.cli.options_life import Life
from glassworks.cli.reproduce import reproduce


def life(command: Life) -> int:
    """Runs all stages, looks into each, judges; returns 0, or 130 after Ctrl-C with the command that goes on."""
    return reproduce(Reproduce(experiment="life", **asdict(command)))
