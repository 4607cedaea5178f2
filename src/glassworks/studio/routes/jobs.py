"""`/api/jobs`: trainings, experiments and sweeps as processes; `/api/data`: texts that a person brought."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from glassworks.studio.frames import decode
from glassworks.studio.jobs.data import kept, listed
from glassworks.studio.jobs.job import Job, Order
from glassworks.studio.jobs.keeper import Keeper
from glassworks.studio.jobs.reading import detail, events_after, history_of, report_of, summary
from glassworks.studio.refusals import BAD, Refused
from glassworks.studio.routes.runs import REPORT_POLICY

# Checking a form reads the files that it names, and loads torch for the first one.
CHECK_SECONDS = 90.0


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    keeper = app.state.jobs = Keeper(app.state.studio.options.out)
    keeping = asyncio.create_task(keeper.keep())
    try:
        yield
    finally:
        # The jobs themselves go on.
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


router = APIRouter(tags=["jobs"], lifespan=_lifespan)


class NewJob(BaseModel):
    """A form as it was filled in: the verb, what it is about, and the choices by their dotted paths."""

    model_config = ConfigDict(extra="forbid")

    verb: str = Field(max_length=40)
    about: str = Field(default="", max_length=4000)
    choices: dict[str, Any] = Field(default={}, max_length=400)
    title: str = Field(default="", max_length=120)
    preset: str = Field(default="", max_length=40)
    """The filled-in form that this came from, whose name the page shows in its own language."""


class NewData(BaseModel):
    """A text that was pasted or dropped."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=200)
    text: str


def _keeper(request: Request) -> Keeper:
    return request.app.state.jobs


@router.get("/jobs")
async def jobs(request: Request) -> dict[str, Any]:
    """Every job, newest first, with its state and how far it is."""
    keeper = _keeper(request)
    return {"jobs": [summary(job) for job in keeper.all()], "most_running": keeper.most_running}


@router.post("/jobs")
async def add(request: Request, new: NewJob) -> dict[str, Any]:
    """Checks a form by its spec and puts its command into the queue; 400 with the field's path where it is wrong."""
    studio = request.app.state.studio
    language = studio.language_of(request)
    question = {"kind": "check_form", "verb": new.verb, "about": new.about, "choices": new.choices}
    found = decode(await studio.questions.ask(question, CHECK_SECONDS, language))
    if found["problem"] is not None:
        raise Refused(BAD, {name: value for name, value in found["problem"].items() if name != "standard"})
    order = Order(
        new.verb,
        new.about,
        new.title or found["title"],
        tuple(found["words"]),
        new.choices,
        dict(found["facts"]) | {"preset": new.preset},
    )
    return summary(_keeper(request).add(order, language))


@router.get("/jobs/{identifier}")
async def job(request: Request, identifier: str) -> dict[str, Any]:
    """One job with the tail of its log, its result and its model's samples."""
    keeper = _keeper(request)
    return detail(keeper.job(identifier), keeper.out)


@router.get("/jobs/{identifier}/events")
async def events(
    request: Request, identifier: str, after: Annotated[int, Query(ge=0, le=1 << 50)] = 0
) -> dict[str, Any]:
    """Events from a byte offset on, in pieces; ask again from `next`."""
    return events_after(_keeper(request).job(identifier), after)


@router.get("/jobs/{identifier}/history/{digest}")
async def history(request: Request, identifier: str, digest: str) -> dict[str, Any]:
    """What was logged in an earlier, equal training that the job found finished."""
    keeper = _keeper(request)
    return history_of(keeper.job(identifier), digest, keeper.out)


@router.get("/jobs/{identifier}/report")
async def report(request: Request, identifier: str) -> Response:
    """The report that the job wrote, as it is; 404 before there is one."""
    keeper = _keeper(request)
    path = report_of(keeper.job(identifier), keeper.out)
    headers = {"content-security-policy": REPORT_POLICY, "cache-control": "no-cache"}
    return FileResponse(path, media_type="text/html; charset=utf-8", headers=headers)


@router.post("/jobs/{identifier}/pause")
async def pause(request: Request, identifier: str) -> dict[str, Any]:
    """Holds a running job; it keeps its memory."""
    return _done(request, lambda keeper: keeper.pause(identifier))


@router.post("/jobs/{identifier}/continue")
async def go_on(request: Request, identifier: str) -> dict[str, Any]:
    """Lets a paused job run, or takes up one that stopped."""
    return _done(request, lambda keeper: keeper.go_on(identifier))


@router.post("/jobs/{identifier}/again")
async def again(request: Request, identifier: str) -> dict[str, Any]:
    """Takes up a job that stopped, failed or was interrupted, from its last checkpoint."""
    return _done(request, lambda keeper: keeper.go_on(identifier))


@router.post("/jobs/{identifier}/stop")
async def stop(request: Request, identifier: str) -> dict[str, Any]:
    """Stops politely; a second time kills."""
    return _done(request, lambda keeper: keeper.stop(identifier))


@router.delete("/jobs/{identifier}")
async def delete(request: Request, identifier: str) -> dict[str, Any]:
    """Forgets a job that has ended; models and runs stay."""
    _keeper(request).delete(identifier)
    return {"deleted": identifier}


@router.get("/data")
async def data(request: Request) -> dict[str, Any]:
    """Files that a form can offer."""
    return {"files": listed(_keeper(request).out)}


@router.post("/data")
async def bring(request: Request, new: NewData) -> dict[str, Any]:
    """Keeps a pasted text as a file in OUT/data."""
    return kept(_keeper(request).out, new.name, new.text)


def _done(request: Request, action: Callable[[Keeper], Job]) -> dict[str, Any]:
    return summary(action(_keeper(request)))
