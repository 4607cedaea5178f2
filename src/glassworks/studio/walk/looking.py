"""Steps of attention: turning, dot products, scores, weights, and the mixing of values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glassworks.core.text import Text, say
from glassworks.studio.walk.shown import NAMED_TERMS, Index, Shown, Source, Term, exact, largest_terms, written
from glassworks.studio.walk.steps import Step, Values


@dataclass(frozen=True, eq=False)
class Turn(Step):
    """Pairs of a head's numbers turned by an angle that grows with the position (rotary positions)."""

    source: str
    cosines: Tensor = field(repr=False)
    """[position, turned width], as the model has them: each pair's value stands at both of its places."""
    sines: Tensor = field(repr=False)
    is_interleaved: bool = False
    """Whether neighbours are a pair; otherwise a number and the one half the width further."""

    @property
    def names(self) -> tuple[str, ...]:
        """What is turned."""
        return (self.source,)

    @property
    def width(self) -> int:
        """How many of a head's numbers are turned."""
        return self.cosines.shape[-1]

    def partner(self, column: int) -> tuple[int, float]:
        """The other number of the pair, and the sign of its sine."""
        if self.is_interleaved:
            return (column + 1, -1.0) if column % 2 == 0 else (column - 1, 1.0)
        half = self.width // 2
        return (column + half, -1.0) if column < half else (column - half, 1.0)

    def compute(self, of: Values) -> Tensor:
        """All heads."""
        x = of(self.source)
        turned, kept = x[..., : self.width], x[..., self.width :]
        pairs = [self.partner(column) for column in range(self.width)]
        other = turned[..., [at for at, _ in pairs]] * torch.tensor([sign for _, sign in pairs])
        out = turned * self.cosines[:, None] + other * self.sines[:, None]
        return torch.cat([out, kept], -1)

    def show(self, of: Values, index: Index) -> Shown:
        """The two terms of a turned number; one beyond the turned width is handed on."""
        place, head, column = index
        x = exact(of(self.source)[place, head])
        shape = of(self.source).shape
        read = f"x = {of.look(self.source, str(place))}.reshape({shape[1]}, {shape[2]})[{head}]"
        if column >= self.width:
            return Shown(
                float(x[column]),
                "x",
                "x",
                (read, f"y = x[{column}]"),
                reads=(self.source,),
                sources=(Source(self.source, index),),
                note=say("only the first {width} numbers of a head are turned", width=self.width),
            )
        other, sign = self.partner(column)
        cosine, sine = float(exact(self.cosines[place, column])), float(exact(self.sines[place, column]))
        first, second = Source(self.source, index), Source(self.source, (place, head, other))
        terms = (
            Term(float(x[column]) * cosine, (float(x[column]), cosine), (f"x[{column}]", "cos a"), (first, None)),
            Term(
                sign * float(x[other]) * sine,
                (float(x[other]), sign * sine),
                (f"x[{other}]", "−sin a" if sign < 0 else "sin a"),
                (second, None),
            ),
        )
        joint = "-" if sign < 0 else "+"
        angle = math.atan2(sine, cosine)
        return Shown(
            sum(term.value for term in terms),
            f"x[{column}] · cos a {'−' if sign < 0 else '+'} x[{other}] · sin a",
            "q * cos + rotate_half(q) * sin",
            (read, f"y = x[{column}] * {cosine!r} {joint} x[{other}] * {sine!r}"),
            reads=(self.source,),
            terms=terms,
            count=2,
            numbers=(
                (say("position"), place),
                (say("angle a, modulo a whole turn, in radians"), angle),
                ("cos a", cosine),
                ("sin a", sine),
            ),
            sources=(first, second),
        )


