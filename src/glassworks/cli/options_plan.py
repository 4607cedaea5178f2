"""The options of `glassworks plan`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from glassworks.cli.arguments import Json, Lang, Out, argument
from glassworks.core.text import say


@dataclass(frozen=True)
class Plan:
    """How to split a budget of compute between the size of a model and its data."""

    flops: Annotated[
        str | None, argument(say("The budget in operations, e.g. 1e21; counted as 6 N D."), metavar="NUMBER")
    ] = None
    gpu_hours: Annotated[str | None, argument(say("The budget in hours of one machine instead."), metavar="NUMBER")] = (
        None
    )
    parameters: Annotated[str | None, argument(say("A size to be judged, e.g. 7e9 or 7B."), metavar="NUMBER")] = None
    tokens: Annotated[
        str | None, argument(say("Tokens of training to be judged, e.g. 2e12 or 2T."), metavar="NUMBER")
    ] = None
    gpu: Annotated[
        str,
        argument(say("The machine: v100, a100, h100, h200, b200, l40s, rtx4090, mi300x or tpu-v4."), silent=False, metavar="NAME"),
    ] = "h100"  # fmt: skip
    gpus: Annotated[int, argument(say("Machines that work together."), silent=False, metavar="N")] = 1
    utilisation: Annotated[
        float,
        argument(say("Share of the machine's stated speed that a training reaches."), silent=False, metavar="SHARE"),
    ] = 0.4
    constants: Annotated[
        Literal["hoffmann", "besiroglu", "ours"],
        argument(
            say(
                "The law that the plan follows: published in 2022, its correction of 2024, or that of your newest scaling run. All are shown."
            ),
            silent=False,
        ),
    ] = "besiroglu"
    inference_tokens: Annotated[
        str | None,
        argument(say("Tokens that the finished model will read and write: makes it smaller and trains it longer."), metavar="NUMBER"),
    ] = None  # fmt: skip
    out: Out = "."
    json: Json = False
    lang: Lang = None
