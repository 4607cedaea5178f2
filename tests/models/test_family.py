"""Every option of the family's decoders keeps the promises of the plain one: caches, padding, packing, files, gradients."""

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, DynamicCache

from glassworks.anatomy import Subject, TokenBatch
from glassworks.anatomy.fidelity import Fidelity
from glassworks.core.errors import InvalidSpec
from glassworks.mixers import SlidingWindow, Softmax
from glassworks.models import GlassworksConfig, GlassworksForCausalLM, TransformerSpec, build_model
from glassworks.tensors.seeds import Seed

SMALL = {"vocabulary": 13, "width": 12, "depth": 2, "heads": 3, "context": 16}
FAMILY = {
    "alibi": {"positions": "alibi", "embedding_norm": True, "feedforward": ["geglu_tanh"], "bias": True},
    "relative_bias": {"positions": "relative_bias", "relative_buckets": 4, "relative_distance": 5, "norm": "rms"},
    "relative_xl": {"positions": "relative_xl", "norm": "rms", "kv_heads": 1, "feedforward": ["geglu"]},
    "share": {"positions": "rotary", "rotary_share": 0.5, "query_bias": True, "rotary_scaling": {"original": 4}},
    "prefix": {"positions": "rotary", "reads": "prefix", "norm_placement": "post", "residual_factor": 1.7},
    "offset": {"position_offset": 2, "dropout": 0.4, "deep_output_scale": True, "weight_scale": 0.3},
    "both": {
        "positions": "rotary",
        "norm": "rms",
        "norm_placement": "both",
        "query_key_norm": "rms",
        "embedding_factor": 12**0.5,
        "rotary_local_base": 50.0,
        "rotary_scaling": {"kind": "linear", "factor": 2.0},
        "mixers": [{"kind": "sliding_window", "window": 3, "sinks": 0}, {"kind": "softmax"}],
    },
}
IDS = torch.randint(1, 13, (3, 7), generator=torch.Generator().manual_seed(0))
LENGTHS = (7, 5, 3)
each = pytest.mark.parametrize("name", FAMILY)
# What costs more is asked of the rarest two first; of the others with the slow tests.
FIRST = ("relative_xl", "offset")
each_in_time = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FIRST else pytest.mark.slow) for name in FAMILY]
)


def spec_of(name: str) -> TransformerSpec:
    return TransformerSpec.parse(SMALL | FAMILY[name])


def built(name: str, dtype: torch.dtype = torch.float64) -> GlassworksForCausalLM:
    model = build_model(spec_of(name), Seed(2), dtype).eval()
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            # What starts at zero or one would hide that it is used.
            if "norm" in part or part.endswith("_bias"):
                parameter.add_(torch.linspace(0.1, 0.5, parameter.numel()).view(parameter.shape))
    return model


@cache
def shared(name: str) -> GlassworksForCausalLM:
    """One model for all tests that change nothing in it."""
    return built(name)


def alone(model: GlassworksForCausalLM, ids: Tensor) -> Tensor:
    return model(ids[None], use_cache=False).logits[0]


@each
def test_pieces_with_a_cache_are_the_whole_text(name: str) -> None:
    model = shared(name)
    whole = model(IDS, use_cache=False).logits
    cache = DynamicCache(config=model.config)
    pieces = [model(IDS[:, part], past_key_values=cache, use_cache=True).logits for part in (slice(4), slice(4, 7))]
    assert_close(torch.cat(pieces, 1), whole)
    changed = IDS.clone()
    changed[:, 5:] = 0
    assert_close(model(changed, use_cache=False).logits[:, :5], whole[:, :5])


def padded(side: str) -> tuple[Tensor, Tensor]:
    ids, mask = torch.zeros_like(IDS), torch.zeros_like(IDS)
    for row, length in enumerate(LENGTHS):
        place = slice(7 - length, 7) if side == "left" else slice(0, length)
        ids[row, place], mask[row, place] = IDS[row, :length], 1
    return ids, mask


@each
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_no_token(name: str, side: str) -> None:
    model, (ids, mask) = shared(name), padded(side)
    logits = model(ids, attention_mask=mask, use_cache=False).logits
    for row, length in enumerate(LENGTHS):
        assert_close(logits[row][mask[row] == 1], alone(model, IDS[row, :length]))


@pytest.mark.slow
@each
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_prompts_are_continued_as_if_alone(name: str, side: str) -> None:
    model, (ids, mask) = shared(name), padded(side)
    greedy = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    together = model.generate(ids, attention_mask=mask, **greedy)
    for row, length in enumerate(LENGTHS):
        one = model.generate(IDS[row : row + 1, :length], use_cache=False, **greedy)
        assert torch.equal(together[row, 7:], one[0, length:])
    fixed = model.generate(ids, attention_mask=mask, cache_implementation="static", **greedy)
    assert torch.equal(fixed, together)


