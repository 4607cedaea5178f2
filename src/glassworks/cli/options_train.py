"""What can be typed after `train`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, UseAppendAction

from glassworks.cli.arguments import Device, ExecutorText, Json, Lang, Out, argument
from glassworks.core.text import say

# Options of `train` that take a word of their own.
_WITH_VALUE = frozenset(
    {"--start", "--preset", "--track", "--launch", "--patience", "--vary", "--executor", "--device", "--out", "--lang"}
)


def settings_first(arguments: list[str]) -> list[str]:
    """The words of `train` with settings before options, in whatever order they were typed; others as they are."""
    if arguments[:1] != ["train"]:
        return arguments
    words, options = ["train"], list[str]()
    rest = iter(arguments[1:])
    for word in rest:
        if not word.startswith("--"):
            words.append(word)
            continue
        options.append(word)
        if word in _WITH_VALUE:
            options += [value for _, value in zip(range(1), rest, strict=False)]
    return words + options


@dataclass(frozen=True)
class Train:
    """A decoder of one's own on a world or a text file, or a stage of a model's life."""

    task: Annotated[
        Positional[str],
        argument(
            say(
                "What to learn: bigram, dynamics, few_shot, or a text file, which is learned byte by byte. Or a stage: tokenizer, pretrain, sft, reward, dpo, grpo, rloo, ppo."
            ),
            metavar="TASK|FILE|STAGE",
        ),
    ]
    settings: Annotated[
        Positional[tuple[str, ...]],
        argument(
            say(
                "mixer (one name, or one per layer: softmax,mesa), depth, width, heads, steps, batch, rate, length, seed, or any field by its path: model.norm=rms, optimiser.weight_decay=0.1, task.hidden=6. Of a stage: a JSON or YAML file of choices, data files, and fields as steps=2000."
            ),
            metavar="NAME=VALUE|FILE",
        ),
    ] = ()
    start: Annotated[
        str | None,
        argument(say("Of a stage: the folder that the stage before left, or a gallery model."), metavar="FOLDER"),
    ] = None
    preset: Annotated[
        str | None,
        argument(say("Of pretrain: a known architecture, as `glassworks presets` lists them."), metavar="NAME"),
    ] = None
    track: Annotated[
        str | None, argument(say("Of a stage: also logs to trackio, tensorboard, wandb or mlflow."), metavar="NAME")
    ] = None
    any_start: Annotated[
        bool, argument(say("Of a stage: takes a start that lacks the stage that should lie behind it."))
    ] = False
    vary: Annotated[
        UseAppendAction[tuple[str, ...]],
        argument(
            say("Trains once with each value: seed=0,1,2 or seed=0..9. Repeatable, then every combination."),
            metavar="NAME=VALUES",
        ),
    ] = ()
    executor: ExecutorText = None
    launch: Annotated[
        int,
        argument(
            say("Processes on this machine that train together; the numbers are those of one. 1: none but this."),
            silent=False,
            metavar="N",
        ),
    ] = 1
    shard: Annotated[
        bool,
        argument(
            say("Cuts weights and optimiser among the processes (FSDP2) instead of giving each all of them (DDP).")
        ),
    ] = False
    patience: Annotated[
        float,
        argument(
            say("Seconds that a process waits for another in a step before the training ends with an error."),
            silent=False,
            metavar="SECONDS",
        ),
    ] = 600.0
    device: Device = "auto"
    out: Out = "."
    json: Json = False
    lang: Lang = None
