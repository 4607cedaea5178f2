"""`POST /api/needs`: memory and time of an examination or an operation, foretold in a process of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from glassworks.studio.frames import decode
from glassworks.studio.jobs.needs import Needs
from glassworks.studio.questions.needs import NeedCommand
from glassworks.studio.routes.ask import left

router = APIRouter(tags=["needs"])


@router.post("/needs")
async def needs(request: Request, wanted: NeedCommand) -> Any:
    """Bytes at the most and seconds, before the model is opened; a page that goes away ends the measurement."""
    studio = request.app.state.studio
    language = studio.language_of(request)
    known: Needs = request.app.state.needs

    async def foretell() -> dict[str, Any]:
        found = decode(await studio.questions.ask(wanted.to_json(), wanted.seconds, language))
        return await known.of(found["words"], language)

    asking, leaving = asyncio.create_task(foretell()), asyncio.create_task(left(request))
    try:
        await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return asking.result() if asking.done() else Response(status_code=499)
    finally:
        leaving.cancel()
        asking.cancel()
