"""Low-rank adapters (LoRA, Hu et al. 2021, through peft) on the matrices of the layers that a plan runs."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from glassworks.anatomy import LayerPlaces, Subject, TokenBatch
from glassworks.anatomy.calls import Hooks
from glassworks.anatomy.places import default_probe
from glassworks.core.errors import BrokenFile, InvalidInput, StrangeModel, Unavailable
from glassworks.core.files import read_json, write_json
from glassworks.core.text import say
from glassworks.surgery.plans import Plan
from glassworks.surgery.specs import Parts
from glassworks.tensors.files import load_tensors, save_tensors
from glassworks.tensors.seeds import Seed

# Names by which peft knows an adapter, in a model and on disk.
_NAME = "default"
_KEY = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<side>[AB])\.weight")
_WEIGHTS, _CONFIG, _PLAN = "adapter_model.safetensors", "adapter_config.json", "plan.json"


@dataclass(frozen=True, eq=False)
class Adapter:
    """Updates (alpha / rank) B A of a model's matrices, fitted under a plan.

    By module path: `down` is A [rank, in], `up` is B [out, rank]. A layer that the plan runs several times has one
    adapter for all its runs. `inputs_first`: the model keeps its matrices the other way round, as GPT-2 does.
    """

    model: str
    plan: Plan
    stack: str
    alpha: float
    down: Mapping[str, Tensor]
    up: Mapping[str, Tensor]
    inputs_first: bool = False

    @property
    def rank(self) -> int:
        """Rank of every update."""
        return next(iter(self.down.values())).shape[0]

    @property
    def parameter_count(self) -> int:
        """Numbers that are trained."""
        return sum(tensor.numel() for tensor in (*self.down.values(), *self.up.values()))

    def filled(self, weights: Mapping[str, Tensor]) -> Adapter:
        """A copy with other numbers, named as `adapted` names them."""
        sides = {
            side: {path: weights[f"{path}.{side}"].detach().clone() for path in self.down} for side in ("down", "up")
        }
        return replace(self, **sides)

    def update_of(self, path: str) -> Tensor:
        """The full update of one matrix, [out, in]."""
        return (self.alpha / self.rank) * (self.up[path] @ self.down[path])

    def save(self, folder: Path) -> Path:
        """Writes it as peft writes one (weights in safetensors, its config), with the plan beside it; returns the folder."""
        weights = {f"base_model.model.{path}.lora_A.weight": tensor for path, tensor in self.down.items()}
        weights |= {f"base_model.model.{path}.lora_B.weight": tensor for path, tensor in self.up.items()}
        save_tensors(folder / _WEIGHTS, weights, {"format": "pt"})
        config: dict[str, object] = {
            "peft_type": "LORA",
            "base_model_name_or_path": self.model,
            "target_modules": sorted(self.down),
            "r": self.rank,
            "lora_alpha": self.alpha,
            "fan_in_fan_out": self.inputs_first,
            "inference_mode": True,
        }
        write_json(folder / _CONFIG, config)
        write_json(folder / _PLAN, {**self.plan.to_json(), "model": self.model, "stack": self.stack})
        return folder

    @classmethod
    def load(cls, folder: Path) -> Adapter:
        """Reads what `save` wrote; raises NotFound or BrokenFile."""
        weights, _ = load_tensors(folder / _WEIGHTS)
        found: dict[str, dict[str, Tensor]] = {"A": {}, "B": {}}
        for name, tensor in weights.items():
            key = _KEY.fullmatch(name)
            if key is None:
                raise BrokenFile(say("{path} is no adapter of matrices", path=str(folder / _WEIGHTS)), given=name)
            found[key["side"]][key["path"]] = tensor
        config, noted = read_json(folder / _CONFIG), read_json(folder / _PLAN)
        try:
            alpha, plan, stack = float(config["lora_alpha"]), Plan.parse(noted["plan"]), str(noted["stack"])
            name, inputs_first = str(noted["model"]), bool(config["fan_in_fan_out"])
        except (KeyError, TypeError, ValueError) as problem:
            raise BrokenFile(
                say("{path} is damaged: {reason}", path=str(folder / _PLAN), reason=str(problem))
            ) from None
        if not found["A"] or found["A"].keys() != found["B"].keys():
            raise BrokenFile(say("{path} is no adapter of matrices", path=str(folder / _WEIGHTS)))
        return cls(name, plan, stack, alpha, found["A"], found["B"], inputs_first)


def fresh_adapter(
    subject: Subject, plan: Plan, stack: str, size: tuple[int, float], parts: Parts, seed: Seed
) -> Adapter:
    """An adapter that changes nothing yet: B is zero, A uniform within 1 / sqrt(in); `size` is rank and alpha."""
    rank, alpha = size
    chance = seed.generator()
    down: dict[str, Tensor] = {}
    up: dict[str, Tensor] = {}
    matrices = called_matrices(subject, plan, stack, parts)
    for path, matrix in matrices.items():
        inputs, outputs = _features(matrix)
        down[path] = (torch.rand(rank, inputs, generator=chance) * 2 - 1) / math.sqrt(inputs)
        up[path] = torch.zeros(outputs, rank)
    inputs_first = all(isinstance(matrix, Conv1D) for matrix in matrices.values())
    return Adapter(subject.origin.name, plan, stack, alpha, down, up, inputs_first)


@contextmanager
def adapted(subject: Subject, adapter: Adapter) -> Generator[Mapping[str, nn.Parameter]]:
    """The subject with the adapter in place; yields its parameters by `path.down` and `path.up`, the only ones to learn.

    Enter it before `operated`. Afterwards every module, weight and flag is as it was. Raises Unavailable without peft,
    InvalidInput for an adapter of another model.
    """
    lora = _lora()
    model = subject.model
    _check_fits(model, adapter)
    learning = {parameter: parameter.requires_grad for parameter in model.parameters()}
    matrices = {path: model.get_submodule(path) for path in adapter.down}
    config = lora.LoraConfig(r=adapter.rank, lora_alpha=adapter.alpha, fan_in_fan_out=adapter.inputs_first)
    try:
        model.requires_grad_(False)
        found: dict[str, nn.Parameter] = {}
        for path, matrix in matrices.items():
            # Layer by layer, for peft's own search renames the targets of mixtures of experts. It also draws a beginning,
            # which is overwritten: the global generator must not notice.
            with torch.random.fork_rng(devices=[]):
                layer = lora.Linear(matrix, _NAME, config, adapter.rank, adapter.alpha, adapter.inputs_first)
            for side, part, tensor in (
                ("down", layer.lora_A, adapter.down[path]),
                ("up", layer.lora_B, adapter.up[path]),
            ):
                found[f"{path}.{side}"] = part[_NAME].weight = nn.Parameter(tensor.to(subject.device, copy=True))
            _put(model, path, layer)
        yield found
    finally:
        for path, matrix in matrices.items():
            _put(model, path, matrix)
        for parameter, learned in learning.items():
            parameter.requires_grad_(learned)


def merged(subject: Subject, adapter: Adapter) -> Subject:
    """A copy of the subject with the updates added to its weights; it needs no adapter and no peft, but still the plan."""
    _check_fits(subject.model, adapter)
    model = copy.deepcopy(subject.model)
    for path in adapter.down:
        matrix = model.get_submodule(path)
        update = adapter.update_of(path)
        weight = cast(Tensor, matrix.weight)
        changed = weight.float() + (update.T if isinstance(matrix, Conv1D) else update).to(weight.device)
        weight.data.copy_(changed)
    return Subject(model, subject.anatomy, subject.tokenizer, subject.origin, subject.world)


def called_matrices(subject: Subject, plan: Plan, stack: str, parts: Parts = "all") -> Mapping[str, nn.Module]:
    """The matrices that the model calls as modules in the layers of a plan, by path; raises StrangeModel for none.

    "mixer" takes those of the attention (to the source too), "feedforward" those of the feed-forward, "all" both.
    """
    anatomy = subject.anatomy
    layers = anatomy.encoder.layers if stack == "encoder" and anatomy.encoder is not None else anatomy.layers
    roots = [root for number in sorted(set(plan.executions)) for root in _roots(layers[number], parts)]
    inside = {
        path: module
        for path, module in subject.model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and any(path == root or path.startswith(f"{root}.") for root in roots)
    }
    called: set[nn.Module] = set()
    with Hooks() as hooks, torch.no_grad():
        for module in inside.values():
            hooks.before(module, lambda module, args, kwargs: called.add(module))
        subject.forward(TokenBatch(default_probe(subject.model)))
    found = {path: module for path, module in inside.items() if module in called}
    if not found:
        raise StrangeModel(
            say("no matrix was seen to be called in the layers of this plan, so there is nothing to adapt"),
            given=", ".join(roots) or "-",
        )
    return found


def _roots(layer: LayerPlaces, parts: Parts) -> tuple[str, ...]:
    crossed = () if layer.cross is None or layer.cross.path is None else (layer.cross.path,)
    mixer = () if layer.mixer is None else (layer.mixer,)
    match parts:
        case "mixer":
            return mixer + crossed
        case "feedforward":
            return layer.feedforward
        case "all":
            # A layer that computes its attention itself has its matrices in no part.
            return (layer.path,) if layer.mixer is None else (*mixer, *crossed, *layer.feedforward)


def _features(matrix: nn.Module) -> tuple[int, int]:
    """Numbers in and out; Conv1D, GPT-2's own linear map, keeps its weight the other way round."""
    first, second = cast(Tensor, matrix.weight).shape
    return (first, second) if isinstance(matrix, Conv1D) else (second, first)


def _check_fits(model: nn.Module, adapter: Adapter) -> None:
    modules = dict(model.named_modules())
    for path, down in adapter.down.items():
        module = modules.get(path)
        if not isinstance(module, nn.Linear | Conv1D) or _features(module) != (
            down.shape[1],
            adapter.up[path].shape[0],
        ):
            raise InvalidInput(
                say("this adapter was made for another model"),
                given=path,
                right=say("the model {name}", name=adapter.model),
            )


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def _lora() -> Any:
    try:
        from peft.tuners import lora
    except ImportError:
        raise Unavailable(
            say("healing needs the package peft"), next_command="pip install 'glassworks[heal]'"
        ) from None
    return lora
