"""The options of `glassworks presets` and `glassworks tree`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from glassworks.cli.arguments import Json, Lang, argument
from glassworks.core.text import say


@dataclass(frozen=True)
class Presets:
    """Known architectures with their parameters, part by part."""

    name: Annotated[
        Positional[str | None],
        argument(
            say("One architecture, e.g. llama-7b: all its parts and settings. All, if none is named."), metavar="NAME"
        ),
    ] = None
    json: Json = False
    lang: Lang = None


@dataclass(frozen=True)
class Tree:
    """The evolution tree of language models."""

    branch: Annotated[
        str | None,
        argument(say("One branch only: encoder, decoder or encoder-decoder."), metavar="BRANCH"),
    ] = None
    json: Json = False
    lang: Lang = None
