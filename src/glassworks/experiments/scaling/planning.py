"""Plans of a training: how to split a budget, what it costs on which machines, and what running the model adds (lifecycle.md 5, 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import say
from glassworks.experiments.scaling.laws import (
    BITS_PER_BYTE,
    FLOP_PER_PARAMETER_AND_TOKEN,
    FLOP_PER_PARAMETER_READ,
    Law,
)

SECONDS_PER_HOUR, HOURS_PER_DAY = 3600.0, 24.0
# Bytes of a parameter: in a file of sixteen bits; while AdamW trains it with sixteen-bit products (weight and gradient in
# sixteen bits, weight and two moments in thirty-two).
BYTES_IN_FILE, BYTES_IN_TRAINING = 2, 16
# Bytes of text that a token stands for: ten terabytes for two trillion tokens (lifecycle.md 4).
BYTES_PER_TOKEN = 5.0
# The share of a device's memory that weights, gradients and moments may take; activations need the rest.
USABLE = 0.7
# Sizes that are tried between a fiftieth of the best one for training and itself.
TRIED = 400
SMALLEST_SHARE = 0.02


@dataclass(frozen=True)
class Machine:
    """An accelerator: operations per second in sixteen bits (dense, as its maker states them), and bytes of memory."""

    operations_per_second: float
    memory: float


MACHINES: Mapping[str, Machine] = {
    "v100": Machine(125e12, 32e9),
    "a100": Machine(312e12, 80e9),
    "h100": Machine(989e12, 80e9),
    "h200": Machine(989e12, 141e9),
    "b200": Machine(2250e12, 192e9),
    "l40s": Machine(362e12, 48e9),
    "rtx4090": Machine(165e12, 24e9),
    "mi300x": Machine(1307e12, 192e9),
    "tpu-v4": Machine(275e12, 32e9),
}


@dataclass(frozen=True)
class Request:
    """What is asked: a budget, or a size, or data, or two of them; and the machines."""

    flop: int | float | None = None
    """Operations of the training."""
    gpu_hours: int | float | None = None
    """The same as hours of one machine."""
    parameters: int | float | None = None
    tokens: int | float | None = None
    gpu: str = "h100"
    utilisation: int | float = 0.4
    """Share of the stated operations per second that a training reaches."""
    gpus: int = 1
    """Machines that work together."""
    inference_tokens: int | float = 0.0
    """Tokens that the finished model will read and write."""

    @property
    def machine(self) -> Machine:
        """The machine of that name; raises UnknownName."""
        if self.gpu not in MACHINES:
            raise UnknownName("gpu", self.gpu, MACHINES)
        return MACHINES[self.gpu]

    @property
    def speed(self) -> float:
        """Operations per second that one machine reaches."""
        return self.machine.operations_per_second * self.utilisation

    def check(self) -> None:
        """Raises InvalidInput or UnknownName for what cannot be planned."""
        named = {
            "flops": self.flop, "gpu-hours": self.gpu_hours, "parameters": self.parameters, "tokens": self.tokens,
            "gpus": float(self.gpus), "utilisation": self.utilisation,
        }  # fmt: skip
        for name, value in named.items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidInput(say("{name} must be above 0", name=name), given=value)
        if self.utilisation > 1:
            raise InvalidInput(
                say("no machine does more than it can"), given=self.utilisation,
                right=say("a utilisation between 0 and 1, for example 0.4"),
            )  # fmt: skip
        if not (math.isfinite(self.inference_tokens) and self.inference_tokens >= 0):
            raise InvalidInput(say("{name} must be above 0", name="inference-tokens"), given=self.inference_tokens)
        _ = self.machine
        budget = sum(value is not None for value in (self.flop, self.gpu_hours))
        sides = sum(value is not None for value in (self.parameters, self.tokens))
        if budget + sides == 0:
            raise InvalidInput(
                say("there is nothing to plan with"),
                right=say("a budget (--flops or --gpu-hours), a size (--parameters), data (--tokens), or two of the three"),
                next_command="glassworks plan --flops 1e21",
            )  # fmt: skip
        if budget == 2 or budget + sides > 2:
            raise InvalidInput(
                say("budget, size and data determine each other: 6 N D operations"),
                right=say("two of the three at most"),
            )


@dataclass(frozen=True)
class Split:
    """How a budget is spent."""

    parameters: int | float
    tokens: int | float
    loss: float
    unit: str

    @property
    def flop(self) -> int | float:
        """Operations of the training."""
        return FLOP_PER_PARAMETER_AND_TOKEN * self.parameters * self.tokens

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {
            "parameters": self.parameters, "tokens": self.tokens, "tokens_per_parameter": self.tokens / self.parameters,
            "operations": self.flop, "loss": self.loss, "unit": self.unit,
        }  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a training of a size takes on the machines."""

    gpu_hours: int | float
    days: float
    """With all machines at once."""
    file_bytes: int | float
    """Of the parameters in sixteen bits."""
    training_bytes: int | float
    """Of weights, gradients and moments."""
    fewest_gpus: int
    """Machines whose memory holds these."""
    text_bytes: float
    """Of text, at five bytes a token; a model of bytes reads as many as it has tokens."""

    def to_json(self) -> dict[str, int | float]:
        """Plain data."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Running:
    """A smaller model of equal loss, for which training and running together cost least."""

    split: Split
    together: int | float
    """Operations of its training and of running it."""
    of_best: int | float
    """The same for the model that is best for training alone."""

    @property
    def saved(self) -> float:
        """Share of the operations that the smaller model saves."""
        return 1 - self.together / self.of_best

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return self.split.to_json() | {"together": self.together, "of_best": self.of_best, "saved": self.saved}


@dataclass(frozen=True)
class Plan:
    """A plan under one law: the best split of the compute, the one that was asked for, and their costs."""

    request: Request
    law: Law
    best: Split
    chosen: Split
    """What was asked for; the best where only a budget was given."""
    cost: Cost
    running: Running | None


def plan(request: Request, law: Law) -> Plan:
    """The plan of a request; raises InvalidInput or UnknownName where there is none."""
    request.check()
    flop = budget_of(request, law)
    best = split_of(law, law.best_parameters(flop), law.best_tokens(flop))
    chosen = best
    if request.parameters is not None:
        chosen = split_of(law, request.parameters, flop / (FLOP_PER_PARAMETER_AND_TOKEN * request.parameters))
    elif request.tokens is not None:
        chosen = split_of(law, flop / (FLOP_PER_PARAMETER_AND_TOKEN * request.tokens), request.tokens)
    running = for_running(law, best, request.inference_tokens) if request.inference_tokens else None
    return Plan(request, law, best, chosen, cost_of(request, chosen), running)


def budget_of(request: Request, law: Law) -> int | float:
    """Operations: as given, or of the size and data, or those for which the size or the data alone would be best."""
    if request.flop is not None:
        return request.flop
    if request.gpu_hours is not None:
        return request.gpu_hours * SECONDS_PER_HOUR * request.speed
    if request.parameters is not None and request.tokens is not None:
        return FLOP_PER_PARAMETER_AND_TOKEN * request.parameters * request.tokens
    # Best size and data are powers of the budget, so that one known budget gives all others.
    if request.parameters is not None:
        return (request.parameters / law.best_parameters(1.0)) ** (1 / law.size_power)
    assert request.tokens is not None, "something was asked"
    return (request.tokens / law.best_tokens(1.0)) ** (1 / law.data_power)


def split_of(law: Law, parameters: int | float, tokens: int | float) -> Split:
    """A size and data with the loss that the law foretells."""
    return Split(parameters, tokens, law.loss(parameters, tokens), law.unit)


def cost_of(request: Request, split: Split) -> Cost:
    """Hours and memory on the machines of the request."""
    hours = split.flop / request.speed / SECONDS_PER_HOUR
    training = BYTES_IN_TRAINING * split.parameters
    return Cost(
        hours, hours / request.gpus / HOURS_PER_DAY, BYTES_IN_FILE * split.parameters, training,
        math.ceil(training / (USABLE * request.machine.memory)), (1.0 if split.unit == BITS_PER_BYTE else BYTES_PER_TOKEN) * split.tokens,
    )  # fmt: skip


def for_running(law: Law, best: Split, inference_tokens: int | float) -> Running:
    """The size for which training to the loss of `best` and running it for so many tokens together cost least.

    Reading or writing a token costs two operations a parameter, so the more a model is run the smaller it should be, and the
    longer it should be trained (LLaMA's argument).
    """

    def together(split: Split) -> int | float:
        return split.flop + FLOP_PER_PARAMETER_READ * split.parameters * inference_tokens

    found = best
    for step in range(TRIED + 1):
        parameters = best.parameters * SMALLEST_SHARE ** (step / TRIED)
        tokens = law.tokens_for(best.loss, parameters)
        if not math.isfinite(tokens):
            break
        tried = split_of(law, parameters, tokens)
        found = min(found, tried, key=together)
    return Running(found, together(found), together(best))
