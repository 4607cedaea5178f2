"""Models that are spread over devices and disk, or packed in eight bits, give the numbers of the plain one, or say why not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.offloaded import is_offloaded, weight_at, weights_here
from glassworks.core.errors import InvalidInput, Unavailable, UnknownName
from glassworks.instruments.readout import Readout
from glassworks.models.load import load
from glassworks.models.placement import Placement
from glassworks.surgery.operate import operated
from glassworks.surgery.sweep import fingerprint

IDS = [[5, 9, 2, 44, 5, 9, 2]]
MIXED = {
    "model.embed_tokens": "cpu", "model.layers.0": "cpu", "model.layers.1": "disk", "model.layers.2": "disk",
    "model.norm": "disk", "model.rotary_emb": "cpu", "lm_head": "disk",
}  # fmt: skip
PACKED = Path(__file__).parents[2] / ".venv" / "quantized"


@pytest.fixture(scope="module", params=[False, True], ids=["own head", "tied head"])
def folder(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("spread")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=60, max_position_embeddings=64, tie_word_embeddings=request.param, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


def spreads(folder):
    tied = json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    # A head that shares the embedding's numbers waits where they wait.
    mixed = MIXED | ({"lm_head": "cpu"} if tied else {})
    return [Placement(device_map={"": "disk"}), Placement(most="cpu=20KB"), Placement(device_map=mixed)]


def test_an_offloaded_model_gives_the_very_numbers_of_the_plain_one(folder):
    plain = load(folder, device="cpu")
    expected = plain.forward(plain.batch(IDS))
    for placement in spreads(folder):
        subject = load(folder, device=placement)
        assert is_offloaded(subject.model)
        assert torch.equal(subject.forward(subject.batch(IDS)), expected)
        assert subject.parameter_count == plain.parameter_count
        assert any("wait" in note.en for note in subject.origin.notes)


def test_what_stands_in_a_report_about_an_offloaded_model_is_exact(folder):
    subject = load(folder, device=Placement(device_map={"": "disk"}))
    found = Fidelity.check(subject, subject.batch(IDS))
    assert found.holds
    assert found.logit_difference == 0.0


def test_activations_and_edits_reach_layers_whose_weights_wait(folder):
    plain, spread = load(folder, device="cpu"), load(folder, device=Placement(device_map={"": "disk"}))
    for subject in (plain, spread):
        assert subject.anatomy.depth == 3
    ours, theirs = (subject.run_with_cache(IDS)[1] for subject in (spread, plain))
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    edits = [("layers.1.mixer.z", lambda tensor, hook: tensor * 0)]
    assert torch.equal(spread.run_with_hooks(IDS, edits), plain.run_with_hooks(IDS, edits))


def test_a_map_that_does_not_fit_the_machine_or_the_model_is_told_as_such(folder):
    with pytest.raises(Unavailable, match="no device cuda:77"):
        load(folder, device=Placement(device_map={"": 77}))
    with pytest.raises(UnknownName, match="device: nowhere"):
        load(folder, device=Placement(device_map={"model.layers": "nowhere", "": "cpu"}))
    with pytest.raises(InvalidInput, match="the device map does not fit"):
        load(folder, device=Placement(device_map={"model.layers": "disk"}))


def test_plans_run_over_offloaded_layers(folder):
    plain, spread = load(folder, device="cpu"), load(folder, device=Placement(most="cpu=20KB"))
    found = []
    for subject in (plain, spread):
        with operated(subject, "0 (1 | 2) 1"):
            found.append((subject.forward(subject.batch(IDS)), subject.generate(IDS, 4)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_weights_that_wait_are_read_where_they_are(folder):
    plain, spread = load(folder, device="cpu"), load(folder, device=Placement(device_map={"": "disk"}))
    names = dict(plain.model.named_parameters())
    assert [name for name, _ in weights_here(spread.model)] == list(names)
    assert all(torch.equal(weight_at(spread.model, name), weight) for name, weight in names.items())
    assert fingerprint(spread) == fingerprint(plain)
    stream = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Readout.of(spread)(stream), Readout.of(plain)(stream))
    assert torch.equal(spread.read_stream(stream), plain.read_stream(stream))


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"bits": 4}, InvalidInput),
        ({"device_map": "evenly"}, UnknownName),
        ({"device_map": "{oops"}, InvalidInput),
        ({"device_map": "[1]"}, UnknownName),
        ({"device_map": '{"": [1]}'}, InvalidInput),
        ({"device_map": "auto", "device": "cpu"}, InvalidInput),
        ({"most": "lots"}, InvalidInput),
        ({"most": "cpu=-1GB"}, InvalidInput),
    ],
)
def test_a_placement_that_cannot_be_meant_is_refused(wrong, kind):
    with pytest.raises(kind):
        Placement(**wrong)


def test_sizes_are_read_as_people_write_them():
    assert Placement(most="0=70GB, cpu=1.5g").most == {"0": 70 * 10**9, "cpu": 1_500_000_000}
    assert Placement(most={0: "1MB"}).most == {"0": 10**6}


def test_a_live_model_is_not_moved_apart():
    model = torch.nn.Embedding(3, 2)
    with pytest.raises(InvalidInput, match="live model"):
        load(model, device=Placement(device_map="auto"))


PROGRAM = """
import json, sys
from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.offloaded import is_packed, weight_at
from glassworks.core.errors import InvalidInput
from glassworks.models.load import load
from glassworks.models.placement import Placement
from glassworks.surgery.operate import operated
folder, ids = sys.argv[1], [[5, 9, 2, 44, 5, 9, 2]]
plain, packed = load(folder, device="cpu"), load(folder, device=Placement("cpu", bits=8))
name = "model.layers.1.mlp.up_proj.weight"
exact, rounded = weight_at(plain.model, name), weight_at(packed.model, name)
logits = [one.forward(one.batch(ids)) for one in (plain, packed)]
rounded_after = weight_at(packed.model, name)
found = Fidelity.check(packed, packed.batch(ids))
with operated(packed, "0 2"):
    under = packed.forward(packed.batch(ids))
try:
    load(folder, device=Placement(bits=8, device_map={"": "disk"}))
    refused = ""
except InvalidInput as problem:
    refused = problem.what.en
print(json.dumps({
    "packed": is_packed(packed.model), "watched": found.logit_difference, "refused": refused,
    "apart": float((logits[0] - logits[1]).abs().max()), "size": float(logits[0].abs().max()),
    "weights": float((exact - rounded).abs().max() / exact.abs().max()),
    "same": bool((rounded == rounded_after).all()), "under": float((under - logits[1]).abs().max()),
    "notes": [note.en for note in packed.origin.notes],
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not PACKED.is_dir(), reason="bitsandbytes is not in .venv/quantized")
def test_eight_bits_round_the_weights_and_nothing_else(folder):
    path = f"{PACKED}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["packed"]
    # Watching changes nothing; rounding to one part in 254 of a row's largest number does, and that is said.
    assert found["watched"] == 0.0
    assert 0 < found["weights"] <= 1 / 200
    assert found["same"]
    assert 0 < found["apart"] < 0.1 * found["size"]
    assert found["under"] > 0
    assert any("eight bits" in note for note in found["notes"])
    assert "eight bits" in found["refused"]
