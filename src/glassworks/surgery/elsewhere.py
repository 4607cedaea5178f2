"""The pieces of a sweep as jobs, so that any number of processes or machines can score them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.core.events import EventLog
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.executors import Job
from glassworks.surgery.choice import SweepChoice, SweepSpec

if TYPE_CHECKING:
    from glassworks.surgery.sweep import SweepOptions, SweepOrder


def model_elsewhere(subject: Subject, typed: str | None, **loading: Any) -> dict[str, Any]:
    """What `opened` takes to load this model in another process: its folder or file where it has one, else its name.

    Raises InvalidInput for a live model, which no other process can reach.
    """
    place = Path(subject.origin.source) if subject.origin.source else None
    source = str(place.absolute()) if place is not None and place.exists() else typed
    if source is None:
        raise InvalidInput(
            say("a live model cannot be sent to other processes"),
            right=say("its folder or its name; `save_pretrained` writes one"),
        )
    return {"source": source, **loading}


def opened(source: str, device: str = "auto", dtype: str = "auto", trust_remote_code: bool = False) -> Subject:
    """The model that a worker loads."""
    from glassworks.models.load import load
    from glassworks.tasks import TASKS

    return load(source, device=device, dtype=dtype, trust_remote_code=trust_remote_code, world_reader=TASKS.parse)


def piece_jobs(
    spec: SweepSpec, run: RunFolder, options: SweepOptions, pieces: Sequence[tuple[str, int, str, int]]
) -> list[Job]:
    """A job for each piece: the benchmark's name, the piece's number, its file in the run, its tokens."""
    if options.model is None:
        raise InvalidInput(
            say("a live model cannot be sent to other processes"),
            right=say("its folder or its name; `save_pretrained` writes one"),
        )
    digest = spec.digest()
    return [
        Job(
            name=f"{digest}-{Path(file).stem}",
            label=f"{benchmark} {number + 1}",
            function=f"{__name__}:score",
            arguments={
                "model": dict(options.model), "choice": spec.choice.to_json(), "digest": digest,
                "run": str(run.path.absolute()), "piece": [benchmark, number], "schedule": options.schedule,
            },
            proof=run.path.absolute() / file,
            weight=float(tokens),
        )
        for benchmark, number, file, tokens in pieces
    ]  # fmt: skip


def score(
    model: Mapping[str, Any], choice: Mapping[str, Any], digest: str, run: str, piece: Sequence[Any], **more: Any
) -> None:
    """Scores one piece of a sweep into its run folder; InvalidInput where this process reads other weights or texts."""
    from glassworks.surgery.sweep import score_one
    from glassworks.tensors.memory import keep_freed_memory

    order = _order(json.dumps([dict(model), dict(choice)], sort_keys=True))
    if order.spec.digest() != digest:
        raise InvalidInput(
            say("the model, its texts or its number format are not the same here as where the sweep began"),
            given=order.spec.to_json(),
        )
    if order.subject.device.type == "cpu":
        keep_freed_memory()
    events: EventLog = more["events"]
    score_one(order, RunFolder.open(Path(run)), (str(piece[0]), int(piece[1])), more["schedule"], events)


@lru_cache(maxsize=1)
def _order(said: str) -> SweepOrder:
    """The model and its benchmarks: loaded once by a worker, however many pieces it scores."""
    from glassworks.surgery.sweep import SweepOrder

    model, choice = json.loads(said)
    return SweepOrder.of(opened(**model), SweepChoice.parse(choice))
