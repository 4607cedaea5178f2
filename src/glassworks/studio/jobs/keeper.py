"""The keeper of jobs: starts at most so many at once, pauses, stops, takes them up again; survives its own restart.

A job is a process group of its own, so it goes on when the studio ends and is found again by its number and birth.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from glassworks.core.errors import GlassworksError, InvalidInput, RunBusy, UnknownName
from glassworks.core.files import writing
from glassworks.core.runs import lock_folder
from glassworks.core.text import Language, say
from glassworks.studio.jobs.cores import MOST_RUNNING, places, threads
from glassworks.studio.jobs.job import ALIVE, Job, Order

# What waits beyond that is surely a mistake or a script run wild.
MOST_WAITING = 50
MOST_KEPT = 500
# The step under way ends and its state is written first; who asks again has it ended at once.
GRACE = 600.0
TICK = 0.5
EVENTS = "GLASSWORKS_EVENTS"
_STARTER = Path(__file__).with_name("starter.py")
_PROGRAM = (sys.executable, "-m", "glassworks.cli.main")


@dataclass
class Keeper:
    """All jobs below `out`/jobs."""

    out: Path
    most_running: int = MOST_RUNNING
    program: tuple[str, ...] = _PROGRAM
    _children: list[subprocess.Popen[bytes]] = field(default_factory=list["subprocess.Popen[bytes]"])
    _deadlines: dict[str, float] = field(default_factory=dict[str, float])
    # Asked for in this studio. A folder of jobs may come from somebody else: none of them reaches a cluster by itself.
    _asked: set[str] = field(default_factory=set[str])

    @property
    def folder(self) -> Path:
        """Where the jobs lie."""
        return self.out.resolve() / "jobs"

    def all(self) -> list[Job]:
        """Every job, newest first."""
        if not self.folder.is_dir():
            return []
        # A link would lead to a folder that is none of ours to change or remove.
        paths = (path.parent for path in self.folder.glob("*/job.json") if not path.parent.is_symlink())
        found = map(Job.read, paths)
        return sorted((job for job in found if job is not None), key=lambda job: job.created, reverse=True)

    def job(self, identifier: str) -> Job:
        """The job of this name in the listing; UnknownName otherwise. The name is never made into a path."""
        found = {job.identifier: job for job in self.all()}
        if identifier not in found:
            raise UnknownName("job", identifier, found)
        return found[identifier]

    def add(self, order: Order, language: Language = "en") -> Job:
        """Puts a job at the end of the queue and starts it where there is room; InvalidInput where too many wait."""
        here = self.all()
        waiting = sum(job.state() == "queued" for job in here)
        if waiting >= MOST_WAITING or len(here) >= MOST_KEPT:
            raise InvalidInput(
                say("{count} jobs wait and {kept} are kept already", count=waiting, kept=len(here)),
                right=say("at most {count} and {kept}; delete some", count=MOST_WAITING, kept=MOST_KEPT),
            )
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        path = self.folder / name
        with writing(path):
            path.mkdir(parents=True)
        order.facts["language"] = language
        job = Job(path, order, time.time(), threads=threads(order.facts, self.most_running))
        try:
            job.write()
        except GlassworksError:
            shutil.rmtree(path, ignore_errors=True)
            raise
        self._asked.add(name)
        # One that cannot be started now waits; that others cannot be is no failure of this one.
        with contextlib.suppress(OSError, GlassworksError):
            self.tick()
        return self.job(name)

    def pause(self, identifier: str) -> Job:
        """Holds a running job where it is, with all its processes; it keeps its memory. InvalidInput where others compute for it."""
        job = self._alive(identifier)
        if job.is_elsewhere:
            raise InvalidInput(
                say("a cluster's workers cannot be held"), right=say("stop it: what is finished is kept")
            )
        if job.state() == "running":
            _signal_all(job, signal.SIGSTOP)
            job = job.changed(wish="pause")
        return job

    def go_on(self, identifier: str) -> Job:
        """Lets a paused job run again; one that stopped, failed or was interrupted is queued and goes on from its checkpoint."""
        job = self.job(identifier)
        self._asked.add(identifier)
        match job.state():
            case "paused":
                _signal_all(job, signal.SIGCONT)
                job = job.changed(wish="run")
            case "stopped" | "failed" | "interrupted":
                job = job.changed(wish="run", pid=None, born=None, started=None)
                (job.path / "ended.json").unlink(missing_ok=True)
                self.tick()
                job = self.job(identifier)
            case "done":
                raise InvalidInput(say("this job is finished"), right=say("a new one"))
            case _:
                pass
        return job

    def stop(self, identifier: str) -> Job:
        """Stops as Ctrl-C does: its checkpoint is kept; one that does not listen is killed after the grace."""
        job = self.job(identifier)
        match job.state():
            case "queued":
                job = job.changed(wish="stop")
            case "running" | "paused":
                job = job.changed(wish="stop")
                # What is held does not hear before it goes on.
                _signal(job, signal.SIGINT)
                _signal_all(job, signal.SIGCONT)
                self._deadlines[identifier] = time.monotonic() + GRACE
            case "stopping":
                _signal(job, signal.SIGKILL)
            case _:
                pass
        return job

    def delete(self, identifier: str) -> None:
        """Removes what the job told; models and runs that it made stay. RunBusy while it lives."""
        job = self.job(identifier)
        # Another studio on this folder may be starting it at this moment.
        with lock_folder(job.path), writing(job.path):
            if job.state() in ALIVE:
                raise RunBusy(say("this job is still running"), right=say("stop it first"))
            shutil.rmtree(job.path)

    def tick(self) -> None:
        """Reaps what ended, kills what does not listen, starts what waits."""
        for child in list(self._children):
            if child.poll() is not None:
                self._children.remove(child)
        for name, deadline in list(self._deadlines.items()):
            if time.monotonic() > deadline:
                del self._deadlines[name]
                with contextlib.suppress(UnknownName):
                    job = self.job(name)
                    if job.state() == "stopping":
                        _signal(job, signal.SIGKILL)
        states = [(job, job.state()) for job in self.all()]
        room = self.most_running - sum(
            places(job.order.facts, self.most_running) for job, state in states if state in ("running", "stopping")
        )
        waiting = [job for job, state in reversed(states) if state == "queued"]
        for job in [job for job in waiting if not job.reaches_out or job.identifier in self._asked]:
            room -= places(job.order.facts, self.most_running)
            # Who takes more room waits for it; nobody overtakes, or it would wait for ever.
            if room < 0:
                break
            # Another studio on this folder may be faster: then the job is its.
            with contextlib.suppress(RunBusy), lock_folder(job.path):
                fresh = Job.read(job.path)
                if fresh is not None and fresh.state() == "queued":
                    self._start(fresh)

    async def keep(self) -> None:
        """Ticks until it is cancelled; jobs go on without it."""
        while True:
            try:
                self.tick()
            except (OSError, GlassworksError):
                pass  # a full disk, mostly: what waits goes on waiting
            except Exception:
                # One damaged job may not keep all others waiting.
                traceback.print_exc(file=sys.stderr)
            await asyncio.sleep(TICK)

    def wait(self) -> None:
        """Waits until every process that was started here has ended."""
        for child in self._children:
            child.wait()

    def _alive(self, identifier: str) -> Job:
        job = self.job(identifier)
        if job.state() not in ALIVE:
            raise InvalidInput(say("this job is not running"), given=job.state())
        return job

    def _start(self, job: Job) -> None:
        # Begun, and nobody knows by which process. One that is to go on was begun by none: its last may still be leaving.
        if job.started is not None and (left := _left_running(job)) is not None:
            job.changed(pid=left.pid, born=left.create_time())
            return
        session = job.session + 1
        command = [
            sys.executable, "-I", "-S", str(_STARTER), str(job.path / "ended.json"), str(session),
            *self.program, *job.order.words, "--json",
        ]  # fmt: skip
        environment = os.environ | {
            "OMP_NUM_THREADS": str(job.threads),
            "GLASSWORKS_LANG": str(job.order.facts.get("language", "en")),
            "PYTHONSAFEPATH": "1",
            EVENTS: str(job.path / "events.jsonl"),
        }
        # Written before anything runs: on a full disk no process is started that nobody would know of.
        job = job.changed(session=session, started=time.time(), pid=None, born=None, wish="run")
        with (job.path / "stdout").open("wb") as told, (job.path / "stderr").open("ab") as remarks:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=told, stderr=remarks, env=environment, start_new_session=True
            )
        self._children.append(child)
        try:
            job.changed(pid=child.pid, born=psutil.Process(child.pid).create_time())
        except BaseException:
            os.killpg(child.pid, signal.SIGKILL)
            raise


def _left_running(job: Job) -> psutil.Process | None:
    """The process of a job whose studio died after it had started it and before it had written down its number."""
    ended = str(job.path / "ended.json")
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if str(_STARTER) in words and ended in words and process.status() != psutil.STATUS_ZOMBIE:
                return process
    return None


def _signal(job: Job, number: signal.Signals) -> None:
    """To the whole group, and only if the process is still this job's."""
    if job.process() is not None and job.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, number)


def _signal_all(job: Job, number: signal.Signals) -> None:
    """To the group, then to processes that it started in groups of their own: those of one training, workers."""
    _signal(job, number)
    process = job.process()
    if process is None:
        return
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.send_signal(number)
