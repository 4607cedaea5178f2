"""Model folders that a stranger sent: one clear error or a right answer, in bounded time and memory, and no code run."""

import json
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.hostile.doors import Answer, knock, ready
from tests.hostile.folders import WORDS, gpt2, llama, with_json

pytestmark = pytest.mark.slow
# What a library takes when it first meets a kind of model; what a folder claims must not add to it.
MOST_MEGABYTES = 250
Spoil = Callable[[Path], object]
STEERING = "\x1b]0;owned\x07\x1b[31mred\u202e"


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    ready()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return gpt2(tmp_path / "model")


def asked(folder: Path, *more: str) -> Answer:
    found = knock("generate", folder, "--prompt", "a b", "--max-new-tokens", "2", *more, megabytes=MOST_MEGABYTES)
    assert found.trouble == "", found
    return found


def config(**fields: object) -> Spoil:
    return lambda folder: with_json(folder / "config.json", lambda found: found | fields)


def header(change: Callable[[dict[str, Any]], object], length: int | None = None) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        raw = path.read_bytes()
        end = 8 + struct.unpack("<Q", raw[:8])[0]
        found = json.loads(raw[8:end])
        change(found)
        head = json.dumps(found).encode()
        path.write_bytes(struct.pack("<Q", len(head) if length is None else length) + head + raw[end:])

    return spoil


def first(found: dict[str, Any]) -> dict[str, Any]:
    return found[next(name for name in found if name != "__metadata__")]


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path, {"format": "pt"})

    return spoil


