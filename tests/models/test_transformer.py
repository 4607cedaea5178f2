import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from glassworks.mixers import Linear
from glassworks.models import GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.tensors.seeds import Seed
from tests.models.tiny import SPECS

each_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6], [5, 3, 5, 8, 9, 7, 9, 3]])


def built(spec: TransformerSpec, dtype: torch.dtype = torch.float64) -> GlassworksForCausalLM:
    return build_model(spec, Seed(1), dtype)


def weights(model: GlassworksForCausalLM) -> dict[str, Tensor]:
    return {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}


@each_spec
def test_one_seed_is_one_model_and_leaves_the_global_generator_alone(spec: TransformerSpec) -> None:
    before = torch.get_rng_state()
    one, same, other = (build_model(spec, Seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(before, torch.get_rng_state())
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name]), name
        assert tensor.isfinite().all(), name
    assert not torch.equal(one.model.embed_tokens.weight, other.model.embed_tokens.weight)


def test_a_part_draws_the_same_numbers_whatever_else_the_model_has() -> None:
    bare, full = build_model(SPECS["simplified"], Seed(0)), build_model(SPECS["plain"], Seed(0))
    for name in ("model.embed_tokens.weight", "model.layers.1.self_attn.k_proj.weight", "lm_head.weight"):
        assert torch.equal(bare.state_dict()[name], full.state_dict()[name])


def test_lower_precision_is_the_same_model_rounded() -> None:
    whole, rounded = (build_model(SPECS["plain"], Seed(0), kind) for kind in (torch.float32, torch.bfloat16))
    assert rounded.dtype == torch.bfloat16
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor.bfloat16(), rounded.state_dict()[name])


def test_numbers_start_where_the_sheet_says() -> None:
    spec = TransformerSpec(
        vocabulary=300, width=64, depth=1, heads=1, positions="random", embedding_scale=0.5, bias=True
    )
    found = weights(build_model(spec, Seed(0)))
    for name in ("embed_tokens.weight", "embed_positions.weight"):
        assert found[name].std() == pytest.approx(0.5, rel=0.03)
    for name, fan_in in (("layers.0.self_attn.k_proj", 64), ("layers.0.mlp.down_proj", 256)):
        for part in ("weight", "bias"):
            values = found[f"{name}.{part}"]
            assert values.abs().max() <= fan_in**-0.5
            assert values.abs().mean() == pytest.approx(0.5 * fan_in**-0.5, rel=0.2)
    assert found["layers.0.input_layernorm.weight"].eq(1).all()


def test_the_simplified_model_equals_the_equations_of_the_paper() -> None:
    model = built(SPECS["simplified"])
    w = weights(model)
    x = w["embed_tokens.weight"][IDS] + w["embed_positions.weight"][:8]
    hidden = torch.full((8, 8), float("-inf"), dtype=x.dtype).triu(1)
    for layer in (0, 1):
        key, value, output = (w[f"layers.{layer}.self_attn.{part}_proj.weight"] for part in "kvo")
        attention = torch.softmax(x @ (x @ key.T).mT / 8**0.5 + hidden, -1)
        x = x + attention @ x @ value.T @ output.T
    x = x + x @ w["layers.1.mlp.proj.weight"].T
    assert_close(model(IDS, use_cache=False).logits, x @ w["lm_head.weight"].T)
    assert not any("q_proj" in name for name in w)
    assert "model.embed_positions.weight" not in dict(model.named_parameters())


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("reads", ["mixed", "block_input"])
def test_norms_and_feedforward_are_wired_as_asked(placement: str, reads: str) -> None:
    choices = {"norm_placement": placement, "feedforward_reads": reads, "final_norm": False}
    plain = {"vocabulary": 13, "width": 8, "depth": 1, "heads": 1, "positions": "none", "score_scale": "none"}
    spec = TransformerSpec.parse(plain | choices | {"mixers": [Linear()]})
    model = built(spec)
    w = weights(model)

    def attend(x: Tensor) -> Tensor:
        q, k, v = (x @ w[f"layers.0.self_attn.{part}_proj.weight"].T for part in "qkv")
        return torch.tril(q @ k.mT) @ v @ w["layers.0.self_attn.o_proj.weight"].T

    def mlp(x: Tensor) -> Tensor:
        return F.relu(x @ w["layers.0.mlp.up_proj.weight"].T) @ w["layers.0.mlp.down_proj.weight"].T

    def norm(x: Tensor) -> Tensor:
        return F.layer_norm(x, (8,))

    x = w["embed_tokens.weight"][IDS]
    if placement == "pre":
        h = x + attend(norm(x))
        out = h + mlp(norm(x if reads == "block_input" else h))
    else:
        h = norm(x + attend(x))
        out = norm(h + mlp(x if reads == "block_input" else h))
    assert_close(model(IDS, use_cache=False).logits, out @ w["lm_head.weight"].T)


@each_spec
def test_no_token_reads_a_later_one(spec: TransformerSpec) -> None:
    model = built(spec)
    changed = IDS.clone()
    changed[:, 5:] = 0
    assert_close(model(changed, use_cache=False).logits[:, :5], model(IDS, use_cache=False).logits[:, :5])
    assert not torch.allclose(model(changed, use_cache=False).logits[:, 5:], model(IDS, use_cache=False).logits[:, 5:])


@each_spec
def test_every_parameter_gets_a_gradient(spec: TransformerSpec) -> None:
    model = built(spec)
    model(IDS, labels=IDS, use_cache=False).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_sinusoidal_positions_are_sines_and_cosines_of_the_position() -> None:
    table = built(SPECS["sum"]).model.position_vectors(24)
    place = torch.arange(24, dtype=torch.float64)
    for pair in range(4):
        angle = place * 10000 ** (-2 * pair / 8)
        assert_close(table[:, 2 * pair], angle.sin(), atol=1e-6, rtol=0)
        assert_close(table[:, 2 * pair + 1], angle.cos(), atol=1e-6, rtol=0)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    spec = TransformerSpec(vocabulary=5, width=8, depth=1, heads=2, positions="rotary", feedforward=("none",))
    model = built(spec)
    ids = torch.tensor([[1, 2, 1, 3]])
    near, far = (model(ids, position_ids=torch.arange(4)[None] + start).logits for start in (0, 90))
    assert_close(near, far, atol=1e-5, rtol=0)
    stretched = model(ids, position_ids=torch.arange(4)[None] * 2).logits
    assert not torch.allclose(near, stretched, atol=1e-3)


def test_a_layer_without_a_learned_matrix_has_the_identity() -> None:
    model = built(SPECS["simplified"]).model
    assert_close(model.matrix(0, "query"), torch.eye(8, dtype=torch.float64))
    assert model.matrix(1, "key") is model.block(1).self_attn.k_proj.weight
