"""The optimiser of a training, with the parameters that learn at a pace of their own."""

import fnmatch
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.training.spec import AdamW, Sgd, TrainingSpec


def build_optimiser(spec: TrainingSpec, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser; each of its groups of parameters has a `factor` on the rate of the schedule.

    Raises InvalidInput for a pace whose pattern matches no parameter.
    """
    chosen = spec.optimiser
    groups: list[dict[str, Any]] = []
    for pace in (*spec.paces, None):
        taken = {id(p) for group in groups for p in group["params"]}
        pattern = "*" if pace is None else pace.pattern
        members = [p for n, p in parameters.items() if id(p) not in taken and fnmatch.fnmatch(n, pattern)]
        if pace is not None and not members:
            raise InvalidInput(
                say("no parameter has a name like {pattern}", pattern=pace.pattern),
                right=say("a pattern over names as {example}", example=next(iter(parameters))),
            )
        decay = chosen.weight_decay if pace is None or pace.weight_decay is None else pace.weight_decay
        if members:
            groups.append({"params": members, "factor": 1.0 if pace is None else pace.factor, "weight_decay": decay})
    match chosen:
        case Sgd(rate=rate, momentum=momentum):
            return torch.optim.SGD(groups, lr=rate, momentum=momentum)
        case AdamW(rate=rate, betas=betas, epsilon=epsilon):
            return torch.optim.AdamW(groups, lr=rate, betas=betas, eps=epsilon)
