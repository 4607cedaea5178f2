"""Files and folders that appear whole or not at all, and what killed processes leave."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glassworks.core import files
from glassworks.core.errors import NoSpace, RunBusy, Unavailable
from glassworks.core.files import filling_folder, refuse_unwritable, replacing_folder, write_bytes
from glassworks.core.runs import lock_folder

DIES = """
import os, signal, sys
from pathlib import Path
from glassworks.core.files import replacing_folder, write_atomically
path = Path(sys.argv[2])
def die(place):
    (place / "half" if place.is_dir() else place).write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "file":
    write_atomically(path, die)
with replacing_folder(path) as new:
    die(new)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def filled(folder: Path, text: str) -> None:
    with replacing_folder(folder) as new:
        (new / "a.txt").write_text(text)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_writer_left_goes_with_the_next_write_of_that_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "one"
    died = subprocess.run([sys.executable, "-c", DIES, kind, str(path)], check=False)
    assert died.returncode == -signal.SIGKILL
    [left] = names(tmp_path)
    assert left.startswith(".one.")
    write_bytes(tmp_path / "other", b"whole")
    assert names(tmp_path) == [left, "other"], "another file's write leaves it alone"
    if kind == "file":
        write_bytes(path, b"whole")
    else:
        filled(path, "whole")
    assert names(tmp_path) == ["one", "other"]


def test_what_a_living_writer_is_filling_is_left_to_it(tmp_path: Path) -> None:
    with replacing_folder(tmp_path / "one") as new:
        (new / "a.txt").write_text("first")
        filled(tmp_path / "one", "second")
    assert (tmp_path / "one" / "a.txt").read_text() == "first"
    assert names(tmp_path) == ["one"]


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchanged", "renamed twice"])
def test_a_folder_is_replaced_as_a_whole_and_has_the_usual_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        monkeypatch.setattr(files, "_exchanged", lambda one, other: False)
    filled(tmp_path / "one", "old")
    (tmp_path / "one" / "b.txt").write_text("of before")
    filled(tmp_path / "one", "new")
    assert names(tmp_path) == ["one"]
    assert names(tmp_path / "one") == ["a.txt"]
    assert (tmp_path / "one" / "a.txt").read_text() == "new"
    usual = tmp_path / "usual"
    usual.mkdir()
    assert (tmp_path / "one").stat().st_mode == usual.stat().st_mode


def test_a_replacement_that_fails_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    filled(tmp_path / "one", "old")

    def stopped() -> None:
        with replacing_folder(tmp_path / "one") as new:
            (new / "a.txt").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / "one" / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["one"]


def test_a_folder_is_filled_beside_what_lies_in_it(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    (tmp_path / "a.txt").write_text("old")
    with filling_folder(tmp_path) as new:
        (new / "a.txt").write_text("new")
        (new / "inner").mkdir()
        (new / "inner" / "b.txt").write_text("b")
        assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert (tmp_path / "inner" / "b.txt").read_text() == "b"
    assert names(tmp_path) == ["a.txt", "inner", "kept.txt"]


def test_a_file_system_without_locks_is_named_and_is_not_called_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with lock_folder(tmp_path):
        assert f"{os.getpid()} (" in (tmp_path / "lock").read_text(), "the other kind of lock does as well"
    monkeypatch.setattr(fcntl, "lockf", unknown)
    with pytest.raises(Unavailable, match="has no locks"), lock_folder(tmp_path):
        pass
    # Writing needs no locks; only what the dead left is not told from what the living fill.
    write_bytes(tmp_path / "one", b"whole")
    assert names(tmp_path) == ["lock", "one"]


def test_a_taken_lock_names_process_and_machine(tmp_path: Path) -> None:
    busy = pytest.raises(RunBusy, match=rf"process {os.getpid()} \(.+\) is working on")
    with lock_folder(tmp_path), busy, lock_folder(tmp_path):
        pass


@pytest.mark.parametrize("name", ["file/below", "file/deep/below", "link/below"])
def test_a_file_in_the_way_is_named_before_and_at_the_writing(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for attempt in (refuse_unwritable, lambda path: write_bytes(path, b"lost")):
        with pytest.raises(NoSpace, match=f"{tmp_path / name.split('/')[0]} is no folder"):
            attempt(tmp_path / name)
    assert names(tmp_path) == ["file", "link"]
    assert (tmp_path / "file").read_text() == "kept"


def test_a_place_that_can_be_written_is_not_made_by_the_question(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "new" / "deep")
    assert names(tmp_path) == []


def test_a_folder_without_the_right_to_write_is_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The superuser may write anywhere; what the system answers others is put here.
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(NoSpace, match="Permission denied"):
        refuse_unwritable(tmp_path / "new")
