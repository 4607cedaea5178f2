"""What a look will take, said before the model is loaded, is near what it then takes: five sizes, memory and processor time."""

import json
import os
import subprocess
import sys

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from glassworks.core.errors import InvalidInput, NotFound
from glassworks.instruments.estimate import _steps, peak_bytes_since, resident_bytes
from glassworks.models.announced import announced
from glassworks.models.placement import Placement
from glassworks.models.pretrained import Wanted
from glassworks.tensors.held import Held
from glassworks.tensors.rates import copy_seconds, product_seconds

CPU = Wanted(torch.float32, torch.device("cpu"))
IDS = ",".join(map(str, range(100, 114)))


def llama(depth, width, heads, feedforward, vocabulary):
    return LlamaConfig(
        hidden_size=width, intermediate_size=feedforward, num_hidden_layers=depth, num_attention_heads=heads,
        num_key_value_heads=heads, vocab_size=vocabulary, max_position_embeddings=512, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip


SIZES = {
    "3M": llama(4, 192, 6, 512, 4096),
    "15M": GPT2Config(
        n_embd=320, n_layer=6, n_head=5, vocab_size=24000, n_positions=512, bos_token_id=1, eos_token_id=None
    ),
    "54M": llama(12, 512, 8, 1376, 16000),
    "134M": llama(16, 768, 12, 2048, 16000),
    "350M": llama(24, 1024, 16, 2816, 32000),
}

LARGE = ("54M", "134M", "350M")


def saved(config, folder, dtype=torch.float32):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config) if isinstance(config, GPT2Config) else LlamaForCausalLM(config)
    model.to(dtype).save_pretrained(folder)
    return sum(p.numel() for p in model.parameters())


def test_a_folder_is_known_without_its_numbers(tmp_path):
    count = saved(llama(3, 48, 4, 96, 120), tmp_path)
    known = announced(str(tmp_path), CPU)
    assert known.parameters == count
    assert known.depth == 3
    assert (known.width, known.heads, known.vocabulary) == (48, 4, 120)
    assert sorted(known.matrices) == [(48, 48)] * 4 + [(48, 96), (96, 48), (96, 48)]
    assert known.formats == {"F32": count}
    assert all(parameter.is_meta for parameter in known.model.parameters())
    assert known.loaded_bytes(torch.bfloat16, Placement()) == 2 * count
    packed = known.loaded_bytes(torch.float32, Placement(bits=8))
    inside = 3 * (4 * 48 * 48 + 3 * 48 * 96)
    assert packed == 4 * (count - inside) + inside + 3 * 4 * (4 * 48 + 2 * 96 + 48)
    # The same format is mapped in place; another one stands beside its file while it is read.
    assert known.reading_bytes(torch.float32) == 0
    assert known.reading_bytes(torch.bfloat16) == known.file_bytes > 4 * count


def test_a_thin_twin_has_the_heads_and_the_vocabulary_but_not_the_width(tmp_path):
    for config in (llama(3, 48, 4, 96, 120), GPT2Config(n_embd=64, n_layer=3, n_head=4, vocab_size=120)):
        saved(config, tmp_path / config.model_type)
        twin = announced(str(tmp_path / config.model_type), CPU).thin(2)
        assert type(twin).__name__.lower().startswith(config.model_type)
        assert (twin.config.num_hidden_layers, twin.config.num_attention_heads) == (2, 4)
        assert (twin.config.vocab_size, twin.config.hidden_size) == (120, 16)
        assert twin(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 120)


def test_what_cannot_be_known_is_refused(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"weights")
    with pytest.raises(InvalidInput, match="read as a whole"):
        announced(str(tmp_path / "x.bin"), CPU)
    with pytest.raises(NotFound):
        announced(str(tmp_path), CPU)
    with pytest.raises(NotFound, match="is not there"):
        announced(str(tmp_path / "nothing"), CPU)
    with pytest.raises(NotFound, match="llama-2-7b of the gallery") as problem:
        announced("llama-2-7b", CPU)
    assert problem.value.next_command == "glassworks models get llama-2-7b"


