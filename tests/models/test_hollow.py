"""Models without their numbers: no memory, the same form, and each part of the numbers where it is asked for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from glassworks.mixers import Infini, Mesa, Softmax
from glassworks.models import EncoderDecoderSpec, TransformerSpec, build_model
from glassworks.models.folders import weight_files
from glassworks.models.hollow import StoredNumbers, drawn_parts, hollow_from, hollow_untrained
from glassworks.tensors.seeds import Seed
from tests.training.tuning import decoder, llama

SMALL: dict[str, Any] = {"vocabulary": 19, "width": 16, "heads": 2, "context": 24}


@pytest.mark.parametrize(
    "spec",
    [
        TransformerSpec(**SMALL, depth=2, mixers=(Mesa(), Infini(segment=8)), positions="learned"),
        TransformerSpec(**SMALL, depth=1, mixers=(Softmax(),), tie_output=True, positions="sinusoidal", norm="rms"),
        EncoderDecoderSpec(**SMALL, depth=1, weight_scale=0.1),
    ],
    ids=["mesa and infini", "tied, sinusoidal", "encoder and decoder"],
)
def test_parts_drawn_one_by_one_are_the_model_that_is_drawn_at_once(spec: Any) -> None:
    drawn = {name: tensor.clone() for name, tensor in drawn_parts(spec, Seed(3))}
    whole = build_model(spec, Seed(3))
    for name, tensor in (*whole.named_parameters(), *whole.named_buffers()):
        assert torch.equal(drawn[name], tensor), name
    assert {tensor.device.type for tensor in hollow_untrained(spec).parameters()} == {"meta"}


def filled(folder: Path) -> nn.Module:
    """The hollow model of a folder with the numbers of its files, three rows at a time."""
    found = hollow_from(folder)
    assert found is not None
    assert {tensor.device.type for tensor in found.model.parameters()} == {"meta"}
    stored = StoredNumbers(weight_files(folder))
    for name, tensor in list(found.model.named_parameters()):
        held = found.names[name]
        parts = [stored.rows(held, slice(row, row + 3)) for row in range(0, tensor.shape[0], 3)]
        owner, _, own = name.rpartition(".")
        found.model.get_submodule(owner).register_parameter(own, nn.Parameter(torch.cat(parts)))
    stored.close()
    found.model.tie_weights()
    return found.model.eval()


@pytest.mark.parametrize("build", [decoder, lambda: decoder(tie_output=True, positions="sinusoidal"), llama])
def test_a_hollow_model_with_the_rows_of_its_files_is_the_model(build: Any, tmp_path: Path) -> None:
    model = build().eval()
    model.save_pretrained(tmp_path)
    ids = torch.arange(5, 25).reshape(2, 10)
    assert torch.equal(filled(tmp_path)(ids).logits, model(ids).logits)


@pytest.mark.parametrize("harm", ["one is missing", "one is of no part", "one has another shape", "one is of integers"])
def test_files_that_hold_another_form_are_left_to_the_library(harm: str, tmp_path: Path) -> None:
    llama().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.1.mlp.up_proj.weight"
    match harm:
        case "one is missing":
            del tensors[name]
        case "one is of no part":
            tensors["model.layers.2.mlp.up_proj.weight"] = tensors[name].clone()
        case "one has another shape":
            tensors[name] = tensors[name].T.contiguous()
        case _:
            tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, path, {"format": "pt"})
    assert hollow_from(tmp_path) is None
