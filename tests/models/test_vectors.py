"""The decoder of vectors: sizes as published, no tokens anywhere, and the choices it shares with the decoder of tokens."""

import pytest
import torch
from torch import nn

from glassworks.core.errors import InvalidInput, InvalidSpec
from glassworks.mixers import Linear, Mesa, Softmax
from glassworks.models import GlassworksForCausalLM, TransformerSpec, VectorSpec, VectorTransformer, build_model
from glassworks.models.attention import Attention
from glassworks.models.hub import GlassworksConfig
from glassworks.tensors.seeds import Seed

PLAIN = {"norm": "none", "feedforward": ("none",), "score_scale": "softmax_only"}


def constructed(depth: int, mixer=None, heads: int = 4, **choices) -> VectorSpec:
    return VectorSpec(
        inputs=40, outputs=10, width=40, depth=depth, heads=heads, head_width=20, mixers=(mixer or Linear(),),
        positions="none", embedding="none", readout="first", context=50, **PLAIN, **choices,
    )  # fmt: skip


def raw(*mixers, **choices) -> VectorSpec:
    return VectorSpec(
        inputs=10, outputs=10, width=40, depth=len(mixers), heads=4, head_width=20, mixers=mixers,
        positions="concatenated", context=50, **PLAIN, **choices,
    )  # fmt: skip


def count(spec: VectorSpec) -> int:
    return sum(parameter.numel() for parameter in build_model(spec, Seed(0)).parameters())


@pytest.mark.parametrize(
    ("spec", "published"),
    [
        (constructed(1, heads=2), 6_400),
        (constructed(6), 76_800),
        (constructed(1, Mesa()), 12_804),
        (raw(*[Softmax()] * 7), 96_800),
        (raw(Softmax(), Mesa()), 32_804),
    ],
)
def test_has_as_many_parameters_as_the_published_model(spec, published):
    assert count(spec) == published


def test_is_saved_and_loaded_bit_for_bit(tmp_path):
    model = build_model(raw(Softmax(), Mesa(), stream_limit=1.0), Seed(1))
    with torch.no_grad():
        model.model.block(1).self_attn.mixer.root.add_(0.5)
    model.save_pretrained(tmp_path)
    again = VectorTransformer.from_pretrained(tmp_path)
    x = torch.randn(2, 9, 10, generator=Seed(0).generator())
    assert torch.equal(model(inputs_embeds=x).logits, again(inputs_embeds=x).logits)


def test_reads_a_sequence_in_pieces_as_in_one():
    model = build_model(raw(Softmax(), Linear(), Mesa()), Seed(2)).double().eval()
    x = torch.randn(3, 11, 10, generator=Seed(0).generator(), dtype=torch.float64)
    first = model(inputs_embeds=x[:, :4], use_cache=True)
    then = model(inputs_embeds=x[:, 4:], past_key_values=first.past_key_values, use_cache=True)
    both = torch.cat([first.logits, then.logits], 1)
    torch.testing.assert_close(both, model(inputs_embeds=x).logits, rtol=1e-9, atol=1e-11)


def test_shows_streams_and_maps():
    found = build_model(raw(Softmax(), Linear()), Seed(0))(
        inputs_embeds=torch.zeros(2, 7, 10), output_hidden_states=True, output_attentions=True
    )
    assert [tuple(h.shape) for h in found.hidden_states] == [(2, 7, 40)] * 3
    assert [tuple(a.shape) for a in found.attentions] == [(2, 4, 7, 7)] * 2


def test_the_first_layer_alone_reads_the_position_code():
    model = build_model(raw(Softmax(), Softmax()), Seed(0))
    first, second = (model.model.block(layer).self_attn for layer in (0, 1))
    assert first.q_proj.weight.shape == (80, 80)
    assert first.v_proj.weight.shape == (80, 40)
    assert second.q_proj.weight.shape == (80, 40)
    # Equal tokens everywhere: only the code can tell positions apart, and it must not enter the stream.
    seen = model(inputs_embeds=torch.ones(1, 6, 10), output_hidden_states=True, output_attentions=True)
    assert torch.equal(seen.hidden_states[0][0, 0], seen.hidden_states[0][0, 5])
    assert not torch.allclose(seen.attentions[0][0, :, 5, 4], seen.attentions[0][0, :, 5, 3])


def test_linear_layers_are_unscaled_where_only_softmax_is_scaled():
    spec = raw(Softmax(), Linear(), Mesa())
    assert [round(spec.sizes_of(layer).scale, 6) for layer in range(3)] == [round(20**-0.5, 6), 1.0, 1.0]