def test_weights_that_are_packed_already_are_counted_as_such_or_refused(tmp_path):
    count = saved(llama(3, 48, 4, 96, 120), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for method, is_known in (
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, True),
        ({"quant_method": "gptq"}, False),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": method}))
        if is_known:
            assert announced(str(tmp_path), CPU).loaded_bytes(torch.float32, Placement()) < 3 * count
        else:
            with pytest.raises(InvalidInput, match="quantised"):
                announced(str(tmp_path), CPU)


def test_what_a_twins_tensors_would_take_in_the_model_follows_from_their_widths(tmp_path):
    saved(llama(3, 48, 4, 96, 120), tmp_path)
    known = announced(str(tmp_path), CPU)
    for head in (4, 6):
        # The stream, the feed-forward and a head: 48, 96 and 12 numbers.
        assert known.larger(known.thin(2, head), head) == {4 * head: 48, 4 * (head + 2): 96, head: 12}
    weight = torch.zeros(16, 16)
    with Held({16: 48, 4: 12}, [weight]) as held:
        stream = torch.zeros(10, 16)
        scores, view = torch.zeros(10, 10), stream[2:]
        held.step()
        weight.t()
        square = torch.zeros(16, 16)
        del square
        held.step()
        del stream
        held.step()
        del view
        held.step()
        held.step()
    assert scores.shape == (10, 10), "what has no width of the twin is the model's own already"
    stays, passes = 4 * 10 * (48 - 16), 4 * (48 * 48 - 16 * 16)
    assert held.peaks == [stays, stays + passes, stays, stays, 0]


def test_each_step_is_carried_to_the_depth_by_itself():
    assert _steps((10, 50), (30, 50), (2, 6), 10).tolist() == [50, 50]
    assert _steps((10, 40), (30, 20), (2, 6), 10).tolist() == [50, 40], "more layers never need less"
    assert _steps((10, 50), (30, 50, 5), (2, 6), 10).tolist() == [50]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_that_the_last_work_left_does_not_hide_what_the_next_takes():
    left = [bytes(100_000) for _ in range(600)]
    # What stays in use at the end keeps the rest from being handed back by itself.
    last, before = left[-1], resident_bytes()
    del left
    peak_bytes_since(reset=True)
    assert resident_bytes() < before - 40_000_000
    assert len(last) == 100_000


def test_times_of_products_grow_with_what_is_multiplied():
    small = product_seconds([(64, 64)], 4, torch.float32, torch.device("cpu"))
    large = product_seconds([(1024, 1024)], 64, torch.float32, torch.device("cpu"))
    assert 0 < small[0] < large[0]
    assert 0 < copy_seconds(10**6)[1] < copy_seconds(10**9)[1]
    assert copy_seconds(0).tolist() == [0.0, 0.0]


def run(words, extra=""):
    """What a command printed as JSON, its processor seconds, and its peak memory."""
    program = f"""
import sys, time
from glassworks.cli.main import main
code = main(sys.argv[1:])
lines = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
print("\\n@", code, time.process_time(), peak)
{extra}"""
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    text, _, last = done.stdout.rpartition("\n@ ")
    assert last, done.stderr
    code, seconds, peak = last.split()
    assert code == "0", done.stderr
    return json.loads(text), float(seconds), int(peak)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=[pytest.mark.nightly] if number else []) for number, size in enumerate(SIZES)]
)
def test_an_estimate_is_within_a_quarter_of_what_examine_takes(size, tmp_path):
    if size in LARGE and os.environ.get("GLASSWORKS_ALL_SIZES") != "1":
        pytest.skip("the larger sizes take minutes: make estimates")
    count = saved(SIZES[size], tmp_path / "model")
    words = ["examine", str(tmp_path / "model"), "--tokens", IDS, "--json", "--out", str(tmp_path)]
    estimate = run([*words, "--estimate"])[0]["estimate"]
    found, seconds, peak = run(words)
    off = estimate["peak_bytes"] / peak - 1, estimate["processor_seconds"] / seconds - 1
    sys.stderr.write(f"{size}: memory {off[0]:+.1%}, processor {off[1]:+.1%}\n")
    assert estimate["parameters"] == count == found["model"]["parameters"]
    assert 0.75 <= estimate["peak_bytes"] / peak <= 1.25
    assert 0.75 <= estimate["processor_seconds"] / seconds <= 1.25


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_an_estimate_is_within_a_quarter_of_what_surgery_takes(tmp_path):
    saved(SIZES["54M"], tmp_path / "model")
    words = [
        "surgery",
        str(tmp_path / "model"),
        "--plan",
        "0..4 6..11",
        "--tokens",
        IDS,
        "--new-tokens",
        "12",
        "--json",
    ]
    estimate = run([*words, "--estimate"])[0]["estimate"]
    found, seconds, peak = run(words)
    assert found["tokens"]
    assert 0.75 <= estimate["peak_bytes"] / peak <= 1.25
    assert 0.75 <= estimate["processor_seconds"] / seconds <= 1.25
