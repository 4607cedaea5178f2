"""Activations on the disk are those of a pass, whatever stopped the writing; other folders and a full disk are told plainly."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaForCausalLM

from glassworks.anatomy import KeptActivations, Subject, keep_activations, keeping
from glassworks.anatomy.kept import INDEX
from glassworks.core.errors import BrokenFile, InvalidInput, NoSpace
from glassworks.instruments import AttentionMaps, LinearProbe, Similarity
from glassworks.instruments.examine import examine

STREAM = ["layers.0.in", "layers.*.out"]


def model(seed=0, **changes):
    sizes = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 53,
        "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": None,
    }  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**(sizes | changes))).eval()


@pytest.fixture(scope="module")
def subject():
    return Subject.of(model())


@pytest.fixture
def documents(subject):
    generator = torch.Generator().manual_seed(3)
    return subject.windows(torch.randint(53, (7 * 13 + 5,), generator=generator).tolist(), 13)


def test_what_is_kept_is_what_a_pass_gives(subject, documents, tmp_path):
    kept = keep_activations(subject, documents, [*STREAM, "layers.1.mixer.q"], tmp_path / "k", piece_tokens=40)
    assert kept.is_complete
    assert kept.tokens == 7 * 13 + 5
    _, seen = subject.run_with_cache(documents)
    for name in kept:
        assert torch.allclose(kept[name], seen[name][documents.real], atol=1e-6)
        assert np.array_equal(kept.memmap(name), kept[name].numpy())
    assert kept["layers.1.mixer.q"].shape == (96, 2, 8)
    assert kept.ids.tolist() == documents.ids[documents.real].tolist()
    assert kept.document.tolist()[-6:] == [6, 7, 7, 7, 7, 7]
    assert kept.position.tolist()[-5:] == [0, 1, 2, 3, 4]


def test_any_reader_of_safetensors_opens_a_site(subject, documents, tmp_path):
    kept = keep_activations(subject, documents, "layers.1.out", tmp_path)
    with safe_open(tmp_path / "layers.1.out.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("activations"), kept["layers.1.out"])
        assert torch.equal(file.get_slice("activations")[10:20], kept.rows("layers.1.out", slice(10, 20)))


def test_bfloat16_is_kept_as_it_is(documents, tmp_path):
    subject = Subject.of(model().bfloat16())
    kept = keep_activations(subject, documents, "layers.0.out", tmp_path)
    _, seen = subject.run_with_cache(documents.ids[:2], "layers.0.out")
    assert kept["layers.0.out"].dtype == torch.bfloat16
    assert torch.equal(kept["layers.0.out"][:26], seen["layers.0.out"].flatten(0, 1))
    assert kept.memmap("layers.0.out").dtype == np.uint16


class Stopped(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_stop_anywhere_is_gone_on_with_and_ends_in_the_same_bytes(subject, documents, tmp_path, monkeypatch, after):
    whole = keep_activations(subject, documents, STREAM, tmp_path / "whole", piece_tokens=40)
    monkeypatch.setattr(keeping, "SECONDS_AT_RISK", 0.0)
    heard = []

    def stop(text):
        heard.append(text)
        if len(heard) > after:
            raise Stopped

    with pytest.raises(Stopped):
        keep_activations(subject, documents, STREAM, tmp_path / "k", piece_tokens=40, tell=stop)
    half = KeptActivations.open(tmp_path / "k")
    assert half.documents == min(3 * after, 8)
    assert not half.is_complete
    for name in half:
        # Only whole documents are shown.
        assert np.array_equal(half.memmap(name), whole.memmap(name)[: half.tokens])
    kept = keep_activations(subject, documents, STREAM, tmp_path / "k", piece_tokens=40)
    assert kept.is_complete
    for name in kept:
        file = f"{name}.safetensors"
        assert (tmp_path / "k" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not list((tmp_path / "k").glob("*.unfinished"))


def test_a_finished_folder_is_opened_and_the_model_runs_no_more(subject, documents, tmp_path):
    keep_activations(subject, documents, "layers.0.out", tmp_path)
    heard = []
    keep_activations(subject, documents, "layers.0.out", tmp_path, tell=heard.append)
    assert heard == []


def test_a_folder_of_something_else_is_refused(subject, documents, tmp_path):
    keep_activations(subject, documents, "layers.0.out", tmp_path)
    with pytest.raises(InvalidInput, match="another model"):
        keep_activations(subject, documents, "layers.1.out", tmp_path)
    with pytest.raises(InvalidInput, match="another model"):
        keep_activations(subject, [[1, 2, 3]], "layers.0.out", tmp_path)
    with pytest.raises(InvalidInput, match="other numbers"):
        keep_activations(Subject.of(model(seed=9)), documents, "layers.0.out", tmp_path)


def test_maps_are_refused_with_what_to_keep_instead(subject, documents, tmp_path):
    with pytest.raises(InvalidInput, match="no row for each token") as problem:
        keep_activations(subject, documents, "layers.0.mixer.pattern", tmp_path)
    assert "mixer.q" in problem.value.right.en


def test_damage_is_named(subject, documents, tmp_path):
    kept = keep_activations(subject, documents, "layers.0.out", tmp_path)
    path = tmp_path / "layers.0.out.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BrokenFile, match=r"layers\.0\.out"):
        kept["layers.0.out"]
    (tmp_path / INDEX).write_text(
        json.dumps({"version": 1, "sites": [{"name": "../x", "shape": [1], "dtype": "float32"}]})
    )
    with pytest.raises(BrokenFile):
        KeptActivations.open(tmp_path)


def test_a_full_disk_is_noticed_before_anything_runs(subject, documents, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeping.os, "posix_fallocate", full)
    with pytest.raises(NoSpace, match="cannot write"):
        keep_activations(subject, documents, "layers.0.out", tmp_path)
    assert not (tmp_path / INDEX).exists()
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.slow
def test_instruments_that_gather_read_the_same_from_the_disk(subject, documents, tmp_path):
    kept = keep_activations(subject, documents, STREAM, tmp_path, piece_tokens=40)
    for one in (Similarity(), LinearProbe(seed=1)):
        live, stored = one.read(subject, documents), one.read_kept(subject, kept)
        assert np.allclose(live.values, stored.values, atol=1e-5, equal_nan=True)
    with pytest.raises(InvalidInput, match="as a whole"):
        AttentionMaps().read_kept(subject, kept)


@pytest.mark.slow
def test_an_examination_of_kept_activations_finds_what_one_of_the_texts_finds(subject, documents, tmp_path):
    kept = keep_activations(subject, documents, STREAM, tmp_path)
    ours, live = examine(subject, kept), examine(subject, documents)
    assert set(ours.readings) == set(live.readings) - {"ablation"}
    for name in ("similarity", "block_influence", "head_scores", "sinks"):
        assert np.allclose(ours.readings[name].data, live.readings[name].data, atol=1e-5, equal_nan=True)


PROGRAM = """
import sys, torch
from glassworks.anatomy import Subject, keep_activations, keeping
sys.path.insert(0, {tests!r})
from tests.anatomy.test_keeping import model
keeping.SECONDS_AT_RISK = 0.0
subject = Subject.of(model())
ids = torch.randint(53, ({tokens},), generator=torch.Generator().manual_seed(3)).tolist()
keep_activations(subject, subject.windows(ids, 13), ["layers.0.in", "layers.*.out"], sys.argv[1], piece_tokens=40)
print([line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")][0])
"""


def started(folder, tokens):
    root = str(keeping.__file__).partition("/src/")[0]
    program = PROGRAM.format(tests=root, tokens=tokens)
    return subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True, cwd=root)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_killed_process_leaves_whole_documents_and_memory_does_not_grow_with_the_text(tmp_path):
    tokens = 20_000
    index = tmp_path / "killed" / INDEX
    with started(tmp_path / "killed", tokens) as process:
        while process.poll() is None and not (index.is_file() and json.loads(index.read_text())["done"] > 50):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    half = KeptActivations.open(tmp_path / "killed")
    assert 50 < half.documents < half.all_documents
    peaks = []
    for folder, count in (("killed", tokens), ("small", tokens // 10)):
        with started(tmp_path / folder, count) as process:
            peaks.append(int(process.communicate(timeout=300)[0]))
    large, small = peaks
    ids = torch.randint(53, (tokens,), generator=torch.Generator().manual_seed(3)).tolist()
    subject = Subject.of(model())
    keep_activations(subject, subject.windows(ids, 13), STREAM, tmp_path / "whole", piece_tokens=40)
    for path in sorted((tmp_path / "whole").glob("*.safetensors")):
        assert path.read_bytes() == (tmp_path / "killed" / path.name).read_bytes()
    # Ten times the tokens; their ids alone are 160 kB. The rest is what a piece takes.
    assert large - small < 16_000
