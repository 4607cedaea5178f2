"""From the words of `glassworks train STAGE ...` to the choices of a stage: a file, a preset, data, then name=value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import BrokenFile, InvalidInput, InvalidSpec, NotFound, known_names
from glassworks.core.files import read_json
from glassworks.core.reading import LARGEST_RECIPE, read_bytes
from glassworks.core.text import say
from glassworks.models.spec import MODEL_SPECS
from glassworks.training.recipes import mixers_of, read_settings
from glassworks.training.stages.base import StageSpec
from glassworks.training.stages.pretrain import FITTED, PretrainSpec
from glassworks.training.stages.shelf import STAGES
from glassworks.training.stages.tokenizer import TokenizerSpec

CONFIGS = (".json", ".yaml", ".yml")
# What a person says instead of a path, in pretraining.
_OF_MODEL = ("depth", "width", "heads", "vocabulary", "context", "norm", "positions", "dropout")
# The size of a model whose kind is said and nothing else.
_SMALL: Mapping[str, object] = {
    "vocabulary": FITTED, "width": 256, "depth": 6, "heads": 8, "context": 512, "tie_output": True,
    "embedding_scale": 0.02, "weight_scale": 0.02, "feedforward": ("gelu",),
}  # fmt: skip


def stage_of(kind: str, words: Sequence[str], preset: str | None = None, start: str | None = None) -> StageSpec:
    """The stage that is meant; later words override a file's and a preset's choices.

    Raises NotFound for a file that is not there, BrokenFile for one that is no object of choices, InvalidSpec and
    UnknownName with the nearest name.
    """
    shelf = STAGES[kind]
    config, data, settings = _parted(kind, words)
    said = read_settings(settings)
    if start is not None and said.setdefault("start", start) != start:
        raise InvalidInput(say("{name} is said twice", name="start"), given=start)
    if data:
        said.setdefault("data", data)
    base = shelf.parse({"kind": kind} | ({} if config is None else _read(config, kind)))
    if preset is not None:
        base = _with_preset(base, preset)
    changes = _changes(base, said)
    return base.replaced_all(changes) if changes else base


def is_stage(word: str) -> bool:
    """Whether a word names a stage; a file of that name needs a path, as ./sft."""
    return word in STAGES.kinds


def _parted(kind: str, words: Sequence[str]) -> tuple[Path | None, list[str], list[str]]:
    """The file of choices, the data and the settings among some words."""
    config: Path | None = None
    data: list[str] = []
    settings: list[str] = []
    for word in words:
        if "=" in word and not Path(word).exists():
            settings.append(word)
        elif Path(word).suffix in CONFIGS and _is_config(Path(word)):
            if config is not None:
                raise InvalidInput(say("two files of choices are named"), given=f"{config}, {word}")
            config = Path(word)
        else:
            data.append(word)
    return config, data, settings


def _is_config(path: Path) -> bool:
    """Whether a file holds choices of a stage: an object, where data are lists of examples."""
    if not path.is_file():
        raise NotFound(say("{path} is not there", path=str(path)), right=say("a file of choices, or data"))
    if path.suffix != ".json":
        return True
    with path.open("rb") as file:
        return file.read(1024).lstrip().startswith(b"{")


def _read(path: Path, kind: str) -> dict[str, object]:
    if path.suffix == ".json":
        found: object = read_json(path)
    else:
        import yaml

        try:
            found = yaml.safe_load(read_bytes(path, LARGEST_RECIPE).decode("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as problem:
            raise BrokenFile(
                say("{path} is damaged or not YAML: {reason}", path=str(path), reason=str(problem).splitlines()[0])
            ) from None
    if not isinstance(found, dict):
        raise BrokenFile(say("{path} holds no choices", path=str(path)), right=say("an object: name to value"))
    choices = {str(name): value for name, value in cast(dict[object, object], found).items()}
    named = choices.setdefault("kind", kind)
    if named != kind:
        raise InvalidInput(
            say("{path} is for the stage {named}, not {kind}", path=str(path), named=named, kind=kind),
            next_command=f"glassworks train {named} {path}",
        )
    return choices


def _with_preset(base: StageSpec, name: str) -> StageSpec:
    if not isinstance(base, PretrainSpec):
        raise InvalidInput(
            say("only pretraining builds a model, so only it takes a preset"),
            given=base.kind,
            right=say("--start FOLDER, the model that the stage before left"),
        )
    from glassworks.models.presets import preset

    return base.replaced("model", preset(name).spec.to_json())


def _changes(base: StageSpec, said: dict[str, object]) -> dict[str, object]:
    """The settings by their full paths; kinds come first."""
    if isinstance(base, TokenizerSpec) and "kind" in said:
        said.setdefault("algorithm", said.pop("kind"))
    heads = type(base).model_fields
    changes: dict[str, object] = {}
    for name, value in said.items():
        path = f"model.{name}" if isinstance(base, PretrainSpec) and name in _OF_MODEL else name
        path = "model.mixers" if isinstance(base, PretrainSpec) and name == "mixer" else path
        if path.partition(".")[0] not in heads or path == "kind":
            short = (*_OF_MODEL, "mixer") if isinstance(base, PretrainSpec) else ()
            raise InvalidSpec(
                say("unknown setting {name}", name=name),
                given=name,
                right=known_names(name, [*(head for head in heads if head != "kind"), *short]),
            )
        changes[path] = _listed(value) if _is_many(base, path) else value
    if isinstance(base, PretrainSpec):
        return _model_changes(base, changes)
    return changes


def _model_changes(base: PretrainSpec, changes: dict[str, object]) -> dict[str, object]:
    """Settings of the model: its kind as a bare word, mixers by name, a context that holds the windows."""
    kind = changes.pop("model.kind", changes.get("model") if isinstance(changes.get("model"), str) else None)
    if kind is not None:
        changes.pop("model", None)
        made = MODEL_SPECS.parse({"kind": str(kind), **_SMALL}).to_json()
        changes = {"model": made} | changes
    if "model.mixers" in changes:
        each = mixers_of(changes["model.mixers"]) or ()
        changes["model.mixers"] = list(each)
        if len(each) > 1 and "model.depth" not in changes:
            changes["model.depth"] = len(each)
    length = changes.get("length", base.length)
    longest = cast(dict[str, Any], changes["model"])["context"] if "model" in changes else base.model.context
    if "model.context" not in changes and isinstance(length, int) and length > longest:
        changes["model.context"] = length
    return changes


def _is_many(base: StageSpec, path: str) -> bool:
    """Whether a field holds several values, of which one may be said alone."""
    return "." not in path and isinstance(base.__dict__.get(path), tuple)


def _listed(value: object) -> list[object]:
    return list(cast(Sequence[object], value)) if isinstance(value, list | tuple) else [value]
