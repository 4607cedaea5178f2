import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from glassworks.anatomy import Subject, TokenBatch, capture, residual_sites
from glassworks.anatomy.tokens import padded
from glassworks.core.errors import InvalidInput, StrangeModel, UnknownName
from tests.families import EAGER_ONLY, FAMILIES, FOUR, free_of_hooks, shared, tiny
from tests.families import subject as examined

IDS = torch.randint(0, 61, (2, 13), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
def test_reading_every_site_leaves_the_logits_bit_equal(family: str, attention: str) -> None:
    model = shared(family, attention)
    subject = Subject.of(model)
    with torch.no_grad():
        plain = model(IDS).logits
    logits, cache = subject.run_with_cache(IDS)
    assert torch.equal(logits, plain)
    assert len(cache) >= 40
    assert cache["pattern", 1].shape == (2, 4, 13, 13)
    assert cache["v", 1].shape == (2, 13, subject.anatomy.layers[1].kv_heads, 8)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("bloom", *EAGER_ONLY)])
@pytest.mark.slow
def test_maps_recomputed_under_fused_kernels_equal_the_eager_ones(family: str) -> None:
    (_, fused), (_, own) = (examined(family, kind).run_with_cache(IDS, "*pattern") for kind in ("sdpa", "eager"))
    for layer in range(3):
        left, right = fused["pattern", layer], own["pattern", layer]
        assert float((left - right).abs().max()) <= 1e-5
        assert torch.allclose(left.sum(-1), torch.ones(2, 4, 13), atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox"])
def test_the_eager_map_is_the_one_the_library_returns(family: str) -> None:
    model = shared(family, "eager")
    with torch.no_grad():
        given = model(IDS, output_attentions=True).attentions
    _, cache = Subject.of(model).run_with_cache(IDS, "*pattern")
    for layer, maps in enumerate(given):
        assert torch.equal(cache["pattern", layer], maps)


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "bert"])
def test_streams_add_up(family: str) -> None:
    _, cache = examined(family).run_with_cache(IDS)
    for layer in range(3):
        between = cache["resid_pre", layer] + cache["attn_out", layer]
        if family != "bert":  # post-norm: the sum is normed before it goes on
            assert torch.equal(between, cache["resid_mid", layer])
            assert torch.allclose(between + cache["mlp_out", layer], cache["resid_post", layer], atol=1e-6)
        if layer:
            assert torch.equal(cache["resid_pre", layer], cache["resid_post", layer - 1])


def test_z_is_the_pattern_times_the_values_of_each_heads_group() -> None:
    _, cache = examined("llama").run_with_cache(IDS)
    values = cache["v", 2].transpose(1, 2).repeat_interleave(2, dim=1)
    mixed = (cache["pattern", 2] @ values).transpose(1, 2)
    assert torch.allclose(mixed, cache["z", 2], atol=1e-6)


def test_scores_give_the_pattern() -> None:
    for attention in ("sdpa", "eager"):
        _, cache = examined("llama", attention).run_with_cache(IDS)
        assert torch.allclose(cache["attn_scores", 1].softmax(-1), cache["pattern", 1], atol=1e-6)


def test_only_the_asked_tensors_are_kept_and_they_are_not_copies() -> None:
    subject = examined("gpt2")
    _, cache = subject.run_with_cache(IDS, ["blocks.*.hook_resid_post", "layers.0.in"])
    assert set(cache) == {"layers.0.in", "layers.0.out", "layers.1.out", "layers.2.out"}
    seen: list[Tensor] = []
    handle = subject.model.transformer.h[1].register_forward_hook(lambda m, a, out: seen.append(out))
    try:
        again = capture(subject, TokenBatch(IDS), residual_sites(subject.anatomy))
    finally:
        handle.remove()
    assert again["layers.1.out"].data_ptr() == seen[0].data_ptr()
    # Shared tensors (one layer's out is the next one's in) count once: 7 streams of 2 x 13 x 32 float32.
    assert again.bytes == 7 * 2 * 13 * 32 * 4


