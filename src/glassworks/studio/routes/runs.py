"""Runs, trained models and results: read, check, take along, delete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from glassworks.core.errors import NotFound
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.studio import records

router = APIRouter(tags=["runs"])
# A report brings its own small script. In a sandbox it has no origin: it can read nothing of the studio and ask it nothing.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads allow-popups; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; frame-ancestors 'self'"
)


def _out(request: Request) -> Path:
    return request.app.state.studio.options.out


def _run(request: Request, experiment: str, digest: str) -> RunFolder:
    return records.run_named(_out(request), experiment, digest)


@router.get("/results")
def results(request: Request) -> dict[str, Any]:
    """Every experiment with its paper and how each of its claims stands."""
    return records.results_here(_out(request), request.app.state.studio.language_of(request))


@router.get("/runs")
def runs(request: Request) -> dict[str, Any]:
    """Every run on disk, newest first."""
    return {"runs": records.runs_here(_out(request), request.app.state.studio.language_of(request))}


@router.get("/runs/{experiment}/{digest}")
def run(request: Request, experiment: str, digest: str) -> dict[str, Any]:
    """One run: settings, verdicts, files, cost, the command that makes it again."""
    language = request.app.state.studio.language_of(request)
    return records.run_details(_run(request, experiment, digest), language)


@router.get("/runs/{experiment}/{digest}/report")
def report(request: Request, experiment: str, digest: str) -> Response:
    """The report as it was written."""
    found = _run(request, experiment, digest)
    if not found.report.is_file():
        raise NotFound(say("this run has no report yet"), right=say("a run that is finished"))
    headers = {"content-security-policy": REPORT_POLICY, "cache-control": "no-cache"}
    return FileResponse(found.report, media_type="text/html; charset=utf-8", headers=headers)


@router.get("/runs/{experiment}/{digest}/file")
def file(request: Request, experiment: str, digest: str, name: str) -> Response:
    """A file of a run, by its name in the run's listing."""
    files = records.files_of(_run(request, experiment, digest))
    if name not in files:
        raise NotFound(say("this run has no file {name}", name=name[:200]))
    headers = {"content-security-policy": "sandbox; default-src 'none'"}
    return FileResponse(files[name], filename=files[name].name, media_type="application/octet-stream", headers=headers)


@router.get("/runs/{experiment}/{digest}/archive")
def archive(request: Request, experiment: str, digest: str) -> Response:
    """A run as one zip."""
    files = records.files_of(_run(request, experiment, digest))
    return _zipped(files, f"{experiment}-{digest}")


@router.post("/runs/{experiment}/{digest}/verify")
def verify(request: Request, experiment: str, digest: str) -> dict[str, Any]:
    """Compares every file with the manifest."""
    language = request.app.state.studio.language_of(request)
    return {"damage": records.damage_of(_run(request, experiment, digest), language)}


@router.post("/runs/{experiment}/{digest}/judge")
def judge(request: Request, experiment: str, digest: str) -> dict[str, Any]:
    """Judges every claim again from the run's measurements."""
    language = request.app.state.studio.language_of(request)
    return {"claims": records.judged_again(_run(request, experiment, digest), language)}


@router.delete("/runs/{experiment}/{digest}")
def delete_run(request: Request, experiment: str, digest: str) -> dict[str, Any]:
    """Removes a run with all it holds."""
    records.delete_run(_run(request, experiment, digest))
    return {"deleted": f"{experiment}/{digest}"}


@router.get("/store")
def store(request: Request) -> dict[str, Any]:
    """Every model that was trained here, finished or not."""
    return {"store": records.store_here(_out(request))}


@router.get("/store/{digest}/archive")
def store_archive(request: Request, digest: str) -> Response:
    """A trained model as one zip, in Hugging Face layout."""
    return _zipped(records.files_below(records.stored_named(_out(request), digest)), digest)


@router.delete("/store/{digest}")
def delete_stored(request: Request, digest: str) -> dict[str, Any]:
    """Removes a trained model."""
    records.delete_stored(records.stored_named(_out(request), digest))
    return {"deleted": digest}


def _zipped(files: dict[str, Path], name: str) -> Response:
    # A folder may be called anything; a header may not.
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-")[:100] or "files"
    headers = {"content-disposition": f'attachment; filename="{plain}.zip"'}
    return StreamingResponse(records.archived(files, name), media_type="application/zip", headers=headers)
