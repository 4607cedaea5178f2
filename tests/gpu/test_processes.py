"""Several processes on CUDA devices: NCCL, bfloat16, FSDP2, compiled layers. Two devices where there are two, else one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glassworks.tensors.processes import own_part
from glassworks.training.shards import found_shards
from tests.training.together import STEPS, small

ROOT = Path(__file__).parents[2]
DEVICES = torch.cuda.device_count() if torch.cuda.is_available() else 0

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(DEVICES < 2, reason="fewer than two CUDA devices on this machine"),
]
# Sums of bfloat16 products in another order, over ten steps of AdamW.
ROUNDING = {"float32": 1e-3, "bfloat16": 5e-2}


def train(out: Path, processes: int, *more: str) -> dict:
    """The loss curve of a training by the command line, and the result that it prints."""
    words = [sys.executable, "-m", "glassworks.cli.main", "train", "bigram", "steps=30", "batch=15", "length=64",
             "width=64", "--out", str(out), "--device", "cuda", "--launch", str(processes), "--json", *more]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return json.loads((Path(found["model"]) / "history.json").read_text())["metrics"]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("shard", [False, True], ids=["replicated", "sharded"])
def test_two_devices_learn_what_one_learns(tmp_path, precision, shard):
    words = (f"precision={precision}", *(["--shard"] if shard else []))
    one, two = train(tmp_path / "one", 1, words[0])["loss"], train(tmp_path / "two", 2, *words)["loss"]
    assert len(one) == len(two)
    assert two == pytest.approx(one, abs=ROUNDING[precision])


@pytest.mark.parametrize("layout", ["replicated", "sharded"])
def test_checkpoints_go_from_two_devices_to_two_processes_of_the_processor(tmp_path, layout):
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    stop = [*words, "tests.training.together", "--device=cuda", f"stops:{layout}:{tmp_path}"]
    subprocess.run(stop, cwd=ROOT, env=environment, timeout=600, check=True)
    if layout == "sharded":
        assert len(found_shards(next(tmp_path.iterdir()))) == 1
    for device, more in (("cuda", "shares:sharded"), ("cpu", "goes_on:sharded")):
        go_on = [*words, "tests.training.together", f"--device={device}", f"{more}:{tmp_path}"]
        subprocess.run(go_on, cwd=ROOT, env=environment, timeout=600, check=True)
    (whole,) = json.loads((tmp_path / "shares.json").read_text())["whole"]
    held = json.loads((tmp_path / "shares.json").read_text())["held"]
    assert all(0.45 * whole < own < 0.55 * whole for own in held)
    assert len(json.loads((tmp_path / "resumed.json").read_text())["loss"]) == STEPS


def test_a_plain_tensor_is_its_own_part():
    weight = torch.ones(small().model.width, device="cuda")
    assert own_part(weight) is weight
