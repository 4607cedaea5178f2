"""A reduced `make faults`: a few kills at writes, one full disk, one read-only folder, one Ctrl-C, each undone by the same command."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def tried(folder: Path, verb: str, *injections: str, moments: int = 3) -> list[dict[str, str]]:
    """What happened, injection by injection, in a process that has only loaded and not computed before it forks."""
    told = folder / "told.json"
    words = [sys.executable, "-m", "faults", "--one", verb, "--told", str(told), "--moments", str(moments)]
    for name in injections:
        words += ["--injection", name]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(told.read_text(encoding="utf-8"))


@pytest.mark.nightly
@pytest.mark.parametrize("verb", ["examine", "export"])
def test_a_killed_command_leaves_whole_files_and_ends_with_the_same_result(tmp_path: Path, verb: str) -> None:
    cases = tried(tmp_path, verb, "kill -9", "killed inside a write")
    assert len(cases) == 5
    assert [case["notes"] for case in cases if case["outcome"] == "FAULT"] == []


def test_a_training_that_is_killed_stopped_or_finds_no_room_goes_on_to_the_same_result(tmp_path: Path) -> None:
    wanted = ("kill -9", "kill -9 at a write", "signals", "disk full", "file system without locks")
    cases = tried(tmp_path, "train", *wanted)
    assert [case["notes"] for case in cases if case["outcome"] == "FAULT"] == []
    assert {case["injection"] for case in cases} == set(wanted)
    assert [case["outcome"] for case in cases if case["injection"] == "file system without locks"] == ["refused"]


def test_a_result_that_differs_is_called_a_fault(tmp_path: Path) -> None:
    from faults.looking import broken, different, left_behind, meaning

    (tmp_path / "a.json").write_text('{"loss": 1.0, "seconds": 3}')
    before = meaning(tmp_path)
    (tmp_path / "a.json").write_text('{"loss": 1.0, "seconds": 4}')
    assert different(before, meaning(tmp_path)) == [], "a clock is no result"
    (tmp_path / "a.json").write_text('{"loss": 1.1, "seconds": 3}')
    assert different(before, meaning(tmp_path)) == ["a.json"]
    (tmp_path / "a.json").write_text('{"loss": 1.1')
    (tmp_path / "b.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    (tmp_path / ".c.json.abcdefgh").write_text("{")
    assert [line.partition(":")[0] for line in broken(tmp_path)] == ["a.json", "b.safetensors"]
    assert left_behind(tmp_path) == [".c.json.abcdefgh"]
