"""The application: the pages, the questions, the routes; one process that never computes and never loads a model."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from glassworks.core.errors import GlassworksError, Unavailable
from glassworks.core.text import Language, say
from glassworks.studio.crew import Crew, Questions
from glassworks.studio.guard import Door, Guard
from glassworks.studio.jobs.needs import Needs
from glassworks.studio.refusals import BAD, Refused, error_json, refusal, status_of

LOOPBACK = "127.0.0.1"
# Questions that may take longer than this have a worker of their own.
QUICK_SECONDS = 120.0
# Names another build of the pages: for those who write them.
PAGES = "GLASSWORKS_PAGES"


@dataclass(frozen=True)
class StudioOptions:
    """How a studio is run."""

    out: Path = Path()
    models: tuple[Path, ...] = ()
    """Further folders that are model folders or hold some."""
    port: int = 0
    """0 takes a free one."""
    host: str = LOOPBACK
    language: Language = "en"
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    most_parameters: int = 2_000_000_000

    def places(self) -> dict[str, Any]:
        """What a worker has to know, as JSON."""
        folders = [str(path.resolve()) for path in self.models]
        return {"out": str(self.out.resolve()), "folders": folders, "most_parameters": self.most_parameters}


@dataclass(frozen=True)
class Studio:
    """What the routes share; `request.app.state.studio`."""

    options: StudioOptions
    questions: Questions
    long_questions: Questions
    """A worker of their own for those that may take minutes: started by the first, so that a step of the walk-through never
    waits behind a probe."""
    playground: Crew

    def asked(self, seconds: float) -> Questions:
        """The worker for a question with this time limit."""
        if seconds <= QUICK_SECONDS:
            return self.questions
        self.long_questions.crew.start()
        return self.long_questions

    def language_of(self, request: Request) -> Language:
        """What the page asked for, else the studio's own."""
        asked = request.headers.get("x-glassworks-language") or request.query_params.get("lang")
        return language_named(asked, self.options.language)


def language_named(asked: str | None, otherwise: Language) -> Language:
    """The language of that name, else the other."""
    match asked:
        case "en" | "zh":
            return asked
        case _:
            return otherwise


def create_app(options: StudioOptions, port: int) -> Guard:
    """The guarded application of a studio that listens on `port`."""
    places = options.places()
    quick, long = (Questions(Crew("questions", places)) for _ in range(2))
    studio = Studio(options, quick, long, Crew("playground", places))
    app = FastAPI(
        title="Glassworks studio", lifespan=_lifespan, openapi_url="/api/openapi.json", docs_url=None, redoc_url=None
    )
    app.state.studio, app.state.needs = studio, Needs()
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(GlassworksError, _failed)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _no_such)
    app.add_exception_handler(Exception, _failed)
    from glassworks.studio.routes import ROUTERS

    for router in ROUTERS:
        app.include_router(router, prefix="/api")
    _add_pages(app, Door.of(options.token, port, options.host))
    return Guard(app, Door.of(options.token, port, options.host), options.language)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncGenerator[None]:
    studio: Studio = app.state.studio
    workers: Sequence[Crew] = (studio.questions.crew, studio.playground)
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in (*workers, studio.long_questions.crew):
            await worker.stop()


async def _refused(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Refused)
    return JSONResponse(problem.error, problem.status)


async def _failed(request: Request, problem: Exception) -> Response:
    studio: Studio = request.app.state.studio
    return JSONResponse(error_json(problem, studio.language_of(request)), status_of(problem))


async def _unreadable(request: Request, problem: Exception) -> Response:
    """Only the first of several mistakes: the others often follow from it."""
    assert isinstance(problem, RequestValidationError)
    studio: Studio = request.app.state.studio
    first = problem.errors()[0]
    path = ".".join(str(part) for part in first["loc"][1:])
    what = say("{path}: {reason}", path=path or "-", reason=first["msg"])
    return JSONResponse(refusal(BAD, what, studio.language_of(request)).error, BAD)


async def _no_such(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    studio: Studio = request.app.state.studio
    what = say("{path}: {reason}", path=request.url.path[:200], reason=str(problem.detail))
    error = refusal(problem.status_code, what, studio.language_of(request)).error
    return JSONResponse(error, problem.status_code, headers=problem.headers)


def pages_folder() -> Path:
    """The built pages; Unavailable where they were not built, with the command that builds them."""
    folder = Path(os.environ.get(PAGES) or Path(str(files("glassworks.studio"))) / "static")
    if not (folder / "index.html").is_file():
        raise Unavailable(
            say("the studio's pages are not built"),
            right=say("in the source tree they are built once, with Node from a Python package"),
            next_command="make pages",
        )
    return folder


def _add_pages(app: FastAPI, door: Door) -> None:
    folder = pages_folder()
    app.mount("/assets", StaticFiles(directory=folder / "assets"))

    @app.get("/favicon.svg", include_in_schema=False)
    async def favicon() -> Response:
        return FileResponse(folder / "favicon.svg")

    @app.get("/{page:path}", include_in_schema=False)
    async def page(request: Request, page: str) -> Response:
        """One page for all addresses; which of its parts is shown, it reads from the address itself."""
        if page.startswith("api/"):
            raise HTTPException(404)
        if "token" in request.query_params:
            # The token leaves the address, so that a link that is passed on does not carry it.
            rest = request.url.remove_query_params("token")
            # One slash: two would be the beginning of another machine's name.
            place = "/" + rest.path.lstrip("/")
            answer: Response = RedirectResponse(f"{place}{'?' + rest.query if rest.query else ''}", 303)
            answer.set_cookie(door.cookie, door.token, httponly=True, samesite="strict")
            return answer
        language = request.app.state.studio.options.language
        headers = {"cache-control": "no-cache", "content-language": language}
        return FileResponse(folder / "index.html", headers=headers)
