import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from glassworks.anatomy import Alphabet, Subject
from glassworks.core.errors import BrokenFile, InvalidInput, NotFound, UnknownName
from glassworks.core.spec import Spec
from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.models.llama2c import Header, read_llama2c, read_llama2c_tokenizer
from glassworks.models.load import load
from glassworks.tensors.seeds import Seed
from tests.assets import asset
from tests.models.tiny import SPECS

IDS = [[1, 2, 3, 4, 5]]


class World(Spec):
    """A world for the reader to find."""

    kind: Literal["toy"] = "toy"
    size: int = 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete model folder with an alphabet and a task."""
    build_model(SPECS["plain"], Seed(0)).save_pretrained(tmp_path / "model")
    world = {"alphabet": list("abcdefghijklm"), "task": {"kind": "toy", "size": 7}}
    (tmp_path / "model" / "world.json").write_text(json.dumps(world))
    return tmp_path / "model"


def same(subject: Subject, model: nn.Module) -> bool:
    with torch.no_grad():
        return torch.equal(subject.model(torch.tensor(IDS)).logits, model(torch.tensor(IDS)).logits)


def test_a_folder_of_the_store_brings_alphabet_world_and_origin(folder: Path) -> None:
    subject = load(folder, world_reader=World.parse)
    assert isinstance(subject.model, GlassworksForCausalLM)
    assert same(subject, build_model(SPECS["plain"], Seed(0)))
    assert subject.tokenizer == Alphabet(tuple("abcdefghijklm"))
    assert subject.world == World(size=7)
    assert (subject.origin.name, subject.origin.source) == ("model", str(folder.resolve()))
    assert load(folder).world is None
    assert not subject.model.training


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_kind_of_model_is_understood_by_the_anatomy(spec: TransformerSpec, tmp_path: Path) -> None:
    model = build_model(spec, Seed(0))
    model.save_pretrained(tmp_path / "m")
    subject = load(tmp_path / "m")
    assert len(subject.anatomy.layers) == spec.depth
    logits, _ = subject.run_with_cache(torch.tensor(IDS))
    assert torch.equal(logits, model(torch.tensor(IDS)).logits)


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_a_local_folder_of_another_library_loads_with_its_own_head(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if family == "gpt2":
        config = GPT2Config(vocab_size=20, n_embd=8, n_layer=2, n_head=2, n_positions=16)
        config.bos_token_id = config.eos_token_id = None
        model: Any = GPT2LMHeadModel(config)
    else:
        sizes = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 8}
        model = BertForMaskedLM(BertConfig(vocab_size=20, **sizes))
    model.eval().save_pretrained(tmp_path / "m")
    subject = load(str(tmp_path / "m"))
    assert type(subject.model) is type(model)
    assert same(subject, model)


def test_a_live_model_stays_as_it_is() -> None:
    model = build_model(SPECS["plain"], Seed(0), torch.float64)
    subject = load(model)
    assert subject.model is model
    assert model.dtype == torch.float64
    assert load(model, dtype="float32").model.dtype == torch.float32


def test_the_number_format_asked_for_is_the_one_given(folder: Path) -> None:
    assert load(folder, dtype="bfloat16").model.dtype == torch.bfloat16
    with pytest.raises(UnknownName, match="float31"):
        load(folder, dtype="float31")


def test_a_relative_folder_is_never_taken_for_a_hub_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert load("model").origin.source == str(folder.resolve())
    monkeypatch.chdir(folder.parent.parent)
    assert load(f"{folder.parent.name}/model").origin.name == "model"


@pytest.mark.parametrize("missing", ["./nowhere", "/no/where/at/all", "~/nowhere-at-all", "a/b/c", "model.bin"])
def test_a_missing_path_says_so(missing: str) -> None:
    with pytest.raises(NotFound, match="is not there"):
        load(missing)
    with pytest.raises(NotFound, match="is not there"):
        load(Path("nowhere"))


def test_a_missing_child_of_a_real_folder_is_a_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    with pytest.raises(NotFound, match="is not there"):
        load("model/other")


def test_an_unreachable_hub_name_says_what_was_tried() -> None:
    with pytest.raises(NotFound, match="no model nobody/nothing: there is no such folder here") as caught:
        load("nobody/nothing")
    assert "full name" in str(caught.value)


def cut(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def garble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not tensors at all")


def lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": 1}))


def half_a_config(folder: Path) -> None:
    config = folder / "config.json"
    config.write_text(config.read_text()[:40])


def nameless_config(folder: Path) -> None:
    (folder / "config.json").write_text("{}")


def unknown_type(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "hyperformer-9"}')


def own_code(folder: Path) -> None:
    config = {"model_type": "strange", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('this ran')")


def impossible_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["transformer"]["heads"] = 3
    (folder / "config.json").write_text(json.dumps(config))


def other_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["transformer"]["width"] = 16
    (folder / "config.json").write_text(json.dumps(config))


def more_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["transformer"]["depth"] = 3
    (folder / "config.json").write_text(json.dumps(config))


def wrong_alphabet(folder: Path) -> None:
    (folder / "world.json").write_text('{"alphabet": ["a", "b"]}')


def foreign_world(folder: Path) -> None:
    (folder / "world.json").write_text("[1, 2]")


def index_without_parts(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00001-of-00001.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (cut, BrokenFile, "model.safetensors is truncated"),
        (garble, BrokenFile, "model.safetensors is truncated or no safetensors"),
        (lose_weights, NotFound, "no weights"),
        (only_a_pickle, InvalidInput, "pytorch_model.bin is a pickle"),
        (half_a_config, BrokenFile, "config.json is damaged"),
        (nameless_config, BrokenFile, "which kind of model"),
        (unknown_type, InvalidInput, "hyperformer-9"),
        (own_code, InvalidInput, "its own program code"),
        (impossible_sizes, BrokenFile, "config.* is impossible: .*3 heads do not divide width 8"),
        (other_sizes, BrokenFile, "do not fit its config"),
        (more_layers, BrokenFile, "lacks 10 weights"),
        (wrong_alphabet, BrokenFile, "world.json does not fit"),
        (foreign_world, BrokenFile, "no alphabet and no task"),
        (index_without_parts, NotFound, "model-00001-of-00001.safetensors is not there"),
        (no_config, NotFound, "is not a model folder"),
    ],
)
def test_a_damaged_folder_is_named_with_its_damage(
    folder: Path, damage: Callable[[Path], None], error: type[Exception], says: str
) -> None:
    damage(folder)
    with pytest.raises(error, match=says) as caught:
        load(folder)
    assert len(str(caught.value).splitlines()) <= 5


def test_folders_that_are_something_else_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text("{}")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    for name, says in (("run", "run folder"), ("adapter", "adapter"), ("empty", "not a model folder")):
        with pytest.raises((InvalidInput, NotFound), match=says):
            load(tmp_path / name)


@pytest.mark.parametrize("name", ["model.pt", "weights.bin", "x.ckpt"])
def test_pickles_are_refused_by_name_and_never_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    torch.save({"weight": torch.ones(2)}, path)
    with pytest.raises(InvalidInput, match=f"{name} is a pickle"):
        load(path)


@pytest.mark.parametrize("name", ["notes.txt", "config.json", "model.safetensors"])
def test_files_that_are_no_model_say_what_would_be(folder: Path, name: str) -> None:
    path = folder / name
    path.touch()
    with pytest.raises(InvalidInput, match=r"no kind of model file|one part of a model"):
        load(path)


def written_llama2c(path: Path, tied: bool) -> Header:
    header = Header(8, 12, 2, 2, 1, 300, 16, tied)
    numbers = np.random.default_rng(0).normal(size=sum(int(np.prod(s)) for s in header.shapes().values()))
    path.write_bytes(struct.pack("<7i", 8, 12, 2, 2, 1, 300 if tied else -300, 16) + numbers.astype("<f4").tobytes())
    return header


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama2c_file_is_read_whole(tmp_path: Path, tied: bool) -> None:
    written_llama2c(tmp_path / "m.bin", tied)
    subject = load(tmp_path / "m.bin")
    assert subject.tokenizer is None
    assert (subject.model.lm_head.weight is subject.model.model.embed_tokens.weight) == tied
    assert subject.model.config.num_key_value_heads == 1


@pytest.mark.parametrize("change", [lambda b: b[:-4], lambda b: b + b"0000", lambda b: b[:10], lambda b: b"\0" * 90])
def test_a_llama2c_file_of_the_wrong_length_is_named(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "m.bin"
    written_llama2c(path, True)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BrokenFile, match=r"m\.bin is truncated or no llama2\.c file"):
        read_llama2c(path)


def test_a_cut_tokenizer_file_is_named(tmp_path: Path) -> None:
    whole = asset("lm/stories260K/tok512.bin").read_bytes()
    for cut_at in (len(whole) - 1, 100, 2):
        (tmp_path / "tok512.bin").write_bytes(whole[:cut_at])
        with pytest.raises(BrokenFile, match=r"tok512\.bin is truncated"):
            read_llama2c_tokenizer(tmp_path / "tok512.bin", 512)


def test_stories260k_loads_with_its_tokenizer() -> None:
    subject = load(asset("lm/stories260K/stories260K.bin"))
    assert subject.to_string(subject.to_tokens("Once upon a time")).endswith("Once upon a time")
    assert subject.origin.name == "stories260K"


def test_the_sorting_model_loads_and_a_foreign_json_is_named(tmp_path: Path) -> None:
    subject = load(asset("lm/gpt-nano-sort/gpt-nano-sort-model.json"))
    assert subject.generate(torch.tensor([[2, 0, 1, 0, 2, 1]]), 5)[0, 6:].tolist() == [0, 0, 1, 1, 2]
    (tmp_path / "other.json").write_text('{"config": {"n_layer": 3}}')
    with pytest.raises(BrokenFile, match=r"other\.json holds no minGPT model"):
        load(tmp_path / "other.json")


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": "x"},
        {"num_attention_heads": 0},
        {"num_hidden_layers": 10**8},
        {"intermediate_size": -3},
    ],
    ids=str,
)
def test_a_config_that_no_model_has_is_named(tmp_path: Path, wrong: dict[str, Any]) -> None:
    shape = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2, num_key_value_heads=2)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | wrong))
    with pytest.raises(BrokenFile, match="config"):
        load(tmp_path)


def test_an_architecture_that_is_no_name_is_read_as_a_language_model(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": 5}))
    assert type(load(folder).model) is GlassworksForCausalLM


def test_quantised_weights_are_refused_before_anything_is_loaded(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match="quantised \\(bitsandbytes\\)"):
        load(folder)
    live = nn.Linear(3, 3)
    live.weight = nn.Parameter(torch.zeros(3, 3, dtype=torch.int8), requires_grad=False)
    with pytest.raises(InvalidInput, match="quantised \\(int8\\)"):
        load(live)


def test_a_tokenizer_that_is_not_whole_is_named_and_one_that_is_missing_is_no_hindrance(folder: Path) -> None:
    (folder / "world.json").unlink()
    assert load(folder).tokenizer is None
    with pytest.raises(InvalidInput, match="no tokenizer"):
        load(folder).batch("text")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(InvalidInput, match=r"the tokenizer of .* cannot be read"):
        load(folder)
