"""`/api/playground`: the socket of a playground, carried to its worker; and the points of the thumbnails."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from functools import cache
from typing import Any, get_args

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from glassworks.core.text import LANGUAGES
from glassworks.studio.channel import Kind
from glassworks.studio.crew import Line
from glassworks.studio.playground.data import thumbnail
from glassworks.studio.playground.settings import MANY_CLASSES, Dataset, PlaygroundSettings, RegressionDataset

router = APIRouter(tags=["playground"])
# Reasons of closing, of RFC 6455 and the browser's own.
WRONG_DATA, NOT_ALLOWED, TRY_AGAIN = 1003, 1008, 1013
# A hand on a slider says less; a page that says more is made to wait, and nobody else is.
MOST_A_SECOND = 400


@router.get("/playground/sets")
def sets() -> dict[str, Any]:
    """Points of every data set, without noise, as the thumbnails show them."""
    return {"sets": _sets()}


@cache
def _sets() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for problem, names in (("classification", get_args(Dataset)), ("regression", get_args(RegressionDataset))):
        which = "dataset" if problem == "classification" else "regression_dataset"
        for name in names:
            if name == "own":
                continue
            settings = PlaygroundSettings.parse({"problem": problem, which: name})
            points = [[round(number, 3) for number in point] for point in thumbnail(settings)]
            classes = settings.classes if name in MANY_CLASSES else 2
            found.append({"name": name, "problem": problem, "classes": classes, "points": points})
    return found


@router.websocket("/playground")
async def play(socket: WebSocket) -> None:
    """Carries a page's messages to the worker and its frames back, until one of them leaves."""
    studio = socket.app.state.studio
    asked = socket.query_params.get("lang")
    language = next((one for one in LANGUAGES if one == asked), studio.options.language)
    await socket.accept()
    async with studio.playground.line() as line:
        try:
            await line.send(Kind.OPEN, json.dumps({"language": language}).encode())
        except TimeoutError:
            await socket.close(TRY_AGAIN, "the worker does not start")
            return
        ways = [asyncio.create_task(_there(socket, line)), asyncio.create_task(_back(socket, line))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            with contextlib.suppress(TimeoutError):
                await line.send(Kind.CLOSE)


async def _there(socket: WebSocket, line: Line) -> None:
    begun, count = time.monotonic(), 0
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        if text is None:
            await socket.close(WRONG_DATA, "text is wanted, not bytes")
            return
        await line.send(Kind.SAY, text.encode("utf-8", "replace"))
        count += 1
        passed = time.monotonic() - begun
        if count > MOST_A_SECOND:
            if passed < 1:
                await asyncio.sleep(1 - passed)
            begun, count = time.monotonic(), 0


async def _back(socket: WebSocket, line: Line) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            message = await line.heard.get()
            if message is None:
                await socket.close(TRY_AGAIN, "the worker stopped and was started again")
                return
            if message.kind is Kind.FRAME:
                await socket.send_bytes(message.data)
            elif message.kind is Kind.CLOSE:
                why = json.loads(message.data).get("what", "")
                # A reason of closing holds 123 bytes.
                await socket.close(NOT_ALLOWED, why.encode()[:120].decode("utf-8", "ignore"))
                return
