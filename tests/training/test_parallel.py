"""Several processes train as one does: the same curves, each other's checkpoints, a shard of the state each."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.tensors.files import load_tensors
from glassworks.tensors.processes import World
from glassworks.training.parallel import Alone, layout_of
from glassworks.training.shards import found_shards, open_shards
from tests.training.together import STEPS, STOP_AT, cases, curves, goes_on, resumable

ROOT = Path(__file__).parents[2]
# Losses of about 4 nats; float32 keeps 24 bits, and two processes add numbers in another order.
TOLERANCE = 1e-5
LAYOUTS = ("replicated", "sharded")


def test_shares_of_a_batch_are_whole_disjoint_and_alike() -> None:
    for size in (1, 2, 3, 8):
        for count in (0, 1, 2, 7, 64):
            parts = [World(rank, size).share(count) for rank in range(size)]
            assert [row for part in parts for row in range(part.start, part.stop)] == list(range(count))
            lengths = [part.stop - part.start for part in parts]
            assert max(lengths) - min(lengths) <= 1


def test_every_process_takes_part_equally_often_whatever_is_left_for_it() -> None:
    for size, count, largest in ((2, 7, 2), (3, 2, 4), (4, 1, 1), (2, 64, 5), (1, 7, 3)):
        steps = [Alone(World(rank, size), torch.device("cpu")).micro_batches(count, largest) for rank in range(size)]
        assert len({len(own) for own in steps}) == 1
        rows = [row for own in steps for m in own if m.counts for row in range(m.rows.start, m.rows.stop)]
        assert rows == list(range(count))
        assert all([m.is_last for m in own] == [False] * (len(own) - 1) + [True] for own in steps)


def test_one_process_cannot_be_cut() -> None:
    with pytest.raises(InvalidInput, match="one process cannot shard"):
        layout_of(torch.device("cpu"), shard=True)


def start(processes: int, *work: str, machines: int = 1) -> list[subprocess.Popen[bytes]]:
    """torchrun on one machine, or as on several: an agent for each, which find each other by an address."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    words = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--nnodes={machines}",
             "--rdzv-backend=c10d", f"--rdzv-endpoint=localhost:{port}", "--local-addr=localhost",
             "-m", "tests.training.together", *work]  # fmt: skip
    return [subprocess.Popen(words, cwd=ROOT, env=environment) for _ in range(machines)]


