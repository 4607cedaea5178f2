"""stdout and stderr that are closed, full, or not to be waited for; and a program's last moments."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassworks.cli.streams import Outlet
from glassworks.core.errors import NoSpace

ENTRY = """
import signal, threading, time
from glassworks.cli import main as program
signal.signal(signal.SIGINT, signal.default_int_handler)
def main():
    threading.Thread(target=time.sleep, args=(20,)).start()
    print("told", flush=True)
    return 3
program.main = main
program.entry()
"""


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[int]:
    """A file that takes nothing: it was opened for reading alone."""
    path = tmp_path / "file"
    path.touch()
    handle = os.open(path, os.O_RDONLY)
    yield handle
    os.close(handle)


def test_results_that_cannot_be_written_are_a_failure_that_is_told_once(refusing: int) -> None:
    outlet = Outlet(refusing)
    with pytest.raises(NoSpace, match="cannot write to stdout: Bad file descriptor"):
        outlet.write(b"a result")
    assert outlet.write(b"what was still waiting") == 22, "the interpreter's end tells it no second time"


def test_remarks_that_cannot_be_written_end_no_work(refusing: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glassworks.cli.streams._STDERR", refusing)
    assert Outlet(refusing).write(b"a remark") == 8


def test_a_reader_that_takes_its_time_gets_every_byte() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data, got = os.urandom(1 << 18), list[bytes]()

    def read() -> None:
        while part := os.read(reading, 4096):
            got.append(part)

    reader = threading.Thread(target=read)
    outlet, rest = Outlet(writing), memoryview(data)
    rest = rest[outlet.write(rest) :]
    assert len(rest) > 0, "more than a pipe holds"
    reader.start()
    while len(rest):
        rest = rest[outlet.write(rest) :]
    os.close(writing)
    reader.join()
    os.close(reading)
    assert b"".join(got) == data


def test_a_reader_that_went_away_is_told_as_ever() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        Outlet(writing).write(b"a result")
    os.close(writing)


def test_a_command_without_any_stream_works_and_its_files_get_no_number_of_one(tmp_path: Path) -> None:
    check = (
        "import os\n"
        "from glassworks.cli.main import main\n"
        "code = main(['--version'])\n"
        f"number = os.open({str(tmp_path / 'file')!r}, os.O_CREAT | os.O_WRONLY)\n"
        "raise SystemExit(code if number > 2 else 99)\n"
    )
    done = subprocess.run(
        ["/bin/sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, check], check=False, timeout=60
    )
    assert done.returncode == 0


def test_ctrl_c_after_the_end_ends_the_program_at_once_with_its_code() -> None:
    program = subprocess.Popen([sys.executable, "-c", ENTRY], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stdout.readline() == b"told\n"
    # At the very moment of the word the command is still in `main`, where Ctrl-C is answered as Ctrl-C.
    time.sleep(0.3)
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=15)
    assert program.returncode == 3
    assert err == b""
