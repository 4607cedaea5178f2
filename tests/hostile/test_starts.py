"""A damaged model that a stage should start from: refused in words, whatever is broken, and nothing is left behind."""

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from glassworks.cli.main import main
from tests.hostile.folders import with_json
from tests.models.test_readings import gguf_file
from tests.training.tuning import folder_of_talker, llama

pytestmark = pytest.mark.slow
Spoil = Callable[[Path], object]


def bit(name: str, place: int) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name if name else folder
        raw = bytearray(path.read_bytes())
        raw[place] ^= 0x80
        path.write_bytes(raw)

    return spoil


def cut(name: str, length: int) -> Spoil:
    return lambda folder: os.truncate(folder / name if name else folder, length)


def weights(change: Callable[[torch.Tensor], torch.Tensor]) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({name: change(one) for name, one in load_file(path).items()}, path, {"format": "pt"})

    return spoil


def lost(name: str) -> Spoil:
    return lambda folder: (folder / name).unlink()


def written(name: str, content: str) -> Spoil:
    return lambda folder: (folder / name).write_text(content)


def config(**fields: object) -> Spoil:
    return lambda folder: with_json(folder / "config.json", lambda found: found | fields)


FOLDERS: dict[str, Spoil] = {
    "weights cut": cut("model.safetensors", 5000),
    "weights cut in their header": cut("model.safetensors", 100),
    "no weights left": cut("model.safetensors", 0),
    "weights lost": lost("model.safetensors"),
    "a bit of the header's length": bit("model.safetensors", 6),
    "a bit of the header": bit("model.safetensors", 40),
    "NaN": weights(lambda one: one * float("nan")),
    "another shape": weights(lambda one: one[None].clone()),
    "half of every row": weights(lambda one: one[..., ::2].clone()),
    "complex numbers": weights(lambda one: one.to(torch.complex64)),
    "a config lost": lost("config.json"),
    "a config cut": cut("config.json", 30),
    "a config of another kind": config(model_type="nobody"),
    "a config of more layers": config(num_hidden_layers=9),
    "a config of fewer layers": config(num_hidden_layers=1),
    "a wider config": config(hidden_size=64),
    "a bit of the config": bit("config.json", 20),
    "a tokenizer cut": cut("tokenizer.json", 200),
    "a tokenizer of nothing": written("tokenizer.json", "{}"),
    "a bit of the tokenizer": bit("tokenizer.json", 60),
    "a stage of no kind": written("stage.json", "[]"),
    "a stage after nobody knows what": written(
        "stage.json", json.dumps({"kind": "sft", "digest": "0", "spec": {}, "identities": {}, "before": [5]})
    ),
    "a stage that did not finish": written(
        "stage.json", json.dumps({"kind": "sft", "digest": "0", "spec": {}, "identities": {}})
    ),
    "an adapter": written("adapter_config.json", "{}"),
}
FILES: dict[str, Spoil] = {
    "a GGUF file cut in its head": cut("", 300),
    "a GGUF file cut in its tensors": lambda path: os.truncate(path, path.stat().st_size - 40),
    "a bit of its first length": bit("", 31),
    "a count of tensors": lambda path: path.write_bytes(path.read_bytes()[:8] + struct.pack("<Q", 10**12) + path.read_bytes()[16:]),
    "another version": bit("", 4),
}  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("starts")
    folder_of_talker(place / "folder", llama())
    gguf_file(place / "toy.gguf")
    (place / "data.jsonl").write_text(json.dumps({"prompt": "hello", "completion": "my name is tom"}) + "\n")
    return place


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_a_damaged_start_is_refused_in_words(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    start = tmp_path / ("start.gguf" if name in FILES else "start")
    if name in FILES:
        shutil.copy(whole / "toy.gguf", start)
    else:
        shutil.copytree(whole / "folder", start)
    (FILES | FOLDERS)[name](start)
    words = [str(whole / "data.jsonl"), f"start={start}", "steps=1", "--any-start", "--device", "cpu"]
    code = main(["train", "sft", *words, "--out", str(tmp_path / "out")])
    told = capsys.readouterr().err
    assert code == 1
    assert "error: " in told
    assert not any(sign in told for sign in ("unexpected:", "Traceback", "too few examples")), told
