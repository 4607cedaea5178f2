import pytest
import torch

from glassworks.tensors import machine
from glassworks.tensors.machine import free_disk, gemm_rates, memory, processor

CPU = torch.device("cpu")


def test_rates_are_measured_with_what_each_way_rounds_to(monkeypatch):
    monkeypatch.setattr(machine, "GEMM_SIZE", {"cpu": 128})
    rates = {rate.name: rate for rate in gemm_rates(CPU, seconds=0.01)}
    assert set(rates) == {"float32", "float32_fast", "bfloat16"}
    assert all(rate.operations_per_second > 1e6 for rate in rates.values())
    assert rates["float32"].error < machine.STILL_FLOAT32
    # bfloat16 keeps 8 bits, so each product is off by about 2^-9.
    assert 1e-4 < rates["bfloat16"].error < 1e-1


@pytest.mark.parametrize("before", ["highest", "high"])
def test_measuring_leaves_the_precision_of_the_process_as_it_was(monkeypatch, before):
    monkeypatch.setattr(machine, "GEMM_SIZE", {"cpu": 64})
    found = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(before)
        gemm_rates(CPU, seconds=0.0)
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(found)


def test_memory_disk_and_cores_are_plausible(tmp_path):
    host = memory(CPU)
    assert 0 < host.host_free <= host.host_total
    assert (host.device_total, host.device_free) == (None, None)
    assert free_disk(tmp_path / "not" / "there" / "yet") == pytest.approx(free_disk(tmp_path), rel=0.1)
    cpu = processor()
    assert 1 <= cpu.usable <= cpu.cores
    assert cpu.threads == torch.get_num_threads()
