"""What a command told its readers before it died, and whether that is still true."""

import json
from pathlib import Path
from typing import Any

from faults import looking


def told(events: Path) -> list[dict[str, Any]]:
    """Every whole event that an outside reader could see."""
    if not events.is_file():
        return []
    lines = events.read_bytes().split(b"\n")
    return [found for line in lines if (found := _event(line)) is not None]


def lost(out: Path, events: list[dict[str, Any]]) -> list[str]:
    """What was reported as done and cannot be found: checkpoints, trainings, measurements, runs."""
    notes: list[str] = []
    for event in events:
        match event["kind"]:
            case "checkpoint_saved":
                if _reached(out, event["digest"]) < event["step"]:
                    notes.append(
                        f"checkpoint at step {event['step']} was reported, {_reached(out, event['digest'])} is kept"
                    )
            case "training_done":
                entry = out / "store" / event["digest"]
                if entry.parent.is_dir() and not (entry / "done.json").is_file():
                    notes.append(f"training {event['digest']} was reported as done")
            case "measured":
                if not any(
                    event["name"] in path.read_text(encoding="utf-8") for path in out.rglob("measurements.json")
                ):
                    notes.append(f"measurement {event['name']} was reported")
            case "run_done":
                notes += [f"the run was reported as done: {line}" for line in damage(out, finished=True)]
                results = [*out.rglob("verdicts.json"), *out.rglob("rows.parquet")]
                notes += [] if results else ["the run was reported as done and has no results"]
            case _:
                pass
    return list(dict.fromkeys(notes))


def damage(out: Path, *, finished: bool) -> list[str]:
    """What `glassworks runs verify` says of the runs below a folder; of a finished one also that it is unfinished."""
    from glassworks.core.runs import list_runs

    notes: list[str] = []
    for run in list_runs(out / "runs"):
        for one in run.verify():
            if finished or one.path != run.path:
                notes.append(f"{one.path.name}: {one.what}")
    return notes


def _reached(out: Path, digest: str) -> int:
    """The last step whose state can be read, of a training by its digest."""
    steps = [-1]
    if any((path / "done.json").is_file() for path in out.rglob(digest)):
        return 10**9
    for path in out.rglob("*.safetensors"):
        if looking.is_temporary(path, out) and ".infinify" not in path.parts:
            continue
        if path.name == "checkpoint.safetensors" and path.parent.name == digest:
            steps.append(int(_metadata(path)["step"]))
        if path.name == f"training-{digest}.safetensors":
            steps.append(_losses(path))
    for path in out.rglob("checkpoint-*/whole.json"):
        if digest in path.parts:
            steps.append(int(path.parent.name.rpartition("-")[2]))
    if any(out.rglob("infinify.json")):
        return 10**9
    return max(steps)


def _metadata(path: Path) -> dict[str, str]:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(size))["__metadata__"]


def _losses(path: Path) -> int:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return int(json.loads(file.read(size))["losses"]["shape"][0])


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "kind" in found else None
