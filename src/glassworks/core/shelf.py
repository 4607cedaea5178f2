"""Shelf: the explicit list of one room's variants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from glassworks.core.errors import InvalidSpec, UnknownName
from glassworks.core.spec import Spec
from glassworks.core.text import say

S = TypeVar("S", bound=Spec, covariant=True)


class Shelf(Generic[S]):
    """All variants of a room, by kind: `MIXERS = Shelf("mixer", Softmax, Linear)` is the registration."""

    def __init__(self, room: str, *variants: type[S]) -> None:
        self.room = room
        self._variants = {str(variant.model_fields["kind"].default): variant for variant in variants}

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds on this shelf, in the order they were listed."""
        return tuple(self._variants)

    def __iter__(self) -> Iterator[type[S]]:
        return iter(self._variants.values())

    def __getitem__(self, kind: str) -> type[S]:
        """The variant of this kind; an unknown one raises UnknownName with the nearest."""
        if kind not in self._variants:
            raise UnknownName(self.room, kind, self._variants)
        return self._variants[kind]

    def parse(self, found: object) -> S:
        """A spec from plain data with a `kind`."""
        if not isinstance(found, dict) or "kind" not in found:
            raise InvalidSpec(
                say("a {room} needs a kind", room=self.room),
                given=found,
                right=say("one of {known}", known=", ".join(self.kinds)),
            )
        return self[str(found["kind"])].parse(found)
