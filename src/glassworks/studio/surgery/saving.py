"""Plans kept in the folder of runs, and the commands that do the same in a terminal."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.files import read_json, writing
from glassworks.core.text import say
from glassworks.surgery.plan_files import SavedPlan
from glassworks.surgery.plans import Plan

PLANS = "plans"
_NAME = re.compile(r"[\w][\w .-]{0,59}")


def commands(source: str, stack: str | None, plan: Plan, text: str, benchmark: str | None) -> list[dict[str, str]]:
    """The commands of a plan: try it, sweep its kind, export it; `source` is what the command line finds the model by."""
    named = ["--stack", stack] if stack else []
    # A text that begins with a dash would be taken for an option.
    prompt = [f"--prompt={text}"] if text.startswith("-") else ["--prompt", text] if text else []
    evals = ["--eval", benchmark, "--limit", "20"] if benchmark else []
    found = [
        {"what": "surgery", "line": _line("surgery", source, "--plan", str(plan), *named, *prompt, *evals)},
        {"what": "sweep", "line": _line("sweep", source, "--plans", "painters", "--eval", benchmark or "ppl", *named, "--limit", "20")},
    ]  # fmt: skip
    if plan.is_sequential:
        found += [
            {"what": "export", "line": _line("export", "--plan", str(plan), "--model", source, "--to", "hf")},
            {"what": "mergekit", "line": _line("export", "--plan", str(plan), "--model", source, "--to", "mergekit")},
        ]
    return found


def _line(*words: str) -> str:
    return shlex.join(["glassworks", *words])


def checked_name(name: str) -> str:
    """A file name made of letters, digits, blanks, dots and dashes; InvalidInput for any other."""
    name = name.strip().removesuffix(".json").strip()
    if not _NAME.fullmatch(name) or ".." in name:
        raise InvalidInput(
            say("a plan cannot be called so"),
            given=name[:80],
            right=say("letters, digits, blanks, dots and dashes, at most 60 of them"),
        )
    return name


def save(out: Path, name: str, saved: SavedPlan) -> dict[str, Any]:
    """Writes OUT/plans/NAME.json, atomically; says whether one of that name was replaced."""
    path = out / PLANS / f"{checked_name(name)}.json"
    # A link there would let the file land elsewhere.
    if path.is_symlink() or path.parent.is_symlink():
        raise InvalidInput(say("{path} is a link, so nothing is written there", path=str(path)))
    was_there = path.exists()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    saved.save(path)
    return {"path": str(path), "name": path.stem, "replaced": was_there, "content": read_json(path)}


def kept_plans(out: Path) -> list[dict[str, Any]]:
    """The plans in OUT/plans that can be read, by name."""
    folder = out / PLANS
    found: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            entry = read_json(path)
        except GlassworksError:
            continue
        match entry:
            case {"plan": str(text)}:
                names = ("model", "stack", "depth", "layer_runs")
                found.append({"name": path.stem, "plan": text} | {name: entry.get(name) for name in names})
            case _:
                continue
    return found
