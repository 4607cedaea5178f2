"""Steps: how one tensor of a pass is made of others. Each computes its tensor again, and shows one of its numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from glassworks.core.text import Text, say
from glassworks.studio.walk.shown import (
    Index,
    Shown,
    Source,
    Term,
    exact,
    in_python,
    largest_terms,
    ravelled,
    unravelled,
    written,
)


class Values(Protocol):
    """The tensors of a pass by the names of their parts, without the batch."""

    def __call__(self, name: str) -> Tensor:
        """The tensor of a part."""
        ...

    def look(self, name: str, index: str) -> str:
        """Python that takes numbers of a part out of the library's cache; empty where it keeps none of them."""
        ...


@dataclass(frozen=True, eq=False)
class Step(ABC):
    """How a tensor is made. `names` are the parts that it is made of."""

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The parts it reads."""

    @abstractmethod
    def compute(self, of: Values) -> Tensor:
        """The whole tensor again."""

    @abstractmethod
    def show(self, of: Values, index: Index) -> Shown:
        """One number again, in float64, with its formula and sources."""


@dataclass(frozen=True, eq=False)
class Lookup(Step):
    """A row of a table: the token's, or its position's."""

    path: str
    table: Tensor = field(repr=False)
    rows: Tensor = field(repr=False)
    """The row of each position."""
    factor: float = 1.0
    symbol: str = "E[token]"
    by: str = "token"

    @property
    def names(self) -> tuple[str, ...]:
        """None: tables are learned, or written down once."""
        return ()

    def compute(self, of: Values) -> Tensor:
        """The rows."""
        return self.table[self.rows] * self.factor

    def show(self, of: Values, index: Index) -> Shown:
        """The number in the table."""
        place, column = index
        row = int(self.rows[place])
        found = float(exact(self.table[row, column]))
        kind = say("row of the table") if self.by == "token" else say("row of the table of positions")
        numbers: list[tuple[Text | str, float]] = [(kind, row), (say("column"), column)]
        scaled = "" if self.factor == 1.0 else f" * {self.factor!r}"
        if scaled:
            numbers.append((say("factor"), self.factor))
        holder = f'model.get_submodule("{self.path}")'
        return Shown(
            found * self.factor,
            f"{self.symbol}{'' if not scaled else ' · c'}",
            f"{in_python(self.path)}({'ids' if self.by == 'token' else 'positions'})",
            (f"y = {holder}.weight[{row}, {column}]{scaled}",),
            numbers=tuple(numbers),
        )


@dataclass(frozen=True, eq=False)
class Linear(Step):
    """A learned map of each position's numbers; `rows` are the rows of the matrix that make this part, in its order."""

    source: str
    path: str
    matrix: Tensor = field(repr=False)
    """[output, input]."""
    bias: Tensor | None = field(repr=False)
    rows: Tensor | None = field(repr=False)
    shape: tuple[int, ...]
    """Sizes behind the position."""
    symbol: str = "W x"
    is_transposed: bool = False
    """Whether the module keeps the matrix as [input, output]."""
    factor: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """What is multiplied."""
        return (self.source,)

    def compute(self, of: Values) -> Tensor:
        """All rows times all positions."""
        x = of(self.source).flatten(1) * self.factor
        matrix = self.matrix if self.rows is None else self.matrix[self.rows]
        bias = self.bias if self.bias is None or self.rows is None else self.bias[self.rows]
        return F.linear(x, matrix, bias).reshape(-1, *self.shape)

    def show(self, of: Values, index: Index) -> Shown:
        """The dot product, its largest terms first."""
        place, *inside = index
        flat = ravelled(inside, self.shape)
        row = flat if self.rows is None else int(self.rows[flat])
        given = of(self.source)
        x, w = exact(given[place].flatten()) * self.factor, exact(self.matrix[row])

        def naming(column: int) -> tuple[tuple[str, str], tuple[Source | None, Source | None]]:
            at = (place, *unravelled(column, given.shape[1:]))
            return (f"W[{row}, {column}]", f"x[{written(at)}]"), (None, Source(self.source, at))

        terms, rest = largest_terms(w, x, naming)
        bias = 0.0 if self.bias is None else float(exact(self.bias[row]))
        flatten = ".flatten()" if given.ndim > 2 else ""
        scaled = "" if self.factor == 1.0 else f" * {self.factor!r}"
        weight = f"[:, {row}]" if self.is_transposed else f"[{row}]"
        holder = f'model.get_submodule("{self.path}")'
        return Shown(
            float(x @ w) + bias,
            self.symbol,
            f"{in_python(self.path)}(x)",
            (
                f"x = {of.look(self.source, str(place))}{flatten}{scaled}",
                f"y = x @ {holder}.weight{weight}" + ("" if self.bias is None else f" + {holder}.bias[{row}]"),
            ),
            reads=(self.source,),
            terms=terms,
            count=len(w),
            rest=rest,
            numbers=((say("bias"), bias),) if self.bias is not None else (),
            sources=tuple(one for term in terms for one in term.sources if one is not None)[:3],
        )


