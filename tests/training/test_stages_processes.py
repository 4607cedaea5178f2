"""Stages in two processes against one: the same numbers, whole states that go on elsewhere, one of them killed."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close

from glassworks.core.events import EventLog, StepDone
from glassworks.models.load import load
from glassworks.training.stages.base import StageOptions, StageSpec, run_stage
from glassworks.training.stages.shelf import STAGES
from tests.training.tuning import folder_of_talker, llama

pytestmark = pytest.mark.slow

PROGRAM = """
import json, os, signal, sys
from pathlib import Path
import torch
from glassworks.core.events import EventLog, StepDone
from glassworks.tensors.processes import joined, world
from glassworks.training.stages.base import StageOptions, run_stage
from glassworks.training.stages.shelf import STAGES

store, shard = Path(sys.argv[1]), sys.argv[2] == "shard"
def stop(event):
    if isinstance(event, StepDone) and event.step >= 3:
        os.kill(os.getpid(), signal.SIGKILL)
with joined(torch.device("cpu")):
    for name, said in json.loads(sys.stdin.read()).items():
        events = EventLog()
        if name == "killed":
            events.listen(stop)
        options = StageOptions(store, checkpoint_every=2, shard=shard, any_start=True)
        done = run_stage(STAGES[said["kind"]].parse(said), options, events)
        if world().is_first:
            (store / f"{name}.json").write_text(json.dumps(done.history.to_json()))
"""
# The rows whose numbers are means over passes and not over tokens, so that they tell who read what with whom.
MEANS_OF_PASSES = {"entropy", "mean_token_accuracy", "min_reward", "max_reward", "logits/chosen", "logits/rejected"}
MODEL = {
    "kind": "decoder", "vocabulary": 1, "width": 16, "depth": 2, "heads": 2, "feedforward": ["swiglu"],
    "feedforward_width": 32, "context": 32, "norm": "rms", "positions": "rotary",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes")
    folder_of_talker(path / "ours")
    folder_of_talker(path / "theirs", llama())
    asked = [
        f"what is {first} {second}?" for first in ("cat", "dog", "bird", "mat") for second in ("red", "small", "tom")
    ]
    talk = [{"prompt": one, "completion": "the " + one.split()[2] + " is red" * (n % 3)} for n, one in enumerate(asked)]
    pairs = [{"prompt": one, "chosen": "hello" + " the cat" * (n % 3), "rejected": "no"} for n, one in enumerate(asked)]
    lines = [{"text": f"{n}: the cat sat on a mat, and the dog lay on a log."[: 20 + n % 30]} for n in range(300)]
    for name, entries in (("talk", talk), ("pairs", pairs), ("lines", lines)):
        (path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, entries)))
    return path


@pytest.fixture(scope="module")
def specs(place: Path) -> dict[str, dict[str, Any]]:
    """Stages by name; updates that are shared in whole passes, and some that are split or uneven."""
    usual = {"steps": 5, "length": 24, "log_every": 1, "precision": "float32"}
    text = {"kind": "pretrain", "model": MODEL, "data": [str(place / "lines.jsonl")], "samples": 1} | usual
    ours, theirs = ({"start": str(place / name), "length": 40} for name in ("ours", "theirs"))
    talk, pairs = {"data": [str(place / "talk.jsonl")]}, {"data": [str(place / "pairs.jsonl")]}
    drawn = {"answers": 12, "answer_length": 6, "reward": "contains:a", "rate": 0.003} | talk
    return {
        "text": text | {"batch": 2, "accumulate": 2},
        "stream": text | {"batch": 4, "stream": True},
        "packed": usual | ours | talk | {"kind": "sft", "batch": 4, "accumulate": 2, "packing": True},
        "adapters": usual | theirs | talk | {"kind": "sft", "batch": 3, "accumulate": 2, "lora": 2},
        "reward": usual | ours | pairs | {"kind": "reward", "batch": 3, "accumulate": 2},
        "dpo": usual | theirs | pairs | {"kind": "dpo", "batch": 3, "accumulate": 2},
        "grpo": usual | ours | drawn | {"kind": "grpo", "batch": 6, "group": 4},
        "ppo": usual | theirs | drawn | {"kind": "ppo", "batch": 5, "answers": 11, "kl_target": 0.5, "lora": 2},
        "moved": text | {"batch": 2, "accumulate": 2, "seed": 1},
        "killed": text | {"batch": 2, "accumulate": 2, "seed": 2},
    }


@pytest.fixture(scope="module")
def alone(place: Path, specs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The histories of one process."""
    return {name: run(said, place / "alone") for name, said in specs.items()}


