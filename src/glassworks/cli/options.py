"""What can be typed: one frozen dataclass per command. Imported after the language is chosen, so that help follows it."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, UseAppendAction

from glassworks.core.text import Text, say


def _arg(text: Text, *, silent: bool = True, **more: Any) -> Any:
    """Help in the chosen language; `silent` leaves out the default where None, False or nothing would only confuse."""
    return tyro.conf.arg(help=str(text), help_behavior_hint="" if silent else None, **more)


_Out = Annotated[
    str,
    _arg(
        say("Folder that holds everything a command writes: runs, trained models, reports."),
        silent=False,
        metavar="DIR",
    ),
]
_Json = Annotated[bool, _arg(say("Print one JSON object on stdout; everything else goes to stderr."))]
_Lang = Annotated[Literal["en", "zh"] | None, _arg(say("Language of all words."), metavar="en|zh")]
_Offline = Annotated[bool, _arg(say("Never touch the network, also not the Hugging Face hub."))]
_Device = Annotated[
    str, _arg(say("auto, cpu, cuda, cuda:1 or mps; auto takes the fastest that is here."), silent=False, metavar="NAME")
]
_Dtype = Annotated[str, _arg(say("auto, float32, bfloat16 or float64."), silent=False, metavar="NAME")]
_Run = Annotated[
    str | None,
    _arg(say("A run folder, its digest or the beginning of it, or an experiment (its newest run)."), metavar="RUN"),
]

# Written out, since help must answer without the libraries that experiments load; a test compares it with them.
_STUDIES = "main, theory, width, depth, freezing, data, shift"


@dataclass(frozen=True)
class Doctor:
    """What this machine can do."""

    device: _Device = "auto"
    dtype: _Dtype = "auto"
    out: _Out = "."
    json: _Json = False
    offline: _Offline = False
    lang: _Lang = None


@dataclass(frozen=True)
class Reproduce:
    """Runs an experiment and judges its claims."""

    experiment: Annotated[Positional[str | None], _arg(say("The experiment, e.g. birth."), metavar="EXPERIMENT")] = None
    scale: Annotated[
        str | None,
        _arg(
            say("smoke (seconds, decides nothing), laptop (minutes) or paper (published settings). Default laptop."),
            metavar="SCALE",
        ),
    ] = None
    set: Annotated[
        UseAppendAction[tuple[str, ...]],
        _arg(say("Changes one setting, e.g. --set width=64. Repeatable."), metavar="PATH=VALUE"),
    ] = ()
    resume: Annotated[
        str | None, _arg(say("Goes on with a run, by its folder or digest, with its own settings."), metavar="RUN")
    ] = None
    only: Annotated[
        UseAppendAction[tuple[str, ...]],
        _arg(
            say(
                "Runs one study only. Repeatable. Studies of {experiment}: {studies}.",
                experiment="birth",
                studies=_STUDIES,
            ),
            metavar="STUDY",
        ),
    ] = ()
    seed: Annotated[
        tuple[int, ...], _arg(say("Repeats everything with these seeds instead of the scale's."), metavar="N")
    ] = ()
    device: _Device = "auto"
    dtype: _Dtype = "auto"
    out: _Out = "."
    json: _Json = False
    offline: _Offline = False
    lang: _Lang = None


@dataclass(frozen=True)
class Claims:
    """Every claim with its newest verdict."""

    action: Annotated[
        Positional[str],
        _arg(
            say(
                "list (or an experiment) shows the newest verdicts; check judges a run again from its folder, without torch."
            ),
            metavar="list|check",
        ),
    ] = "list"
    experiment: Annotated[Positional[str | None], _arg(say("The experiment, e.g. birth."), metavar="EXPERIMENT")] = None
    run: _Run = None
    verbose: Annotated[
        bool,
        tyro.conf.arg(
            help=str(say("Adds each claim's sentence and the reason of its verdict.")),
            help_behavior_hint="",
            aliases=["-v"],
        ),
    ] = False
    out: _Out = "."
    json: _Json = False
    lang: _Lang = None


@dataclass(frozen=True)
class Examine:
    """Looks inside a model and writes a report."""

    source: Annotated[
        Positional[str],
        _arg(
            say("A run folder or its digest, a model folder or file, or a name on the Hugging Face hub."),
            metavar="MODEL",
        ),
    ]
    text: Annotated[str | None, _arg(say("The prompt."), metavar="TEXT")] = None
    text_file: Annotated[str | None, _arg(say("A UTF-8 file with the prompt."), metavar="FILE")] = None
    tokens: Annotated[str | None, _arg(say("The prompt as token ids, e.g. 1,2,3."), metavar="IDS")] = None
    instrument: Annotated[
        UseAppendAction[tuple[str, ...]],
        _arg(
            say("Reads this instrument only. Repeatable; all that fit, if none is named."), name="with", metavar="NAME"
        ),
    ] = ()
    seed: Annotated[
        int, _arg(say("Chance of whatever is drawn, e.g. the sequence of a known world."), silent=False, metavar="N")
    ] = 0
    device: _Device = "auto"
    dtype: _Dtype = "auto"
    trust_remote_code: Annotated[
        bool, _arg(say("Runs code that comes with the model. Only for sources that you trust."))
    ] = False
    out: _Out = "."
    json: _Json = False
    offline: _Offline = False
    lang: _Lang = None


@dataclass(frozen=True)
class Runs:
    """What is on disk."""

    action: Annotated[
        Positional[Literal["list", "show", "delete", "verify"]],
        _arg(say("list; show one run; delete one; verify one, or all, against its manifest.")),
    ] = "list"
    run: Annotated[
        Positional[str | None],
        _arg(say("A run folder, its digest or the beginning of it, or an experiment (its newest run)."), metavar="RUN"),
    ] = None
    yes: Annotated[bool, _arg(say("Deletes without asking."))] = False
    out: _Out = "."
    json: _Json = False
    lang: _Lang = None


@dataclass(frozen=True)
class Export:
    """Takes a run along in another format."""

    run: Annotated[
        Positional[str],
        _arg(say("A run folder, its digest or the beginning of it, or an experiment (its newest run)."), metavar="RUN"),
    ]
    to: Annotated[
        Literal["html", "csv", "svg", "png", "hf"],
        _arg(
            say(
                "html: the report; csv: tidy tables; svg, png: figures; hf: the trained models as Hugging Face folders."
            )
        ),
    ]
    out: Annotated[
        str | None,
        _arg(say("Folder to write into; default exports/EXPERIMENT-DIGEST."), metavar="DIR"),
    ] = None
    json: _Json = False
    lang: _Lang = None


def _sub(name: str, text: Text) -> Any:
    return tyro.conf.subcommand(name, description=str(text))


Command = (
    Annotated[Doctor, _sub("doctor", say("What this machine can do: device, memory, measured speed, which presets will be fast."))]
    | Annotated[Reproduce, _sub("reproduce", say("Trains, looks inside, judges the claims of a paper, and writes a report. Resumable."))]
    | Annotated[Claims, _sub("claims", say("Every claim with its newest verdict, value, interval, seeds and command."))]
    | Annotated[Examine, _sub("examine", say("Looks inside a model: fidelity first, then attention, heads, lens; writes a report and tables."))]
    | Annotated[Runs, _sub("runs", say("The runs on disk: list, show, delete, verify."))]
    | Annotated[Export, _sub("export", say("A run's report, tables, figures or trained models in another place."))]
)  # fmt: skip


def read(arguments: list[str]) -> Command:
    """The command that was typed. Exits with 2 and a suggestion when it cannot be read, with 0 after --help."""
    return tyro.cli(
        Command,
        prog="glassworks",
        args=arguments,
        description=str(
            say(
                "Train a transformer, look inside it, and judge claims from measurements: offline, with the evidence attached.\n\nFirst steps: glassworks doctor; glassworks reproduce birth; glassworks claims. Version: glassworks --version."
            )
        ),
        config=(tyro.conf.FlagCreatePairsOff,),
    )
