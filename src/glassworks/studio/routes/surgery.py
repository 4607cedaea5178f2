"""Plans as values, read and made without a model: typed texts, presets, commands, plans that were kept."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from glassworks.core.errors import InvalidInput
from glassworks.studio.refusals import error_json
from glassworks.studio.surgery.saving import commands, kept_plans
from glassworks.studio.surgery.stage_tree import DEEPEST, preset, read, starts_of, told

router = APIRouter(tags=["surgery"])


class Typed(BaseModel):
    """A plan's text and the number of layers it is for."""

    text: str = Field(max_length=20_000)
    depth: int = Field(ge=1, le=DEEPEST)


class Wanted(BaseModel):
    """A preset: the strategy, how many middle layers it rearranges (None for every possible number), its settings."""

    name: str = Field(max_length=40)
    depth: int = Field(ge=1, le=DEEPEST)
    affected: int | None = Field(default=None, ge=0, le=DEEPEST)
    seed: int = Field(default=0, ge=0, le=2**31)
    loops: int = Field(default=3, ge=1, le=100)


class Commanded(BaseModel):
    """A plan of a model, as the command line is to run it."""

    source: str = Field(max_length=2_000)
    plan: str = Field(max_length=20_000)
    depth: int = Field(ge=1, le=DEEPEST)
    stack: str = Field(default="", max_length=40)
    text: str = Field(default="", max_length=8_000)
    benchmark: str = Field(default="", max_length=100)


@router.post("/surgery/plan")
async def plan(request: Request, typed: Typed) -> dict[str, Any]:
    """The plan's one text, its layer runs, the layers it leaves out; or the `mistake` with its place.

    A mistake is an answer too: a person who types makes one at every second key.
    """
    try:
        return told(read(typed.text, typed.depth), typed.depth)
    except InvalidInput as problem:
        return {"mistake": error_json(problem, request.app.state.studio.language_of(request))}


@router.post("/surgery/preset")
async def make(wanted: Wanted) -> dict[str, Any]:
    """The plans of a strategy: for the number of middle layers named, or for each."""
    sizes = list(starts_of(wanted.depth)) if wanted.affected is None else [wanted.affected]
    made = [preset(wanted.name, wanted.depth, size, seed=wanted.seed, loops=wanted.loops) for size in sizes]
    return {"plans": [{"affected": size, **told(one, wanted.depth)} for size, one in zip(sizes, made, strict=True)]}


@router.post("/surgery/commands")
async def lines(request: Request, asked: Commanded) -> dict[str, Any]:
    """The commands that do the same in a terminal."""
    found = read(asked.plan, asked.depth)
    return {"commands": commands(asked.source, asked.stack or None, found, asked.text, asked.benchmark or None)}


@router.get("/surgery/plans")
async def kept(request: Request) -> dict[str, Any]:
    """The plans that were kept in the folder of runs."""
    return {"plans": kept_plans(request.app.state.studio.options.out)}
