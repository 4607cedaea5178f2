"""Where a wheel may be had: the package indexes and folders that this machine's pip is set to."""

import ast
import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import GlassworksError, NotFound
from glassworks.core.text import say
from glassworks.models.gallery.kinds import Wheel
from glassworks.models.gallery.line import BROKEN_LINE, Line, shown, unreachable

PYPI = "https://pypi.org/simple"
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
# `pip config list` starts an interpreter; on a slow disk that may take a while.
PIP_SECONDS = 60


@dataclass(frozen=True)
class Places:
    """Folders or pages with links to files, indexes by the simple protocol, and a file of certificates."""

    links: tuple[str, ...] = ()
    indexes: tuple[str, ...] = (PYPI,)
    certificate: str | None = None


def places() -> Places:
    """What pip is set to here, files and environment together; PyPI where nothing is set."""
    settings = _pip_settings()
    indexes = (settings.get("index-url", PYPI), *settings.get("extra-index-url", "").split())
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        indexes = ()
    return Places(tuple(settings.get("find-links", "").split()), indexes, settings.get("cert"))


def addresses(wheel: Wheel, found: Places, line: Line) -> Iterator[str]:
    """Every address of a wheel's file, folders first. Raises NotFound with the reasons when there is none."""
    problems: list[str] = []
    is_found = False
    pages = [(_address(link), link) for link in found.links]
    pages += [(f"{_address(index).rstrip('/')}/{wheel.package.lower()}/", index) for index in found.indexes]
    for address, name in pages:
        try:
            files = _files_at(address, line)
        except GlassworksError as problem:
            problems.append(str(problem.what))
            continue
        link, sha256 = files.get(wheel.file, (None, None))
        if link is None:
            problems.append(str(say("{place} does not have {file}", place=shown(name), file=wheel.file)))
        elif sha256 not in (None, wheel.sha256):
            problems.append(str(say("{place} has another {file}", place=shown(name), file=wheel.file)))
        else:
            is_found = True
            yield link
    if not is_found:
        raise NotFound(
            say("no package index has {package}", package=str(wheel)),
            given="; ".join(problems),
            right=say("an index that has it, as pip is told of one (PIP_INDEX_URL or pip config)"),
        )


def _pip_settings() -> dict[str, str]:
    """Pip's `global`, `download` and environment settings, the later ones first in rank."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False)
        listed = done.stdout.splitlines() if done.returncode == 0 else []
    except (OSError, subprocess.TimeoutExpired):
        listed = []
    settings: dict[str, str] = {}
    for section in ("global.", "download."):
        for line in listed:
            name, separator, value = line.partition("=")
            if separator and name.startswith(section):
                settings[name.removeprefix(section)] = str(ast.literal_eval(value))
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def _files_at(address: str, line: Line) -> Mapping[str, tuple[str, str | None]]:
    """File name -> (address, SHA-256 where the page says it)."""
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "file":
        folder = Path(urllib.parse.unquote(parts.path))
        page = folder / "index.html"
        if folder.is_dir() and not page.is_file():
            return {path.name: (path.as_uri(), None) for path in sorted(folder.iterdir())}
        address = page.as_uri() if folder.is_dir() else folder.as_uri()
    try:
        with line.open(address, {"Accept": ACCEPT}) as answer:
            is_json = answer.headers.get_content_type().endswith("json")
            body = answer.read()
            address = answer.url
        return _from_json(json.loads(body), address) if is_json else _from_html(body, address)
    except (*BROKEN_LINE, ValueError) as problem:
        raise unreachable(address, problem) from None


def _from_json(found: Any, address: str) -> dict[str, tuple[str, str | None]]:
    files = cast(list[dict[str, Any]], found["files"])
    return {
        str(file["filename"]): (urllib.parse.urljoin(address, file["url"]), file.get("hashes", {}).get("sha256"))
        for file in files
    }


def _from_html(body: bytes, address: str) -> dict[str, tuple[str, str | None]]:
    links = _Links()
    links.feed(body.decode(errors="replace"))
    files: dict[str, tuple[str, str | None]] = {}
    for link in links.found:
        parts = urllib.parse.urlsplit(urllib.parse.urljoin(address, link))
        name = urllib.parse.unquote(parts.path.rpartition("/")[2])
        kind, _, value = parts.fragment.partition("=")
        files[name] = (urllib.parse.urlunsplit(parts), value if kind == "sha256" else None)
    return files


class _Links(HTMLParser):
    """The addresses of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _address(place: str) -> str:
    """A folder's path as an address; addresses stay as they are."""
    return place if "://" in place else Path(place).expanduser().resolve().as_uri()
