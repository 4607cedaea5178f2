"""The options of `glassworks export`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional

from glassworks.cli.arguments import Device, Dtype, Json, Lang, Offline, TrustRemoteCode, argument
from glassworks.core.text import say


@dataclass(frozen=True)
class Export:
    """Takes a run along in another format, a plan as a model of its own, or a model as two files."""

    to: Annotated[
        Literal["html", "csv", "svg", "png", "hf", "mergekit"] | None,
        argument(
            say(
                "Of a run: html, the report; csv, tidy tables; svg, png, figures; hf, the trained models as Hugging Face folders. Of a plan: hf, the model rebuilt as the plan runs it; mergekit, a recipe."
            )
        ),
    ] = None
    run: Annotated[
        Positional[str | None],
        argument(
            say(
                "A run folder, its digest or the beginning of it, or an experiment (its newest run); with --two-files a model."
            ),
            metavar="RUN",
        ),
    ] = None
    two_files: Annotated[
        str | None,
        argument(
            say(
                "Writes a model as two files into this folder: its parameters, and one short program in numpy that runs them."
            ),
            metavar="DIR",
        ),
    ] = None
    plan: Annotated[
        str | None,
        argument(
            say(
                "A plan of skipped, repeated or reordered layers: its text, a saved plan.json or a mergekit .yml file."
            ),
            metavar="PLAN",
        ),
    ] = None
    model: Annotated[
        str | None,
        argument(say("The model that the plan is for; by default the one it was saved for."), metavar="MODEL"),
    ] = None
    out: Annotated[
        str | None,
        argument(say("Folder to write into; default exports/EXPERIMENT-DIGEST or exports/MODEL-plan."), metavar="DIR"),
    ] = None
    device: Device = "auto"
    dtype: Dtype = "auto"
    trust_remote_code: TrustRemoteCode = False
    json: Json = False
    offline: Offline = False
    lang: Lang = None