@dataclass(frozen=True, eq=False)
class Norm(Step):
    """LayerNorm or RMSNorm of each position (or of each head) by itself."""

    source: str
    path: str
    kind: str
    """layer or rms."""
    gain: Tensor | None = field(repr=False)
    bias: Tensor | None = field(repr=False)
    epsilon: float
    gain_offset: float = 0.0
    """1 where the module keeps the gain less one (Gemma)."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is normalised."""
        return (self.source,)

    def _parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean(-1, keepdim=True) if self.kind == "layer" else torch.zeros((), dtype=x.dtype)
        return mean, (x - mean).square().mean(-1, keepdim=True)

    def compute(self, of: Values) -> Tensor:
        """All positions."""
        x = of(self.source).float()
        mean, spread = self._parts(x)
        y = (x - mean) * torch.rsqrt(spread + self.epsilon)
        y = y if self.gain is None else y * (self.gain + self.gain_offset)
        return y if self.bias is None else y + self.bias

    def show(self, of: Values, index: Index) -> Shown:
        """Mean, spread, gain and bias, and what they make of the number."""
        *before, column = index
        x = exact(of(self.source)[tuple(before)])
        mean, spread = self._parts(x)
        gain = 1.0 if self.gain is None else float(exact(self.gain[column])) + self.gain_offset
        bias = 0.0 if self.bias is None else float(exact(self.bias[column]))
        value = float((x[column] - mean) / (spread + self.epsilon).sqrt()) * gain + bias
        holder = f'model.get_submodule("{self.path}")'
        offset = "" if self.gain_offset == 0 else f"({self.gain_offset:g} + {holder}.weight[{column}])"
        times = "" if self.gain is None else f" * {offset or f'{holder}.weight[{column}]'}"
        plus = "" if self.bias is None else f" + {holder}.bias[{column}]"
        is_layer = self.kind == "layer"
        top = f"(x[{column}] - x.mean())" if is_layer else f"x[{column}]"
        under = "x.var(correction=0)" if is_layer else "x.square().mean()"
        numbers: list[tuple[Text | str, float]] = [("x", float(x[column]))]
        if is_layer:
            numbers += [(say("mean of x"), float(mean)), (say("variance of x"), float(spread))]
        else:
            numbers += [(say("mean of x²"), float(spread))]
        numbers += [("ε", self.epsilon)]
        if self.gain is not None:
            numbers.append((say("gain g"), gain))
        if self.bias is not None:
            numbers.append((say("bias b"), bias))
        return Shown(
            value,
            ("(x − mean) / √(variance + ε)" if is_layer else "x / √(mean(x²) + ε)")
            + (" · g" if self.gain is not None else "")
            + (" + b" if self.bias is not None else ""),
            f"{in_python(self.path)}(x)",
            (
                f"x = {of.look(self.source, written(before))}",
                f"y = {top} / ({under} + {self.epsilon!r}).sqrt(){times}{plus}",
            ),
            reads=(self.source,),
            numbers=tuple(numbers),
            sources=(Source(self.source, index),),
        )


@dataclass(frozen=True, eq=False)
class Sum(Step):
    """What several parts hold at the same place, added up."""

    parts: tuple[str, ...]
    symbol: str = "x + y"

    @property
    def names(self) -> tuple[str, ...]:
        """The terms."""
        return self.parts

    def compute(self, of: Values) -> Tensor:
        """The sum."""
        total = of(self.parts[0])
        for part in self.parts[1:]:
            total = total + of(part)
        return total

    def show(self, of: Values, index: Index) -> Shown:
        """Each term with its place."""
        values = [float(exact(of(part)[index])) for part in self.parts]
        sources = tuple(Source(part, index) for part in self.parts)
        terms = tuple(Term(value, (value,), (one.name,), (one,)) for value, one in zip(values, sources, strict=True))
        line = " + ".join(of.look(part, written(index)) for part in self.parts)
        return Shown(
            sum(values),
            self.symbol,
            self.symbol,
            (f"y = {line}",),
            reads=self.parts,
            terms=terms,
            count=len(terms),
            sources=sources,
        )


@dataclass(frozen=True, eq=False)
class Same(Step):
    """Another name of the same numbers."""

    source: str

    @property
    def names(self) -> tuple[str, ...]:
        """The other name."""
        return (self.source,)

    def compute(self, of: Values) -> Tensor:
        """The same tensor."""
        return of(self.source)

    def show(self, of: Values, index: Index) -> Shown:
        """The same number."""
        return Shown(
            float(exact(of(self.source)[index])),
            "x",
            "x",
            (f"y = {of.look(self.source, written(index))}",),
            reads=(self.source,),
            sources=(Source(self.source, index),),
            note=say("this is the same number under another name"),
        )


@dataclass(frozen=True, eq=False)
class Opaque(Step):
    """A part whose formula is not known here: what computed it is named, and what that read."""

    path: str
    kind: str
    source: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """What went in, where that is known."""
        return () if self.source is None else (self.source,)

    def compute(self, of: Values) -> Tensor:
        """Cannot be computed here."""
        raise NotImplementedError

    def show(self, of: Values, index: Index) -> Shown:
        """The module's name; no number is made up."""
        return Shown(
            float("nan"),
            "?",
            f"{in_python(self.path)}(x)" if self.path else "?",
            (),
            note=say(
                "computed inside {path} ({kind}), whose formula is not known here number by number",
                path=self.path or "-",
                kind=self.kind,
            ),
        )