@dataclass(frozen=True, eq=False)
class Dots(Step):
    """The dot product of each query with each key of its head."""

    query: str
    key: str
    kv_head_of: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Queries and keys."""
        return (self.query, self.key)

    def compute(self, of: Values) -> Tensor:
        """All pairs of all heads."""
        keys = of(self.key)[:, list(self.kv_head_of)]
        return torch.einsum("ihd,jhd->hij", of(self.query).float(), keys.float())

    def show(self, of: Values, index: Index) -> Shown:
        """The products, largest first."""
        head, asks, answers = index
        kv = self.kv_head_of[head]
        q, k = exact(of(self.query)[asks, head]), exact(of(self.key)[answers, kv])

        def naming(at: int) -> tuple[tuple[str, str], tuple[Source | None, Source | None]]:
            return (f"q[{at}]", f"k[{at}]"), (Source(self.query, (asks, head, at)), Source(self.key, (answers, kv, at)))

        terms, rest = largest_terms(q, k, naming)
        return Shown(
            float(q @ k),
            "q · k",
            "q @ k.transpose(-1, -2)",
            (
                f"q = {of.look(self.query, f'{asks}, {head}')}",
                f"k = {of.look(self.key, f'{answers}, {kv}')}",
                "y = q @ k",
            ),
            reads=self.names,
            terms=terms,
            count=len(q),
            rest=rest,
            sources=tuple(one for term in terms[:2] for one in term.sources if one is not None),
            note=_shared(head, kv, self.kv_head_of),
        )


def _shared(head: int, kv: int, kv_head_of: tuple[int, ...]) -> Text | None:
    if len(set(kv_head_of)) == len(kv_head_of):
        return None
    return say("query head {head} reads key-value head {kv}, which it shares", head=head, kv=kv)


@dataclass(frozen=True, eq=False)
class Scores(Step):
    """Dot products times a factor, plus what distances add, without the future."""

    dots: str
    scale: float
    bias: Tensor | None = field(repr=False)
    """[head, query, key], where positions are told by it."""
    hidden: Tensor = field(repr=False)
    """[head or 1, query, key]: true where the query may not look."""
    width: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The dot products."""
        return (self.dots,)

    def compute(self, of: Values) -> Tensor:
        """All pairs."""
        scores = of(self.dots) * self.scale
        scores = scores if self.bias is None else scores + self.bias
        return scores.masked_fill(self.hidden, -math.inf)

    def show(self, of: Values, index: Index) -> Shown:
        """The factor, and the mask where it hides the pair."""
        head, asks, answers = index
        dot = float(exact(of(self.dots)[index]))
        is_root = math.isclose(self.scale, self.width**-0.5, rel_tol=1e-5)
        numbers: list[tuple[Text | str, float]] = [("q · k", dot), (say("scaled by"), self.scale)]
        value = dot * self.scale
        plus = ""
        if self.bias is not None:
            added = float(exact(self.bias[index]))
            numbers.append((say("what the distance adds"), added))
            value, plus = value + added, f" + {added!r}"
        note = None
        if bool(self.hidden.expand(*self.hidden.shape[-3:])[min(head, self.hidden.shape[0] - 1), asks, answers]):
            note, value = say("the mask hides this key from this query: −∞, and its weight is 0"), -math.inf
            plus = ' + float("-inf")'
        formula = f"q · k / √{self.width}" if is_root else "scale · q · k"
        query, key, kv = self._read(of, head)
        return Shown(
            value,
            formula + (" + b" if self.bias is not None else ""),
            f"q @ k.transpose(-1, -2) * {self.scale:.6g}" + (" + bias" if self.bias is not None else "") + " + mask",
            (
                f"q = {of.look(query, f'{asks}, {head}')}",
                f"k = {of.look(key, f'{answers}, {kv}')}",
                f"y = q @ k * {self.scale!r}{plus}",
            ),
            reads=(query, key),
            numbers=tuple(numbers),
            sources=(Source(self.dots, index),),
            note=note,
        )

    def _read(self, of: Values, head: int) -> tuple[str, str, int]:
        """Queries, keys and the key's head: dot products themselves are not kept by the library's capture."""
        stem = self.dots.removesuffix("dots")
        heads, kv_heads = of(f"{stem}q").shape[1], of(f"{stem}k").shape[1]
        return f"{stem}q", f"{stem}k", head * kv_heads // heads


@dataclass(frozen=True, eq=False)
class Softmax(Step):
    """Numbers of a row turned into shares that add up to 1."""

    source: str

    @property
    def names(self) -> tuple[str, ...]:
        """The row."""
        return (self.source,)

    def compute(self, of: Values) -> Tensor:
        """All rows."""
        return torch.softmax(of(self.source).float(), -1)

    def show(self, of: Values, index: Index) -> Shown:
        """The largest of the row, the sum of the exponentials, and the share."""
        *before, at = index
        row = exact(of(self.source)[tuple(before)])
        top = float(row.max())
        powers = (row - top).exp()
        total = float(powers.sum())
        order = powers.argsort(descending=True)[:NAMED_TERMS].tolist()
        terms = tuple(
            Term(
                float(powers[place]),
                (float(row[place]),),
                (f"s[{place}]",),
                (Source(self.source, (*before, int(place))),),
            )
            for place in order
            if float(powers[place]) > 0
        )
        return Shown(
            float(powers[at]) / total,
            "e^(s − max) / Σ e^(s − max)",
            "torch.softmax(s, dim=-1)",
            (
                f"s = {of.look(self.source, written(before))}",
                f"y = (s - s.max()).exp()[{at}] / (s - s.max()).exp().sum()",
            ),
            reads=(self.source,),
            terms=terms,
            count=int((powers > 0).sum()),
            rest=total - sum(term.value for term in terms),
            numbers=(
                ("s", float(row[at])),
                ("max", top),
                ("e^(s − max)", float(powers[at])),
                ("Σ e^(s − max)", total),
            ),
            sources=(Source(self.source, index),),
        )


@dataclass(frozen=True, eq=False)
class Mix(Step):
    """Values of the keys, weighted and added up, head by head."""

    weights: str
    value: str
    kv_head_of: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Weights and values."""
        return (self.weights, self.value)

    def compute(self, of: Values) -> Tensor:
        """All heads."""
        values = of(self.value)[:, list(self.kv_head_of)]
        return torch.einsum("hij,jhd->ihd", of(self.weights).float(), values.float())

    def show(self, of: Values, index: Index) -> Shown:
        """The tokens that gave most."""
        place, head, column = index
        kv = self.kv_head_of[head]
        weights, values = exact(of(self.weights)[head, place]), exact(of(self.value)[:, kv, column])

        def naming(at: int) -> tuple[tuple[str, str], tuple[Source | None, Source | None]]:
            first, second = Source(self.weights, (head, place, at)), Source(self.value, (at, kv, column))
            return (f"w[{at}]", f"v[{at}]"), (first, second)

        terms, rest = largest_terms(weights, values, naming)
        return Shown(
            float(weights @ values),
            "Σ w · v",
            "weights @ v",
            (
                f"w = {of.look(self.weights, f'{head}, {place}')}",
                f"v = {of.look(self.value, f':, {kv}, {column}')}",
                "y = w @ v",
            ),
            reads=self.names,
            terms=tuple(term for term in terms if term.factors[0] != 0),
            count=int((weights != 0).sum()),
            rest=rest,
            sources=tuple(one for term in terms[:2] for one in term.sources if one is not None),
            note=_shared(head, kv, self.kv_head_of),
        )
