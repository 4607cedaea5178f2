"""The bill of materials of the environment and of the studio's pages (CycloneDX), and the list of licences."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

from supply.lock import locked
from supply.tools import CYCLONEDX, ROOT, tool

LICENCES = ROOT / "docs" / "licences.md"
PAGES = ROOT / "src/glassworks/studio/static/licences.md"
OUT = ROOT / "dist"
HEAD = """\
# Licences of what Glassworks is built on

Glassworks is Apache-2.0. Below: the Python packages of the locked set (`constraints.txt`; most are for development or for an optional part) and
what is built into the studio's pages, whose licence texts are shipped with them in `licences.md`. Nothing of a package's code is kept in this
repository. Written by `make sbom` from the packages' own statements, beside two bills of materials in `dist/`.

| package | version | licence |
|---|---|---|
"""


def write() -> int:
    """Writes both bills and the list; 1 where a tool failed."""
    OUT.mkdir(exist_ok=True)
    python, web = OUT / "sbom-python.json", OUT / "sbom-web.json"
    made = tool(CYCLONEDX, "cyclonedx-py", "environment", "--of", "JSON", "-o", str(python), sys.executable)
    if made.returncode != 0:
        print(made.stderr, file=sys.stderr)
        return 1
    npm = [Path(sys.executable).parent / "npm", "sbom", "--sbom-format", "cyclonedx"]
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = subprocess.run(
        npm, cwd=ROOT / "web", env=os.environ | {"PATH": paths}, capture_output=True, text=True, check=False
    )
    if told.returncode != 0:
        print(told.stderr, file=sys.stderr)
        return 1
    web.write_text(told.stdout, encoding="utf-8")
    known = {_canonical(one["name"]): one for one in json.loads(python.read_text(encoding="utf-8"))["components"]}
    rows = [(name, pinned, _licence(name, known.get(name, {}))) for name, (pinned, _, _) in locked().items()]
    # The bill of the pages holds the tools that build them too; what is built in is what its licence texts name.
    pages = re.findall(r"^## (\S+) - (\S+) \((.+)\)$", PAGES.read_text(encoding="utf-8"), re.MULTILINE)
    rows += [(f"{name} (in the pages)", pinned, licence) for name, pinned, licence in sorted(pages)]
    lines = [f"| {name} | {pinned} | {licence} |" for name, pinned, licence in rows]
    LICENCES.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(rows)} rows in {LICENCES.relative_to(ROOT)}; bills of materials: {python}, {web}")
    return 0


def _licence(name: str, component: dict[str, Any]) -> str:
    """A package's licence: as the bill has it, else as its own metadata says, else that it is not installed here."""
    stated = [
        one.get("expression") or one["license"].get("id") or one["license"].get("name", "")
        for one in component.get("licenses", [])
    ]
    # An identifier says all; several classifiers beside it say it again in other words.
    short = [one for one in stated if len(one) < 60 and "::" not in one]
    words = short or [one.rpartition(":: ")[2].partition("\n")[0] for one in stated] or [_own_words(name)]
    return ", ".join(dict.fromkeys(re.sub(r"[|\s]+", " ", one).strip() for one in words))


def _own_words(name: str) -> str:
    try:
        about = metadata(name)
    except PackageNotFoundError:
        return "not installed on the machine that wrote this list"
    stated = about.get("License-Expression") or about.get("License") or "not stated"
    return str(stated).strip().partition("\n")[0][:60]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
