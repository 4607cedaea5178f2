"""The options of `glassworks stream`, `glassworks generate`, `glassworks chat` and `glassworks infinify`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from glassworks.cli.arguments import (
    Bits,
    Device,
    DeviceMap,
    Dtype,
    Json,
    Lang,
    MaxMemory,
    Offline,
    Offload,
    Out,
    Source,
    TrustRemoteCode,
    argument,
)
from glassworks.core.text import say

NewTokens = Annotated[int, argument(say("At most so many tokens are written."), silent=False, metavar="N")]
Temperature = Annotated[
    float, argument(say("0 takes the likeliest token; above, tokens are drawn."), silent=False, metavar="T")
]
LikeliestFew = Annotated[int | None, argument(say("Draws among so many likeliest tokens only."), metavar="N")]
LikeliestShare = Annotated[
    float | None,
    argument(say("Draws among the likeliest tokens that together have this probability."), metavar="P"),
]
DrawSeed = Annotated[int, argument(say("Chance of what is drawn."), silent=False, metavar="N")]
ChosenEngine = Annotated[
    Literal["auto", "library", "fast"],
    argument(
        say(
            "Who computes: fast, a small program for plain decoders on the processor; library, the model itself; auto, fast where it can."
        ),
        silent=False,
    ),
]
# Candidates that are shown where no number is given.
CANDIDATES = 10


def with_numbers(arguments: list[str]) -> list[str]:
    """The same arguments, with the usual number after a --show-candidates that has none."""
    given = list[str]()
    for place, word in enumerate(arguments):
        given.append(word)
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if word == "--show-candidates" and not following.lstrip("-").isdecimal():
            given.append(str(CANDIDATES))
    return given


@dataclass(frozen=True)
class Stream:
    """Reads a text of any length in constant memory, and answers from it."""

    source: Source
    file: Annotated[
        str | None, argument(say("The UTF-8 text to read, of any length; - reads standard input."), metavar="FILE")
    ] = None
    ask: Annotated[
        str | None,
        argument(say("A text that follows what was read; its likeliest continuation is told."), metavar="TEXT"),
    ] = None
    save_memory: Annotated[
        str | None,
        argument(
            say("Keeps what the model remembers in this file: at the end, every half minute, and when it is stopped."),
            metavar="FILE",
        ),
    ] = None
    load_memory: Annotated[
        str | None,
        argument(
            say("Begins with such a file: goes on where it stopped in the same text, or reads another one after it."),
            metavar="FILE",
        ),
    ] = None
    piece: Annotated[
        int | None, argument(say("Tokens that are read at a time; whole segments, if not given."), metavar="TOKENS")
    ] = None
    max_new_tokens: NewTokens = 100
    device: Device = "auto"
    dtype: Dtype = "auto"
    trust_remote_code: TrustRemoteCode = False
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None


@dataclass(frozen=True)
class Generate:
    """Text from a decoder, word by word."""

    source: Source
    prompt: Annotated[
        str | None,
        argument(say("The text to go on from; none, where the model knows how a text begins."), metavar="TEXT"),
    ] = None
    file: Annotated[str | None, argument(say("A UTF-8 file with the prompt."), metavar="FILE")] = None
    max_new_tokens: NewTokens = 100
    temperature: Temperature = 0.0
    top_k: LikeliestFew = None
    top_p: LikeliestShare = None
    seed: DrawSeed = 0
    show_candidates: Annotated[
        int | None,
        argument(
            say("Shows at each step so many likeliest tokens with their probabilities; 10, if no number follows."),
            metavar="[N]",
        ),
    ] = None
    engine: ChosenEngine = "auto"
    trace: Annotated[
        str | None,
        argument(
            say("Writes all that happens from tokens to probabilities: this JSON file, and tensors beside it."),
            metavar="FILE",
        ),
    ] = None
    trace_layers: Annotated[
        int | None, argument(say("Layers whose tensors are written, the first ones; all, if not given."), metavar="N")
    ] = None
    trace_tokens: Annotated[
        int | None, argument(say("Tokens that are traced, the first ones; all, if not given."), metavar="N")
    ] = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    device_map: DeviceMap = None
    max_memory: MaxMemory = None
    offload: Offload = None
    bits: Bits = None
    trust_remote_code: TrustRemoteCode = False
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None


@dataclass(frozen=True)
class Chat:
    """A conversation with a model that was taught to answer."""

    source: Source
    system: Annotated[
        str | None, argument(say("What the model is told before the conversation begins."), metavar="TEXT")
    ] = None
    plain: Annotated[
        bool,
        argument(say("Takes a plain form of conversation (User: … Assistant: …) where the model has no template.")),
    ] = False
    max_new_tokens: NewTokens = 256
    temperature: Temperature = 0.0
    top_k: LikeliestFew = None
    top_p: LikeliestShare = None
    seed: DrawSeed = 0
    engine: ChosenEngine = "auto"
    device: Device = "auto"
    dtype: Dtype = "auto"
    trust_remote_code: TrustRemoteCode = False
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None


@dataclass(frozen=True)
class Infinify:
    """A pretrained decoder with a memory of fixed size."""

    source: Source
    out: Annotated[str, argument(say("Folder for the new model; it must not hold anything else."), metavar="DIR")]
    segment: Annotated[
        int, argument(say("Tokens of a segment, inside which attention stays as it was."), silent=False, metavar="N")
    ] = 128
    write: Annotated[
        Literal["linear", "delta"], argument(say("The rule by which a full segment is stored."), silent=False)
    ] = "delta"
    first: Annotated[
        Literal["local", "zero"],
        argument(
            say("While nothing is stored: attention as it was (local), or with an empty memory under the gate (zero)."),
            silent=False,
        ),
    ] = "local"
    gate_start: Annotated[
        float,
        argument(
            say("Where the gates begin; sigmoid of it is the weight of the memory."), silent=False, metavar="BETA"
        ),
    ] = 0.0
    text: Annotated[
        str | None,
        argument(
            say("A UTF-8 text on which the model learns to use its memory; its last tenth is held out."), metavar="FILE"
        ),
    ] = None
    steps: Annotated[int, argument(say("Steps of that training."), silent=False, metavar="N")] = 200
    rate: Annotated[float, argument(say("Its learning rate."), silent=False, metavar="RATE")] = 1e-4
    gate_rate: Annotated[
        float,
        argument(say("The learning rate of the gates, which have no weight decay."), silent=False, metavar="RATE"),
    ] = 1e-2
    length: Annotated[
        int | None, argument(say("Tokens of a training sequence; four segments, if not given."), metavar="TOKENS")
    ] = None
    batch: Annotated[int, argument(say("Sequences of a step."), silent=False, metavar="N")] = 4
    seed: DrawSeed = 0
    device: Device = "auto"
    dtype: Dtype = "auto"
    trust_remote_code: TrustRemoteCode = False
    json: Json = False
    offline: Offline = False
    lang: Lang = None
