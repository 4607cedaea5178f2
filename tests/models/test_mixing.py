import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

import glassworks as gw
from glassworks.core.errors import InvalidInput, InvalidSpec, UnknownName
from glassworks.mixers import Linear, Mesa, MixerSpec, Softmax
from glassworks.models.mixing import MixingLayer
from glassworks.tensors.seeds import Seed

MESANET = Mesa(regulariser="diagonal", floor=0.25, keep="data_only", write=True, tolerance=1e-12, iterations=60)
MIXERS = {
    "softmax": Softmax(), "linear": Linear(), "mesa": Mesa(), "mesanet": MESANET,
    "gated": Mesa(keep="with_regulariser", write=True),
}  # fmt: skip
each_mixer = pytest.mark.parametrize("mixer", MIXERS.values(), ids=MIXERS)


def layer(mixer: MixerSpec, **settings: object) -> MixingLayer:
    """A layer in float64 whose weights come from a seed."""
    built = MixingLayer(mixer, 12, 4, **settings).double()
    generator = Seed(1).generator()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if "mixer" not in name and "norm" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return built


def tokens(length: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, length, 12, generator=Seed(2).generator(), dtype=torch.float64)


@each_mixer
@pytest.mark.parametrize("convolution", [0, 1, 4])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_token_by_token_equals_one_pass(mixer: MixerSpec, convolution: int, kv_heads: int) -> None:
    built = layer(mixer, convolution=convolution, kv_heads=kv_heads)
    x = tokens(9)
    with torch.no_grad():
        whole = built(x)
        memory, parts = None, []
        for t in range(9):
            step = built(x[:, t : t + 1], memory)
            memory = step.memory
            parts.append(step.out)
        assert_close(torch.cat(parts, 1), whole.out, atol=1e-8, rtol=1e-8)
        # Cut where the rest is longer than the convolution and where it is shorter.
        for cut in (1, 2, 7):
            first = built(x[:, :cut])
            assert_close(built(x[:, cut:], first.memory).out, whole.out[:, cut:], atol=1e-8, rtol=1e-8)


@each_mixer
def test_no_token_sees_a_later_one(mixer: MixerSpec) -> None:
    built, x = layer(mixer, convolution=4), tokens(8)
    other = x.clone()
    other[:, 5:] += 1.0
    with torch.no_grad():
        assert_close(built(x).out[:, :5], built(other).out[:, :5])
        assert (built(x).out[:, 5:] - built(other).out[:, 5:]).abs().amin(-1).gt(1e-6).all()


@each_mixer
def test_padding_on_the_left_changes_nothing(mixer: MixerSpec) -> None:
    built, x = layer(mixer, convolution=4), tokens(6)
    filler = torch.full((2, 3, 12), 7.0, dtype=torch.float64)
    real = torch.tensor([[False] * 3 + [True] * 6] * 2)
    with torch.no_grad():
        padded = built(torch.cat([filler, x], 1), padding=real)
        alone = built(x)
        assert_close(padded.out[:, 3:], alone.out)
        after = tokens(2)
        assert_close(built(after, padded.memory).out, built(after, alone.memory).out)


@each_mixer
def test_gradients_reach_every_parameter(mixer: MixerSpec) -> None:
    built = layer(mixer, convolution=4)
    built(tokens(7)).out.square().sum().backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_the_layer_is_the_recipe_written_out() -> None:
    """Linear attention of unit queries and keys after convolution and SiLU, each head normed (mesa.md 3)."""
    built, x = layer(Linear(), convolution=4), tokens(5)

    def convolved(values: Tensor, weights: Tensor) -> Tensor:
        padded = F.pad(values, (0, 0, 3, 0))
        return F.silu(sum(padded[:, lag : lag + 5] * weights[:, 0, lag] for lag in range(4)))

    def heads(values: Tensor) -> Tensor:
        return values.unflatten(-1, (4, 3)).transpose(1, 2)

    weights = built.convolution.weight
    q = F.normalize(heads(convolved(x @ built.q_proj.weight.T, weights[:12])), dim=-1)
    k = F.normalize(heads(convolved(x @ built.k_proj.weight.T, weights[12:])), dim=-1)
    mixed = torch.tril(q @ k.mT) @ heads(x @ built.v_proj.weight.T)
    normed = mixed * torch.rsqrt(mixed.square().mean(-1, keepdim=True) + 1e-5)
    assert_close(built(x).out, normed.transpose(1, 2).flatten(2) @ built.o_proj.weight.T)


def test_without_norms_and_convolution_it_is_the_bare_mixer() -> None:
    built, x = layer(Softmax(), query_key_norm=False, head_norm=False), tokens(5)
    q, k, v = (
        (x @ p.weight.T).unflatten(-1, (4, 3)).transpose(1, 2) for p in (built.q_proj, built.k_proj, built.v_proj)
    )
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert_close(built(x).out, mixed.transpose(1, 2).flatten(2) @ built.o_proj.weight.T)
    assert built.head_norm is None


