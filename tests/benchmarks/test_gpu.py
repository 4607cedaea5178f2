import pytest
import torch

from benchmarks import gpu


def test_without_a_device_the_row_says_that_nothing_was_measured(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (found,) = gpu.rows(3, quick=True)
    assert found.ratio is None
    assert found.reason == "There is no CUDA device here; nothing was measured."


@pytest.mark.slow
def test_every_figure_but_those_of_a_gpu_alone_comes_out_on_a_processor_too(monkeypatch):
    # Compiling takes minutes and is not what is looked at here.
    monkeypatch.setattr(torch, "compile", lambda model: model)
    found = gpu.measured(torch.device("cpu"), gpu.TOY, 3)
    missing = {one.what.split(",")[0] + "," + one.what.split(",")[1] for one in found if one.ratio is None}
    assert missing <= {"attention, efficient", "decoding, CUDA graph"}
    assert all(one.ratio is None or 0 < one.ratio < 2 for one in found)
    assert len(found) == 8
