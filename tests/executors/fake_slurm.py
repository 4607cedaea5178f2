"""A SLURM of one machine for tests: sbatch, srun, squeue and scancel as programs, which really run what is submitted.

Called by one of these names. Its state lies in the folder FAKE_SLURM: a file with the process number for each element.
"""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

STATE = Path(os.environ["FAKE_SLURM"])


def sbatch(script: str) -> int:
    text = Path(script).read_text()
    (STATE / "submitted.txt").open("a").write(text + "\n")
    refused = STATE / "refuse"
    if refused.exists():
        sys.stderr.write(f"sbatch: error: invalid partition specified: {refused.read_text()}\n")
        return 1
    number = 100 + len(list(STATE.glob("*.job")))
    (STATE / f"{number}.job").touch()
    array = re.search(r"--array=0-(\d+)", text)
    elements = range(int(array[1]) + 1) if array else [None]
    for element in elements:
        name = str(number) if element is None else f"{number}_{element}"
        more = {"SLURM_JOB_ID": str(number), "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODEID": "0"}
        more |= {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_JOB_NODELIST": "node1"}
        if element is not None:
            more |= {"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(element)}
        process = subprocess.Popen(
            ["bash", script], env={**os.environ, **more}, start_new_session=True, stdin=subprocess.DEVNULL,
            stdout=(STATE / f"{name}.out").open("wb"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        (STATE / f"{name}.pid").write_text(str(process.pid))
    sys.stdout.write(f"Submitted batch job {number}\n")
    return 0


def srun(*arguments: str) -> int:
    rest = list(arguments)
    out = err = None
    while rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "--output":
            out = rest.pop(0)
        elif option == "--error":
            err = rest.pop(0)
    for path, target in ((out, 1), (err, 2)):
        if path is not None:
            for sign, name in (("%A", "SLURM_ARRAY_JOB_ID"), ("%a", "SLURM_ARRAY_TASK_ID"), ("%j", "SLURM_JOB_ID")):
                path = path.replace(sign, os.environ.get(name, ""))
            os.dup2(os.open(path.replace("%t", "0"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), target)
    os.execvp(rest[0], rest)


def squeue(*arguments: str) -> int:
    jobs = next(a for a in arguments if a.startswith("--jobs=")).removeprefix("--jobs=").split(",")
    for path in sorted(STATE.glob("*.pid")):
        if path.stem.split("_")[0] in jobs and alive(int(path.read_text())):
            sys.stdout.write(f"{path.stem} RUNNING\n")
    return 0


def scancel(*arguments: str) -> int:
    (STATE / "cancelled.txt").open("a").write(" ".join(arguments) + "\n")
    for path in STATE.glob("*.pid"):
        if path.stem in arguments or path.stem.split("_")[0] in arguments:
            try:
                os.killpg(int(path.read_text()), signal.SIGTERM)
            except ProcessLookupError:
                continue
    return 0


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(globals()[Path(sys.argv[1]).name](*sys.argv[2:]))
