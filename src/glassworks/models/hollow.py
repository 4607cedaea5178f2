"""A model without its numbers, and where they lie: so that a process may read no more of them than its own part."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from glassworks.models.config import GlassworksConfig
from glassworks.models.folders import check_folder, weight_files
from glassworks.models.infinify import SETTINGS
from glassworks.models.initialise import initialise
from glassworks.models.pretrained import auto_class, quantisation, told
from glassworks.models.quiet import quiet_bars
from glassworks.models.spec import AnyModel, TokenModel
from glassworks.models.transformer import language_model_class
from glassworks.tensors.seeds import Seed

_FLOATS = frozenset({"F32", "F16", "BF16", "F64"})


class StoredNumbers:
    """The tensors of safetensors files by name, read from the mapped files row by row."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._open = ExitStack()
        self._files: dict[str, Any] = {}
        for path in paths:
            file = self._open.enter_context(safe_open(path, framework="pt"))
            self._files |= dict.fromkeys(file.keys(), file)

    @property
    def names(self) -> set[str]:
        """The names of all tensors."""
        return set(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return tuple(self._files[name].get_slice(name).get_shape())

    def is_float(self, name: str) -> bool:
        """Whether a tensor holds decimal numbers in a format that torch computes with."""
        return self._files[name].get_slice(name).get_dtype() in _FLOATS

    def rows(self, name: str, rows: slice) -> Tensor:
        """Some rows of a tensor; all of a tensor without rows."""
        if not self.shape(name):
            return self._files[name].get_tensor(name)
        return self._files[name].get_slice(name)[rows]

    def close(self) -> None:
        """Lets go of the files."""
        self._open.close()
        self._files.clear()


@dataclass(frozen=True, eq=False)
class Hollow:
    """A model whose parameters take no memory, and the files that its numbers lie in."""

    model: PreTrainedModel
    folder: Path
    names: Mapping[str, str]
    """Name in the files, of every parameter and kept buffer by its name in the model."""


def hollow_of(kind: Any, *arguments: Any, **more: Any) -> Any:
    """What a class or function makes, its parameters without memory; buffers are as they were computed, ties are kept."""
    kept = nn.Module.register_parameter

    def register(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        kept(self, name, None if param is None else nn.Parameter(param.detach().to("meta"), param.requires_grad))

    nn.Module.register_parameter = register
    try:
        with no_init_weights():
            model = kind(*arguments, **more)
    finally:
        nn.Module.register_parameter = kept
    if isinstance(model, PreTrainedModel):
        model.tie_weights()
        kept_names = model.state_dict().keys()
        for path, module in model.named_modules():
            if any(f"{path}.{name}".lstrip(".") not in kept_names for name, _ in module.named_buffers(recurse=False)):
                # What is computed and never kept; what has no memory is left as it is.
                model._init_weights(module)  # pyright: ignore[reportPrivateUsage] - as the library's own loading does
    return model


def hollow_from(folder: Path) -> Hollow | None:
    """The float32 model of a folder without its numbers; None where they lie there in another form than the model's.

    None means that only the library's own loading can tell what becomes of them: packed, renamed, put together from parts,
    too few or too many. Raises what that loading would for a folder that is none.
    """
    check_folder(folder)
    with told(str(folder)):
        config = AutoConfig.from_pretrained(folder)
    if quantisation(config) or config.to_dict().get(SETTINGS) is not None:
        return None
    with told(str(folder)), quiet_bars():
        model = hollow_of(auto_class(config).from_config, config, dtype=torch.float32)
        if model.can_generate() and (folder / "generation_config.json").is_file():
            model.generation_config = GenerationConfig.from_pretrained(folder)
    model.config._name_or_path = str(folder)
    stored = StoredNumbers(weight_files(folder))
    names = _names_in(stored, model)
    stored.close()
    return None if names is None else Hollow(model, folder, names)


def _names_in(stored: StoredNumbers, model: nn.Module) -> dict[str, str] | None:
    """Where each of the model's tensors lies; None unless each lies there in its own shape, and nothing else does."""
    alike: dict[int, list[str]] = {}
    wanted = [*model.named_parameters(remove_duplicate=False), *_kept_buffers(model)]
    for name, tensor in wanted:
        alike.setdefault(id(tensor), []).append(name)
    found: dict[str, str] = {}
    for name, tensor in wanted:
        # Of tensors that are one, a file holds one.
        held = next((one for one in (name, *alike[id(tensor)]) if one in stored.names), None)
        if held is None or stored.shape(held) != tuple(tensor.shape) or not stored.is_float(held):
            return None
        found[name] = held
    return found if stored.names == set(found.values()) else None


def _kept_buffers(model: nn.Module) -> list[tuple[str, Tensor]]:
    kept = model.state_dict().keys()
    return [(name, buffer) for name, buffer in model.named_buffers() if name in kept]


def hollow_untrained(spec: AnyModel) -> PreTrainedModel:
    """A fresh model of a spec without its numbers, which `drawn_parts` gives."""
    model: PreTrainedModel = hollow_of(language_model_class(spec), GlassworksConfig.from_spec(spec))
    model.config.dtype = torch.float32
    return model


def drawn_parts(spec: AnyModel, seed: Seed) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a fresh model by name, bit for bit those of `build_model`; no more than one module's at a time."""
    is_tied = isinstance(spec, TokenModel) and spec.tie_output
    model = hollow_untrained(spec)
    for place, module in model.named_modules():
        if is_tied and place == "lm_head":
            continue
        own = dict(module.named_parameters(recurse=False))
        for name, bare in own.items():
            setattr(module, name, nn.Parameter(torch.empty(bare.shape, dtype=torch.float32)))
        initialise(module, spec, seed.child("model", place).generator())
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            yield f"{place}.{name}".lstrip("."), tensor.detach()
        for name, bare in own.items():
            setattr(module, name, bare)