def test_the_stream_is_cut_at_its_limit():
    model = build_model(constructed(1, stream_limit=0.25), Seed(0))
    x = 3 * torch.randn(2, 5, 40, generator=Seed(1).generator())
    assert model(inputs_embeds=x, output_hidden_states=True).hidden_states[-1].abs().max() == 0.25


def test_normalised_layers_mix_vectors_of_length_one():
    spec = raw(Linear(), Linear(), query_key_norm="l2", query_key_norm_layers=(1,))
    model = build_model(spec, Seed(0))
    lengths: list[float] = []
    for layer in (0, 1):
        attention = model.model.block(layer).self_attn
        attention.mixer.register_forward_pre_hook(
            lambda _, given: lengths.append(float(given[1].detach().norm(dim=-1).sub(1).abs().max()))
        )
    model(inputs_embeds=torch.randn(1, 4, 10, generator=Seed(0).generator()))
    assert lengths[0] > 0.1
    assert lengths[1] < 1e-5


def test_weights_start_as_wide_as_asked():
    model = build_model(constructed(6, weight_scale=0.0002), Seed(0))
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert abs(float(weights.std()) / 0.0002 - 1) < 0.02


def test_gates_are_made_where_the_mixer_asks_for_them():
    spec = TransformerSpec(
        vocabulary=11, width=16, depth=2, heads=2, mixers=(Softmax(), Mesa(keep="with_regulariser", write=True))
    )
    model = build_model(spec, Seed(0))
    plain, gated = (model.model.block(layer).self_attn for layer in (0, 1))
    assert isinstance(gated, Attention)
    assert plain.keep_proj is None
    assert plain.write_proj is None
    x = torch.randn(2, 5, 16, generator=Seed(0).generator())
    keep, write = gated.keep_proj(x), gated.write_proj(x)
    assert keep.shape == write.shape == (2, 2, 5)
    # Where they start: nearly all is kept, pairs are written at about half strength.
    assert float(keep.detach().min()) > 0.9
    assert 0.2 < float(write.detach().mean()) < 0.8
    ids = torch.randint(11, (2, 9), generator=Seed(1).generator())
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in gated.parameters())


@pytest.mark.parametrize("mixer", [Mesa(), Mesa(keep="data_only", regulariser="diagonal", floor=0.25, write=True)])
def test_a_decoder_of_tokens_with_mesa_layers_generates_as_it_reads(mixer):
    spec = TransformerSpec(vocabulary=11, width=16, depth=2, heads=2, mixers=(Softmax(), mixer), positions="rotary")
    model = build_model(spec, Seed(0)).double().eval()
    ids = torch.randint(11, (2, 6), generator=Seed(1).generator())
    whole = torch.ones_like(ids)
    made = model.generate(ids, attention_mask=whole, max_new_tokens=5, do_sample=False, pad_token_id=0)
    for length in range(6, 11):
        expected = model(input_ids=made[:, :length], use_cache=False).logits[:, -1].argmax(-1)
        assert torch.equal(made[:, length], expected)


def test_tokens_and_vectors_are_told_apart(tmp_path):
    build_model(raw(Softmax()), Seed(0)).save_pretrained(tmp_path)
    config = GlassworksConfig.from_pretrained(tmp_path)
    with pytest.raises(InvalidInput, match="vectors"):
        GlassworksForCausalLM(config)
    with pytest.raises(InvalidInput, match="vectors"):
        _ = build_model(raw(Softmax()), Seed(0)).model.token_vectors


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"embedding": "none"}, "do not fill a stream of 40"),
        ({"readout": "first", "outputs": 41}, "first 41 numbers"),
        ({"query_key_norm_layers": (3,)}, "no layer 3"),
    ],
)
def test_impossible_choices_are_refused(changes, reason):
    with pytest.raises(InvalidSpec, match=reason):
        VectorSpec.parse(raw(Softmax()).to_json() | changes)


def test_young_fields_at_their_default_leave_the_digest_as_it_was():
    # The digest of this spec before those fields existed.
    old = TransformerSpec(vocabulary=7, width=8, depth=1)
    assert "stream_limit" not in old.identity()
    assert "stream_limit" in old.replaced("stream_limit", 1.0).identity()
    assert old.digest() != old.replaced("head_norm", True).digest()


def test_a_head_norm_gives_every_head_length_one_per_number():
    model = build_model(raw(Linear(), head_norm=True), Seed(0))
    seen: list[torch.Tensor] = []
    attention = model.model.block(0).self_attn
    assert isinstance(attention.o_proj, nn.Linear)
    attention.o_proj.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    model(inputs_embeds=torch.randn(1, 4, 10, generator=Seed(0).generator()))
    squares = seen[0].unflatten(-1, (4, 20)).square().mean(-1)
    torch.testing.assert_close(squares, torch.ones_like(squares), rtol=0, atol=0.05)
