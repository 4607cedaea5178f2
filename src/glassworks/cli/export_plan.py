"""A plan as a model of its own: a checkpoint for plain transformers, or a recipe for mergekit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.cli.options import Export
from glassworks.cli.reproduce import go_offline
from glassworks.cli.speak import remarks, tell_of_torch
from glassworks.core.errors import InvalidInput
from glassworks.core.files import write_bytes
from glassworks.core.text import say
from glassworks.surgery.plan_files import SavedPlan, read_plan

if TYPE_CHECKING:
    from glassworks.anatomy import Subject

RECIPE = "mergekit.yml"


def export_plan(command: Export) -> tuple[Path, list[Path]]:
    """Writes the checkpoint or the recipe; returns the folder and what a person looks for in it."""
    go_offline(command.offline)
    given = str(command.plan)
    model = command.model or _model_of(given)
    folder = Path(command.out or f"exports/{_file_name(model)}-plan")
    match command.to:
        case "mergekit":
            path = folder if folder.suffix in (".yml", ".yaml") else folder / RECIPE
            return path.parent, [_recipe(read_plan(given), model, path)]
        case "hf":
            tell_of_torch(as_json=command.json)
            return folder, [_checkpoint(command, model, folder)]
        case other:
            raise InvalidInput(
                say("a plan cannot be taken along as {format}", format=other),
                right=say("one of {known}", known="hf, mergekit"),
            )


def _model_of(given: str) -> str:
    """The model that a saved plan is for."""
    saved = read_plan(given)
    model = saved.source or saved.model
    if model is None:
        raise InvalidInput(say("which model is this plan for?"), given=given, right=say("--model MODEL"))
    return model


def _recipe(saved: SavedPlan, model: str, path: Path) -> Path:
    from glassworks.surgery.mergekit import to_mergekit

    write_bytes(path, to_mergekit(saved.plan, model).encode())
    return path


def _checkpoint(command: Export, model: str, folder: Path) -> Path:
    from glassworks.cli.surgery import chosen_plan
    from glassworks.models.quiet import quiet_bars
    from glassworks.surgery.checkpoint import export_checkpoint

    subject = _loaded(command, model)
    plan, stack, notes = chosen_plan(subject, str(command.plan), None)
    for note in notes:
        remarks().print(f"• {note}")
    with quiet_bars():
        return export_checkpoint(subject, plan, folder, stack=stack)


def _loaded(command: Export, model: str) -> Subject:
    from glassworks.cli.api import load

    return load(model, device=command.device, dtype=command.dtype, trust_remote_code=command.trust_remote_code)


def _file_name(name: str) -> str:
    path = Path(name)
    return re.sub(r"[^\w.-]+", "-", path.stem if path.is_file() else path.name).strip(".-") or "model"
