"""What a model keeps of a text of any length, as a value and as a file: memories of fixed size, and where the reading stands."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from glassworks.anatomy import Subject
from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.text import say
from glassworks.mixers import Memory, Mixer
from glassworks.models.cache import MemoryLayer
from glassworks.models.hub import GlassworksForCausalLM
from glassworks.models.infinify import infini_cache, is_infinified
from glassworks.models.text_pieces import Place
from glassworks.tensors.files import load_tensors, save_tensors

FORMAT, VERSION = "glassworks-memory", 1
UPCOMING = "upcoming"


@dataclass(frozen=True, eq=False)
class StreamMemory:
    """All that a model needs of what it has read; a value: reading on makes a new one and leaves this one as it is."""

    model: PreTrainedModel = field(repr=False)
    layers: tuple[Memory | None, ...] = field(repr=False)
    """One for each layer; None before the first token."""
    tokens: int
    """How many were read, those that the tokenizer put before the text included."""
    upcoming: Float[Tensor, " token"] | None = field(default=None, repr=False)
    """Logits of the token that comes next."""
    source: str = ""
    """The file that was read last; `-` for standard input, empty for a text."""
    place: Place = field(default_factory=Place)
    """Where the reading of it stands."""
    nats: float = 0.0
    """The losses of all tokens that were predicted, together."""
    bytes: float = 0.0
    """The bytes of all texts so far."""
    weights: str = ""
    """The digest of the model's weights, where it was worked out already: that takes seconds for a large model."""

    @property
    def tensors(self) -> Iterator[Tensor]:
        """The tensors of all layers."""
        for layer in self.layers:
            for value in () if layer is None else layer.__dict__.values():
                if isinstance(value, Tensor):
                    yield value

    @property
    def values(self) -> int:
        """How many numbers are kept."""
        return sum(tensor.numel() for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Their bytes."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    @property
    def bits_per_byte(self) -> float:
        """The mean loss so far: bits for each byte of text; NaN before the first prediction."""
        return self.nats / torch.log(torch.tensor(2.0)).item() / self.bytes if self.bytes else float("nan")

    def cache(self) -> Cache:
        """A cache for the library's models and `generate`, in the state after the text; using it leaves this memory alone."""
        made = bounded_cache(self.model)
        for place, memory in zip(made.layers, self.layers, strict=True):
            if memory is not None:
                cast(MemoryLayer, place).remember(memory, self.tokens)
        return made

    def for_model(self, model: PreTrainedModel) -> "StreamMemory":
        """The same for another copy of the model, on that one's device."""
        device = next(model.parameters()).device
        layers = tuple(layer if layer is None else layer.to(device) for layer in self.layers)
        upcoming = None if self.upcoming is None else self.upcoming.to(device)
        return replace(self, model=model, layers=layers, upcoming=upcoming)

    def save(self, path: str | Path) -> Path:
        """Writes it as safetensors, atomically; returns the path. Raises NoSpace where nothing can be written."""
        save_memory(Path(path), self)
        return Path(path)


def bounded_cache(model: PreTrainedModel) -> Cache:
    """An empty cache whose size does not grow with the text; InvalidInput where the model has no such memory."""
    made, growing = _cache_of(model)
    if growing:
        raise InvalidInput(
            say("the memory of this model grows with every token: its softmax layers keep all keys and values"),
            given=say("layers {layers}", layers=_ranges(growing)),
            right=say("a model whose layers have a memory of fixed size, such as infini; any decoder can become one"),
            next_command="glassworks infinify MODEL --out DIR",
        )
    return made


def is_bounded(model: PreTrainedModel) -> bool:
    """Whether a model's memory has one size however long the text."""
    return not _cache_of(model)[1]


def _cache_of(model: PreTrainedModel) -> tuple[Cache, list[int]]:
    """An empty cache, and the layers in which it grows."""
    if is_infinified(model):
        return infini_cache(model), []
    if not isinstance(model, GlassworksForCausalLM):
        return Cache(layers=[]), list(range(int(model.config.get_text_config(decoder=True).num_hidden_layers)))
    made = DynamicCache(config=model.config)
    return made, [number for number, layer in enumerate(made.layers) if not isinstance(layer, MemoryLayer)]


def keys_per_token(model: PreTrainedModel) -> int:
    """Numbers that a full cache of keys and values would keep for each token."""
    heads = [module.heads for module in model.modules() if isinstance(module, Mixer)]
    return sum(2 * each.kv_heads * each.head_width for each in heads)


def weights_digest(model: PreTrainedModel) -> str:
    """Sixteen hexadecimal digits of all weights (names, shapes, formats, numbers) and of what the layers are."""
    digest = hashlib.sha256()
    spec = (
        model.config.transformer if isinstance(model, GlassworksForCausalLM) else model.config.to_dict().get("infini")
    )
    digest.update(json.dumps(spec, sort_keys=True).encode())
    for name, weight in model.named_parameters():
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(_bytes_of(weight))
    return digest.hexdigest()[:16]


def save_memory(path: Path, memory: StreamMemory) -> None:
    """Writes a memory with all that is needed to know its model, and its text, again."""
    tensors: dict[str, Tensor] = {}
    kinds: list[dict[str, Any] | None] = []
    for number, layer in enumerate(memory.layers):
        if layer is None:
            kinds.append(None)
            continue
        plain = {f.name: layer.__dict__[f.name] for f in fields(layer)}
        found = {name: value for name, value in plain.items() if isinstance(value, Tensor)}
        tensors |= {f"layers.{number}.{name}": value for name, value in found.items()}
        kinds.append({"kind": type(layer).__name__, "plain": {n: v for n, v in plain.items() if n not in found}})
    if memory.upcoming is not None:
        tensors[UPCOMING] = memory.upcoming
    facts = {
        "weights": memory.weights or weights_digest(memory.model),
        "model": type(memory.model).__name__,
        "tokens": memory.tokens,
        "layers": kinds,
        "source": memory.source,
        "place": asdict(memory.place),
        "nats": memory.nats,
        "bytes": memory.bytes,
        "checksum": _checksum(tensors),
    }
    save_tensors(path, tensors, {"format": FORMAT, "version": str(VERSION), "memory": json.dumps(facts)})


def load_memory(path: str | Path, model: PreTrainedModel | Subject) -> StreamMemory:
    """The memory of a file, for the model that made it.

    Raises NotFound, BrokenFile (truncated, damaged, no memory, from a newer version) or InvalidInput (another model's).
    """
    if isinstance(model, Subject):
        model = cast(PreTrainedModel, model.model)
    place = Path(path)
    tensors, metadata = load_tensors(place)
    facts = _facts(place, metadata)
    fresh = bounded_cache(model)
    weights = weights_digest(model)
    if facts["weights"] != weights:
        raise InvalidInput(
            say("{path} is the memory of another model, or of other weights", path=str(place)),
            given=facts["model"],
            right=say("the model that read the text, in the same number format"),
        )
    if facts["checksum"] != _checksum(tensors):
        raise _damaged(place)
    try:
        layers = tuple(
            None if kind is None else _layer(number, kind, tensors) for number, kind in enumerate(facts["layers"])
        )
        memory = StreamMemory(
            model, layers, int(facts["tokens"]), tensors.get(UPCOMING), str(facts["source"]),
            Place(**facts["place"]), float(facts["nats"]), float(facts["bytes"]), weights,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError):
        raise _damaged(place) from None
    if len(layers) != len(fresh.layers) or not _fits(model, memory):
        raise InvalidInput(
            say("{path} holds memories of other layers than this model has", path=str(place)),
            given=", ".join(sorted({"-" if layer is None else type(layer).__name__ for layer in layers})),
            right=say("a memory that this model made"),
        )
    return memory.for_model(model)


def _facts(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """What the file says of itself."""
    if metadata.get("format") != FORMAT:
        raise BrokenFile(
            say("{path} is no memory of a stream", path=str(path)), right=say("a file that --save-memory wrote")
        )
    version = metadata.get("version", "")
    if version != str(VERSION):
        raise BrokenFile(
            say("{path} was written by another version", path=str(path)),
            given=version,
            right=say("version {version}, or reading the text again", version=VERSION),
        )
    try:
        facts: dict[str, Any] = json.loads(metadata["memory"])
        if {"weights", "model", "tokens", "layers", "source", "place", "nats", "bytes", "checksum"} <= set(facts):
            return facts
    except (ValueError, KeyError, TypeError):
        pass
    raise _damaged(path)


def _layer(number: int, kind: dict[str, Any], tensors: dict[str, Tensor]) -> Memory:
    """The memory of a layer; KeyError for a kind that is not known, TypeError for parts that do not make one."""
    front = f"layers.{number}."
    found = {name.removeprefix(front): tensor for name, tensor in tensors.items() if name.startswith(front)}
    return _kinds()[kind["kind"]](**kind["plain"], **found)


def _kinds() -> dict[str, Any]:
    """Every kind of memory by its name."""
    waiting, found = [Memory], dict[str, Any]()
    while waiting:
        for kind in waiting.pop().__subclasses__():
            found[kind.__name__] = kind
            waiting.append(kind)
    return found


def _fits(model: PreTrainedModel, memory: StreamMemory) -> bool:
    """Whether each layer's memory has the kind and the sizes that this model's own memories have."""
    short, long = (_after(model, tokens) for tokens in (1, 3))
    if memory.upcoming is not None and memory.upcoming.shape != (_vocabulary(model),):
        return False
    return all(
        given is None or (type(given) is type(one) and _alike(given, one, other))
        for given, one, other in zip(memory.layers, short, long, strict=True)
    )


def _alike(given: Memory, short: Memory | None, long: Memory | None) -> bool:
    """Equal formats, and equal sizes in all dimensions but those that depend on how much was read."""
    assert short is not None, "a token was read"
    assert long is not None, "some tokens were read"
    for name, one in short.__dict__.items():
        value, other = given.__dict__[name], long.__dict__[name]
        if not isinstance(value, Tensor) or not isinstance(one, Tensor):
            continue
        if value.ndim != one.ndim or value.dtype != one.dtype:
            return False
        # What is still empty after a few tokens may hold something later.
        fixed = [d for d in range(one.ndim) if one.shape[d] and _size(other, d) in (None, one.shape[d])]
        if any(value.shape[d] != one.shape[d] for d in fixed):
            return False
    return True


def _size(value: object, dimension: int) -> int | None:
    return value.shape[dimension] if isinstance(value, Tensor) else None


def _after(model: PreTrainedModel, tokens: int) -> list[Memory | None]:
    """The memories after some tokens."""
    cache = bounded_cache(model)
    ids = torch.zeros(1, tokens, dtype=torch.long, device=next(model.parameters()).device)
    with torch.no_grad():
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    return [layer.memory for layer in cache.layers if isinstance(layer, MemoryLayer)]


def _vocabulary(model: PreTrainedModel) -> int:
    """How many logits there are."""
    return int(model.config.get_text_config(decoder=True).vocab_size)


def _checksum(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)} {tensors[name].dtype}".encode())
        digest.update(_bytes_of(tensors[name]))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def _damaged(path: Path) -> BrokenFile:
    return BrokenFile(
        say("{path} is damaged: its numbers are not those that were written", path=str(path)),
        right=say("the file as it was saved, or reading the text again"),
    )


def _ranges(numbers: list[int]) -> str:
    """Layers in few words: 0-11, or 0, 2, 5-7."""
    parts: list[str] = []
    for number in numbers:
        if parts and int(parts[-1].rpartition("-")[2]) == number - 1:
            parts[-1] = f"{parts[-1].partition('-')[0]}-{number}"
        else:
            parts.append(str(number))
    return ", ".join(parts)
