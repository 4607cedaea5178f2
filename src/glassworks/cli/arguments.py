"""What the options of several commands share. Imported after the language is chosen, so that help follows it."""

from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from glassworks.core.text import Text, say


def argument(text: Text, *, silent: bool = True, **more: Any) -> Any:
    """Help in the chosen language; `silent` leaves out the default where None, False or nothing would only confuse."""
    return tyro.conf.arg(help=str(text), help_behavior_hint="" if silent else None, **more)


Out = Annotated[
    str,
    argument(
        say("Folder that holds everything a command writes: runs, trained models, reports."),
        silent=False,
        metavar="DIR",
    ),
]
Json = Annotated[bool, argument(say("Print one JSON object on stdout; everything else goes to stderr."))]
Lang = Annotated[Literal["en", "zh"] | None, argument(say("Language of all words."), metavar="en|zh")]
Offline = Annotated[bool, argument(say("Never touch the network, also not the Hugging Face hub."))]
Device = Annotated[
    str,
    argument(say("auto, cpu, cuda, cuda:1 or mps; auto takes the fastest that is here."), silent=False, metavar="NAME"),
]
DeviceMap = Annotated[
    str | None,
    argument(
        say(
            "Spreads the model over what is there: auto, balanced, balanced_low_0, sequential, or JSON (text or file) that gives each part a device: a cuda number, cpu or disk."
        ),
        metavar="MAP",
    ),
]
MaxMemory = Annotated[
    str | None,
    argument(say("The most that each device may hold, e.g. 0=70GB,cpu=100GB; what is left waits on the disk."), metavar="SIZES"),
]  # fmt: skip
Offload = Annotated[
    str | None,
    argument(say("Folder for weights that wait on the disk and cannot stay in the files they come from."), metavar="DIR"),
]  # fmt: skip
Bits = Annotated[
    int | None, argument(say("8 rounds the matrices of the layers to eight bits while loading (bitsandbytes)."), metavar="8")
]  # fmt: skip
ExecutorText = Annotated[
    str | None,
    argument(
        say("Who does the work: here, local:4 (processes of this machine), slurm:partition=gpu,hours=2, ray:workers=8."),
        name="executor", metavar="EXECUTOR",
    ),
]  # fmt: skip
Estimate = Annotated[
    bool, argument(say("Tells memory and time before anything is loaded, from the model's config and a short measurement; does nothing else."))
]  # fmt: skip
Dtype = Annotated[str, argument(say("auto, float32, bfloat16 or float64."), silent=False, metavar="NAME")]
Run = Annotated[
    str | None,
    argument(say("A run folder, its digest or the beginning of it, or an experiment (its newest run)."), metavar="RUN"),
]

Source = Annotated[
    Positional[str],
    argument(
        say("A run folder or its digest, a model folder or file, or a name on the Hugging Face hub."), metavar="MODEL"
    ),
]
PromptText = Annotated[str | None, argument(say("The prompt."), metavar="TEXT")]
PromptFile = Annotated[
    str | None,
    argument(say("A UTF-8 file with the prompt; empty lines part it into several texts."), metavar="FILE"),
]
PromptTokens = Annotated[str | None, argument(say("The prompt as token ids, e.g. 1,2,3."), metavar="IDS")]
Chance = Annotated[
    int, argument(say("Chance of whatever is drawn, e.g. the sequence of a known world."), silent=False, metavar="N")
]
Png = Annotated[bool, argument(say("Writes each figure as PNG too, beside the SVG."))]
TrustRemoteCode = Annotated[
    bool, argument(say("Runs code that comes with the model. Only for sources that you trust."))
]
