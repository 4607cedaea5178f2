"""The nonlinearities of feed-forwards, and the step that applies one number by number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from glassworks.core.text import Text
from glassworks.studio.walk.shown import Index, Shown, Source, exact, written
from glassworks.studio.walk.steps import Step, Values


@dataclass(frozen=True)
class Curve:
    """A nonlinearity: its name, its formula, the function, and Python that computes it."""

    name: str
    formula: str
    function: Callable[[Tensor], Tensor]
    python: str


CURVES: Final[tuple[Curve, ...]] = (
    Curve("ReLU", "max(0, x)", F.relu, "F.relu({x})"),
    Curve("GELU", "x · Φ(x)", F.gelu, "F.gelu({x})"),
    Curve(
        "GELU (tanh)",
        "x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))",
        lambda x: F.gelu(x, approximate="tanh"),
        'F.gelu({x}, approximate="tanh")',
    ),
    Curve("SiLU", "x / (1 + e^(−x))", F.silu, "F.silu({x})"),
    Curve(
        "quick GELU",
        "x / (1 + e^(−1.702 x))",
        lambda x: x * torch.sigmoid(1.702 * x),
        "{x} * torch.sigmoid(1.702 * {x})",
    ),
    Curve("ReLU²", "max(0, x)²", lambda x: F.relu(x).square(), "F.relu({x}).square()"),
    Curve("tanh", "tanh(x)", torch.tanh, "torch.tanh({x})"),
)


@dataclass(frozen=True, eq=False)
class Bend(Step):
    """A nonlinearity, number by number; with `times` the result is multiplied by another part (a gate)."""

    source: str
    curve: Curve
    times: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What is bent, and what it is multiplied by."""
        return (self.source,) if self.times is None else (self.source, self.times)

    def compute(self, of: Values) -> Tensor:
        """All numbers."""
        bent = self.curve.function(of(self.source))
        return bent if self.times is None else bent * of(self.times)

    def show(self, of: Values, index: Index) -> Shown:
        """The number before and after."""
        x = exact(of(self.source)[index])
        bent = float(self.curve.function(x))
        code = [f"x = {of.look(self.source, written(index))}", f"y = {self.curve.python.format(x='x')}"]
        numbers: list[tuple[Text | str, float]] = [("x", float(x)), (f"f(x), {self.curve.name}", bent)]
        value, formula = bent, f"f(x) = {self.curve.formula}"
        if self.times is not None:
            factor = float(exact(of(self.times)[index]))
            numbers.append(("u", factor))
            value, formula = bent * factor, f"f(g) · u,  f(x) = {self.curve.formula}"
            code[1] += f" * {of.look(self.times, written(index))}"
        line = self.curve.python.format(x="x") if self.times is None else f"{self.curve.python.format(x='gate')} * up"
        return Shown(
            value,
            formula,
            line,
            tuple(code),
            reads=self.names,
            numbers=tuple(numbers),
            sources=tuple(Source(name, index) for name in self.names),
        )
