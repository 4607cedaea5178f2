import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from glassworks.core.errors import BrokenFile, GlassworksError, NoSpace, NotFound, RunBusy
from glassworks.core.events import EventLog, RunDone, StepDone, read_events
from glassworks.core.files import read_json, write_atomically, write_bytes, write_json
from glassworks.core.runs import RunFolder, describe_environment, list_runs, lock_folder
from glassworks.core.spec import Spec


class Choice(Spec):
    """Something to run."""

    kind: Literal["choice"] = "choice"
    size: int = 1


def test_a_run_is_found_again_by_its_spec(tmp_path: Path) -> None:
    first = RunFolder.create(tmp_path, "study", Choice())
    first.write_json("numbers.json", {"a": 1})
    again = RunFolder.create(tmp_path, "study", Choice())
    assert again.path == first.path
    assert again.read_json("numbers.json") == {"a": 1}
    assert RunFolder.open(first.path).experiment == "study"
    assert RunFolder.create(tmp_path, "study", Choice(size=2)).path != first.path
    assert {run.path for run in list_runs(tmp_path)} == {
        first.path,
        first.path.with_name(Choice(size=2).digest()),
    }


def test_damage_is_named_file_by_file(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "study", Choice())
    assert [d.what.en for d in run.verify()] == ["the run did not finish: there is no manifest"]
    for name in ("same", "changed", "shorter", "gone"):
        run.write_bytes(name, b"12345")
    run.seal()
    assert run.verify() == []
    (run.path / "changed").write_bytes(b"12346")
    (run.path / "shorter").write_bytes(b"1")
    (run.path / "gone").unlink()
    found = {d.path.name: d.what.en for d in run.verify()}
    assert found == {"changed": "its contents changed", "shorter": "1 bytes instead of 5", "gone": "missing"}


def test_a_second_process_is_refused_and_a_dead_one_leaves_no_lock(tmp_path: Path) -> None:
    hold = (
        "import sys, pathlib; from glassworks.core.runs import lock_folder\n"
        "with lock_folder(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RunBusy, match=str(other.pid)), lock_folder(tmp_path):
            pytest.fail("two processes held one folder")
        other.kill()
    with lock_folder(tmp_path):
        assert (tmp_path / "lock").read_text().startswith(f"{os.getpid()} (")


def test_deleting_removes_the_folder(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, "study", Choice())
    run.delete()
    assert not run.path.exists()


@pytest.mark.parametrize("contents", [b"", b"{", b"\xff\xfe", b"[1]", b'{"spec": {}}'])
def test_a_foreign_or_truncated_folder_is_named(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "spec.json").write_bytes(contents)
    with pytest.raises(GlassworksError, match=r"spec\.json"):
        RunFolder.open(tmp_path)


def test_a_folder_without_spec_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no run folder"):
        RunFolder.open(tmp_path)
    assert list_runs(tmp_path / "nowhere") == []


def test_reading_what_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_json(tmp_path / "none.json")
    with pytest.raises(BrokenFile):
        read_json(tmp_path)


def test_writing_below_a_file_says_that_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "x.json", tmp_path / "file" / "deeper" / "x.json"):
        with pytest.raises(NoSpace, match="cannot write"):
            write_json(path, 1)
    with pytest.raises(NoSpace):
        RunFolder.create(tmp_path / "file", "study", Choice())
    (tmp_path / "folder").mkdir()
    with pytest.raises(NoSpace):
        write_bytes(tmp_path / "folder", b"a file where a folder is")


def test_a_full_disk_leaves_the_old_file_whole_and_no_crumbs(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    write_json(path, {"old": 1})

    def full(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(NoSpace, match="cannot write"):
        write_atomically(path, full)
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["numbers.json"]


def test_an_interrupted_write_leaves_no_crumbs(tmp_path: Path) -> None:
    def interrupted(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_events_come_back_in_order_and_a_torn_line_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    heard: list[object] = []
    log.listen(heard.append)
    step = StepDone(digest="d", step=1, loss=math.nan, scores={"recall": 0.5}, seconds=0.1)
    log.emit(step)
    with path.open("ab") as file:
        file.write(b'{"kind": "step_done", "dig')
    log.emit(RunDone(seconds=2.0))
    found = list(read_events(path))
    assert [event.kind for event in found] == ["step_done", "run_done"] == [event.kind for event in heard]  # type: ignore[attr-defined]
    assert isinstance(found[0], StepDone)
    assert math.isnan(found[0].loss)
    assert found[0].scores == {"recall": 0.5}


def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"kind": "run_done", "seconds": 1}\n{"kind": "nonsense"}\n[[[\n{"kind": "run_done", "seconds": 2}\n'
    )
    assert [event.seconds for event in read_events(path)] == [1, 2]


def test_the_environment_can_be_written_as_json() -> None:
    found = json.loads(json.dumps(describe_environment()))
    assert found["packages"]["numpy"]
    assert found["command"].startswith("glassworks")
