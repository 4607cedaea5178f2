"""From whatever a person has (folder, hub name, file, live model) to a Subject, or to one clear error."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glassworks.anatomy import Alphabet, Origin, Subject
from glassworks.anatomy.offloaded import is_offloaded, is_packed
from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.core.files import read_json
from glassworks.core.spec import Spec
from glassworks.core.text import Text, say
from glassworks.models.folders import check_folder, tokenizer_in
from glassworks.models.gallery import GALLERY, Entry, located
from glassworks.models.gallery.keeping import origin_of
from glassworks.models.gallery.readings import read_gguf
from glassworks.models.hub import GlassworksForCausalLM, no_tokens
from glassworks.models.llama2c import read_llama2c, tokenizer_beside
from glassworks.models.min_gpt import read_min_gpt
from glassworks.models.placement import Placement, notes_on
from glassworks.models.pretrained import Wanted, packed, pretrained, pretrained_tokenizer
from glassworks.models.spec import RecurrentMemorySpec
from glassworks.tensors.devices import choose_device, choose_dtype

WorldReader = Callable[[dict[str, Any]], Spec | None]

# How files begin that only unpickling could read, which would run whatever code they hold.
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
PICKLE_ENDINGS = (".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def load(
    source: str | Path | nn.Module,
    *,
    device: str | Placement = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    world_reader: WorldReader | None = None,
) -> Subject:
    """A Subject from a model folder, a gallery or hub name, a llama2.c, minGPT or GGUF file, or a live model.

    `device` may be a Placement: parts of the model on several devices or on the disk, matrices packed in eight bits.
    Gallery models are not fetched here: `glassworks models get NAME` does that. `world.json` in a folder may hold an
    alphabet and a task; `world_reader` turns the task into a spec. A live model stays where and as it is unless device
    or dtype is named. Raises NotFound, BrokenFile, InvalidInput, or Unavailable for a library that is not installed.
    """
    placement = device if isinstance(device, Placement) else Placement(device)
    if isinstance(source, nn.Module):
        return _live(source, placement, dtype)
    here = choose_device(placement.device)
    wanted = Wanted(choose_dtype(dtype, here), here, revision, trust_remote_code, placement)
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, wanted, world_reader)
    if path.is_file():
        return _from_file(path, wanted)
    check_name(source)
    source = str(source)
    if source.lower() in GALLERY:
        return _from_gallery(GALLERY[source.lower()], wanted)
    return _from_hub(source, wanted)


def _live(model: nn.Module, placement: Placement, dtype: str) -> Subject:
    kinds = {parameter.dtype for parameter in model.parameters()}
    # Packed integers and the eight-bit floats, which torch stores but does not compute with.
    strange = [kind for kind in kinds if not kind.is_floating_point or kind.itemsize < 2]
    if strange and not is_packed(model):
        raise packed(type(model).__name__, str(strange[0]).removeprefix("torch."))
    if not placement.is_plain or (
        (is_packed(model) or is_offloaded(model)) and (placement.device, dtype) != ("auto", "auto")
    ):
        raise InvalidInput(
            say("a live model stays where it is and as it is packed"),
            right=say("its folder or its name, from which it can be spread or packed while it is loaded"),
        )
    if placement.device != "auto":
        model = model.to(choose_device(placement.device))
    if dtype != "auto":
        model = model.to(choose_dtype(dtype))
    return Subject.of(model, origin=Origin(type(model).__name__, notes=notes_on(model)))


def check_name(source: str | Path) -> None:
    """Raises NotFound for what is no file or folder here and cannot be a name either."""
    if isinstance(source, Path) or _looks_like_a_path(source):
        raise NotFound(
            say("{path} is not there", path=str(source)),
            right=say("a folder with config.json and model.safetensors, or a name of the gallery or the hub"),
            next_command="glassworks models list",
        )


def folder_of(entry: Entry) -> Path:
    """Where a model of the gallery is; raises NotFound where it was not fetched."""
    folder = located(entry)
    if folder is None:
        raise NotFound(
            say("{name} of the gallery is not on this machine", name=entry.name),
            right=say("to fetch it once; it is under the licence {licence}", licence=entry.licence),
            next_command=f"glassworks models get {entry.name}",
        )
    return folder


def _from_gallery(entry: Entry, wanted: Wanted) -> Subject:
    folder = folder_of(entry)
    subject = _from_folder(folder, wanted, None)
    return replace(subject, origin=replace(subject.origin, name=entry.name))


def _from_hub(name: str, wanted: Wanted) -> Subject:
    read = pretrained(name, wanted)
    model = read.model
    notes = read.notes
    try:
        tokenizer = pretrained_tokenizer(name, wanted)
    except NotFound as problem:
        # The model itself was found, so only its tokenizer is missing, or a library that it needs.
        tokenizer = None
        notes = (*notes, say("no tokenizer could be read ({reason}): prompts are token ids", reason=problem.given))
    origin = Origin(name, source=f"https://huggingface.co/{name}", revision=wanted.revision or "", notes=notes)
    return Subject.of(model, tokenizer, origin=_with_notes(origin, notes_on(model)))


def _from_folder(folder: Path, wanted: Wanted, world_reader: WorldReader | None) -> Subject:
    held = check_folder(folder)
    match read_json(folder / "config.json"):
        case {"model_type": "glassworks", "transformer": {"kind": "vector_decoder"}}:
            raise no_tokens()
        case _:
            pass
    alphabet, task = _world(folder / "world.json")
    read = pretrained(str(folder), wanted, held)
    model = read.model
    if alphabet is not None and len(alphabet) != model.config.vocab_size:
        raise BrokenFile(
            say("{path} does not fit the model", path=str(folder / "world.json")),
            given=say("{count} characters", count=len(alphabet)),
            right=say("{count} characters", count=model.config.vocab_size),
        )
    tokenizer: Any = alphabet
    if tokenizer is None and tokenizer_in(folder):
        tokenizer = pretrained_tokenizer(str(folder), wanted)
    world = world_reader(task) if world_reader is not None and task is not None else None
    origin = _with_notes(_origin(folder.resolve()), (*read.notes, *notes_on(model)))
    if isinstance(model, GlassworksForCausalLM) and isinstance(model.config.spec, RecurrentMemorySpec):
        seen = say(
            "inside, a text is seen segment by segment, each between two copies of the memory; the last one is shown"
        )
        origin = _with_notes(origin, (seen,))
    return Subject.of(model, tokenizer, origin=origin, world=world)


def _with_notes(origin: Origin, notes: tuple[Text, ...]) -> Origin:
    return replace(origin, notes=(*origin.notes, *notes))


def _origin(folder: Path) -> Origin:
    """Where a folder's weights come from: what `models get` wrote beside them, or the folder itself."""
    match origin_of(folder):
        case {"name": str(name), "source": str(source), "version": str(version), "licence": str(licence)} as found:
            notes = [
                say("weights from {source}, licence {licence}", source=found.get("package", source), licence=licence)
            ]
            if found.get("raw_text_begins_with"):
                notes.append(
                    say(
                        "raw text begins with {token} here, as in this model's training; its publisher's tokenizer puts nothing there",
                        token=found["raw_text_begins_with"],
                    )
                )
            return Origin(name, source, version, tuple(notes))
        case _:
            return Origin(folder.name, source=str(folder))


