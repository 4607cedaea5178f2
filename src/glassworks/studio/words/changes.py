"""Small operations for the length of a pass: heads silenced, layers skipped, tokens replaced by other words."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.edits import HookPoint, hooked
from glassworks.anatomy.sites import NameFilter, Site, why_missing
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.instruments.replacing import Replacement

Method = Literal["zero", "mean"]
Stack = Literal["", "encoder", "cross"]
_HEAD = re.compile(r"(E|C|)L(\d+)H(\d+)")
_LAYER = re.compile(r"(E|)L?(\d+)")
_STACKS: dict[str, Stack] = {"": "", "E": "encoder", "C": "cross"}
LETTERS: dict[Stack, str] = {"": "", "encoder": "E", "cross": "C"}


@dataclass(frozen=True)
class Head:
    """A head: of the layers that write, of an encoder beside them, or of their attention to it (cross)."""

    layer: int
    head: int
    stack: Stack = ""

    @property
    def site(self) -> Site:
        """Where its result stands before it is mixed with the others'."""
        if self.stack == "cross":
            return Site("cross.z", self.layer)
        return Site("mixer.z", self.layer, stack=self.stack)

    def __str__(self) -> str:
        return f"{LETTERS[self.stack]}L{self.layer}H{self.head}"


def heads_of(subject: Subject, stack: Stack = "") -> list[Head]:
    """All heads of a stack that can be silenced, layer by layer."""
    anatomy, found = subject.anatomy, list[Head]()
    encoder = () if anatomy.encoder is None else anatomy.encoder.layers
    for number, layer in enumerate(encoder if stack == "encoder" else anatomy.layers):
        cross = layer.cross
        count = layer.heads if stack != "cross" else 0 if cross is None else cross.heads
        each = [Head(number, head, stack) for head in range(count)]
        found += each if each and why_missing(each[0].site, anatomy) is None else []
    return found


def parse_heads(subject: Subject, names: Sequence[str]) -> list[Head]:
    """Heads by name, L0H1, of an encoder EL0H1, of the attention to it CL0H1. Raises InvalidInput for one that is not there."""
    known = {str(head): head for stack in LETTERS for head in heads_of(subject, stack)}
    for name in names:
        if name not in known or _HEAD.fullmatch(name) is None:
            first, last = (next(iter(known)), next(reversed(known))) if known else ("-", "-")
            raise InvalidInput(
                say("this model has no head {name} that could be silenced", name=name),
                right=say("{first} to {last}", first=first, last=last),
            )
    return [known[name] for name in dict.fromkeys(names)]


def parse_layers(subject: Subject, names: Sequence[str]) -> list[tuple[Stack, int]]:
    """Layers by number, of an encoder beside them E0. Raises InvalidInput for one that is not there."""
    found: list[tuple[Stack, int]] = []
    for name in dict.fromkeys(names):
        match = _LAYER.fullmatch(name)
        stack: Stack = _STACKS[match[1]] if match else ""
        encoder = subject.anatomy.encoder
        depth = subject.anatomy.depth if stack == "" else 0 if encoder is None else len(encoder.layers)
        if match is None or int(match[2]) >= depth:
            raise InvalidInput(
                say("this model has no layer {number}", number=name), right=say("0 to {last}", last=max(0, depth - 1))
            )
        found.append((stack, int(match[2])))
    return found


def silenced(heads: Sequence[Head], method: Method, means: dict[Site, Tensor]) -> list[Replacement]:
    """What stands in the place of heads: zero, or each head's mean over the text as the unchanged model had it."""
    made: list[Replacement] = []
    for head in heads:
        result = means[head.site]
        value = result[head.head] if method == "mean" else torch.zeros_like(result[head.head])
        made.append(Replacement(head.site, (slice(None), head.head), value))
    return made


def means_of(subject: Subject, batch: TokenBatch, heads: Sequence[Head]) -> dict[Site, Tensor]:
    """The mean result of each head over the positions of a text, [head, head width], by its layer's site."""
    sites = list(dict.fromkeys(head.site for head in heads))
    if not sites:
        return {}
    with torch.no_grad():
        _, kept = subject.run_with_cache(batch, [site.name for site in sites])
        return {site: kept[site.name][0].mean(0) for site in sites}


@contextmanager
def changed(
    subject: Subject, replacements: Sequence[Replacement], skipped: Sequence[tuple[Stack, int]]
) -> Generator[Subject]:
    """The model with heads replaced and layers handing on what they were given, for the length of a `with`."""
    hooks: list[tuple[NameFilter, _Put | _Note | _HandOn]] = [(one.site.name, _Put(one)) for one in replacements]
    for stack, layer in skipped:
        place: Literal["", "encoder"] = "encoder" if stack == "encoder" else ""
        note = _Note()
        hooks += [(Site("in", layer, stack=place).name, note), (Site("out", layer, stack=place).name, _HandOn(note))]
    with hooked(subject, hooks):
        yield subject


class _Put:
    def __init__(self, replacement: Replacement) -> None:
        self._replacement = replacement

    def __call__(self, tensor: Tensor, hook: HookPoint) -> Tensor:
        new = tensor.clone()
        new[(slice(None), *self._replacement.place)] = self._replacement.value.to(new)
        return new


class _Note:
    """Keeps what a layer is given."""

    def __init__(self) -> None:
        self.stream: Tensor | None = None

    def __call__(self, tensor: Tensor, hook: HookPoint) -> None:
        self.stream = tensor


class _HandOn:
    """Puts what the layer was given in the place of what it made."""

    def __init__(self, note: _Note) -> None:
        self._note = note

    def __call__(self, tensor: Tensor, hook: HookPoint) -> Tensor | None:
        return self._note.stream
