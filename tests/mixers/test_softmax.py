import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close

from glassworks.mixers import Gates, Heads, Softmax
from glassworks.mixers.softmax import Kernel, SoftmaxMixer

HEADS = Heads(4, 2, 8, 0.35)


class Seen(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[object, torch.Tensor]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function in (torch.softmax, torch.nn.functional.scaled_dot_product_attention):
            self.calls.append((function, out))
        return out


def drawn(tokens: int = 12, kind: torch.dtype = torch.float64) -> list[torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(3, heads, tokens, 8, generator=chance).to(kind) for heads in (4, 2, 2)]


@pytest.mark.parametrize("queries", [1, 5, 12])
@pytest.mark.parametrize("padded", [False, True])
def test_both_kernels_give_the_same(queries: int, padded: bool) -> None:
    q, k, v = drawn()
    real = torch.ones(3, 12, dtype=torch.bool)
    real[0, :4] = False
    real[1, 9:] = False
    outs = [
        Softmax(kernel=kernel).build(HEADS)(q[:, :, -queries:], k, v, gates=Gates(real=real) if padded else None).out
        for kernel in ("sdpa", "plain")
    ]
    assert_close(outs[0], outs[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kernel", ["sdpa", "plain"])
def test_an_observer_sees_exactly_one_softmax_with_heads_apart(kernel: Kernel) -> None:
    with Seen() as seen:
        SoftmaxMixer(HEADS, kernel)(*drawn())
    ((function, out),) = seen.calls
    if kernel == "plain":
        assert function is torch.softmax
        assert out.shape == (3, 4, 12, 12)
        assert_close(out.sum(-1), torch.ones(3, 4, 12, dtype=out.dtype))
    else:
        assert function is torch.nn.functional.scaled_dot_product_attention


def kernel_taken(mixer: SoftmaxMixer, qkv: list[torch.Tensor]) -> str:
    with Seen() as seen:
        mixer(*qkv)
    return "plain" if seen.calls[0][0] is torch.softmax else "sdpa"


def test_auto_takes_plain_operations_where_the_processor_lowers_precision() -> None:
    mixer = SoftmaxMixer(HEADS)
    assert kernel_taken(mixer, drawn(kind=torch.float32)) == "sdpa"
    assert kernel_taken(mixer, drawn(kind=torch.float64)) == "sdpa"
    assert kernel_taken(mixer, drawn(kind=torch.bfloat16)) == "plain"
    with torch.autocast("cpu", torch.bfloat16):
        assert kernel_taken(mixer, drawn(kind=torch.float32)) == "plain"
        assert mixer(*drawn(kind=torch.float32)).out.dtype == torch.bfloat16
    assert kernel_taken(mixer, drawn(1025, torch.bfloat16)) == "sdpa"


def test_a_mask_made_in_inference_mode_serves_training_later() -> None:
    mixer = SoftmaxMixer(HEADS, "plain")
    with torch.inference_mode():
        mixer(*drawn(11))
    qkv = [x.requires_grad_() for x in drawn(11)]
    mixer(*qkv).out.sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in qkv)


def test_every_row_of_the_map_is_an_average() -> None:
    q, k, v = drawn()
    out = Softmax().build(HEADS)(q, k, torch.ones_like(v)).out
    assert_close(out, torch.ones_like(out))
