"""Positions equal the published formulas, the library's functions and loops over single pairs."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import LlamaConfig, LlamaForCausalLM, StableLmConfig, StableLmForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from glassworks.models import TransformerSpec, build_model
from glassworks.models.positions import RelativeBias, alibi, alibi_slopes, scaled_speeds, sinusoids
from glassworks.models.stack import RotaryScaling
from glassworks.tensors.seeds import Seed

IDS = torch.randint(1, 13, (2, 9), generator=torch.Generator().manual_seed(0))
BETWEEN = torch.arange(9)[:, None] - torch.arange(9)
SMALL = {"vocabulary": 13, "width": 16, "depth": 2, "heads": 2, "context": 32}


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20)])
def test_buckets_of_distances_are_the_published_ones(ahead: bool, buckets: int, distance: int) -> None:
    spec = TransformerSpec.parse(
        SMALL | {"positions": "relative_bias", "relative_buckets": buckets, "relative_distance": distance}
    )
    between = torch.arange(-300, 300)
    theirs = T5Attention._relative_position_bucket(-between, ahead, buckets, distance)
    bias = RelativeBias(spec, ahead)
    assert torch.equal(bias.buckets(between), theirs)
    assert torch.equal(bias(BETWEEN[None])[0, 1, 5, 3], bias.weight[int(bias.buckets(torch.tensor([2]))), 1])


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 8, 12])
def test_slopes_fall_as_published_for_any_number_of_heads(heads: int) -> None:
    theirs = build_alibi_tensor(torch.ones(1, 9), heads, torch.float32)[:, 0]
    ours = alibi(heads, BETWEEN[None])[0]
    for query in range(9):
        # Softmax does not see what is added to a whole row.
        found = ours[:, query, : query + 1] - ours[:, query, :1]
        assert_close(found, theirs[:, : query + 1])


def test_slopes_of_eight_heads_are_halves_of_each_other() -> None:
    assert alibi_slopes(8) == [2.0**-power for power in range(1, 9)]


@pytest.mark.parametrize("kind", ["linear", "ntk", "llama3"])
def test_stretched_rotations_turn_at_the_librarys_speeds(kind: str) -> None:
    parameters = {"rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    parameters |= {"rope_type": {"ntk": "dynamic"}.get(kind, kind), "original_max_position_embeddings": 64}
    config = LlamaConfig(
        hidden_size=64, num_attention_heads=2, max_position_embeddings=64, rope_parameters=parameters
    )  # fmt: skip
    # The library's "dynamic" raises the base with the text: at twice the length by a factor of one more.
    theirs, _ = ROPE_INIT_FUNCTIONS[str(parameters["rope_type"])](config, torch.device("cpu"), seq_len=128)
    scaling = RotaryScaling.parse({"kind": kind, "factor": 9.0 if kind == "ntk" else 8.0, "original": 64})
    assert_close(scaled_speeds(scaling, 32, 5e5), theirs)


def test_a_stretched_rotation_gives_the_librarys_logits() -> None:
    rope = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 8}
    rope |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling = {"kind": "llama3", "factor": 4.0, "original": 8}
    fields = {"positions": "rotary", "rotary_base": 100.0, "rotary_scaling": scaling, "norm": "rms"}
    spec = TransformerSpec.parse(SMALL | fields | {"feedforward": ["swiglu"], "feedforward_width": 24})
    ours = build_model(spec, Seed(0)).eval()
    config = LlamaConfig(
        vocab_size=13,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        rms_norm_eps=1e-5,
        rope_parameters=rope,
        max_position_embeddings=32,
    )
    theirs = LlamaForCausalLM(config).eval()
    theirs.load_state_dict(ours.state_dict())
    assert_close(ours(IDS).logits, theirs(IDS).logits, atol=1e-5, rtol=1e-5)


def test_a_rotation_of_a_share_of_each_head_gives_the_librarys_logits() -> None:
    fields = {"positions": "rotary", "rotary_share": 0.25, "query_bias": True, "feedforward": ["swiglu"]}
    spec = TransformerSpec.parse(SMALL | fields | {"feedforward_width": 24})
    ours = build_model(spec, Seed(0)).eval()
    config = StableLmConfig(
        vocab_size=13,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        use_qkv_bias=True,
        layer_norm_eps=1e-5,
        partial_rotary_factor=0.25,
    )
    theirs = StableLmForCausalLM(config).eval()
    theirs.load_state_dict(ours.state_dict())
    assert_close(ours(IDS).logits, theirs(IDS).logits, atol=1e-5, rtol=1e-5)


def test_scores_of_distances_equal_a_loop_over_pairs() -> None:
    fields = {"positions": "relative_xl", "depth": 1, "norm": "none", "feedforward": ["none"], "kv_heads": 1}
    model = build_model(TransformerSpec.parse(SMALL | fields), Seed(0), torch.float64).eval()
    attention = model.model.block(0).self_attn
    chance = torch.Generator().manual_seed(1)
    for learned in (attention.content_bias, attention.distance_bias):
        learned.data.normal_(generator=chance)
    x = model.model.embed_tokens(IDS)[0]
    q, k, v = (part(x) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    rows: list[Tensor] = []
    for query in range(9):
        heads: list[Tensor] = []
        for head in range(2):
            own = q[query, 8 * head : 8 * head + 8]
            u, w = attention.content_bias[head], attention.distance_bias[head]
            scores: list[Tensor] = []
            for key in range(query + 1):
                angles = (query - key) * 10000.0 ** (-torch.arange(0, 16, 2).double() / 16)
                code = torch.stack([angles.sin(), angles.cos()], 1).flatten()
                told = (attention.distance_proj.weight @ code)[8 * head : 8 * head + 8]
                scores.append(((own + u) @ k[key] + (own + w) @ told) / math.sqrt(8))
            heads.append(torch.softmax(torch.stack(scores), 0) @ v[: query + 1])
        rows.append(x[query] + attention.o_proj(torch.cat(heads)))
    expected = model.lm_head(torch.stack(rows))
    assert_close(model(IDS[:1]).logits[0], expected, rtol=1e-9, atol=1e-9)


def test_a_table_may_begin_behind_rows_of_its_own() -> None:
    plain, moved = (
        build_model(TransformerSpec.parse(SMALL | {"position_offset": offset}), Seed(0)).eval() for offset in (0, 2)
    )
    table = moved.state_dict()["model.embed_positions.weight"]
    assert table.shape == (34, 16)
    plain.load_state_dict(moved.state_dict() | {"model.embed_positions.weight": table[2:]})
    assert torch.equal(plain(IDS).logits, moved(IDS).logits)
    places = torch.arange(9)[None]
    assert torch.equal(plain(IDS, position_ids=places).logits, moved(IDS, position_ids=places).logits)
    assert torch.equal(plain.model.position_vectors(4), moved.model.position_vectors(4))


def test_embeddings_are_scaled_and_then_placed() -> None:
    fields = {"positions": "sinusoidal", "embedding_factor": 4.0, "depth": 0, "final_norm": False}
    model = build_model(TransformerSpec.parse(SMALL | fields), Seed(0), torch.float64)
    expected = 4 * model.model.embed_tokens(IDS) + sinusoids(torch.arange(9), 16)
    assert_close(model(IDS).logits, model.lm_head(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("positions", ["relative_bias", "alibi", "relative_xl"])
def test_relative_places_have_no_end(positions: str) -> None:
    model = build_model(TransformerSpec.parse(SMALL | {"positions": positions, "context": 4}), Seed(0)).eval()
    assert model.model.spec.longest is None
    assert model(IDS).logits.isfinite().all()
