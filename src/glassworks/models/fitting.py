"""Does a config fit the weights beside it? Asked before a library makes room for what a config only claims."""

import re
from typing import Any

import torch
from transformers.initialization import no_init_weights

from glassworks.core.errors import BrokenFile
from glassworks.core.text import Text, say
from glassworks.models.folders import Held

# A tied table stands once in the files and may be made twice; small parts are often computed rather than kept.
MOST_TIMES, SMALL = 2, 1 << 20


def check_size(source: str, config: Any, kind: Any, held: Held, options: dict[str, Any]) -> None:
    """Refuses a config whose model would have far more numbers than the files hold: made without memory, only counted.

    Raises BrokenFile. Nothing is said of a model that cannot be made so; the loading itself then tells why.
    """
    try:
        with torch.device("meta"), no_init_weights():
            model = kind.from_config(config, **options)
    except MemoryError:
        raise
    except Exception:  # what is wrong with the config is told, with more words, where it is loaded
        return
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    empty = next((name for name, shape in shapes.items() if 0 in shape), None)
    if empty is not None:
        raise _misfit(source, say("{name} would have no entries", name=empty))
    made = sum(parameter.numel() for parameter in model.parameters())
    if made > MOST_TIMES * held.numbers + SMALL:
        raise _misfit(
            source,
            say("a model of {made} numbers, but files of {held}", made=f"{made:,}", held=f"{held.numbers:,}"),
        )


def check_loaded(source: str, model: Any, held: Held, unused: list[str]) -> None:
    """Refuses weights that a library takes without a word: of integers, and of more layers than the config counts.

    Raises BrokenFile.
    """
    whole = next((name for name, _ in model.named_parameters() if name in held.whole), None)
    if whole is not None:
        raise _misfit(source, say("{name} holds no decimal numbers", name=whole))
    known = {_without_numbers(name) for name in model.state_dict()}
    further = next((name for name in unused if _without_numbers(name) in known), None)
    if further is not None:
        raise _misfit(source, say("{name} is a weight of a layer that the config does not count", name=further))


def notes_on_unused(unused: list[str]) -> tuple[Text, ...]:
    """What a reader must know of weights that the model has no place for."""
    if not unused:
        return ()
    return (
        say(
            "{count} tensors of its files are of no part of this model and were left out, such as {name}",
            count=len(unused),
            name=unused[0],
        ),
    )


def _without_numbers(name: str) -> str:
    return re.sub(r"\.\d+\.", ".#.", name)


def _misfit(source: str, given: Text) -> BrokenFile:
    return BrokenFile(
        say("the config of {source} and the weights beside it do not fit", source=source),
        given=given,
        right=say("config.json and weights as they were saved together"),
    )
