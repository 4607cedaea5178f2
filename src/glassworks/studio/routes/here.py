"""What is here: the models, the machine, whether the workers answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from glassworks.studio.home.machine import machine as machine_here
from glassworks.studio.questions.models import ModelsHere
from glassworks.studio.routes.ask import answered

router = APIRouter(tags=["here"])


@router.get("/models")
async def models(request: Request) -> Response:
    """Every model that can be opened here."""
    return await answered(request, ModelsHere())


@router.get("/machine")
def machine(request: Request) -> dict[str, Any]:
    """What this machine is: cores, memory, disk, device, where files lie."""
    return machine_here(request.app.state.studio.options.out)


@router.get("/state")
async def state(request: Request) -> dict[str, Any]:
    """Whether the workers are there, and in which language the studio was started."""
    studio = request.app.state.studio
    return {
        "language": studio.options.language,
        "questions": studio.questions.crew.ready.is_set(),
        "playground": studio.playground.ready.is_set(),
        "waiting": studio.questions.crew.listening,
    }
