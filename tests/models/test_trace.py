import json

import pytest
import torch

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.models.candidates import Sampling
from glassworks.models.load import load
from glassworks.models.trace import FORMULAS, PARTS, Extent, trace
from glassworks.tensors.files import load_tensors
from tests.assets import asset
from tests.families import tiny
from tests.models.decoders import plain

IDS = [3, 1, 60, 17, 5]


def test_a_trace_holds_every_part_and_its_parts_give_the_logits(tmp_path) -> None:
    model = plain("llama")
    traced = trace(Subject.of(model), IDS, 3)
    json_path, beside = traced.save(tmp_path / "t.json")
    data, (tensors, _) = json.loads(json_path.read_text()), load_tensors(beside)
    assert data["file"] == "t.safetensors"
    assert traced.holds
    assert {entry["site"] for entry in data["tensors"]} == set(tensors)
    for entry in data["tensors"]:
        assert entry["shape"] == list(tensors[entry["site"]].shape)
        assert len(entry["dims"]) == len(entry["shape"])
        assert entry["formula"] in FORMULAS
    parts = {entry["part"] for entry in data["tensors"]}
    # This one adds no vectors to the stream.
    assert parts == set(PARTS) - {"positions"}
    with torch.no_grad():
        logits = model(torch.tensor([IDS])).logits[0]
    assert torch.allclose(tensors["logits"], logits, atol=1e-5)
    # By hand: one head of one layer, from queries and keys to what it gives.
    q, k, v = (tensors[f"layers.1.mixer.{part}"] for part in "qkv")
    scores = q[:, 3] @ k[:, 1].T / 8**0.5
    weights = torch.softmax(scores.masked_fill(~tensors["layers.1.mixer.mask"].bool(), -torch.inf), -1)
    assert torch.allclose(tensors["layers.1.mixer.pattern"][3], weights, atol=1e-5)
    assert torch.allclose(tensors["layers.1.mixer.z"][:, 3], weights @ v[:, 1], atol=1e-5)
    gate, up = tensors["layers.0.feedforward.gate"], tensors["layers.0.feedforward.up"]
    assert torch.allclose(tensors["layers.0.feedforward.post"], torch.nn.functional.silu(gate) * up, atol=1e-5)
    assert torch.allclose(tensors["rotation.angles"][2], 2 * torch.tensor(data["positions"]["speeds"]))


def test_text_and_candidates_stand_beside_the_tensors() -> None:
    subject = load(asset("lm/stories260K/stories260K.bin"), device="cpu")
    ids = subject.tokenizer.encode("Once upon a time")
    data = trace(subject, ids, 3, Sampling(temperature=0.5, top_k=2), candidates=4).data
    assert [one["prompt"] for one in data["tokens"]] == [True, True, True, False, False]
    assert data["tokens"][1]["bytes"] == b" Once".hex()
    taken = [one for one in data["next"][0]["candidates"] if one["taken"]]
    assert [one["id"] for one in taken] == [ids[1]]
    assert not any(one["taken"] for one in data["next"][-1]["candidates"])
    assert data["check"]["passed"]
    assert data["check"]["relative_errors"]["logits"] < 1e-5


@pytest.mark.parametrize(
    "family", ["gpt2", *(pytest.param(one, marks=pytest.mark.slow) for one in ("neox", "bloom", "gemma3"))]
)
def test_decoders_of_any_kind_are_traced(family) -> None:
    traced = trace(Subject.of(tiny(family)), IDS, 5)
    assert traced.holds
    assert traced.data["check"]["relative_errors"]["logits"] < 1e-5


def test_norms_behind_the_sums_are_traced_too() -> None:
    traced = trace(Subject.of(plain("first")), IDS, 5)
    assert traced.holds
    assert "last stream" in traced.data["check"]["recomputed"]
    assert "positions" in traced.tensors


def test_its_size_is_bounded_and_parts_can_be_asked_for(tmp_path) -> None:
    subject = Subject.of(plain("gpt2"))
    small = trace(subject, IDS, 5, extent=Extent(layers=1, tokens=2))
    assert small.data["layers"] == {"shown": 1, "of": 2}
    assert len(small.data["tokens"]) == 2
    assert not any(name.startswith("layers.1.") for name in small.tensors)
    # The check still goes through all layers.
    assert small.holds
    with pytest.raises(InvalidInput, match="would take"):
        trace(subject, IDS, 5, extent=Extent(most_bytes=1000))
    with pytest.raises(InvalidInput, match="at least 1"):
        trace(subject, IDS, 5, extent=Extent(layers=0))
    with pytest.raises(InvalidInput, match="JSON"):
        small.save(tmp_path / "t.safetensors")
