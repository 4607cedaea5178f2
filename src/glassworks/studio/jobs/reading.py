"""What a job tells, piece by piece: its events, the tail of its log, what it printed at the end, samples of its model."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import GlassworksError, NotFound, UnknownName
from glassworks.core.files import read_json
from glassworks.core.text import say
from glassworks.studio.jobs.job import ALIVE, Job

# A page asks again as long as there is more, so no answer is large.
PIECE_BYTES = 1 << 18
LOG_BYTES = 1 << 14
# Enough for the last events, which carry all scores of a step.
_LAST_BYTES = 1 << 14
_RESULT_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{16}")


def events_after(job: Job, offset: int, most: int = PIECE_BYTES) -> dict[str, Any]:
    """`events` from a byte offset on, `next` to ask from, `more` where the piece was cut; a torn last line waits."""
    path = job.path / "events.jsonl"
    size = path.stat().st_size if path.is_file() else 0
    start = offset if 0 <= offset <= size else 0
    data = _bytes_of(path, start, most)
    end = data.rfind(b"\n") + 1
    if end == 0 and len(data) == most:
        end = len(data)  # a line beyond all bounds is none of ours
    return {
        "events": _events_in(data[:end]),
        "next": start + end,
        "more": start + end < size and end > 0,
        "start": start,
    }


def summary(job: Job) -> dict[str, Any]:
    """A job in one line of a list: what it is, how it stands, how far it is."""
    order, ended = job.order, job.ended()
    return {
        "id": job.identifier, "verb": order.verb, "about": order.about, "title": order.title, "command": job.command,
        "choices": order.choices, "facts": order.facts, "state": job.state(), "created": job.created, "started": job.started,
        "ended": None if ended is None else ended[1], "code": None if ended is None else ended[0],
        "session": job.session, "threads": job.threads, "folder": str(job.path), "progress": _progress_of(job),
    }  # fmt: skip


def detail(job: Job, out: Path) -> dict[str, Any]:
    """The summary with the log's tail, the result, and samples that the model wrote."""
    result = _result_of(job)
    return summary(job) | {"log": log_of(job), "result": result, "samples": _samples_of(job, result, out)}


def log_of(job: Job) -> str:
    """The last of what the job said on stderr."""
    path = job.path / "stderr"
    size = path.stat().st_size if path.is_file() else 0
    text = _bytes_of(path, max(0, size - LOG_BYTES), LOG_BYTES).decode("utf-8", "replace")
    return text if size <= LOG_BYTES else text.partition("\n")[2]


def history_of(job: Job, digest: str, out: Path) -> dict[str, Any]:
    """The history of a training that the job found finished; UnknownName for one that it does not speak of."""
    piece = events_after(job, 0)
    known = {str(event.get("digest")) for event in piece["events"] if _DIGEST.fullmatch(str(event.get("digest")))}
    if digest not in known:
        raise UnknownName("training", digest, known)
    found = read_json(out / "store" / digest / "history.json")
    found = cast(dict[str, Any], found) if isinstance(found, dict) else {}
    return {"steps": found.get("steps", []), "metrics": found.get("metrics", {})}


def report_of(job: Job, out: Path) -> Path:
    """The report that a finished job names, below `out`; NotFound where it names none."""
    named = str((_result_of(job) or {}).get("report") or "")
    path = Path(named.replace("\0", "")).resolve()
    if not named or path.suffix != ".html" or not path.is_relative_to(out.resolve()) or not path.is_file():
        raise NotFound(
            say("this job has written no report"), right=say("one that reproduces, examines or sweeps, at its end")
        )
    return path


def _progress_of(job: Job) -> dict[str, Any]:
    """Where the job is: `step` of `steps`, or `done` of `total` of a piece of work; `at` is the clock of the last event."""
    path = job.path / "events.jsonl"
    size = path.stat().st_size if path.is_file() else 0
    found: dict[str, Any] = {"step": None, "loss": None, "done": None, "total": None, "label": "", "at": None}
    for event in _events_in(_bytes_of(path, max(0, size - _LAST_BYTES), _LAST_BYTES)):
        found["at"] = event.get("at")
        match event.get("kind"):
            case "step_done" if isinstance(event.get("step"), int):
                found |= {"step": event["step"] + 1, "loss": event.get("loss")}
            case "progressed":
                found |= {"done": event.get("done"), "total": event.get("total"), "label": event.get("label")}
            case "training_started":
                found |= {"label": event.get("label"), "total": None}
            case "measured":
                found |= {"label": event.get("name")}
            case _:
                pass
    return found


def _result_of(job: Job) -> dict[str, Any] | None:
    """What the command printed as JSON; None before its end."""
    if job.state() in ALIVE or job.ended() is None:
        return None
    try:
        found = json.loads(_bytes_of(job.path / "stdout", 0, _RESULT_BYTES), parse_constant=_nothing)
        json.dumps(found, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return _finite(found) if isinstance(found, dict) else None


def _samples_of(job: Job, result: dict[str, Any] | None, out: Path) -> dict[str, Any] | None:
    """What a pretrained model wrote before and after, as its folder keeps it."""
    folder = str((result or {}).get("model") or job.order.facts.get("model") or "")
    name = Path(folder).name
    if not _DIGEST.fullmatch(name):
        return None
    try:
        found = read_json(out / "store" / name / "samples.json")
    except GlassworksError:
        return None
    return cast(dict[str, Any], found) if isinstance(found, dict) else None


def _events_in(data: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for line in data.split(b"\n"):
        try:
            event = json.loads(line, parse_constant=_nothing)
            # Half a character cannot be sent on.
            json.dumps(event, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            continue
        if isinstance(event, dict) and "kind" in event:
            found.append(cast(dict[str, Any], event))
    return found


def _bytes_of(path: Path, start: int, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(most)
    except FileNotFoundError:
        return b""


def _nothing(_constant: str) -> None:
    """NaN and infinity: no other reader of JSON knows them."""


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in cast(dict[Any, Any], value).items()}
    return [_finite(one) for one in cast(list[Any], value)] if isinstance(value, list) else value
