"""A training that is asked to end keeps the state after the step under way, and goes on as if nothing had happened."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from glassworks.core.events import EventLog, StepDone, TrainingStarted
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.stages.base import StageOptions, run_stage
from glassworks.training.stages.shelf import STAGES
from tests.training.test_parallel import launched, ranks, wait_for_a_checkpoint
from tests.training.together import resumable
from tests.training.tuning import folder_of_talker, llama


def asks_at(step: int, begun: list[int]) -> EventLog:
    """A log whose listener has this process asked to end when a step is told, and notes where trainings begin."""
    log = EventLog()

    def listen(event: object) -> None:
        if isinstance(event, TrainingStarted):
            begun.append(event.first_step)
        if isinstance(event, StepDone) and event.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    log.listen(listen)
    return log


def test_the_step_after_which_it_was_asked_is_the_one_that_is_kept(tmp_path: Path) -> None:
    begun: list[int] = []
    options = TrainingOptions(store=tmp_path / "asked", checkpoint_every=100)
    with pytest.raises(KeyboardInterrupt):
        train(resumable(), options, asks_at(2, begun))
    done = train(resumable(), options, asks_at(-1, begun))
    assert begun == [0, 3]
    undisturbed = train(resumable(), TrainingOptions(store=tmp_path / "whole"), EventLog())
    assert done.history.metrics == undisturbed.history.metrics


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_a_stage_keeps_the_row_that_is_not_full_yet(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = folder_of_talker(tmp_path / "start", llama())
    asked = [
        f"what is {first} {second}?" for first in ("cat", "dog", "bird", "mat") for second in ("red", "small", "tom")
    ]
    answers = {"sft": ("completion",), "dpo": ("chosen", "rejected")}[kind]
    rows = [{"prompt": one, answers[-1]: "no"} | {answers[0]: "the red" * (n % 3 + 1)} for n, one in enumerate(asked)]
    (tmp_path / "data.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    said: dict[str, Any] = {
        "kind": kind, "start": str(start), "data": [str(tmp_path / "data.jsonl")],
        "steps": 11, "batch": 3, "length": 40, "log_every": 4, "precision": "float32",
    }  # fmt: skip
    spec, begun = STAGES[kind].parse(said), list[int]()
    options = StageOptions(tmp_path / "asked", any_start=True)
    with pytest.raises(KeyboardInterrupt):
        run_stage(spec, options, asks_at(3, begun))
    done = run_stage(spec, options, asks_at(-1, begun))
    # Rows are of steps 1, 4, 8; it was asked when the second was told, and ended a step later.
    assert begun == [0, 5]
    undisturbed = run_stage(spec, StageOptions(tmp_path / "whole", any_start=True), EventLog())
    assert done.history.to_json() == undisturbed.history.to_json()


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_processes_keep_one_step_together_and_leave(number: signal.Signals, tmp_path: Path) -> None:
    import psutil

    process = launched(tmp_path, "--shard")
    wait_for_a_checkpoint(tmp_path, process)
    started = ranks(process.pid)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert "--launch 2 --shard" in errors
    assert "Traceback" not in errors
    assert not [pid for pid in started.values() if psutil.pid_exists(pid)]
