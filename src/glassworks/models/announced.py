"""What a model's folder or name says of it before its numbers are read: sizes from config.json and the headers of its files."""

import copy
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils.hub import cached_file

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.models.folders import check_folder, weight_files
from glassworks.models.gallery import GALLERY
from glassworks.models.load import check_name, folder_of
from glassworks.models.placement import Placement
from glassworks.models.pretrained import Wanted, as_packed, auto_class, quantisation, told

# safetensors' names of number formats.
_TORCH = {torch.float64: "F64", torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
# Numbers of a head in a model that has a known model's shape but not its width; rotary positions need an even count.
THIN_HEAD = 4
# The feed-forward of such a model is wider than its stream by this many numbers a head, so that the two can be told apart.
_THIN_MORE = 2
_LAYER_LISTS = ("layer_types", "mlp_layer_types")


@dataclass(frozen=True, eq=False)
class Announced:
    """A model known by its config, built without its numbers, and what its files hold.

    `file_bytes` is 0 for a model whose files are not on this machine; `formats` counts the numbers of each format in them.
    """

    source: str
    config: Any
    model: nn.Module
    file_bytes: int
    formats: Mapping[str, int]

    @property
    def parameters(self) -> int:
        """Parameters, shared ones counted once."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def tensors(self) -> int:
        """Parameter tensors."""
        return sum(1 for _ in self.model.parameters())

    @property
    def depth(self) -> int:
        """Layers of the stack that is longest."""
        return len(self.layers)

    @property
    def layers(self) -> list[nn.Module]:
        """The longest list of modules."""
        stacks = [module for module in self.model.modules() if isinstance(module, nn.ModuleList)]
        return list(max(stacks, key=len, default=nn.ModuleList()))

    @property
    def matrices(self) -> list[tuple[int, int]]:
        """Shapes of the matrices of one layer that vectors are multiplied with; the mean layer's first, where they differ."""
        layer = self.layers[len(self.layers) // 2]
        return [cast(tuple[int, int], tuple(p.shape)) for p in layer.parameters() if p.ndim == 2]

    @property
    def width(self) -> int:
        """Numbers in the residual stream."""
        return int(self.config.get_text_config().hidden_size)

    @property
    def heads(self) -> int:
        """Query heads."""
        return int(self.config.get_text_config().num_attention_heads)

    @property
    def vocabulary(self) -> int:
        """Tokens."""
        return int(self.config.get_text_config().vocab_size)

    def loaded_bytes(self, dtype: torch.dtype, placement: Placement) -> int:
        """Bytes of the weights once loaded: in the format asked for, matrices of the layers in one byte with `bits=8` or where they are kept so."""
        size = dtype.itemsize
        if placement.bits is None and not quantisation(self.config):
            return self.parameters * size
        inside = [p for layer in self.layers for p in layer.parameters() if p.ndim == 2]
        packed = sum(p.numel() for p in inside)
        # One factor of four bytes for each row.
        return packed + sum(4 * p.shape[0] for p in inside) + (self.parameters - packed) * size

    def reading_bytes(self, dtype: torch.dtype) -> int:
        """Bytes of files that are mapped beside the loaded weights, because the numbers change their format on the way."""
        return 0 if set(self.formats) <= {_TORCH.get(dtype, "")} else self.file_bytes

    def thin(self, depth: int, head: int = THIN_HEAD) -> nn.Module:
        """A model of the same kind, heads and vocabulary with so many layers, but a few numbers wide, its weights drawn.

        What it takes beside multiplying with its matrices is what the model itself takes. `head` numbers a head, even.
        """
        try:
            return self._thin(depth, head)
        except Exception:  # a config is anyone's: its own rules may tie what is changed here to something else
            return _plain_twin(self, depth, head)

    def larger(self, thin: nn.Module, head: int = THIN_HEAD) -> dict[int, int]:
        """Widths of a thin twin's tensors, and what they are in this model: of weights of the same name, and of a head."""
        own = dict(self.model.named_parameters())
        found: dict[int, int] = {}
        for name, weight in thin.named_parameters():
            for less, more in zip(weight.shape, own[name].shape if name in own else (), strict=False):
                if less != more:
                    found[less] = max(more, found.get(less, 0))
        stated = self.config.get_text_config().to_dict().get("head_dim")
        whole = int(stated or self.width // self.heads)
        return found | ({head: whole} if head != whole else {})

    def _thin(self, depth: int, head: int) -> nn.Module:
        config = copy.deepcopy(self.config)
        text: Any = config.get_text_config()
        known = set(text.to_dict()) | set(text.attribute_map)
        sizes = {
            "hidden_size": head * self.heads, "intermediate_size": (head + _THIN_MORE) * self.heads,
            "num_hidden_layers": depth, "n_inner": None, "head_dim": head, "embedding_size": head * self.heads,
        }  # fmt: skip
        for name, value in sizes.items():
            if name in known and (name != "head_dim" or text.to_dict().get(name) is not None):
                setattr(text, name, value)
        for name in _LAYER_LISTS:
            listed = text.to_dict().get(name)
            if listed:
                setattr(text, name, list(listed)[:depth])
        config.dtype = torch.float32
        return auto_class(config).from_config(config).eval()


def _plain_twin(known: Announced, depth: int, head: int) -> nn.Module:
    """A decoder of the commonest kind with the heads and the vocabulary of a model whose own kind cannot be made thin."""
    config = LlamaConfig(
        hidden_size=head * known.heads, intermediate_size=(head + _THIN_MORE) * known.heads, num_hidden_layers=depth,
        num_attention_heads=known.heads, vocab_size=known.vocabulary, max_position_embeddings=1 << 20,
        bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def announced(source: str, wanted: Wanted) -> Announced:
    """What is known of a model folder, a gallery or hub name; of a name only its config is fetched where it is not here.

    Raises NotFound, BrokenFile, or InvalidInput for a file that is read as a whole and for weights that cannot be loaded.
    """
    folder = Path(source).expanduser()
    if folder.is_file():
        raise InvalidInput(
            say("{path} is read as a whole, so nothing is known of it before", path=source),
            right=say("a model folder, or a name of the gallery or the hub"),
        )
    if not folder.is_dir():
        check_name(source)
        folder = folder_of(GALLERY[source.lower()]) if source.lower() in GALLERY else folder
    if folder.is_dir():
        check_folder(folder)
        source = str(folder)
    with told(source):
        config = AutoConfig.from_pretrained(source, **wanted.address)
        quantised = quantisation(config)
    if quantised:
        as_packed(source, quantised, wanted.placement)
    with told(source), torch.device("meta"):
        model = auto_class(config).from_config(config, trust_remote_code=wanted.trust_remote_code)
        model.tie_weights()
    files = weight_files(Path(source)) if Path(source).is_dir() else _on_disk(source, wanted)
    formats: dict[str, int] = {}
    for path in files:
        for kind, count in _formats_of(path).items():
            formats[kind] = formats.get(kind, 0) + count
    return Announced(source, config, model, sum(path.stat().st_size for path in files), formats)


def _on_disk(source: str, wanted: Wanted) -> list[Path]:
    """The single file of a hub name, where it was fetched before; nothing is fetched."""
    found = cached_file(
        source, "model.safetensors", revision=wanted.revision or "main", local_files_only=True,
        _raise_exceptions_for_missing_entries=False, _raise_exceptions_for_connection_errors=False,
    )  # fmt: skip
    return [] if found is None else [Path(found)]


def _formats_of(path: Path) -> dict[str, int]:
    """Numbers of each format in a safetensors file, from its header."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header: dict[str, Any] = json.loads(file.read(length))
    counts: dict[str, int] = {}
    for name, entry in header.items():
        if name != "__metadata__":
            counts[entry["dtype"]] = counts.get(entry["dtype"], 0) + math.prod(entry["shape"])
    return counts
