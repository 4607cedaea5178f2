"""Frames: what is put in comes out, in the layout that the browser reads."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassworks.core.errors import BrokenFile
from glassworks.core.text import say
from glassworks.studio.frames import as_json, decode, encode

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**50), 2**50)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5).filter("$array".__ne__), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(PLAIN)
def test_plain_data_comes_back(value: object) -> None:
    assert decode(encode(value, "en")) == value


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "int8", "uint16"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7, 3), (2, 3, 5)])
def test_arrays_come_back_aligned_and_equal(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.arange(int(np.prod(shape)), dtype=dtype).reshape(shape)
    frame = encode({"a": [array, "x" * 3], "b": array}, "en")
    found = decode(frame)
    assert found["a"][0].dtype == dtype
    np.testing.assert_array_equal(found["b"], array)
    start = 8 + int.from_bytes(frame[4:8], "little")
    entries = json.loads(frame[8:start])["arrays"]
    # A typed array of the browser needs its place to be a multiple of its own size.
    assert start % 8 == 0
    assert all(entry["offset"] % 8 == 0 for entry in entries)


def test_what_json_cannot_say_becomes_null_and_texts_speak_the_asked_language() -> None:
    body = {
        "n": float("nan"),
        "i": float("inf"),
        "t": say("yes"),
        "g": np.float32(0.5),
        "w": np.arange(3, dtype=np.int64),
    }
    found = decode(encode(body, "zh"))
    assert found["n"] is None
    assert found["i"] is None
    assert found["t"] == "是"
    assert found["g"] == 0.5
    assert found["w"].dtype == np.int32


def test_json_for_scripts_has_the_same_numbers() -> None:
    body = {"m": np.array([[1.0, np.nan], [3.0, 4.0]], dtype=np.float32)}
    assert json.loads(as_json(encode(body, "en"))) == {"m": [[1.0, None], [3.0, 4.0]]}


@pytest.mark.parametrize("data", [b"", b"GWF1", b"nope" + bytes(20), b"GWF1" + (9).to_bytes(4, "little") + b"{" * 9])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BrokenFile):
        decode(data)


@pytest.mark.parametrize(
    "header",
    [
        {}, [], 3, {"body": 1}, {"arrays": []}, {"body": {"$array": 0}, "arrays": []}, {"body": 1, "arrays": [3]},
        {"body": 1, "arrays": [{"dtype": "O", "shape": [1], "offset": 0}]},
        {"body": 1, "arrays": [{"dtype": "float32", "shape": [10**30], "offset": 0}]},
        {"body": 1, "arrays": [{"dtype": "float32", "shape": "a", "offset": -8}]},
        {"body": 1, "arrays": [{"dtype": ["float32"], "shape": [1], "offset": {}}]},
    ],
)  # fmt: skip
def test_a_header_of_other_fields_is_refused(header: object) -> None:
    written = json.dumps(header).encode()
    with pytest.raises(BrokenFile):
        decode(b"GWF1" + len(written).to_bytes(4, "little") + written + bytes(8))


def test_a_lone_surrogate_of_an_odd_token_can_be_sent() -> None:
    assert decode(encode({"t": "a\ud800b"}, "en"))["t"] == "a?b"
