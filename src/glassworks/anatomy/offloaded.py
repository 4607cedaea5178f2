"""Weights that are not where a model runs: on the disk or in host memory until a module is called, or packed in eight bits.

accelerate keeps such weights beside the module, in a hook that brings them for the length of a call; until then the
module's own are of the meta device and hold no numbers. bitsandbytes keeps integers with one factor for each row.
"""

import copy
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

# Where accelerate leaves its hook and the forward that it wrapped.
_HOOK, _WRAPPING = "_hf_hook", ("_hf_hook", "_old_forward", "forward")
# The largest of the integers that bitsandbytes scales each row to.
_LARGEST_INTEGER = 127.0


def runs_on(module: nn.Module) -> torch.device:
    """The device on which a module computes, wherever its weights wait; the CPU for a module without weights."""
    for part in module.modules():
        device: Any = getattr(_hook_of(part), "execution_device", None)
        if device is not None:
            return _device(device)
        own = next(part.parameters(recurse=False), None)
        if own is not None:
            return own.device
    return torch.device("cpu")


def devices_of(model: nn.Module) -> frozenset[torch.device]:
    """All devices on which parts of a model compute."""
    holders = [part for part in model.modules() if next(part.parameters(recurse=False), None) is not None]
    return frozenset(runs_on(part) for part in holders)


def is_offloaded(model: nn.Module) -> bool:
    """Whether some weights wait on the disk or in host memory until they are needed."""
    return any(parameter.is_meta for parameter in model.parameters())


def is_packed(module: nn.Module) -> bool:
    """Whether some weights are kept in eight bits with factors beside them."""
    return any(_factors(part) is not None for part in module.modules())


def weight_here(module: nn.Module, name: str = "weight") -> Tensor:
    """A module's own parameter with its numbers, brought from where it waits, in floating point.

    Raises RuntimeError where nothing keeps the numbers of a meta tensor.
    """
    own: Tensor = module.get_parameter(name).detach()
    if own.is_meta:
        own = _waiting(module, name).to(runs_on(module))
    factors = _factors(module)
    if name == "weight" and factors is not None and not own.is_floating_point():
        return own.float() * (factors.to(own.device).float()[:, None] / _LARGEST_INTEGER)
    return own


def parameters_of(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter by its name, as it stands, shared ones once: also where offloading made two of a shared one."""
    found = dict(model.named_parameters())
    stated: Any = getattr(model, "all_tied_weights_keys", None)
    tied = cast(dict[str, str], stated) if isinstance(stated, dict) else dict[str, str]()
    copies = {name for name, first in tied.items() if name in found and first in found and _is_copy(model, name, first)}
    return ((name, parameter) for name, parameter in found.items() if name not in copies)


def weights_here(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter by its name with its numbers, one at a time, so that no more than one is brought at once.

    Shared ones come once.
    """
    for name, _ in parameters_of(model):
        yield name, weight_at(model, name)


def weight_at(model: nn.Module, name: str) -> Tensor:
    """One parameter of a model by its full name, with its numbers."""
    path, _, last = name.rpartition(".")
    return weight_here(model.get_submodule(path), last)


def matrix_of(module: nn.Module) -> Tensor:
    """The first matrix inside a module, with its numbers."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.ndim == 2:
                return weight_here(part, name)
    raise AssertionError("the module owns a matrix")


def resident(module: nn.Module) -> nn.Module:
    """The module itself, or, where weights of it wait elsewhere, a copy with all of them here and no hook."""
    if not is_offloaded(module):
        return module
    twin = _without_hooks(module)
    for (_, old), (_, new) in zip(module.named_modules(), twin.named_modules(), strict=True):
        for name, _ in list(old.named_parameters(recurse=False)):
            new.register_parameter(name, nn.Parameter(weight_here(old, name), requires_grad=False))
    return twin


def format_of(model: nn.Module) -> str:
    """The number format of a model's weights in words: float32, bfloat16, or int8 where they are packed."""
    kinds = list(dict.fromkeys(str(p.dtype).removeprefix("torch.") for p in model.parameters()))
    return "int8" if is_packed(model) else kinds[0] if kinds else "-"


def _is_copy(model: nn.Module, name: str, first: str) -> bool:
    """Whether two parameters that a config calls tied are: some configs say so of heads that stand alone (T5)."""
    one, other = (weight_at(model, which) for which in (name, first))
    return one.shape == other.shape and torch.equal(one[:1], other[:1])


def _without_hooks(module: nn.Module) -> nn.Module:
    """A copy of the tree of modules; the hooks, which hold the weights, stay with the original."""
    kept = [(part, {name: part.__dict__.pop(name) for name in _WRAPPING if name in part.__dict__}) for part in module.modules()]  # fmt: skip
    try:
        return copy.deepcopy(module)
    finally:
        for part, entries in kept:
            part.__dict__.update(entries)


def _hook_of(module: nn.Module) -> Any:
    """What brings the weights of a module; of several hooks in a row, the one that knows where they wait."""
    hook: Any = module.__dict__.get(_HOOK)
    inner: Any = getattr(hook, "hooks", None)
    if inner is None:
        return hook
    return next((one for one in inner if getattr(one, "weights_map", None) is not None), None)


def _waiting(module: nn.Module, name: str) -> Tensor:
    kept: Any = getattr(_hook_of(module), "weights_map", None)
    if kept is None:
        raise RuntimeError(f"{type(module).__name__}.{name} is on the meta device and nothing keeps its numbers")
    return cast(Tensor, kept[name])


def _factors(module: nn.Module) -> Tensor | None:
    """The factor of each row of a packed matrix; bitsandbytes moves them from the weight to the module's state at its first call."""
    weight: Any = dict(module.named_parameters(recurse=False)).get("weight")
    if weight is None or weight.is_floating_point():
        return None
    found: Any = getattr(weight, "SCB", None)
    return getattr(getattr(module, "state", None), "SCB", None) if found is None else found


def _device(given: object) -> torch.device:
    return torch.device("cuda", given) if isinstance(given, int) else torch.device(str(given))