def index(part: str) -> Spoil:
    def spoil(folder: Path) -> None:
        names = list(load_file(folder / "model.safetensors"))
        (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
        found = {"metadata": {}, "weight_map": {name: part.format(folder=folder) for name in names if part}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(found))

    return spoil


def spelling(**fields: object) -> Spoil:
    return lambda folder: with_json(folder / "tokenizer.json", lambda found: found | fields)


def written(name: str, content: object) -> Spoil:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda folder: (folder / name).write_bytes(raw)


GROWING = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}
REFUSED: dict[str, tuple[Spoil, str]] = {
    "a billion wide": (config(n_embd=10**9), "do not fit|impossible|divisible"),
    "a million inside": (config(n_inner=10**6), "do not fit"),
    "a million tokens": (config(vocab_size=10**6), "do not fit"),
    "a billion positions": (config(n_positions=10**9), "do not fit"),
    "ten million layers": (config(n_layer=10**7), "10000000, but"),
    "layers deep inside": (config(text_config={"deeper": {"num_hidden_layers": 10**7}}), "10000000, but"),
    "experts": (config(num_local_experts=10**8), "100000000, but"),
    "a billion labels": (config(num_labels=10**9), "1000000000, but"),
    "no entries": (config(vocab_size=0), "no entries"),
    "fewer layers than weights": (config(n_layer=1), "a layer that the config does not count"),
    "numbers without end": (written("config.json", b'{"model_type": "gpt2", "n_embd": ' + b"9" * 5000 + b"}"), "not JSON"),
    "brackets without end": (written("config.json", b"[" * 100_000), "not JSON"),
    "not a number": (config(layer_norm_epsilon=float("nan")), "error"),
    "an unknown kind": (config(model_type="../x"), "cannot load"),
    "cut": (lambda folder: os.truncate(folder / "model.safetensors", 5000), "truncated"),
    "a header of 2^62": (header(lambda found: None, 1 << 62), "truncated"),
    "a header of 100 MB": (header(lambda found: None, 100_000_000), "truncated"),
    "bytes before the file": (header(lambda found: first(found).update(data_offsets=[-1, 1])), "truncated"),
    "bytes after the file": (header(lambda found: first(found).update(data_offsets=[0, 1 << 60])), "truncated"),
    "bytes of a neighbour": (header(lambda found: first(found).update(data_offsets=[0, 64])), "truncated"),
    "a shape beyond all numbers": (header(lambda found: first(found).update(shape=[1 << 62, 1 << 62])), "truncated"),
    "an unknown format": (header(lambda found: first(found).update(dtype="F99")), "truncated"),
    "an upward name": (header(lambda found: found.update({"../../x": found.pop("transformer.ln_f.bias")})), "lacks"),
    "a steering name": (header(lambda found: found.update({STEERING: found.pop("transformer.ln_f.bias")})), "lacks"),
    "NaN": (weights(lambda found: {name: one * float("nan") for name, one in found.items()}), "not finite"),
    "huge": (weights(lambda found: {name: torch.full_like(one, 1e38) for name, one in found.items()}), "not finite"),
    "complex": (weights(lambda found: {name: one.to(torch.complex64) for name, one in found.items()}), "complex"),
    "whole numbers": (weights(lambda found: {name: one.int() for name, one in found.items()}), "no decimal numbers"),
    "another shape": (weights(lambda found: {name: one[None].clone() for name, one in found.items()}), "do not fit"),
    "an index upwards": (index("../outside.safetensors"), "outside its folder"),
    "an absolute index": (index("{folder}/../outside.safetensors"), "outside its folder"),
    "an index of a pickle": (index("evil.bin"), "is not there"),
    "an empty index": (index(""), "no weight_map"),
    "an adapter": (written("adapter_config.json", {"base_model_name_or_path": "/etc"}), "is an adapter"),
    "no unknown word": (spelling(model={"type": "WordLevel", "vocab": {"z": 0}, "unk_token": "q"}), "cannot spell"),
    "a growing text": (
        spelling(normalizer={"type": "Sequence", "normalizers": [GROWING] * 9}), "1e\\+09 times as long"
    ),
    "a panic": (
        spelling(post_processor={
            "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "X", "type_id": 0}}], "pair": [],
            "special_tokens": {},
        }),
        "cannot spell",
    ),
    "a length in words": (written("tokenizer_config.json", {"model_max_length": "x"}), "model_max_length is 'x'"),
    "tokens beyond the table": (
        spelling(model={"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 2**31, "b": 5}, "unk_token": "[UNK]"}), "error"
    ),
    "a tokenizer of brackets": (written("tokenizer.json", b"[" * 100_000), "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), REFUSED.values(), ids=REFUSED)
def test_a_spoiled_folder_is_refused_in_words(folder: Path, spoil: Spoil, words: str) -> None:
    spoil(folder)
    found = asked(folder)
    assert found.code == 1
    assert re.search(words, found.err), found.err


def fifo(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return spoil


TAKEN: dict[str, Spoil] = {
    "tensors of no part": weights(lambda found: found | {STEERING: torch.zeros(1), "x" * 100_000: torch.zeros(1)}),
    "habits of a wrong kind": written("generation_config.json", {"bad_words_ids": 5, "max_time": "x"}),
    "habits that never end": written("generation_config.json", {"min_new_tokens": 10**9, "num_beams": 4}),
    "habits that need the network": written("generation_config.json", {"penalty_alpha": 5.0, "top_k": 4}),
    "a pipe for habits": fifo("generation_config.json"),
    "a pipe for a template": fifo("chat_template.jinja"),
    "an endless template": lambda folder: (folder / "chat_template.jinja").symlink_to("/dev/zero"),
    "a circle of links": lambda folder: (folder / "special_tokens_map.json").symlink_to("special_tokens_map.json"),
    "a cut of texts": spelling(truncation={"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}),
    "a filling of texts": spelling(padding={
        "strategy": {"Fixed": 10**9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0,
        "pad_token": "a",
    }),
}  # fmt: skip


@pytest.mark.parametrize("engine", [pytest.param("library", marks=pytest.mark.nightly), "fast"])
@pytest.mark.parametrize("spoil", TAKEN.values(), ids=TAKEN)
def test_what_a_folder_holds_beside_its_model_changes_no_answer(folder: Path, spoil: Spoil, engine: str) -> None:
    plain = asked(folder, "--engine", engine)
    spoil(folder)
    found = asked(folder, "--engine", engine)
    assert (found.code, found.out) == (0, plain.out)


@pytest.mark.parametrize("field", ["hidden_size", "intermediate_size", "num_key_value_heads", "head_dim"])
def test_a_config_is_refused_before_room_is_made_for_what_it_claims(tmp_path: Path, field: str) -> None:
    folder = llama(tmp_path / "model")
    config(**{field: 10**6})(folder)
    found = knock("generate", folder, "--prompt", "a", "--max-new-tokens", "1", megabytes=60)
    assert (found.trouble, found.code) == ("", 1), found


class Evil:
    """Runs code where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "adapter_model.bin", "x.ckpt", "a.gguf", "a.json", "a"]
)
def test_a_pickle_is_never_opened(folder: Path, name: str) -> None:
    mark = folder.parent / "executed"
    (folder / name).write_bytes(pickle.dumps(Evil(mark)))
    asked(folder)
    assert asked(folder / name).code == 1
    (folder / "model.safetensors").unlink()
    assert asked(folder).code == 1
    assert not mark.exists()
    pickle.loads((folder / name).read_bytes())
    assert mark.exists(), "the pickle is none that would have done harm"


@pytest.mark.parametrize(
    "command",
    [
        ("generate", "MODEL", "--prompt", "a"),
        ("examine", "MODEL", "--text", "a"),
        ("surgery", "MODEL", "--plan", "0", "--prompt", "a"),
        ("sweep", "MODEL", "--dry-run"),
        ("chat", "MODEL"),
        ("infinify", "MODEL", "--out", "OUT"),
        ("export", "MODEL", "--two-files", "OUT"),
    ],
)
def test_program_code_of_a_folder_is_run_by_no_command(folder: Path, command: tuple[str, ...]) -> None:
    mark, out = folder.parent / "executed", folder.parent / "out"
    code = f"open({str(mark)!r}, 'w')\nfrom transformers import GPT2Config as C, GPT2LMHeadModel as M\n"
    for name in ("evil.py", "modeling_gpt2.py", "tokenization_gpt2.py", "__init__.py", "sitecustomize.py"):
        (folder / name).write_text(code)
    kinds = {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M", "AutoTokenizer": ["evil.T", None]}
    config(auto_map=kinds, model_type="evil", architectures=["EvilForCausalLM"])(folder)
    words = [str({"MODEL": folder, "OUT": out}.get(word, word)) for word in command]
    found = knock(*words)
    assert (found.trouble, found.code) == ("", 1), found
    assert "brings its own program code" in found.err
    assert not mark.exists()


def test_words_that_would_steer_the_terminal_are_spelled_out_there(tmp_path: Path) -> None:
    words = (WORDS[0], *(f"{STEERING}{number}" for number in range(len(WORDS) - 1)))
    folder = gpt2(tmp_path / "model", words)
    found = knock("generate", folder, "--prompt", STEERING + "1", "--max-new-tokens", "3", is_terminal=True)
    assert (found.trouble, found.code) == ("", 0), found
    assert "\\x1b]0;owned" in found.out
    found = knock(
        "generate", folder, "--prompt", "?", "--show-candidates", "3", "--max-new-tokens", "2", is_terminal=True
    )
    assert (found.trouble, found.code) == ("", 0), found
    assert "\x1b[1m" in found.out, "what is chosen is bold"
