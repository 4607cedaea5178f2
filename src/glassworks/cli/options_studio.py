"""The options of `glassworks studio`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import UseAppendAction

from glassworks.cli.arguments import Json, Lang, Out, argument
from glassworks.core.text import say


@dataclass(frozen=True)
class Studio:
    """The web studio on this machine."""

    port: Annotated[int, argument(say("Port on loopback; 0 takes a free one."), silent=False, metavar="N")] = 0
    host: Annotated[
        str,
        argument(
            say("Address to listen on; anything but loopback lets other machines reach it with the token."),
            silent=False,
            metavar="ADDRESS",
        ),
    ] = "127.0.0.1"
    no_browser: Annotated[bool, argument(say("Prints the address and opens no browser."))] = False
    models: Annotated[
        UseAppendAction[tuple[str, ...]],
        argument(say("A model folder, or a folder of model folders, to be listed too. Repeatable."), metavar="FOLDER"),
    ] = ()
    out: Out = "."
    json: Json = False
    lang: Lang = None