@each
def test_packed_texts_are_read_as_if_alone(name: str) -> None:
    model = shared(name)
    if not model.model.spec.resets:
        pytest.skip("its window cannot keep texts apart")
    packed = torch.cat([IDS[row, :length] for row, length in enumerate(LENGTHS)])[None]
    places = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    expected = torch.cat([alone(model, IDS[row, :length]) for row, length in enumerate(LENGTHS)])
    assert_close(model(packed, position_ids=places, use_cache=False).logits[0], expected)
    # The cut stands inside the second text, which the cache holds behind the first.
    cache = DynamicCache(config=model.config)
    for part in (slice(0, 9), slice(9, 10), slice(10, 15)):
        found = model(packed[:, part], position_ids=places[:, part], past_key_values=cache, use_cache=True).logits
        assert_close(found[0], expected[part])


@each_in_time
def test_a_folder_holds_the_same_model(name: str, tmp_path: Path) -> None:
    model = built(name, torch.float32)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.config.spec == spec_of(name)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    fresh = AutoModelForCausalLM.from_config(GlassworksConfig.from_spec(spec_of(name)))
    assert all(tensor.isfinite().all() for tensor in fresh.state_dict().values())


@each_in_time
def test_every_parameter_learns_and_checkpoints_change_no_gradient(name: str) -> None:
    model, found = built(name).train(), []
    for _ in range(2):
        model.zero_grad()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            model(IDS, labels=IDS, use_cache=False).loss.backward()
        found.append({part: p.grad.clone() for part, p in model.named_parameters() if p.grad is not None})
        model.activation_checkpointing_enable()
    assert len(found[0]) == len(list(model.parameters()))
    for part, gradient in found[0].items():
        assert gradient.any(), part
        assert torch.equal(gradient, found[1][part]), part


@each
def test_maps_are_averages_of_the_past(name: str) -> None:
    shown = shared(name)(IDS, use_cache=False, output_attentions=True)
    for seen in shown.attentions:
        assert_close(seen.sum(-1), torch.ones_like(seen.sum(-1)))
        assert not seen.triu(1).any()


@pytest.mark.slow
@each
def test_what_is_watched_is_what_happens(name: str) -> None:
    subject = Subject.of(built(name, torch.float32))
    assert Fidelity.check(subject, TokenBatch(IDS)).to_json()["holds"] is True


@pytest.mark.slow
def test_texts_packed_by_the_collator_of_trl_learn_what_each_learns_alone() -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    model = shared("alibi")
    texts = [IDS[row, :length].tolist() for row, length in enumerate(LENGTHS)]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batch = collate([{"input_ids": text} for text in texts])
    assert batch["input_ids"].shape == (1, sum(LENGTHS))
    packed = model(**batch, use_cache=False)
    each_loss = [model(torch.tensor([text]), labels=torch.tensor([text]), use_cache=False).loss for text in texts]
    counts = [len(text) - 1 for text in texts]
    mean = sum(loss * count for loss, count in zip(each_loss, counts, strict=True)) / sum(counts)
    assert_close(packed.loss, mean, rtol=1e-6, atol=1e-6)


def test_dropout_is_of_training_alone_and_of_every_part() -> None:
    model = built("offset")
    plain = model(IDS, use_cache=False).logits
    assert torch.equal(plain, model(IDS, use_cache=False).logits)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = model(IDS, use_cache=False).logits
        second = model(IDS, use_cache=False).logits
        torch.manual_seed(0)
        again = model(IDS, use_cache=False).logits
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, plain)


def test_deep_stacks_start_with_smaller_maps_back_to_the_stream() -> None:
    fields = {"vocabulary": 5, "width": 96, "depth": 8, "heads": 2, "weight_scale": 0.02}
    state = build_model(TransformerSpec.parse(fields | {"deep_output_scale": True}), Seed(0)).state_dict()
    for part in ("self_attn.o_proj", "mlp.down_proj"):
        assert state[f"model.layers.3.{part}.weight"].std() == pytest.approx(0.02 / 16**0.5, rel=0.05)
    assert state["model.layers.3.mlp.up_proj.weight"].std() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"positions": "alibi", "mixers": [{"kind": "linear"}]}, "only softmax attention has"),
        ({"positions": "relative_bias", "relative_distance": 16}, "by logarithm"),
        ({"positions": "rotary", "rotary_share": 0.1}, "rotated in pairs"),
        (FAMILY["both"] | {"rotary_local_base": None}, "inside its mixer"),
        ({"reads": "prefix", "mixers": [{"kind": "linear"}]}, "other mixers read the past only"),
    ],
)
def test_options_that_do_not_go_together_are_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        TransformerSpec.parse(SMALL | fields)


def test_windows_keep_a_base_of_their_own() -> None:
    spec = spec_of("both")
    assert (spec.sizes_of(0).rotary_base, spec.sizes_of(1).rotary_base) == (50.0, None)
    assert isinstance(spec.mixer(0), SlidingWindow)
    assert isinstance(spec.mixer(1), Softmax)