def run(processes: int, *work: str, machines: int = 1) -> None:
    """Runs it to its end; all agents must succeed."""
    agents = start(processes, *work, machines=machines)
    assert [agent.wait(timeout=300) for agent in agents] == [0] * machines


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What one process, two (each as on a machine of its own) and three did, each left in a folder by its name."""
    root = tmp_path_factory.mktemp("together")
    curves(root / "alone", shard=False)
    work = [f"{name}:{layout}:{root / layout}" for layout in LAYOUTS for name in ("curves", "shares")]
    work += [f"stops:{layout}:{root / f'stopped_{layout}'}" for layout in LAYOUTS]
    run(1, *work, machines=2)
    for layout in LAYOUTS:
        for other in ("one", "three_replicated", "three_sharded"):
            shutil.copytree(root / f"stopped_{layout}", root / f"{layout}_to_{other}")
        goes_on(root / f"{layout}_to_one", shard=False)
    run(3, *[f"goes_on:{new}:{root / f'{old}_to_three_{new}'}" for old in LAYOUTS for new in LAYOUTS])
    goes_on(root / "undisturbed", shard=False)
    yield root
    shutil.rmtree(root)


def read(path: Path):
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", cases())
def test_two_processes_learn_what_one_learns(folder, layout, case) -> None:
    one, two = (read(folder / name / "curves.json")[case] for name in ("alone", layout))
    assert set(one) == set(two)
    for metric, curve in one.items():
        assert len(curve) == STEPS
        assert two[metric] == pytest.approx(curve, abs=TOLERANCE, nan_ok=True), metric


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_finished_folders_are_those_of_one_process(folder, layout) -> None:
    for name, spec in cases().items():
        one, two = (folder / place / "store" / spec.digest() for place in ("alone", layout))
        files = [sorted(str(p.relative_to(own)) for p in own.rglob("*") if p.is_file()) for own in (one, two)]
        assert files[0] == files[1], name
        for path in one.rglob("*.safetensors"):
            expected, _ = load_tensors(path)
            found, _ = load_tensors(two / path.relative_to(one))
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        for file in ("config.json", "training.json", "world.json", "generation_config.json"):
            if (one / file).is_file():
                assert (one / file).read_bytes() == (two / file).read_bytes()


@pytest.mark.slow
def test_a_sharded_process_holds_about_half_of_weights_and_optimiser(folder) -> None:
    (whole,) = read(folder / "sharded" / "shares.json")["whole"]
    held = read(folder / "sharded" / "shares.json")["held"]
    # Layer norms and the like have odd rows, which one of the two holds.
    assert all(0.45 * whole < own < 0.55 * whole for own in held)
    assert read(folder / "replicated" / "shares.json")["held"] == [whole, whole]


@pytest.mark.slow
@pytest.mark.parametrize("old", LAYOUTS)
@pytest.mark.parametrize("new", ["one", "three_replicated", "three_sharded"])
def test_a_checkpoint_is_taken_up_by_any_number_of_processes(folder, old, new) -> None:
    resumed = read(folder / f"{old}_to_{new}" / "resumed.json")
    assert resumed["from"] == [STOP_AT]
    expected = read(folder / "undisturbed" / "resumed.json")["loss"]
    assert resumed["loss"] == pytest.approx(expected, abs=TOLERANCE)
    entry = folder / f"{old}_to_{new}" / resumable().digest()
    assert not list(entry.glob("checkpoint*"))


@pytest.mark.slow
def test_a_missing_or_cut_shard_is_named(folder, tmp_path) -> None:
    (whole,) = found_shards(folder / "stopped_sharded" / resumable().digest())
    assert len(list(whole.glob("*.safetensors"))) == 2
    for harm in ("missing", "cut", "filled with zeros"):
        shutil.rmtree(tmp_path / "harmed", ignore_errors=True)
        store = shutil.copytree(folder / "stopped_sharded", tmp_path / "harmed")
        (place,) = found_shards(store / resumable().digest())
        shard = sorted(place.glob("*.safetensors"))[1]
        if harm == "missing":
            shard.unlink()
        else:
            data = shard.read_bytes()
            shard.write_bytes(data[:-8] if harm == "cut" else bytes(len(data)))
        with pytest.raises(BrokenFile, match="checkpoint-"):
            goes_on(store, shard=False)
    assert open_shards(whole).progress.step == STOP_AT


COMMAND = ("train", "bigram", "steps=400", "batch=4", "length=24", "width=16", "precision=float32")


def launched(out: Path, *more: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "glassworks.cli.main", *COMMAND, "--out", str(out), "--launch", "2", *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ranks(parent: int) -> dict[int, int]:
    """Process number by rank, of those that a launcher started."""
    import psutil

    found = {}
    for child in psutil.Process(parent).children(recursive=True):
        if "RANK" in (environment := child.environ()):
            found[int(environment["RANK"])] = child.pid
    return found


def wait_for_a_checkpoint(out: Path, process: subprocess.Popen[str]) -> None:
    begun = time.monotonic()
    while not list(out.glob("store/*/checkpoint[.-]0*")) + list(out.glob("store/*/checkpoint.safetensors")):
        assert process.poll() is None
        assert time.monotonic() - begun < 240
        time.sleep(0.1)


@pytest.mark.slow
def test_a_killed_process_ends_all_with_its_name_and_the_same_line_goes_on(tmp_path) -> None:
    import psutil

    process = launched(tmp_path, "--shard")
    wait_for_a_checkpoint(tmp_path, process)
    started = ranks(process.pid)
    assert set(started) == {0, 1}
    os.kill(started[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "process 1 of 2 was ended by SIGKILL (9)" in errors
    assert "--launch 2 --shard" in errors
    assert "Traceback" not in errors
    assert errors.count("error:") == 1
    assert not [pid for pid in started.values() if psutil.pid_exists(pid)]
    (entry,) = (tmp_path / "store").iterdir()
    (kept,) = found_shards(entry)
    assert open_shards(kept).progress.step >= 20


@pytest.mark.slow
@pytest.mark.nightly
def test_a_process_that_stands_still_ends_all_after_the_patience_that_was_asked_for(tmp_path) -> None:
    import psutil

    process = launched(tmp_path, "--patience", "5")
    wait_for_a_checkpoint(tmp_path, process)
    started = ranks(process.pid)
    # Wherever it is stopped: in a step, or while all wait for a checkpoint.
    os.kill(started[1], signal.SIGSTOP)
    psutil.wait_procs([psutil.Process(started[0])], timeout=120)
    # The request to end reaches it now; the launcher would kill it after half a minute.
    os.kill(started[1], signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "process 0 waited in vain for another process" in errors
    assert "--patience" in errors
    assert "Traceback" not in errors
    assert not [pid for pid in started.values() if psutil.pid_exists(pid)]


WAITING = """
import os, signal, time, torch
from glassworks.tensors.processes import joined, wait_for_all, world
with joined(torch.device("cpu"), 3):
    if world().rank == 1:
        time.sleep(5)
    wait_for_all()
    print("waited for", flush=True)
    if world().rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)
    wait_for_all()
"""


@pytest.mark.slow
def test_who_works_for_all_is_waited_for_beyond_the_patience_and_who_stands_still_is_not() -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    first, second = (
        subprocess.Popen(
            [sys.executable, "-c", WAITING], env=os.environ | place | {"RANK": rank}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for rank in ("0", "1")
    )  # fmt: skip
    try:
        said, errors = first.communicate(timeout=120)
        assert said == "waited for\n"
        assert "Timed out waiting 3 s for a sign of life of process 1" in errors
        assert first.returncode == 1
    finally:
        second.kill()
        second.communicate()
