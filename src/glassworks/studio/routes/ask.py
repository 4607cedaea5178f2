"""`POST /api/ask/KIND`: a question of the shelf, answered by the worker; JSON, or a frame for those who accept it."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from glassworks.studio.crew import Standing
from glassworks.studio.frames import as_json
from glassworks.studio.questions import QUESTIONS, Question

FRAME = "application/x-glassworks-frame"
NAME = "x-glassworks-ask"
router = APIRouter(tags=["questions"])


async def answered(request: Request, question: Question) -> Response:
    """The worker's answer; a page that goes away calls its question off."""
    studio = request.app.state.studio
    asking = asyncio.create_task(
        studio.asked(question.seconds).ask(
            question.to_json(), question.seconds, studio.language_of(request), request.headers.get(NAME, "")
        )
    )
    leaving = asyncio.create_task(left(request))
    try:
        await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            return Response(status_code=499)
        frame = asking.result()
    finally:
        asking.cancel()
        leaving.cancel()
    if FRAME in request.headers.get("accept", ""):
        return Response(frame, media_type=FRAME)
    # Millions of numbers as text take a moment, in which the other pages want answers too.
    return Response(await asyncio.to_thread(as_json, frame), media_type="application/json")


async def left(request: Request) -> None:
    """Returns when the page has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _add(kind: type[Question]) -> None:
    name = str(kind.model_fields["kind"].default)

    async def ask(request: Request, question: Any) -> Response:
        return await answered(request, question)

    ask.__annotations__["question"] = kind
    ask.__doc__ = kind.__doc__
    router.post(f"/ask/{name}", name=name, summary=(kind.__doc__ or name).splitlines()[0])(ask)


for _kind in QUESTIONS:
    _add(_kind)


@router.get("/asked/{name}")
async def asked(request: Request, name: str) -> dict[str, Any]:
    """How a question stands that was asked under this name: queued, running (and how far), or gone."""
    studio = request.app.state.studio
    # A question that was answered a moment ago is nothing wrong: the page asked while the answer was on its way.
    known = studio.questions.standing | studio.long_questions.standing
    standing = known.get(name, Standing("gone"))
    return {"state": standing.state, "label": standing.label, "done": standing.done, "total": standing.total}
