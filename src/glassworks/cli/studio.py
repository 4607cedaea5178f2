"""studio: play, look inside, train and reproduce in the browser, on this machine alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.cli.options_studio import Studio
from glassworks.cli.speak import print_json
from glassworks.core.errors import InvalidInput, NotFound, Unavailable
from glassworks.core.text import current_language, say

if TYPE_CHECKING:
    from glassworks.studio.server import StudioOptions

_LARGEST_PORT = 65535


def studio(command: Studio) -> int:
    """Serves until Ctrl-C; prints one line, the address, on stdout."""
    options = _options(command)

    def tell(address: str) -> None:
        if command.json:
            print_json({"address": address})
        else:
            print(address, flush=True)
        print(say("The studio answers at this address, on this machine only. Ctrl-C ends it."), file=sys.stderr)
        if not command.no_browser:
            import webbrowser

            webbrowser.open(address)

    from glassworks.studio.serving import serve

    serve(options, tell)
    return 0


def _options(command: Studio) -> StudioOptions:
    try:
        from glassworks.studio.server import StudioOptions
    except ImportError as missing:
        raise Unavailable(
            say("the studio needs the package {name}", name=missing.name or "-"),
            right=say("install it once"),
            next_command="pip install fastapi uvicorn websockets",
        ) from None
    if not 0 <= command.port <= _LARGEST_PORT:
        raise InvalidInput(say("no such port"), given=command.port, right=say("0 to {largest}", largest=_LARGEST_PORT))
    folders = tuple(Path(one).expanduser() for one in command.models)
    for folder in folders:
        if not folder.is_dir():
            raise NotFound(
                say("{path} is no folder", path=str(folder)), right=say("a folder with config.json, or of such")
            )
    out = Path(command.out)
    # A folder that cannot be written will do: what lies in it can be looked at.
    if out.exists() and not out.is_dir():
        raise InvalidInput(say("{path} is no folder", path=str(out)), right=say("a folder, or a name that is free"))
    return StudioOptions(out=out, models=folders, port=command.port, host=command.host, language=current_language())