@pytest.mark.parametrize("names", [None, "*pattern"])
def test_what_a_pass_kept_is_freed_with_it_and_waits_for_no_collector(names: str | None) -> None:
    subject = examined("llama", "sdpa")
    _, cache = subject.run_with_cache(IDS, names)
    assert cache["pattern", 1].shape[-1] == 13, "maps that are worked out when they are looked at"
    kept = weakref.ref(cache.tensors)
    gc.collect()
    gc.disable()
    try:
        del cache
        assert kept() is None
    finally:
        gc.enable()


class Overwriting(nn.Module):
    """A block that adds to its input in place: a kept reference would show the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        q = x[:, None]
        x += self.value(torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)[:, 0])
        return x


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.blocks = nn.ModuleList([Overwriting(), Overwriting()])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids).clone()
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_a_tensor_that_the_model_overwrites_later_is_kept_as_it_was() -> None:
    model = InPlace()
    subject = Subject.of(model)
    ids = torch.tensor([[1, 2, 3, 4]])
    logits, cache = subject.run_with_cache(ids)
    with torch.no_grad():
        assert torch.equal(logits, model(ids))
    assert torch.equal(cache["layers.0.in"], model.table(ids))
    assert not torch.equal(cache["layers.0.in"], cache["layers.0.out"])


@pytest.mark.parametrize("family", FOUR)
def test_stopping_at_a_layer_returns_the_stream_there(family: str) -> None:
    subject = examined(family)
    _, full = subject.run_with_cache(IDS)
    for stop, place in ((0, "layers.0.in"), (2, "layers.2.in"), (-1, "layers.2.in"), (3, "layers.2.out")):
        stream, cache = subject.run_with_cache(IDS, ["layers.0.in", "layers.2.out"], stop_at_layer=stop)
        assert torch.equal(stream, full[place])
        assert ("layers.2.out" in cache) == (stop == 3)
    with pytest.raises(InvalidInput, match="stop at layer 7"):
        subject.run_with_cache(IDS, [], stop_at_layer=7)


@pytest.mark.parametrize("family", ["llama", "gpt2", "neox", "mistral"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_and_has_no_attention(family: str, side: str) -> None:
    subject = examined(family)
    short = [5, 9, 7, 2, 30]
    alone, single = subject.run_with_cache([*short], "*pattern")
    batch = padded([short, IDS[0].tolist()], side=side)
    logits, cache = subject.run_with_cache(batch, "*pattern")
    where = slice(0, 5) if side == "right" else slice(8, 13)
    assert torch.allclose(logits[0, where], alone[0], atol=2e-5)
    for layer in range(3):
        maps = cache["pattern", layer]
        assert torch.allclose(maps[0][:, where, where], single["pattern", layer][0], atol=1e-5)
        outside = maps[0].clone()
        outside[:, where, where] = 0
        assert float(outside.abs().max()) == 0.0


def test_a_single_token_has_a_map_under_grouped_query_attention() -> None:
    for mask in (None, torch.tensor([[True]])):
        _, cache = examined("llama").run_with_cache(TokenBatch(torch.tensor([[3]]), mask))
        assert cache["pattern", 0].shape == (1, 4, 1, 1)
        assert torch.allclose(cache["pattern", 0], torch.ones(1, 4, 1, 1))
        assert cache["q", 0].shape == (1, 1, 4, 8)


def test_low_precision_models_have_float32_maps() -> None:
    model = tiny("llama").to(torch.bfloat16)
    _, cache = Subject.of(model).run_with_cache(IDS, "*pattern")
    assert cache["pattern", 1].dtype == torch.float32
    assert torch.allclose(cache["pattern", 1].sum(-1), torch.ones(2, 4, 13), atol=1e-5)


def test_a_recomputed_map_that_does_not_give_the_output_is_an_error_not_a_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import glassworks.anatomy.fused as fused

    subject = examined("llama")
    honest = fused.products
    monkeypatch.setattr(fused, "products", lambda *args: honest(*args) * 1.5)
    _, cache = subject.run_with_cache(IDS, ["embed", "*pattern"])
    with pytest.raises(StrangeModel, match=r"the attention map of layers.1.mixer, .* does not give its output"):
        cache["pattern", 1]
    assert free_of_hooks(subject.model)


class LinearMixer(nn.Module):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.transpose(-1, -2)).tril() @ v


class NotLinear(LinearMixer):
    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().forward(q, k, v).tanh()


class LinearBlock(nn.Module):
    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.q, self.k, self.v, self.mixer = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), mixer

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (2, 4)).transpose(1, 2) for part in (self.q, self.k, self.v))
        return self.mixer(q, k, v).transpose(1, 2).flatten(2)


class LinearLayer(nn.Module):
    def __init__(self, mixer: nn.Module) -> None:
        super().__init__()
        self.attention = LinearBlock(mixer)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x)


class LinearDecoder(nn.Module):
    def __init__(self, mixer: type[nn.Module]) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
        self.blocks = nn.ModuleList([LinearLayer(mixer()), LinearLayer(mixer())])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_a_mixer_linear_in_its_values_shows_its_map() -> None:
    subject = Subject.of(LinearDecoder(LinearMixer))
    assert subject.anatomy.layers[0].attention == "linear"
    assert subject.anatomy.causal
    ids = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9]])
    _, cache = subject.run_with_cache(ids)
    q, k = cache["q", 1].transpose(1, 2), cache["k", 1].transpose(1, 2)
    assert torch.allclose(cache["pattern", 1], (q @ k.transpose(-1, -2)).tril(), atol=1e-6)
    with pytest.raises(InvalidInput, match="no scores before a softmax"):
        cache["scores", 1]


def test_a_mixer_that_is_not_linear_is_no_attention_but_its_streams_are_read() -> None:
    subject = Subject.of(LinearDecoder(NotLinear))
    assert [layer.attention for layer in subject.anatomy.layers] == ["none", "none"]
    assert subject.anatomy.layers[0].mixer == "blocks.0.attention"
    _, cache = subject.run_with_cache(torch.tensor([[1, 2, 3]]))
    assert torch.equal(cache["layers.0.in"] + cache["layers.0.mixer.out"], cache["layers.0.out"])
    with pytest.raises(InvalidInput, match="no attention was seen"):
        cache["pattern", 0]


def test_torchs_own_multihead_attention_shows_its_map() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.attention(x, x, x, need_weights=False)[0]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)
            self.blocks = nn.ModuleList([Own(), Own()])

        def forward(self, ids: Tensor) -> Tensor:
            x = self.table(ids)
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    subject = Subject.of(Model())
    _, cache = subject.run_with_cache(torch.tensor([[1, 2, 3]]), "*pattern")
    assert cache["pattern", 0].shape == (1, 2, 3, 3)
    assert torch.allclose(cache["pattern", 0].sum(-1), torch.ones(1, 2, 3), atol=1e-6)


def test_a_sink_column_that_no_key_answers_to_is_not_in_the_map() -> None:
    import transformers as t

    sizes = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    sizes |= {"intermediate_size": 16, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    config = t.GptOssConfig(initializer_range=0.2, rope_parameters={"rope_type": "default", "rope_theta": 1e4}, **sizes)
    config._attn_implementation = "eager"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = t.GptOssForCausalLM(config).eval()
    subject = Subject.of(model)
    with torch.no_grad():
        plain = model(IDS).logits
    logits, cache = subject.run_with_cache(IDS)
    assert torch.equal(logits, plain)
    maps = cache["pattern", 1]
    assert maps.shape == (2, 4, 13, 13)
    assert float(maps.sum(-1).max()) < 1.0
    mixed = maps @ cache["v", 1].transpose(1, 2).repeat_interleave(2, dim=1)
    assert torch.allclose(mixed.transpose(1, 2), cache["z", 1], atol=1e-6)
    edited = subject.run_with_hooks(IDS, [("*pattern", lambda t, hook: t.clone())])
    assert torch.allclose(edited, plain, atol=1e-6)


def test_asking_for_what_was_not_captured_says_how_to_get_it() -> None:
    _, cache = examined("gpt2").run_with_cache(IDS, "layers.0.in")
    with pytest.raises(InvalidInput, match="was not captured") as problem:
        cache["layers.1.in"]
    assert "names='layers.1.in'" in str(problem.value)
    with pytest.raises(UnknownName, match=r"layers\.0\.ot") as unknown:
        cache["layers.0.ot"]
    assert unknown.value.nearest == "layers.0.out"
    assert "layers.0.in" in cache
    assert "layers.1.in" not in cache
