"""What can be typed after `life`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import UseAppendAction

from glassworks.cli.arguments import Device, Json, Lang, Offline, Out, argument
from glassworks.core.text import say


@dataclass(frozen=True)
class Life:
    """The whole life of one model, from its tokenizer to its rewards, in one report."""

    scale: Annotated[
        str | None,
        argument(
            say("smoke (a minute, decides nothing), laptop (half an hour) or paper. Default laptop."), metavar="SCALE"
        ),
    ] = None
    set: Annotated[
        UseAppendAction[tuple[str, ...]],
        argument(say("Changes one setting, e.g. --set width=64. Repeatable."), metavar="PATH=VALUE"),
    ] = ()
    resume: Annotated[
        str | None, argument(say("Goes on with a run, by its folder or digest, with its own settings."), metavar="RUN")
    ] = None
    only: Annotated[
        UseAppendAction[tuple[str, ...]],
        argument(
            say(
                "Runs one part only: pretraining, tuning, reward, reinforcement, overoptimisation, inside. Repeatable; the stages that it needs come with it."
            ),
            metavar="STUDY",
        ),
    ] = ()
    seed: Annotated[
        tuple[int, ...], argument(say("Repeats everything with these seeds instead of the scale's."), metavar="N")
    ] = ()
    device: Device = "auto"
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None
