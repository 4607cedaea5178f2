"""The text form of a plan, read: every mistake is named with its place and a cure.

plan := item+ (blanks or commas between)    item := [gain "*"] atom ["x" count]
atom := range | ["sum" | "mean"] "(" plan ("|" plan)* ")"      range := number [".." [number]]  (also 4-7)
"""

from __future__ import annotations

import re
from typing import NoReturn

from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.surgery.plans import Combine, Layer, Stage, parallel

MOST_STAGES = 100_000
# A plan of a person has two or three; each costs Python several calls.
DEEPEST_NESTING = 40
NUMBER = re.compile(r"\d+")
DECIMAL = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+)\s*\*")
RANGE = re.compile(r"\.\.|-|–|…")
NAME = re.compile(r"[A-Za-z]+")


def parse(text: str, depth: int | None) -> tuple[Stage, ...]:
    """The stages of a plan's text; InvalidInput shows the text with a mark before the mistake."""
    reader = _Reader(text, depth)
    return reader.plan(closing=False)


class _Reader:
    def __init__(self, text: str, depth: int | None) -> None:
        self.text = text
        self.depth = depth
        self.at = 0
        self.open = 0

    def plan(self, *, closing: bool) -> tuple[Stage, ...]:
        """Items up to the end, or up to `|` or `)` inside parentheses."""
        begin, stages = self.at, list[Stage]()
        while True:
            self.skip(" \t\r\n,;")
            if self.at >= len(self.text):
                break
            sign = self.text[self.at]
            if sign in "|)]":
                if not closing:
                    self.wrong(
                        say("there is no open parenthesis here"), say("a parallel set in parentheses, such as (4 | 5)")
                    )
                break
            stages += self.item()
            if len(stages) > MOST_STAGES:
                self.wrong(say("the plan is too long"), say("at most {count} layer runs", count=MOST_STAGES))
        if not stages:
            self.at = begin if closing else 0
            what = say("a branch of this parallel set is empty") if closing else say("the plan is empty")
            self.wrong(what, say("layer numbers, such as {example}", example="0..3 (4 | 5)x2 6..11"))
        return tuple(stages)

    def item(self) -> tuple[Stage, ...]:
        gain = self.gain()
        begin = self.at
        name = self.word()
        if self.here() in ("(", "["):
            stages = self.group(self.combine(name, begin), gain)
        elif name:
            self.at = begin
            self.wrong(
                say("{word} is no part of a plan", word=name),
                say("layer numbers, ranges such as 0..3, parallel sets such as (4 | 5), repeats such as x3"),
            )
        else:
            stages = self.range()
            if gain != 1.0:
                stages = tuple(scaled for stage in stages for scaled in parallel([(stage,)], "mean", gain))
        return stages * self.times()

    def group(self, combine: Combine, gain: float) -> tuple[Stage, ...]:
        opening = self.at
        self.open += 1
        if self.open > DEEPEST_NESTING:
            self.wrong(
                say("these parentheses are nested too deeply"), say("at most {count} levels", count=DEEPEST_NESTING)
            )
        self.at += 1
        branches = [self.plan(closing=True)]
        while self.here() == "|":
            self.at += 1
            branches.append(self.plan(closing=True))
        if self.here() != {"(": ")", "[": "]"}[self.text[opening]]:
            self.at = opening
            self.wrong(say("this parenthesis is never closed"), say("a closing parenthesis after the set"))
        self.at += 1
        self.open -= 1
        if len(set(branches)) < len(branches):
            self.at = opening
            self.wrong(
                say("a parallel set names the same branch twice"), say("each branch once; use a gain for more weight")
            )
        if len(branches) == 1 and gain == 1.0:
            return branches[0]
        return parallel(branches, combine, gain)

    def range(self) -> tuple[Stage, ...]:
        begin = self.at
        first = self.layer()
        mark = RANGE.match(self.text, self.at)
        if mark is None:
            return (Layer(first),)
        self.at = mark.end()
        if NUMBER.match(self.text, self.at):
            last = self.layer()
        elif self.depth is not None:
            last = self.depth - 1
        else:
            self.wrong(say("the end of this range is missing"), say("a layer number after the dots"))
        if abs(last - first) >= MOST_STAGES:
            self.at = begin
            self.wrong(say("the plan is too long"), say("at most {count} layer runs", count=MOST_STAGES))
        step = 1 if last >= first else -1
        return tuple(Layer(number) for number in range(first, last + step, step))

    def layer(self) -> int:
        begin = self.at
        number = self.number()
        if self.depth is not None and number >= self.depth:
            self.at = begin
            self.wrong(
                say("this model has no layer {number}", number=number), say("layers 0 to {last}", last=self.depth - 1)
            )
        return number

    def number(self) -> int:
        found = NUMBER.match(self.text, self.at)
        if found is None:
            self.wrong(
                say("{sign} is no part of a plan", sign=self.here() or say("the end")),
                say("layer numbers, ranges such as 0..3, parallel sets such as (4 | 5), repeats such as x3"),
            )
        if len(found.group()) > 6:
            self.wrong(say("this model has no layer {number}", number=f"{found.group()[:6]}…"), say("a layer number"))
        self.at = found.end()
        return int(found.group())

    def gain(self) -> float:
        found = DECIMAL.match(self.text, self.at)
        if found is None:
            return 1.0
        begin, self.at = self.at, found.end()
        self.skip(" ")
        value = float(found.group(1))
        if not 0.0 <= value < 1e6:
            self.at = begin
            self.wrong(say("this gain is out of range"), say("a factor between 0 and a million"))
        return value

    def times(self) -> int:
        begin = self.at
        self.skip(" ")
        if self.here() not in ("x", "×", "X"):
            self.at = begin
            return 1
        self.at += 1
        if not NUMBER.match(self.text, self.at):
            self.wrong(say("how many times is missing"), say("a number after x, such as x3"))
        count = self.number()
        if count == 0 or count > MOST_STAGES:
            self.at = begin
            self.wrong(say("a repeat needs a count of at least 1"), say("a number after x, such as x3"))
        return count

    def combine(self, name: str, begin: int) -> Combine:
        match name.lower():
            case "" | "mean":
                return "mean"
            case "sum":
                return "sum"
            case _:
                self.at = begin
                self.wrong(say("{word} is no way to combine branches", word=name), say("mean or sum"))

    def word(self) -> str:
        found = NAME.match(self.text, self.at)
        if found is None or found.group() in ("x", "X"):
            return ""
        self.at = found.end()
        self.skip(" ")
        return found.group()

    def here(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def skip(self, signs: str) -> None:
        while self.at < len(self.text) and self.text[self.at] in signs:
            self.at += 1

    def wrong(self, mistake: Text, right: Text) -> NoReturn:
        shown = f"{self.text[: self.at]}▶{self.text[self.at :]}" if self.text.strip() else '""'
        raise InvalidInput(
            say("mistake in the plan at position {position}: {mistake}", position=self.at, mistake=mistake),
            given=shown,
            right=right,
        )
