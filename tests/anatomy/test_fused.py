import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from glassworks.anatomy import Subject, fused
from glassworks.anatomy.fused import key_value_heads, spread_heads
from tests.families import subject as examined
from tests.families import tiny

IDS = torch.randint(0, 61, (2, 13), generator=torch.Generator().manual_seed(0))


@given(st.integers(1, 8), st.integers(1, 8))
def test_every_query_head_reads_the_key_value_head_of_its_group(kv_heads: int, group: int) -> None:
    heads = kv_heads * group
    assert key_value_heads(heads, kv_heads) == tuple(kv for kv in range(kv_heads) for _ in range(group))
    own = torch.arange(float(kv_heads))[None, :, None, None]
    repeated = own.repeat_interleave(group, dim=1)
    assert torch.equal(spread_heads(own, heads), repeated)


def grouped(kv_heads: int, attention: str) -> Subject:
    """A tiny Llama of four query heads: as many key-value heads, fewer, or one."""
    import transformers as t

    sizes = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = t.LlamaConfig(
        num_key_value_heads=kv_heads,
        intermediate_size=52,
        attn_implementation=attention,
        initializer_range=0.2,
        **sizes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(kv_heads)
        return Subject.of(t.LlamaForCausalLM(config).eval())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_heads_are_grouped_alike_for_scores_weights_and_results(kv_heads: int, attention: str) -> None:
    subject = grouped(kv_heads, attention)
    layer = subject.anatomy.layers[1]
    assert (layer.heads, layer.kv_heads, len(layer.kv_head_of)) == (4, kv_heads, 4)
    _, cache = subject.run_with_cache(IDS)
    q, k, v = (cache[part, 1].transpose(1, 2) for part in ("q", "k", "v"))
    assert k.shape[1] == v.shape[1] == kv_heads
    read = list(layer.kv_head_of)
    future = torch.ones(13, 13, dtype=torch.bool).triu(1)
    scores = (q @ k[:, read].transpose(-1, -2) / 8**0.5).masked_fill(future, -torch.inf)
    assert torch.allclose(scores.softmax(-1), cache["pattern", 1], atol=1e-6)
    assert torch.allclose(cache["pattern", 1] @ v[:, read], cache["z", 1].transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_a_key_value_head_replaced_moves_the_query_heads_that_read_it_and_no_other(kv_heads: int) -> None:
    for attention in ("sdpa", "eager"):
        subject = grouped(kv_heads, attention)
        _, plain = subject.run_with_cache(IDS, [("z", 0)])
        last = kv_heads - 1

        def emptied(values: Tensor, hook: object, last: int = last) -> Tensor:
            return torch.cat([values[:, :, :last], torch.zeros_like(values[:, :, last:])], 2)

        with subject.hooks([(("v", 0), emptied)]):
            _, cache = subject.run_with_cache(IDS, [("z", 0)])
        for head, read in enumerate(subject.anatomy.layers[0].kv_head_of):
            if read == last:
                assert float(cache["z", 0][:, :, head].abs().max()) == 0.0
            else:
                assert torch.allclose(cache["z", 0][:, :, head], plain["z", 0][:, :, head], atol=1e-6)


def test_a_map_is_worked_out_when_it_is_first_looked_at_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = examined("llama")
    honest, calls = fused.products, []

    def counted(*args: object) -> Tensor:
        calls.append(args)
        return honest(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(fused, "products", counted)
    _, cache = subject.run_with_cache(IDS)
    repr(cache)
    cache._repr_html_()
    assert ("pattern", 1) in cache
    assert cache.bytes > 0
    assert calls == []
    assert dict(cache.attention_errors) == {}
    first = cache["pattern", 1]
    assert cache["blocks.1.attn.hook_pattern"] is first
    assert len(calls) == 1
    assert list(cache.attention_errors) == ["layers.1.mixer"]


def test_maps_of_a_pass_stay_those_of_that_pass() -> None:
    subject = examined("gpt2")
    _, early = subject.run_with_cache(IDS, "*pattern")
    with subject.hooks([(("v", 0), lambda v, hook: v * 0), (("q", 1), lambda q, hook: q * 3)]):
        _, edited = subject.run_with_cache(IDS, "*pattern")
        inside = edited["pattern", 2].clone()
    _, late = subject.run_with_cache(IDS, "*pattern")
    assert torch.equal(edited["pattern", 2], inside)
    for layer in range(3):
        assert torch.equal(early["pattern", layer], late["pattern", layer])
    assert not torch.equal(edited["pattern", 1], early["pattern", 1])


def test_a_shape_known_before_the_map_is_the_maps_shape() -> None:
    for ids in (IDS, torch.tensor([[3]])):
        _, cache = examined("llama").run_with_cache(ids, ["*pattern", "*scores"])
        told = cache.tensors.shapes()  # type: ignore[union-attr]
        assert [(name, shape, dtype) for name, shape, dtype in told] == [
            (name, tuple(tensor.shape), tensor.dtype) for name, tensor in cache.items()
        ]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(["none", "bool", "float", "causal"]))
def test_a_map_gives_back_what_the_fused_kernel_computed(queries: int, keys: int, kind: str) -> None:
    draw = torch.Generator().manual_seed(queries * 71 + keys)
    q = torch.randn(2, 4, queries, 8, generator=draw)
    k, v = (torch.randn(2, 4, keys, 8, generator=draw) for _ in range(2))
    seen = torch.rand(2, 1, queries, keys, generator=draw) > 0.4
    lowest = torch.finfo(torch.float32).min
    mask = {"bool": seen, "float": torch.where(seen, 0.0, lowest)}.get(kind)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=kind == "causal")
    call = fused.FusedCall(q, k, v, out, mask, kind == "causal", 8**-0.5, drops=False)
    pattern = call.recalled("pattern")
    checked = call.checked(pattern)
    assert checked.error <= checked.allowed
    nowhere = ~seen.any(-1, keepdim=True) if mask is not None else torch.zeros(1, dtype=torch.bool)
    total = torch.where(nowhere, torch.zeros(()), torch.ones(()))
    assert torch.allclose(pattern.sum(-1, keepdim=True), total.expand(2, 4, queries, 1), atol=1e-5)
    other = fused.FusedCall(q * 1.5, k, v, out, mask, kind == "causal", 8**-0.5, drops=False)
    wrong = other.checked(other.recalled("pattern"))
    assert (
        wrong.error > wrong.allowed
        or int(seen.sum(-1).max() if mask is not None else min(keys, queries)) < 2
        or keys == 1
    )


@pytest.mark.parametrize("weights", [1, 40, 63, 7 * 9, 3 * 7 * 9, 12 * 7 * 9, 10**6])
@pytest.mark.parametrize("kind", ["none", "bool", "float", "causal"])
def test_a_map_is_the_same_whatever_pieces_it_is_made_in(
    weights: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "PIECE_WEIGHTS", weights)
    draw = torch.Generator().manual_seed(1)
    q = torch.randn(5, 7, 4, 8, generator=draw).transpose(1, 2)
    k = torch.randn(5, 9, 2, 8, generator=draw).transpose(1, 2)
    seen = torch.rand(5, 1, 7, 9, generator=draw) > 0.5
    mask = {"bool": seen, "float": torch.where(seen, 0.3, torch.finfo(torch.float32).min)}.get(kind)
    call = fused.FusedCall(q, k, k, q, mask, kind == "causal", 0.3, drops=False)
    scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) * 0.3
    if kind == "causal":
        scores = scores.masked_fill(torch.ones(7, 9, dtype=torch.bool).triu(1), -torch.inf)
    elif mask is not None:
        scores = scores.masked_fill(~seen, -torch.inf) + (0.3 if kind == "float" else 0.0)
    assert torch.allclose(call.recalled("pattern"), scores.softmax(-1).nan_to_num(0.0), atol=1e-6)
    assert torch.allclose(call.recalled("scores"), scores, atol=1e-6)


def test_keys_of_the_future_may_hold_anything() -> None:
    q, k = torch.randn(2, 1, 2, 6, 8, generator=torch.Generator().manual_seed(2))
    broken = k.clone()
    broken[:, :, 4:] = torch.nan
    whole, hurt = (fused.FusedCall(q, key, k, q, None, True, 0.3, drops=False) for key in (k, broken))
    assert torch.equal(hurt.recalled("pattern")[:, :, :4], whole.recalled("pattern")[:, :, :4])
    assert bool(hurt.recalled("pattern")[:, :, 4:].isnan().any())


def test_low_precision_and_eager_models_are_left_alone() -> None:
    _, cache = Subject.of(tiny("llama").to(torch.bfloat16)).run_with_cache(IDS, "*scores")
    assert cache["scores", 0].dtype == torch.float32
