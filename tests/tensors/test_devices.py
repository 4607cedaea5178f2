import pytest
import torch

from glassworks.core.errors import Unavailable, UnknownName
from glassworks.tensors.devices import choose_device, choose_dtype, has_fast_bfloat16


def test_auto_takes_a_device_that_is_here_and_cpu_is_always_here():
    assert choose_device("cpu") == torch.device("cpu")
    assert torch.zeros(1, device=choose_device("auto")).sum() == 0


@pytest.mark.parametrize("name", ["cud", "gpu", "cuda:x", "", "cpu:", "cuda:²", "cpu:-1"])
def test_an_unknown_device_is_named_with_those_that_exist(name):
    with pytest.raises(UnknownName) as caught:
        choose_device(name)
    assert "cpu" in str(caught.value)


@pytest.mark.parametrize("name", ["cuda:99", "cuda:99999999999999999999", "cpu:7", "mps:3"])
def test_an_absent_device_is_refused(name):
    with pytest.raises(Unavailable):
        choose_device(name)


def test_number_formats():
    assert choose_dtype("auto") is torch.float32
    assert choose_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(UnknownName):
        choose_dtype("float23")
    with pytest.raises(Unavailable):
        choose_dtype("float64", torch.device("mps"))
    assert isinstance(has_fast_bfloat16(torch.device("cpu")), bool)
    assert has_fast_bfloat16(torch.device("mps")) is False
