"""The head of a GGUF file, walked through before a library maps the file: every length in it is a stranger's claim.

A library that maps a file ends the whole process where it reads past the file's end, so each tensor must lie within it.
The head itself is read, not mapped. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3,
little-endian; sizes of the number formats: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h.
"""

import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from glassworks.core.errors import BrokenFile
from glassworks.core.reading import check_regular
from glassworks.core.text import Text, say

MAGIC = b"GGUF"
VERSIONS = (2, 3)
STRING, ARRAY = 8, 9
# Bytes of a value by its type: integers, floats and truth values.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
INTEGERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
# Of these a library makes a list; heads and tokens are sizes, which it compares with the tensors.
COUNTS = ("block_count", "expert_count", "predict_layers")
MOST_SHARED_LAYERS = 256
MOST_DIMENSIONS, MOST_NESTED = 8, 2
# Numbers that a number format packs together, and the bytes that they take.
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 40),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66),
    17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54),
    35: (256, 66), 39: (32, 17), 40: (64, 36), 41: (128, 18),
}  # fmt: skip
ALIGNMENT, USUAL_ALIGNMENT = "general.alignment", 32


def check_gguf(path: Path) -> None:
    """Raises NotFound, InvalidInput, or BrokenFile where a length in the head, or a tensor, leads out of the file."""
    check_regular(path)
    size = path.stat().st_size
    if size < 24:
        raise _broken(path, say("it has {size} bytes", size=size))
    with path.open("rb") as file:
        _walk(_Head(path, file, size))


@dataclass(eq=False)
class _Head:
    """A place in the file."""

    path: Path
    file: BinaryIO
    size: int
    alignment: int = USUAL_ALIGNMENT
    names: set[bytes] = field(default_factory=set[bytes])

    def read(self, count: int) -> bytes:
        # A length in the head may be any: what is asked for is compared with what is there first.
        found = self.file.read(count) if count <= self.size else b""
        if len(found) < count:
            raise self._ended()
        return found

    def number(self, form: str) -> int:
        (found,) = struct.unpack(form, self.read(struct.calcsize(form)))
        return found

    def skip(self, count: int) -> None:
        if count > self.size - self.file.tell():
            raise self._ended()
        self.file.seek(count, os.SEEK_CUR)

    def string(self) -> bytes:
        return self.read(self.number("<Q"))

    def value(self, kind: int, depth: int = 0) -> int | None:
        """Steps over a value; tells an integer."""
        if kind in INTEGERS:
            return self.number(INTEGERS[kind])
        if kind == STRING:
            self.skip(self.number("<Q"))
        elif kind == ARRAY and depth < MOST_NESTED:
            inner, length = self.number("<I"), self.number("<Q")
            if inner in SIZES:
                self.skip(SIZES[inner] * length)
            else:
                # Each takes some bytes, so the end of the file ends the loop.
                for _ in range(length):
                    self.value(inner, depth + 1)
        elif kind in SIZES:
            self.skip(SIZES[kind])
        else:
            raise _broken(self.path, say("a value of the unknown type {kind}", kind=kind))
        return None

    def _ended(self) -> BrokenFile:
        return _broken(self.path, say("it ends within its head"))


def _walk(head: _Head) -> None:
    if head.read(4) != MAGIC:
        raise _broken(head.path, say("it does not begin with GGUF"))
    version = head.number("<I")
    if version not in VERSIONS:
        raise _broken(head.path, say("version {version}", version=version))
    tensors, values = head.number("<Q"), head.number("<Q")
    for _ in range(values):
        name = head.string().decode(errors="replace")
        found = head.value(head.number("<I"))
        if found is not None and name.endswith(COUNTS) and found > max(tensors, MOST_SHARED_LAYERS):
            given = say("{name} = {layers}, but {count} tensors", name=name, layers=found, count=tensors)
            raise _broken(head.path, given)
        if name == ALIGNMENT:
            head.alignment = found or 0
    if head.alignment.bit_count() != 1 or head.alignment > head.size:
        raise _broken(head.path, say("{name} = {value}", name=ALIGNMENT, value=head.alignment))
    ends = [_tensor(head) for _ in range(tensors)]
    begin = math.ceil(head.file.tell() / head.alignment) * head.alignment
    for name, end in ends:
        if begin + end > head.size:
            raise _broken(head.path, say("{name} lies outside the file", name=name))


def _tensor(head: _Head) -> tuple[str, int]:
    """The name of a tensor, and where its bytes end behind the head."""
    raw, dimensions = head.string(), head.number("<I")
    name = raw.decode(errors="replace")
    if raw in head.names:
        raise _broken(head.path, say("{name} is there twice", name=name))
    head.names.add(raw)
    if dimensions > MOST_DIMENSIONS:
        raise _broken(head.path, say("{name} has {count} dimensions", name=name, count=dimensions))
    shape = [head.number("<Q") for _ in range(dimensions)]
    kind, offset = head.number("<I"), head.number("<Q")
    if kind not in BLOCKS:
        raise _broken(head.path, say("{name} is of the unknown type {kind}", name=name, kind=kind))
    together, size = BLOCKS[kind]
    # Rows are packed one by one; the first number is their length.
    if shape and shape[0] % together:
        raise _broken(
            head.path,
            say("{name} packs {together} numbers, its rows have {row}", name=name, together=together, row=shape[0]),
        )
    return name, offset + math.prod(shape) // together * size


def _broken(path: Path, reason: Text) -> BrokenFile:
    return BrokenFile(
        say("{path} is truncated or no GGUF file: {reason}", path=str(path), reason=reason),
        right=say("the file as it was published"),
    )