def _world(path: Path) -> tuple[Alphabet | None, dict[str, Any] | None]:
    if not path.is_file():
        return None, None
    match read_json(path):
        case {"alphabet": [*characters]} as world if all(isinstance(sign, str) for sign in characters):
            task = world.get("task")
            return Alphabet(tuple(characters)), task if isinstance(task, dict) else None
        case {"task": dict(task)}:
            return None, task
        case _:
            raise BrokenFile(
                say("{path} names no alphabet and no task", path=str(path)),
                right=say("an object with alphabet (a list of characters), task, or both"),
            )


def _from_file(path: Path, wanted: Wanted) -> Subject:
    with path.open("rb") as file:
        start = file.read(4)
    if path.suffix in PICKLE_ENDINGS or start.startswith(PICKLES):
        raise InvalidInput(
            say("{path} is a pickle; reading it would run the code inside", path=str(path)),
            right=say("the same weights as safetensors, in a folder with config.json"),
        )
    if not wanted.placement.is_plain:
        raise InvalidInput(
            say("{path} is read as a whole: only folders and hub names can be spread or packed", path=str(path)),
            right=say("the same model as a folder: load it, then subject.model.save_pretrained(FOLDER)"),
        )
    origin = Origin(path.stem, source=str(path.resolve()))
    if path.suffix == ".bin":
        model = read_llama2c(path)
        tokenizer: Any = tokenizer_beside(path, model.config.vocab_size)
        return Subject.of(_placed(model, wanted), tokenizer, origin=origin)
    if path.suffix == ".gguf":
        model, tokenizer = read_gguf(path)
        return Subject.of(_placed(model, wanted), tokenizer, origin=origin)
    if path.suffix == ".json" and path.name != "config.json":
        return Subject.of(_placed(read_min_gpt(path), wanted), origin=origin)
    if path.name == "config.json" or path.suffix == ".safetensors":
        raise InvalidInput(
            say("{path} is one part of a model", path=str(path)),
            right=say("its folder, {folder}", folder=str(path.parent)),
        )
    raise InvalidInput(
        say("{path} is no kind of model file known here", path=str(path)),
        right=say(
            "a folder with config.json and model.safetensors, a .gguf file, a llama2.c .bin, or minGPT weights as .json"
        ),
    )


def _placed(model: nn.Module, wanted: Wanted) -> nn.Module:
    return model.to(device=wanted.device, dtype=wanted.dtype if wanted.dtype != torch.float32 else None)


def _looks_like_a_path(source: str) -> bool:
    """Hub names are `name` or `owner/name`; the rest, and children of a folder that exists, are paths."""
    if source.startswith((".", "/", "~")) or "\\" in source or source.count("/") > 1 or source.endswith("/"):
        return True
    if Path(source).suffix in (".bin", ".gguf", ".json", ".safetensors", *PICKLE_ENDINGS):
        return True
    parent, _, name = source.rpartition("/")
    return bool(name) and bool(parent) and Path(parent).is_dir()
