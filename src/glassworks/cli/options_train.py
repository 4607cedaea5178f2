"""What can be typed after `train`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional

from glassworks.cli.arguments import Device, Json, Lang, Out, argument
from glassworks.core.text import say


@dataclass(frozen=True)
class Train:
    """A decoder of one's own, trained on a world or a text file."""

    task: Annotated[
        Positional[str],
        argument(
            say("What to learn: bigram, dynamics, few_shot, or a text file, which is learned byte by byte."),
            metavar="TASK|FILE",
        ),
    ]
    settings: Annotated[
        Positional[tuple[str, ...]],
        argument(
            say(
                "mixer (one name, or one per layer: softmax,mesa), depth, width, heads, steps, batch, rate, length, seed, or any field by its path: model.norm=rms, optimiser.weight_decay=0.1, task.hidden=6."
            ),
            metavar="NAME=VALUE",
        ),
    ] = ()
    device: Device = "auto"
    out: Out = "."
    json: Json = False
    lang: Lang = None
