"""A sequential plan written as a standard checkpoint: skipped, repeated and reordered layers, for plain transformers."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.places import default_probe
from glassworks.core.errors import InvalidInput
from glassworks.core.files import replacing_folder, write_json
from glassworks.core.text import say
from glassworks.surgery.operate import operated
from glassworks.surgery.plans import Plan
from glassworks.surgery.slots import choose_stack

# The same weights in the same order give the same sums; what remains is the order inside fused kernels.
TOLERANCE = 1e-4


def export_checkpoint(subject: Subject, plan: Plan, folder: Path, *, stack: str | None = None) -> Path:
    """Writes the model with its layers as the plan lists them; returns the folder.

    Config, safetensors and tokenizer, as `save_pretrained` writes them. The new model is built and its logits are
    compared with the plan's before anything is written. Raises InvalidInput for a plan with parallel stages, for a model
    without a config, and for one whose layers cannot change places in a checkpoint; the folder must be new or empty.
    """
    stack = choose_stack(subject.anatomy, stack)
    plan.check(len(subject.anatomy.stacks[stack]))
    if not plan.is_sequential:
        raise InvalidInput(
            say("a checkpoint holds layers one after the other, and this plan has parallel stages"),
            given=str(plan),
            right=say(
                "a plan of skipped, repeated or reordered layers, or `glassworks surgery --save` to keep the plan"
            ),
        )
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(say("{path} is not empty", path=str(folder)), right=say("a new folder"))
    rebuilt = rebuild(subject, plan, stack)
    with replacing_folder(folder) as new:
        rebuilt.save_pretrained(new)
        tokenizer: Any = subject.tokenizer
        if tokenizer is not None and "save_pretrained" in dir(tokenizer):
            tokenizer.save_pretrained(new)
        write_json(new / "plan.json", {**plan.to_json(), "model": subject.origin.name, "stack": stack})
    return folder


def rebuild(subject: Subject, plan: Plan, stack: str) -> Any:
    """A plain transformers model whose layers are the plan's, with weights of its own; its logits are checked."""
    model: Any = subject.model
    config = vars(model).get("config")
    if config is None:
        raise InvalidInput(
            say("this model has no config, so no checkpoint of it can be written"),
            given=type(model).__name__,
            right=say("a model of transformers, or one trained here"),
        )
    paths = subject.anatomy.stacks[stack]
    reason = say("layers of this model cannot change places in a checkpoint")
    try:
        changed = _config_of(config, plan, len(paths))
        with torch.device("meta"):
            made = type(model)(changed)
        weights = _weights_of(model.state_dict(), plan, paths)
        made = made.to_empty(device=subject.device).to(next(model.parameters()).dtype)
        _fill(made, weights, model)
    except (ValueError, TypeError, RuntimeError, KeyError, AttributeError) as problem:
        raise InvalidInput(reason, given=str(problem).strip().splitlines()[0]) from None
    made.eval()
    difference = _difference(subject, plan, stack, made)
    if not difference <= TOLERANCE:
        raise InvalidInput(
            reason,
            given=say("the rebuilt model's logits differ by {difference}", difference=f"{difference:.2g}"),
            right=say("the plan itself, by `glassworks surgery`"),
        )
    return made


def _config_of(config: Any, plan: Plan, depth: int) -> Any:
    """The config with another number of layers; every list with one entry a layer follows the plan."""
    plain: dict[str, Any] = copy.deepcopy(config.to_dict())
    names = [name for name, value in plain.items() if _counts_layers(name) and value == depth]
    # A library's own name for the number of layers (`n_layer`) and the standard one are the same field.
    if not names:
        raise ValueError(f"no field of the config holds its number of layers, {depth}")
    for name in names:
        plain[name] = plan.layer_runs
    for name, value in plain.items():
        if isinstance(value, list) and len(cast(list[Any], value)) == depth:
            plain[name] = [value[layer] for layer in plan.executions]
    if isinstance(plain.get("transformer"), dict):
        spec = plain["transformer"]
        spec["depth"] = plan.layer_runs
        for name, value in spec.items():
            if isinstance(value, list) and len(cast(list[Any], value)) == depth:
                spec[name] = [value[layer] for layer in plan.executions]
    return type(config).from_dict(plain)


def _counts_layers(name: str) -> bool:
    return bool(re.fullmatch(r"(num_hidden_layers|n_layers?|num_layers|num_decoder_layers|decoder_layers)", name))


def _weights_of(weights: Mapping[str, Tensor], plan: Plan, paths: Sequence[str]) -> dict[str, Tensor]:
    """The state dict with the weights of each execution's layer at its place."""
    stack = paths[0].rpartition(".")[0]
    found = {name: tensor for name, tensor in weights.items() if not any(name.startswith(f"{path}.") for path in paths)}
    for place, layer in enumerate(plan.executions):
        begin = f"{paths[layer]}."
        for name, tensor in weights.items():
            if name.startswith(begin):
                found[f"{stack}.{place}.{name.removeprefix(begin)}"] = tensor
    return found


def _fill(made: nn.Module, weights: Mapping[str, Tensor], model: nn.Module) -> None:
    """Copies weights, and the buffers that no state dict holds (rotary tables), into a model without any."""
    # Each place gets a copy: two layers of one plan may be trained apart afterwards.
    made.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, strict=True, assign=True)
    known = dict(model.named_buffers())
    for name, buffer in made.named_buffers():
        if name not in weights and name in known:
            buffer.data = known[name].data.clone()
    cast(Any, made).tie_weights()


def _difference(subject: Subject, plan: Plan, stack: str, made: nn.Module) -> float:
    """The largest logit difference between the rebuilt model and the plan, over the largest logit, on a few tokens."""
    probe = TokenBatch(default_probe(subject.model))
    with torch.no_grad():
        with operated(subject, plan, stack=stack):
            wanted = subject.forward(probe)
        got = Subject(made, subject.anatomy).forward(probe)
    return float((got - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))
