import pytest
import torch
from torch import Tensor

from glassworks.anatomy import HookPoint, edited
from glassworks.core.errors import InvalidInput
from tests.families import free_of_hooks
from tests.families import subject as examined

IDS = torch.randint(0, 61, (2, 13), generator=torch.Generator().manual_seed(0))
PARTS = (
    "resid_pre",
    "resid_mid",
    "resid_post",
    "attn_out",
    "mlp_out",
    "pre",
    "post",
    "q",
    "k",
    "v",
    "z",
    "scores",
    "pattern",
)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "bert", "gemma3", "bloom"])
@pytest.mark.slow
def test_replacing_a_tensor_by_itself_changes_nothing_and_by_noise_changes_the_logits(family: str, part: str) -> None:
    subject = examined(family)
    if part == "resid_mid" and "mid" in subject.anatomy.layers[1].missing:
        pytest.skip("a parallel block has no stream between its halves")
    plain, _ = subject.run_with_cache(IDS, [])
    if family == "bloom" and part in ("q", "k"):
        with pytest.raises(InvalidInput, match="computes its scores itself"):
            subject.run_with_hooks(IDS, [((part, 1), lambda t, hook: t)])
        return
    noise = torch.Generator().manual_seed(3)

    def disturb(tensor: Tensor, hook: HookPoint) -> Tensor:
        shaken = tensor + torch.randn(tensor.shape, generator=noise).abs()
        return shaken / shaken.sum(-1, keepdim=True) if part == "pattern" else shaken

    same = subject.run_with_hooks(IDS, [((part, 1), lambda t, hook: t.clone())])
    other = subject.run_with_hooks(IDS, [((part, 1), disturb)])
    # Bit-equality is too much: a replaced map is multiplied out in float32 instead of inside the kernel.
    assert torch.allclose(same, plain, atol=2e-5)
    assert float((other - plain).detach().abs().max()) > 1e-3
    assert free_of_hooks(subject.model)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "opt", "bloom", "gemma3"])
def test_the_stream_between_the_halves_takes_the_value_given_to_it(family: str) -> None:
    subject = examined(family)
    wanted = torch.randn(2, 13, 32, generator=torch.Generator().manual_seed(1))
    with edited(subject, {"layers.1.mid": wanted}):
        _, cache = subject.run_with_cache(IDS, ["layers.1.mid", "layers.1.feedforward.out", "layers.1.out"])
    assert torch.allclose(cache["layers.1.mid"], wanted, atol=1e-5)
    if family != "bert":
        assert torch.allclose(cache["layers.1.out"], wanted + cache["layers.1.feedforward.out"], atol=1e-5)


def test_a_replaced_pattern_moves_the_output_of_its_head_only() -> None:
    subject = examined("llama")
    _, plain = subject.run_with_cache(IDS)

    def first_only(pattern: Tensor, hook: HookPoint) -> Tensor:
        assert hook.name == "layers.1.mixer.pattern"
        assert hook.layer() == 1
        changed = pattern.clone()
        changed[:, 2] = 0
        changed[:, 2, :, 0] = 1
        return changed

    with subject.hooks([("blocks.1.attn.hook_pattern", first_only)]):
        _, cache = subject.run_with_cache(IDS)
    assert torch.allclose(cache["z", 1][:, :, 2], cache["v", 1][:, :1, 1].expand(-1, 13, -1), atol=1e-6)
    assert torch.allclose(cache["z", 1][:, :, :2], plain["z", 1][:, :, :2], atol=1e-6)
    assert float(cache["pattern", 1][:, 2, :, 0].min()) == 1.0


def test_capture_inside_an_edit_sees_the_edited_model_whatever_the_order() -> None:
    subject = examined("gpt2")
    with subject.hooks([(("v", 0), lambda v, hook: torch.zeros_like(v))]):
        _, cache = subject.run_with_cache(IDS, ["*mixer.v", "*mixer.z", "layers.0.mixer.pattern"])
    assert float(cache["z", 0].abs().max()) == 0.0
    assert float(cache["z", 1].abs().max()) > 0.0
    _, after = subject.run_with_cache(IDS, "*mixer.z")
    assert float(after["z", 0].abs().max()) > 0.0


def test_several_hooks_at_one_site_act_one_after_the_other() -> None:
    subject = examined("gpt2")
    hooks = [("embed", lambda t, hook: t * 0), ("embed", lambda t, hook: t + 1), ("embed", lambda t, hook: None)]
    with subject.hooks(hooks):
        _, cache = subject.run_with_cache(IDS, "embed")
    assert torch.equal(cache["embed"], torch.ones(2, 13, 32))


def test_everything_is_removed_after_an_error() -> None:
    subject = examined("gpt2")
    plain, _ = subject.run_with_cache(IDS, [])

    def fail(tensor: Tensor, hook: HookPoint) -> Tensor:
        raise KeyError("on purpose")

    for site in ("layers.1.out", "layers.1.mixer.pattern"):
        with pytest.raises(KeyError, match="on purpose"):
            subject.run_with_hooks(IDS, [(site, fail)])
    assert free_of_hooks(subject.model)
    assert torch.equal(subject.run_with_cache(IDS, [])[0], plain)


def test_a_replacement_of_another_shape_is_refused_by_name() -> None:
    subject = examined("gpt2")
    with (
        pytest.raises(InvalidInput, match=r"layers\.1\.out") as problem,
        edited(subject, {"layers.1.out": torch.zeros(3)}),
    ):
        subject.run_with_cache(IDS, [])
    assert "(2, 13, 32)" in str(problem.value)


def test_raw_module_paths_can_be_edited() -> None:
    subject = examined("gpt2")
    with edited(subject, {"transformer.h.0.mlp": torch.zeros(())}):
        _, cache = subject.run_with_cache(IDS, ["layers.0.feedforward.out", "layers.0.mid", "layers.0.out"])
    assert torch.equal(cache["layers.0.mid"], cache["layers.0.out"])


def test_an_edit_also_holds_while_generating_with_the_cache() -> None:
    subject = examined("llama")
    prompt = IDS[:1, :5]
    with subject.hooks([("layers.1.mixer.out", lambda t, hook: t * 0)]):
        cached = subject.generate(prompt, 6)
        slow = subject.continued(subject.batch(prompt), 6, 0.0, None)
    assert torch.equal(cached, slow[:, : cached.shape[1]])
