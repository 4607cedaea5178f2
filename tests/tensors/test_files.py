import pytest
import torch

from glassworks.core.errors import BrokenFile, NotFound
from glassworks.tensors.files import load_tensors, save_tensors


def test_tensors_and_their_header_come_back_as_they_were(tmp_path):
    tensors = {"a": torch.arange(6.0).view(2, 3).t(), "b": torch.tensor([1, 2]), "c": torch.zeros(0, 3)}
    save_tensors(tmp_path / "x.safetensors", tensors, {"step": "3"})
    found, header = load_tensors(tmp_path / "x.safetensors")
    assert header == {"step": "3"}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("keep", [0, 5, 40])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(50)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BrokenFile, match=r"x\.safetensors"):
        load_tensors(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFound):
        load_tensors(tmp_path / "absent.safetensors")
