"""Is this folder a model? Checked before a library meets it, so that the answer names what is wrong."""

from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.files import read_json
from glassworks.core.text import say

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")
LAYER_COUNTS = (
    "num_hidden_layers",
    "num_layers",
    "n_layer",
    "n_layers",
    "encoder_layers",
    "decoder_layers",
    "depth",
)
MOST_SHARED_LAYERS = 256
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)


def check_folder(folder: Path) -> None:
    """Raises NotFound, BrokenFile or InvalidInput unless config.json and whole safetensors are there."""
    config = folder / "config.json"
    if not config.is_file():
        raise _no_model(folder)
    found = read_json(config)
    if not isinstance(found, dict) or "model_type" not in found:
        raise BrokenFile(
            say("{path} does not say which kind of model this is", path=str(config)),
            right=say("a config.json with a model_type, as transformers writes it"),
        )
    tensors = sum(_check_weights(path) for path in _weight_files(folder))
    _check_depth(config, cast(dict[str, Any], found), tensors)


def tokenizer_in(folder: Path) -> bool:
    """Whether the folder holds a tokenizer."""
    return any((folder / name).is_file() for name in TOKENIZERS)


def _weight_files(folder: Path) -> list[Path]:
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        match read_json(folder / INDEX):
            case {"weight_map": dict(parts)}:
                return [folder / name for name in sorted({str(part) for part in parts.values()})]
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


def _check_depth(path: Path, config: dict[str, Any], tensors: int) -> None:
    """Refuses more layers than weights: the library would build them all before it saw that they are empty."""
    inner = [value for value in config.values() if isinstance(value, dict)]
    for part in (config, *cast(list[dict[str, Any]], inner)):
        for name in LAYER_COUNTS:
            layers = part.get(name)
            # Few layers may share one set of weights; nobody shares them among so many.
            if isinstance(layers, int) and layers > max(tensors, MOST_SHARED_LAYERS):
                raise BrokenFile(
                    say("{path} and the weights beside it do not fit", path=str(path)),
                    given=say("{name} = {layers}, but {count} tensors", name=name, layers=layers, count=tensors),
                )


def _check_weights(path: Path) -> int:
    """The number of tensors in a file; raises NotFound or BrokenFile where it is not whole."""
    if not path.is_file():
        raise NotFound(say("{path} is not there", path=str(path)), right=say("every part that the index names"))
    try:
        with safe_open(path, framework="pt") as file:
            names: list[Any] = list(file.keys())
    except (SafetensorError, OSError, ValueError) as problem:
        raise BrokenFile(
            say("{path} is truncated or no safetensors file: {reason}", path=str(path), reason=str(problem)),
            right=say("the file as it was saved; save or copy it again"),
        ) from None
    if not names:
        raise BrokenFile(say("{path} holds no tensors", path=str(path)))
    return len(names)


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
    if "adapter_config.json" in names:
        return InvalidInput(
            say("{folder} is an adapter, a change to another model", folder=str(folder)),
            right=say("a whole model: load the base, merge the adapter and save the result"),
        )
    return NotFound(
        say("{folder} is not a model folder", folder=str(folder)),
        given=", ".join(names[:12]) or say("an empty folder"),
        right=say("a folder with config.json and model.safetensors"),
    )
