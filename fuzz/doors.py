"""Every door that takes bytes, with whole examples to begin from: a door takes what it is given or raises a GlassworksError."""

import base64
import gzip
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from glassworks.core.files import read_json
from glassworks.core.spec import typed_value
from glassworks.evidence.claims import Scale
from glassworks.experiments import Birth
from glassworks.models.folders import check_folder
from glassworks.models.gallery.gguf_header import check_gguf
from glassworks.models.gallery.onnx import read_onnx
from glassworks.models.llama2c import read_llama2c, read_llama2c_tokenizer
from glassworks.models.min_gpt import read_min_gpt
from glassworks.studio.frames import decode, encode
from glassworks.surgery.grammar import parse
from glassworks.surgery.mergekit import from_mergekit
from glassworks.tensors.files import load_tensors
from glassworks.training.recipes import read_settings
from glassworks.training.stages.corpus import Corpus
from glassworks.training.stages.examples import entries_of

BIRTH = Birth.at(Scale.SMOKE)
VOCABULARY = 260


@dataclass(frozen=True)
class Door:
    """A reader of bytes, examples of what it takes, and words that it knows."""

    read: Callable[[bytes, Path], object]
    """Given the bytes and a folder to put them into as a file."""
    examples: tuple[bytes, ...]
    words: tuple[str, ...] = ()


def _file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    def through(raw: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(raw)
        return read(path)

    return through


def _words(read: Callable[[str], object]) -> Callable[[bytes, Path], object]:
    # As a shell hands on what is no UTF-8.
    return lambda raw, _: read(raw.decode("utf-8", errors="surrogateescape"))


def _folder(raw: bytes, folder: Path) -> object:
    """A config and weights, parted at the first NUL."""
    config, _, weights = raw.partition(b"\0")
    (folder / "config.json").write_bytes(config)
    (folder / "model.safetensors").write_bytes(weights)
    return check_folder(folder)


def _llama2c() -> bytes:
    sizes = (4, 4, 1, 1, 1, 3, 2)
    numbers = 3 * 4 + 4 + 4 * 16 + 4 + 3 * 16 + 4 + 2 * 2 * 2
    return struct.pack("<7i", *sizes) + bytes(4 * numbers)


def _tokenizer() -> bytes:
    return struct.pack("<i", 1) + b"".join(
        struct.pack("<fi", -1.0, 1) + bytes([97 + n % 20]) for n in range(VOCABULARY)
    )


def _min_gpt() -> bytes:
    config = {"vocab_size": 3, "block_size": 2, "n_embd": 2, "n_layer": 1, "n_head": 1}
    table = {"dtype": "torch.float32", "shape": [3, 2], "data": base64.b64encode(bytes(24)).decode()}
    return json.dumps({"config": config, "transformer.wte.weight": table}).encode()


def _gguf() -> bytes:
    name, key = b"token_embd.weight", b"llama.block_count"
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, 1)
    return head + struct.pack("<Q", len(name)) + name + struct.pack("<IQQIQ", 2, 2, 2, 0, 0) + bytes(40)


TENSORS = save({"a": torch.zeros(2, 2), "b": torch.ones(3)}, {"format": "pt"})
LINES = b'{"text": "one two"}\n{"text": "three \\u00e9"}\n'

DOORS: Mapping[str, Door] = {
    "plan": Door(
        _words(lambda text: parse(text, 4)), (b"0..1 (2 | 3)x2 0.5*3", b"sum(0 | 1 2)x3 3-0"), ("mean", "sum", "..", "x2", "(", "|", ")")
    ),
    "mergekit": Door(
        _words(from_mergekit),
        (b"slices:\n- sources:\n  - model: a\n    layer_range: [0, 2]\nmerge_method: passthrough\ndtype: float32\n",),
        ("slices", "sources", "layer_range", "merge_method", "passthrough", "&a", "*a", "!!python/object:os.system"),
    ),
    "setting": Door(
        _words(BIRTH.replaced_from_text), (b"seeds=[0,1]", b"main.model.width=64"), tuple(BIRTH.to_json())
    ),
    "training": Door(_words(lambda text: read_settings(text.split("\n"))), (b"mixer=softmax,mesa\ndepth=2\nsteps=9",), ("mixer", "model.norm", "optimiser.kind")),
    "value": Door(_words(typed_value), (b"[1, 2.5e3, null]", b'{"a": "\\ud83d"}')),
    "spec": Door(
        lambda raw, folder: Birth.parse(_file("spec.json", read_json)(raw, folder)),
        (json.dumps(BIRTH.to_json()).encode(),), tuple(BIRTH.to_json()),
    ),
    "folder": Door(_folder, (b'{"model_type": "gpt2", "n_layer": 2}\0' + TENSORS,), ("model_type", "num_hidden_layers", "F32", "shape")),
    "tensors": Door(_file("a.safetensors", load_tensors), (TENSORS,), ("dtype", "shape", "data_offsets", "__metadata__")),
    "gguf": Door(_file("a.gguf", check_gguf), (_gguf(),), ("llama.block_count", "tokenizer.ggml.tokens")),
    "onnx": Door(_file("a.onnx", read_onnx), (b"\x08\x07\x3a\x10\x2a\x0e\x08\x01\x10\x01\x42\x01a\x4a\x04\0\0\0\0",)),
    "llama2c": Door(_file("a.bin", read_llama2c), (_llama2c(),)),
    "pieces": Door(_file("tok.bin", lambda path: read_llama2c_tokenizer(path, VOCABULARY)), (_tokenizer(),)),
    "min_gpt": Door(_file("a.json", read_min_gpt), (_min_gpt(),), ("config", "vocab_size", "transformer.wte.weight")),
    "corpus": Door(_file("a.jsonl", lambda path: list(Corpus((path,)))), (LINES,), ("text", "\\ud83d", "\\u0000")),
    "text": Door(_file("a.txt", lambda path: list(Corpus((path,)))), (b"one<|endoftext|>two", "é 中 👩‍👩‍👧".encode()), ("<|endoftext|>",)),
    "packed": Door(_file("a.txt.gz", lambda path: list(Corpus((path,)))), (gzip.compress(b"one two three"),)),
    "examples": Door(_file("a.jsonl", lambda path: list(entries_of(path))), (LINES,), ("prompt", "messages")),
    "frame": Door(lambda raw, _: decode(raw), (encode({"a": [1, "é"], "b": np.zeros((2, 2))}, "en"),), ("arrays", "dtype", "shape", "offset")),
}  # fmt: skip
