"""What the folders hold that a command leaves behind, file by file, so that other programs can read them.

Numbers lie in JSON, NPZ, CSV, Parquet and safetensors, pictures in SVG and PNG; nothing in a folder can run code. A file is whole or not there at
all: each is written beside its place and renamed, except `events.jsonl`, to which whole lines are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path


@dataclass(frozen=True)
class Kept:
    """Files of one kind: a pattern relative to the folder, what they hold, whether every finished folder has them."""

    pattern: str
    meaning: str
    always: bool = True


RUN = (
    Kept("spec.json", "`format`, `experiment` and `spec`: every setting; its digest is the folder's name"),
    Kept("environment.json", "Python, platform, versions of the packages, device, and the command that was typed"),
    Kept("events.jsonl", "what happened and when, one event a line, only ever added to"),
    Kept("measurements.json", "each measurement's title, labels, unit, seeds and caveats"),
    Kept("measurements.npz", "the arrays of the measurements, by name"),
    Kept("studies.json", "the studies that are finished, with their seconds"),
    Kept("verdicts.json", "each claim's verdict: outcome, value, 95 % interval, unit, reason, seeds, scale"),
    Kept("tables/*.csv", "all measurements as one long table, a row per number"),
    Kept("tables/*.parquet", "the same as Parquet"),
    Kept("tables/*.columns.json", "what each column of the table beside it means"),
    Kept("figures/*.svg", "each figure for a light and for a dark page"),
    Kept("figures/*.png", "each figure as pixels"),
    Kept("report.html", "the report: one page that opens without a network"),
    Kept("manifest.json", "size and SHA-256 of every file above but the events; `glassworks runs verify` compares"),
    Kept("lock", "held by the process that works here; it holds nothing afterwards"),
    Kept("stages/*", "of `life`: the folder of each stage", always=False),
)

TRAINED = (
    Kept("config.json", "the model's configuration, as the transformers library writes it"),
    Kept("model.safetensors", "the weights"),
    Kept("generation_config.json", "the defaults of generation", always=False),
    Kept("world.json", "the alphabet and the task it was trained on", always=False),
    Kept("tokenizer*.json", "of a model of bytes: its tokenizer", always=False),
    Kept("special_tokens_map.json", "of a model of bytes: its special tokens", always=False),
    Kept("training.json", "every setting of the training; its digest is the folder's name"),
    Kept("history.json", "what was logged, a column per number"),
    Kept("snapshots/*.safetensors", "copies of the weights along the way, named by their step", always=False),
    Kept(
        "checkpoint.safetensors", "while unfinished: weights, optimiser and chance, from which it goes on", always=False
    ),
    Kept("checkpoint-*/*", "the same in shards, where several processes train one model", always=False),
    Kept("done.json", "seconds and facts of the finished training; written last"),
    Kept("lock", "held by the process that trains; it holds nothing afterwards"),
)

EXAMINATION = (
    Kept("examination.json", "the model, the text, the fidelity checks, and what each instrument found"),
    Kept("report.html", "the report: one page that opens without a network"),
    Kept("tables/*.csv", "what each instrument measured, as a long table"),
    Kept("tables/*.parquet", "the same as Parquet"),
    Kept("tables/*.columns.json", "what each column of the table beside it means"),
    Kept("figures/*.svg", "each figure for a light and for a dark page"),
    Kept("figures/*.png", "each figure as pixels, with `--png`", always=False),
)


def unknown(folder: Path, kept: tuple[Kept, ...]) -> list[str]:
    """The files of a folder, relative to it, that no pattern speaks of."""
    return [name for name in _names(folder) if not any(fnmatchcase(name, one.pattern) for one in kept)]


def missing(folder: Path, kept: tuple[Kept, ...]) -> list[str]:
    """The patterns that every finished folder has and this one lacks."""
    names = _names(folder)
    return [one.pattern for one in kept if one.always and not any(fnmatchcase(name, one.pattern) for name in names)]


def _names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
