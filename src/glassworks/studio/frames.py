"""Frames: plain data with arrays beside it, in one block of bytes that the browser reads without parsing numbers.

Layout, little-endian: the four bytes `GWF1`; the header's length as uint32; the header, JSON in UTF-8 padded with spaces to
a multiple of eight from the start; then each array's bytes at its offset, a multiple of eight from the end of the header.
The header is `{"body": ..., "arrays": [{"dtype", "shape", "offset"}]}`; where the body had an array stands `{"$array": N}`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from glassworks.core.errors import BrokenFile
from glassworks.core.text import Language, Text, say

MAGIC = b"GWF1"
_ALIGNED = 8
# What the browser's typed arrays can show; everything else is turned into the nearest of them.
_KINDS: Mapping[str, str] = {"f": "float32", "i": "int32", "u": "int32", "b": "uint8"}
_KEPT = ("float32", "float64", "int32", "uint8", "int8", "uint16")


def encode(body: object, language: Language) -> bytes:
    """The frame of plain data: dicts, sequences, texts (in `language`), numbers (NaN becomes null), numpy arrays."""
    arrays: list[NDArray[np.generic]] = []
    plain = _plain(body, language, arrays)
    entries: list[dict[str, object]] = []
    offset = 0
    for array in arrays:
        entries.append({"dtype": array.dtype.name, "shape": list(array.shape), "offset": offset})
        offset += _padded(array.nbytes)
    header = json.dumps({"body": plain, "arrays": entries}, ensure_ascii=False, allow_nan=False).encode(
        "utf-8", "replace"
    )
    header += b" " * (_padded(len(header) + 8) - len(header) - 8)
    parts = [MAGIC, len(header).to_bytes(4, "little"), header]
    for array in arrays:
        parts += [array.tobytes(), bytes(_padded(array.nbytes) - array.nbytes)]
    return b"".join(parts)


def decode(frame: bytes) -> Any:
    """The plain data of a frame, arrays as numpy arrays; BrokenFile where it is none."""
    try:
        header, start = _header_of(frame)
        arrays = [_array_of(frame, entry, start) for entry in header["arrays"]]
        return _restored(header["body"], arrays)
    # A header of other fields, kinds or depths than ours.
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        raise BrokenFile(say("these bytes are no frame of the studio")) from None


def as_json(frame: bytes) -> bytes:
    """The same answer as bare JSON, arrays as nested lists (NaN and infinity as null): for curl and scripts."""
    return json.dumps(_listed(decode(frame)), ensure_ascii=False, allow_nan=False).encode()


def _header_of(frame: bytes) -> tuple[Any, int]:
    if frame[:4] != MAGIC:
        raise ValueError
    start = 8 + int.from_bytes(frame[4:8], "little")
    return json.loads(frame[8:start]), start


def _array_of(frame: bytes, entry: Any, start: int) -> NDArray[np.generic]:
    # numpy makes a kind of its own of nearly any text.
    if entry["dtype"] not in _KEPT:
        raise ValueError
    found = np.frombuffer(frame, entry["dtype"], math.prod(entry["shape"]), start + entry["offset"])
    return found.reshape(entry["shape"])


def _plain(value: object, language: Language, arrays: list[NDArray[np.generic]]) -> object:
    if isinstance(value, Text):
        return value.in_language(language)
    if isinstance(value, np.ndarray):
        found = cast(NDArray[np.generic], value)
        kept = found.dtype.name if found.dtype.name in _KEPT else _KINDS[found.dtype.kind]
        arrays.append(np.ascontiguousarray(found, dtype=kept))
        return {"$array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return _plain(value.item(), language, arrays)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v, language, arrays) for k, v in cast(Mapping[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(item, language, arrays) for item in cast(list[object], value)]
    return value


def _restored(value: Any, arrays: list[NDArray[np.generic]]) -> Any:
    if isinstance(value, dict):
        table = cast(dict[str, Any], value)
        if set(table) == {"$array"}:
            return arrays[table["$array"]]
        return {k: _restored(v, arrays) for k, v in table.items()}
    return [_restored(item, arrays) for item in cast(list[Any], value)] if isinstance(value, list) else value


def _listed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _listed(value.tolist())
    if isinstance(value, dict):
        return {k: _listed(v) for k, v in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_listed(item) for item in cast(list[Any], value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _padded(count: int) -> int:
    return -(-count // _ALIGNED) * _ALIGNED
