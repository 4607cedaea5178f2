"""Keeping what was found: a folder with report, tables and figures, filled aside and renamed into place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.core.files import replacing_folder

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.instruments.findings import Findings


def keep(found: Findings, root: Path, name: str, identity: Mapping[str, Any], *, png: bool = False) -> Path:
    """Writes everything into `root/<name>-<digest of identity>`; an older folder of the same digest is replaced."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    plain = re.sub(r"[^\w.-]+", "-", name).strip(".-") or "model"
    folder = root / f"{plain}-{digest}"
    with replacing_folder(folder) as new:
        found.save(new, png=png)
    return folder


def identity_of(subject: Subject) -> dict[str, Any]:
    """What makes a model's numbers its own: where it came from, and its number format."""
    origin = subject.origin
    return {
        "source": [origin.name, origin.source, origin.revision],
        "dtype": _format(subject),
    }


def _format(subject: Subject) -> str:
    from glassworks.anatomy.offloaded import format_of, is_packed

    # As torch writes it, so that folders of before are found again.
    return format_of(subject.model) if is_packed(subject.model) else str(next(subject.model.parameters()).dtype)


def files_in(folder: Path) -> dict[str, Any]:
    """The paths of a kept folder, for `--json`."""
    return {
        "report": str(folder / "report.html"),
        "tables": _names(folder / "tables"),
        "figures": _names(folder / "figures"),
    }


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    return sorted(str(path) for path in folder.iterdir() if not path.name.endswith(".columns.json"))
