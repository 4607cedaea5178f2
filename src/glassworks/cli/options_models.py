"""The options of `glassworks models`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional

from glassworks.cli.arguments import Json, Lang, Offline, Out, argument
from glassworks.core.text import say


@dataclass(frozen=True)
class Models:
    """Pretrained models by name."""

    action: Annotated[
        Positional[Literal["list", "get"]],
        argument(say("list what there is and what is here; get one: fetched once, checked, kept for every later use.")),
    ] = "list"
    name: Annotated[Positional[str | None], argument(say("A name of the list, e.g. smollm2-135m."), metavar="NAME")] = (
        None
    )
    accept_licence: Annotated[
        bool, argument(say("Says that you read and accept the licence of a model that asks for consent."))
    ] = False
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None
