"""Stands between the studio and a job: runs its command, waits, and writes how it ended, whether the studio still lives.

Run by path with a bare interpreter, so nothing of the package is imported: `python starter.py ENDED SESSION PYTHON WORD ...`.
"""

import json
import os
import signal
import subprocess
import sys
import time


def main(words: list[str]) -> int:
    """Runs `words[2:]` and writes `{"session", "code", "at"}` to the file `words[0]`; returns the command's code."""
    ended, session = words[0], int(words[1])
    # Ctrl-C goes to the whole group: the command stops politely, and this process stays to write that it did. A handler
    # and not SIG_IGN, since what is ignored stays ignored in the command, also where the studio itself inherited that.
    signal.signal(signal.SIGINT, _stay)
    code = subprocess.call(words[2:], stdin=subprocess.DEVNULL)
    # One name for all sessions: what a killed one left is written over by the next.
    temporary = os.path.join(os.path.dirname(ended), ".ended.json")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({"session": session, "code": code, "at": time.time()}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, ended)
    return code


def _stay(_number: int, _frame: object) -> None:
    """The command hears the signal itself."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