def test_a_memory_can_be_selected_and_has_one_size() -> None:
    built, x = layer(Mesa(), convolution=4), tokens(9, batch=3)
    with torch.no_grad():
        memory = built(x[:, :6]).memory
        chosen = memory.select(torch.tensor([2, 0]))
        assert_close(built(x[[2, 0], 6:], chosen).out, built(x).out[[2, 0], 6:], atol=1e-9, rtol=1e-9)
        longer = built(x).memory
    assert memory.before.shape == longer.before.shape == (3, 24, 3)
    assert memory.inner.normal.shape == longer.inner.normal.shape
    assert built(x, remember=False).memory is None


def test_a_foreign_memory_and_an_unknown_setting_are_named() -> None:
    plain, convolved = layer(Linear()), layer(Linear(), convolution=4)
    with pytest.raises(InvalidInput, match="something else"):
        convolved(tokens(2), plain(tokens(2)).memory)
    with pytest.raises(InvalidInput, match="something else"):
        plain(tokens(2), plain(tokens(2)).memory.inner)
    with pytest.raises(InvalidSpec, match="convolution"):
        MixingLayer(Linear(), width=8, convolutoin=4)
    with pytest.raises(InvalidSpec, match="do not divide"):
        MixingLayer(Linear(), width=9, heads=4)
    with pytest.raises(InvalidInput, match="cannot share"):
        MixingLayer(Linear(), width=8, heads=4, kv_heads=3)


def test_a_mixer_can_be_named_or_given_as_data() -> None:
    named = MixingLayer("mesa", 12)
    assert type(named.mixer) is type(MixingLayer(Mesa(), 12).mixer)
    assert MixingLayer({"kind": "mesa", "write": True}, 12).mixer.spec == Mesa(write=True)
    assert MixingLayer("softmax", 12).sizes.scale == MixingLayer(Softmax(), 12).sizes.scale
    with pytest.raises(UnknownName, match="mesaa") as caught:
        MixingLayer("mesaa", 12)
    assert caught.value.nearest == "mesa"
    with pytest.raises(InvalidSpec, match="needs a kind"):
        MixingLayer({"write": True}, 12)


@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 5, 11), (2, 4, 5, 12)])
def test_a_wrong_shape_is_refused_in_one_sentence(shape: tuple[int, ...]) -> None:
    built = layer(Mesa(), convolution=4)
    with pytest.raises(InvalidInput, match="width 12 cannot read this shape") as caught:
        built(torch.zeros(shape, dtype=torch.float64))
    assert caught.value.given == shape
    assert caught.value.right.en == "(batch, position, 12)"
    with pytest.raises(InvalidInput, match="padding has another shape"):
        built(tokens(4), padding=torch.ones(2, 5, dtype=torch.bool))


@each_mixer
@pytest.mark.parametrize("convolution", [0, 4])
def test_nothing_to_read_gives_nothing_and_leaves_the_memory(mixer: MixerSpec, convolution: int) -> None:
    built, x = layer(mixer, convolution=convolution), tokens(6)
    for batch, length in ((2, 0), (0, 6), (0, 0)):
        empty = built(torch.zeros(batch, length, 12, dtype=torch.float64, requires_grad=True))
        assert empty.out.shape == (batch, length, 12)
        assert empty.out.dtype == torch.float64
        empty.out.sum().backward()
    with torch.no_grad():
        first = built(x[:, :4])
        nothing = built(x[:, 4:4], first.memory)
        assert nothing.out.shape == (2, 0, 12)
        assert_close(built(x[:, 4:], nothing.memory).out, built(x).out[:, 4:], atol=1e-8, rtol=1e-8)
        assert_close(built(x, built(x[:, :0]).memory).out, built(x).out)
    assert built(x[:, :0], first.memory, remember=False).memory is None


def test_it_works_in_a_model_that_is_not_ours() -> None:
    class Tiny(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(5, 8)
            self.norm = nn.LayerNorm(8)
            self.mix = gw.MixingLayer(Mesa(), width=8, heads=2, convolution=4)
            self.head = nn.Linear(8, 5)

        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids)
            return self.head(x + self.mix(self.norm(x)).out)

    model = Tiny()
    generator = Seed(0).generator()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "mixer" not in name and "norm" not in name:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    ids = torch.tensor([[0, 1, 2, 3, 4] * 3])
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.03)
    losses = []
    for _ in range(25):
        loss = F.cross_entropy(model(ids[:, :-1]).mT, ids[:, 1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    again = Tiny()
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(ids), model(ids))


@pytest.mark.parametrize("length", [1, 63, 64, 65, 130])
def test_one_long_sequence_is_mixed_as_several_are(length: int) -> None:
    built, x = layer(Mesa(), convolution=4), tokens(length, batch=3)
    built(x[:1]).out.sum().backward()
    with torch.no_grad():
        assert_close(built(x[:1]).out, built(x).out[:1], atol=1e-9, rtol=1e-9)
