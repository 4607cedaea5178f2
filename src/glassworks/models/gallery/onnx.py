"""The weights of an ONNX file: just as much of the protocol-buffer format as tensors and node names need.

The `onnx` package would bring a second copy of protobuf for one model; the part of the format that is read
here is frozen (onnx.proto: ModelProto 7, GraphProto 1 and 5, NodeProto 1 to 4, TensorProto 1, 2, 5, 8, 9).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from glassworks.core.errors import BrokenFile
from glassworks.core.reading import read_bytes
from glassworks.core.text import say

# Bytes of the largest file; the format itself holds no more.
LARGEST = 1 << 31

# TensorProto.DataType -> numpy, for the kinds that int8 exports hold.
KINDS: Mapping[int, np.dtype[np.generic]] = {
    1: np.dtype("<f4"),
    2: np.dtype("u1"),
    3: np.dtype("i1"),
    6: np.dtype("<i4"),
    7: np.dtype("<i8"),
    9: np.dtype("?"),
}


@dataclass(frozen=True)
class Node:
    """One operation: its name, which follows the exported module's path, and the names of what it reads and gives."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ()
    operation: str = ""


@dataclass(frozen=True)
class Graph:
    """The stored tensors by name, and the operations in order."""

    tensors: Mapping[str, NDArray[np.generic]]
    nodes: tuple[Node, ...]

    def weight(self, name: str) -> NDArray[np.float32]:
        """A stored matrix as floats: (integers - zero point) x scale where it is quantised."""
        stem = name.removesuffix("_quantized")
        if f"{stem}_quantized" not in self.tensors:
            return self.tensors[name].astype(np.float32)
        numbers = self.tensors[f"{stem}_quantized"].astype(np.float32)
        zero, scale = self.tensors[f"{stem}_zero_point"], self.tensors[f"{stem}_scale"]
        return (numbers - zero.astype(np.float32)) * scale.astype(np.float32)


def read_onnx(path: Path) -> Graph:
    """Tensors and operations of an `.onnx` file; raises BrokenFile where it is not whole or of another kind."""
    try:
        model = dict(_fields(memoryview(read_bytes(path, LARGEST))))
        fields = list(_fields(_bytes(model[7])))
        tensors = dict(_tensor(_bytes(value)) for number, value in fields if number == 5)
        nodes = tuple(_node(_bytes(value)) for number, value in fields if number == 1)
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        raise BrokenFile(
            say("{path} is truncated or no ONNX file: {reason}", path=str(path), reason=f"{problem!r}"),
        ) from None
    return Graph(tensors, nodes)


def _tensor(message: memoryview) -> tuple[str, NDArray[np.generic]]:
    shape: list[int] = []
    name, kind = "", 0
    raw = memoryview(b"")
    small: list[int] = []
    for number, value in _fields(message):
        match number:
            case 1:
                shape += _integers(value)
            case 2:
                kind = _integers(value)[0]
            case 4:
                raw = _bytes(value)
            case 5:
                small += _integers(value)
            case 8:
                name = bytes(_bytes(value)).decode()
            case 9:
                raw = _bytes(value)
            case _:
                pass
    numbers = np.array(small).astype(KINDS[kind]) if small else np.frombuffer(raw, KINDS[kind])
    return name, numbers.reshape(shape)


def _node(message: memoryview) -> Node:
    found: dict[int, list[str]] = {1: [], 2: [], 3: [], 4: []}
    for number, value in _fields(message):
        if number in found:
            found[number].append(bytes(_bytes(value)).decode())
    name, operation = "".join(found[3][:1]), "".join(found[4][:1])
    return Node(name, tuple(found[1]), tuple(found[2]), operation)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, number or bytes) of a message, in file order."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        match key & 7:
            case 0:
                value, place = _varint(message, place)
                yield key >> 3, value
                continue
            case 1:
                length = 8
            case 2:
                length, place = _varint(message, place)
            case 5:
                length = 4
            case other:
                raise ValueError(f"wire type {other}")
        if place + length > len(message):
            raise ValueError("it ends within a field")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, low ones first, and the place behind it."""
    value = shift = 0
    while True:
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, place


def _integers(value: int | memoryview) -> list[int]:
    """A repeated number: alone, or several packed; 64 bits, in two's complement."""
    if isinstance(value, int):
        return [value - (1 << 64) if value >> 63 else value]
    found: list[int] = []
    place = 0
    while place < len(value):
        number, place = _varint(value, place)
        found += _integers(number)
    return found


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise TypeError("a number where bytes belong")
    return value