@pytest.fixture(scope="module", params=[pytest.param("copies", marks=pytest.mark.nightly), "shard"])
def together(request: pytest.FixtureRequest, place: Path, specs: dict[str, dict[str, Any]]) -> Path:
    """The store of two processes, of which the first was killed in the last stage; one stage was begun by one process."""
    store = place / request.param
    with pytest.raises(KeyboardInterrupt):
        run(specs["moved"], store, stop=3)
    assert in_two_processes(specs, store, request.param) != 0, "a killed process cannot end well"
    return store


def run(said: dict[str, Any], store: Path, stop: int | None = None) -> dict[str, Any]:
    def listen(event: object) -> None:
        if stop is not None and isinstance(event, StepDone) and event.step >= stop:
            raise KeyboardInterrupt

    events = EventLog()
    events.listen(listen)
    return run_stage(spec_of(said), StageOptions(store, checkpoint_every=2, any_start=True), events).history.to_json()


def spec_of(said: dict[str, Any]) -> StageSpec:
    return STAGES[said["kind"]].parse(said)


def in_two_processes(specs: dict[str, dict[str, Any]], store: Path, how: str) -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(store), how], env=shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.write(json.dumps(specs))
        process.stdin.close()
    return max(abs(process.wait(timeout=900)) for process in started)


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """Largest difference of each column, of those that one process and two should have alike."""
    assert one["steps"] == other["steps"]
    columns = {name: other["metrics"][name] for name in one["metrics"] if name not in MEANS_OF_PASSES}
    return {
        name: max(0.0 if x == y else abs(x - y) for x, y in zip(one["metrics"][name], column, strict=True))
        for name, column in columns.items()
    }


def test_two_processes_learn_what_one_learns(together: Path, alone: dict[str, dict[str, Any]]) -> None:
    found = {
        name: differences(history, json.loads((together / f"{name}.json").read_text()))
        for name, history in alone.items()
        if name != "killed"
    }
    for name, worst in found.items():
        assert worst["loss"] < 1e-5, (name, worst)
        assert max(worst.values()) < 1e-4, (name, worst)
    # Whole passes were shared: nothing but the order of one addition differs.
    assert max(found[name]["loss"] for name in ("text", "packed")) < 1e-6, found


@pytest.mark.usefixtures("alone")
def test_what_two_processes_leave_is_what_one_leaves(
    together: Path, specs: dict[str, dict[str, Any]], place: Path
) -> None:
    for name in ("text", "adapters", "reward", "moved"):
        done = run_stage(spec_of(specs[name]), StageOptions(together, any_start=True), EventLog())
        assert done.reused, name
        here, there = (
            load(done.path.parent.parent / store / done.path.name).model for store in (together.name, "alone")
        )
        assert_close(dict(here.named_parameters()), dict(there.named_parameters()), rtol=0, atol=1e-5)
        assert sorted(path.name for path in done.path.iterdir()) == sorted(
            path.name for path in (place / "alone" / done.path.name).iterdir()
        )


def test_a_killed_process_ends_all_and_one_goes_on(
    together: Path, specs: dict[str, dict[str, Any]], alone: dict[str, dict[str, Any]]
) -> None:
    assert not (together / "killed.json").exists()
    kept = list(together.glob("*/checkpoints/checkpoint-*/whole.json"))
    assert kept, "a state to go on from"
    assert any((path.parent / "shards").is_dir() for path in kept) == (together.name == "shard")
    worst = differences(alone["killed"], run(specs["killed"], together))
    assert max(worst.values()) < 1e-5, worst
