"""What can be typed: one frozen dataclass per command. Imported after the language is chosen, so that help follows it."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, UseAppendAction

from glassworks.cli.arguments import (
    Bits,
    Chance,
    Device,
    DeviceMap,
    Dtype,
    Estimate,
    ExecutorText,
    Json,
    Lang,
    MaxMemory,
    Offline,
    Offload,
    Out,
    Png,
    PromptFile,
    PromptText,
    PromptTokens,
    Run,
    Source,
    TrustRemoteCode,
    argument,
)
from glassworks.cli.options_compare import Compare
from glassworks.cli.options_export import Export
from glassworks.cli.options_family import Presets, Tree
from glassworks.cli.options_life import Life
from glassworks.cli.options_models import Models
from glassworks.cli.options_plan import Plan
from glassworks.cli.options_stream import Chat, Generate, Infinify, Stream, with_numbers
from glassworks.cli.options_studio import Studio
from glassworks.cli.options_surgery import Surgery, Sweep
from glassworks.cli.options_train import Train, settings_first
from glassworks.core.text import Text, say

# Written out, since help must answer without the libraries that experiments load; a test compares it with them.
_STUDIES = (
    "birth: main, theory, width, depth, freezing, data, shift; painters: single, strategies, protected, loops, order, "
    "tasks, blocks, similarity, cache, encoder, healing, encoder_decoder; mesa: one-layer, deep, softmax, binding, "
    "linearise, partial, nonlinear, few-shot, contracting, fixed-teacher, language; infini: memory-table, language, "
    "gates, passkey, books, capacity; life: pretraining, tuning, reward, reinforcement, overoptimisation, inside; "
    "scaling: published, families, compression; tree: blocks, branches"
)


@dataclass(frozen=True)
class Doctor:
    """What this machine can do."""

    device: Device = "auto"
    dtype: Dtype = "auto"
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None


@dataclass(frozen=True)
class Reproduce:
    """Runs an experiment and judges its claims."""

    experiment: Annotated[
        Positional[str | None], argument(say("The experiment, e.g. birth."), metavar="EXPERIMENT")
    ] = None
    scale: Annotated[
        str | None,
        argument(
            say("smoke (seconds, decides nothing), laptop (minutes) or paper (published settings). Default laptop."),
            metavar="SCALE",
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
                "Runs one study only. Repeatable. Studies of {studies}.",
                studies=_STUDIES,
            ),
            metavar="STUDY",
        ),
    ] = ()
    seed: Annotated[
        tuple[int, ...], argument(say("Repeats everything with these seeds instead of the scale's."), metavar="N")
    ] = ()
    executor: ExecutorText = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    out: Out = "."
    json: Json = False
    offline: Offline = False
    lang: Lang = None


@dataclass(frozen=True)
class Claims:
    """Every claim with its newest verdict."""

    action: Annotated[
        Positional[str],
        argument(
            say(
                "list (or an experiment) shows the newest verdicts; check judges a run again from its folder, without torch."
            ),
            metavar="list|check",
        ),
    ] = "list"
    experiment: Annotated[
        Positional[str | None], argument(say("The experiment, e.g. birth."), metavar="EXPERIMENT")
    ] = None
    run: Run = None
    verbose: Annotated[
        bool,
        tyro.conf.arg(
            help=str(say("Adds each claim's sentence and the reason of its verdict.")),
            help_behavior_hint="",
            aliases=["-v"],
        ),
    ] = False
    out: Out = "."
    json: Json = False
    lang: Lang = None


@dataclass(frozen=True)
class Examine:
    """Looks inside a model and writes a report."""

    source: Source
    text: PromptText = None
    text_file: PromptFile = None
    tokens: PromptTokens = None
    instrument: Annotated[
        UseAppendAction[tuple[str, ...]],
        argument(
            say("Reads this instrument only. Repeatable; all that fit, if none is named."), name="with", metavar="NAME"
        ),
    ] = ()
    seed: Chance = 0
    png: Png = False
    keep_activations: Annotated[
        str | None,
        argument(
            say(
                "Cuts a text of any length into windows, keeps their activations in this folder, and reads them from there."
            ),
            metavar="DIR",
        ),
    ] = None
    sites: Annotated[
        str | None,
        argument(say("What is kept, with commas between; the stream after each layer, if not given."), metavar="NAMES"),
    ] = None
    window: Annotated[
        int | None, argument(say("Tokens of a window; 512 or the model's context, if not given."), metavar="N")
    ] = None
    limit: Annotated[int | None, argument(say("Reads so many tokens of the text at most."), metavar="N")] = None
    estimate: Estimate = False
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
class Runs:
    """What is on disk."""

    action: Annotated[
        Positional[Literal["list", "show", "delete", "verify"]],
        argument(say("list; show one run; delete one; verify one, or all, against its manifest.")),
    ] = "list"
    run: Annotated[
        Positional[str | None],
        argument(
            say("A run folder, its digest or the beginning of it, or an experiment (its newest run)."), metavar="RUN"
        ),
    ] = None
    yes: Annotated[bool, argument(say("Deletes without asking."))] = False
    out: Out = "."
    json: Json = False
    lang: Lang = None


def _sub(name: str, text: Text) -> Any:
    return tyro.conf.subcommand(name, description=str(text))


Command = (
    Annotated[Doctor, _sub("doctor", say("What this machine can do: device, memory, measured speed, which presets will be fast."))]
    | Annotated[Reproduce, _sub("reproduce", say("Trains, looks inside, judges the claims of a paper, and writes a report. Resumable."))]
    | Annotated[Life, _sub("life", say("One model's whole life: tokenizer, pretraining, fine-tuning, reward model, reinforcement; one report. Resumable."))]
    | Annotated[Train, _sub("train", say("Trains a decoder of your own, with any mixers, on a world or a text file. Resumable."))]
    | Annotated[Infinify, _sub("infinify", say("A pretrained decoder with a memory of fixed size: unchanged inside a segment, trained on a text to use it."))]
    | Annotated[Stream, _sub("stream", say("Reads a text of any length in constant memory; saves what it remembers, answers from it."))]
    | Annotated[Generate, _sub("generate", say("Text from any decoder, word by word; prompts of any length where the memory is fixed."))]
    | Annotated[Chat, _sub("chat", say("A conversation with a model, turn by turn, by its own chat template."))]
    | Annotated[Claims, _sub("claims", say("Every claim with its newest verdict, value, interval, seeds and command."))]
    | Annotated[Examine, _sub("examine", say("Looks inside a model: fidelity first, then attention, heads, lens; writes a report and tables."))]
    | Annotated[Compare, _sub("compare", say("Two models on the same text: predictions, layers, heads, weights; fidelity of both first."))]
    | Annotated[Surgery, _sub("surgery", say("Runs a model's layers by a plan (skip, repeat, reorder, side by side): text and scores beside the plain model's."))]
    | Annotated[Sweep, _sub("sweep", say("Scores many plans of a model's layers on benchmarks; figures, tables, report. Resumable."))]
    | Annotated[Models, _sub("models", say("Pretrained models by name: list them, get one, with licence, size and checksum."))]
    | Annotated[Studio, _sub("studio", say("The studio in the browser: play, look inside, operate, train, read results; on this machine alone."))]
    | Annotated[Presets, _sub("presets", say("Known architectures by name, from BERT to Llama: parameters part by part, beside the published number."))]
    | Annotated[Tree, _sub("tree", say("The evolution tree of language models: branches, years, sizes, open or closed, what each changed."))]
    | Annotated[Plan, _sub("plan", say("How to split a budget of compute between the size of a model and its data, and what it costs."))]
    | Annotated[Runs, _sub("runs", say("The runs on disk: list, show, delete, verify."))]
    | Annotated[Export, _sub("export", say("A run's report, tables, figures or trained models in another place; a plan as a model of its own."))]
)  # fmt: skip


def read(arguments: list[str]) -> Command:
    """The command that was typed. Exits with 2 and a suggestion when it cannot be read, with 0 after --help."""
    return tyro.cli(
        Command,
        prog="glassworks",
        args=with_numbers(settings_first(arguments)),
        description=str(
            say(
                "Train a transformer, look inside it, and judge claims from measurements: offline, with the evidence attached.\n\nFirst steps: glassworks doctor; glassworks reproduce birth; glassworks claims. Version: glassworks --version."
            )
        ),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
