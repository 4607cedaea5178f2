"""Is this folder a model? Checked before a library meets it, so that the answer names what is wrong."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.files import read_json
from glassworks.core.text import say

SINGLE = "model.safetensors"
ADAPTER = "adapter_config.json"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
# Fields of which a library makes a list, a module or a table for each one that they count.
COUNTS = re.compile(r"(^|_)(layers?|depths?|blocks|experts|stages|codebooks|predictors|adapters)$")
MOST_SHARED_LAYERS = 256
LABELS = "num_labels"
MOST_LABELS = 10**6
# Bytes of a config, an index of weights or a world.
LARGEST_CONFIG = 1 << 26
FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"})
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)


@dataclass(frozen=True)
class Held:
    """What the weight files of a folder hold, by their headers alone."""

    tensors: int
    numbers: int
    """All entries of all tensors."""
    whole: frozenset[str]
    """Tensors of integers or truth values: masks and positions, or what somebody packed."""


def check_folder(folder: Path) -> Held:
    """What the weights are; raises NotFound, BrokenFile or InvalidInput unless config.json and whole safetensors are there.

    Of the weights only the headers are read.
    """
    config = folder / "config.json"
    if not config.is_file():
        raise _no_model(folder)
    if (folder / ADAPTER).exists():
        # The library would leave these weights unread and load what the adapter names, from wherever that is.
        raise _adapter(folder)
    found = read_json(config, LARGEST_CONFIG)
    if not isinstance(found, dict) or "model_type" not in found:
        raise BrokenFile(
            say("{path} does not say which kind of model this is", path=str(config)),
            right=say("a config.json with a model_type, as transformers writes it"),
        )
    held = _together([_check_weights(path) for path in weight_files(folder)])
    _check_counts(config, cast(dict[str, Any], found), held.tensors)
    return held


def tokenizer_in(folder: Path) -> bool:
    """Whether the folder holds a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZERS)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder; raises NotFound, BrokenFile, or InvalidInput for pickles."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        match read_json(folder / INDEX, LARGEST_CONFIG):
            case {"weight_map": dict(parts)} if parts:
                return [_part(folder, name) for name in sorted({str(part) for part in parts.values()})]
            case _:
                raise BrokenFile(say("{path} has no weight_map", path=str(folder / INDEX)))
    pickles = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickles:
        raise InvalidInput(
            say("{path} is a pickle; reading it would run the code inside", path=str(folder / pickles[0])),
            right=say("the same weights as safetensors, in a folder with config.json"),
        )
    raise NotFound(
        say("{folder} has a config.json but no weights", folder=str(folder)),
        right=say("model.safetensors beside it"),
    )


def _part(folder: Path, name: str) -> Path:
    """A file that the index names. Of a folder that somebody sent, the index must not name files elsewhere."""
    if Path(name).name != name:
        raise BrokenFile(
            say("{path} names weights outside its folder", path=str(folder / INDEX)),
            given=name,
            right=say("every part beside the index, by its name alone"),
        )
    return folder / name


def _check_counts(path: Path, config: dict[str, Any], tensors: int) -> None:
    """Refuses more layers than weights: the library would build them all before it saw that they are empty."""
    for name, count in _counts(config):
        # Few layers may share one set of weights; nobody shares them among so many.
        if count > (MOST_LABELS if name == LABELS else max(tensors, MOST_SHARED_LAYERS)):
            raise BrokenFile(
                say("{path} and the weights beside it do not fit", path=str(path)),
                given=say("{name} = {layers}, but {count} tensors", name=name, layers=count, count=tensors),
            )


def _counts(config: object, name: str = "") -> Iterator[tuple[str, int]]:
    """Every field, however deep, that says of how many things the library shall make a list."""
    if isinstance(config, dict):
        for key, value in cast(dict[str, object], config).items():
            yield from _counts(value, key)
    elif isinstance(config, list):
        for value in cast(list[object], config):
            if isinstance(value, int | dict):
                yield from _counts(value, name)
    elif isinstance(config, int) and (name == LABELS or COUNTS.search(name)):
        yield name, config


def _together(parts: list[Held]) -> Held:
    return Held(
        sum(part.tensors for part in parts),
        sum(part.numbers for part in parts),
        frozenset[str]().union(*(part.whole for part in parts)),
    )


def _check_weights(path: Path) -> Held:
    """What a file holds; raises NotFound or BrokenFile where it is not whole."""
    if not path.is_file():
        raise NotFound(say("{path} is not there", path=str(path)), right=say("every part that the index names"))
    try:
        with safe_open(path, framework="pt") as file:
            kinds = {name: _kind(file.get_slice(name)) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError) as problem:
        raise BrokenFile(
            say("{path} is truncated or no safetensors file: {reason}", path=str(path), reason=str(problem)),
            right=say("the file as it was saved; save or copy it again"),
        ) from None
    if not kinds:
        raise BrokenFile(say("{path} holds no tensors", path=str(path)))
    strange = next((name for name, (kind, _) in kinds.items() if kind.startswith("C")), None)
    if strange is not None:
        raise BrokenFile(
            say("{path} holds complex numbers, which no model here computes with", path=str(path)), given=strange
        )
    whole = frozenset(name for name, (kind, _) in kinds.items() if kind not in FLOATS)
    return Held(len(kinds), sum(numbers for _, numbers in kinds.values()), whole)


def _kind(found: Any) -> tuple[str, int]:
    """A tensor's number format and how many numbers it has."""
    return str(found.get_dtype()), math.prod(found.get_shape())


def _adapter(folder: Path) -> InvalidInput:
    return InvalidInput(
        say("{folder} is an adapter, a change to another model", folder=str(folder)),
        right=say("a whole model: load the base, merge the adapter and save the result"),
    )


def _no_model(folder: Path) -> NotFound | InvalidInput:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as problem:
        return NotFound(say("{folder} cannot be read: {reason}", folder=str(folder), reason=problem.strerror or "?"))
    if "spec.json" in names:
        return InvalidInput(
            say("{folder} is a run folder, not a model", folder=str(folder)),
            right=say("one of the models that the run trained; they lie in the store"),
            next_command="glassworks runs show",
        )
    if ADAPTER in names:
        return _adapter(folder)
    return NotFound(
        say("{folder} is not a model folder", folder=str(folder)),
        given=", ".join(names[:12]) or say("an empty folder"),
        right=say("a folder with config.json and model.safetensors"),
    )
