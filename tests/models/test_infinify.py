import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, LlamaForCausalLM

from glassworks.anatomy import Subject
from glassworks.core.errors import BrokenFile, InvalidInput, StrangeModel
from glassworks.mixers import Infini, Linear, Mesa
from glassworks.models import TransformerSpec, attention_watch, build_model
from glassworks.models.infinify import Seat, gates_of, infini_cache, infinify, is_infinified
from glassworks.models.load import load
from glassworks.models.quiet import no_word_about_length
from glassworks.models.streaming import segment_of
from glassworks.tensors.seeds import Seed
from tests.families import CONTEXT, VOCABULARY, tiny

SEGMENT = 5
# One of each kind: whole and partial rotation, normed heads, two rotations in one model, windows, shared keys, experts,
# learned tables, one of them with an offset.
KINDS = ("phi", "gpt2", "opt")
MORE_KINDS = ("llama", "qwen3", "gemma3", "mistral", "mixtral", "neox", "olmo2", "qwen2")


def tokens(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, (rows, length), generator=Seed(seed).generator())


def opened(model: nn.Module) -> None:
    """Gates of all strengths."""
    for number, gate in enumerate(gates_of(model).values()):
        gate.data.normal_(generator=Seed(number).generator())


def converted(family: str, segment: int = SEGMENT, layers: int = 2, **choice: Any):
    """The plain model, and the same with a memory."""
    plain = tiny(family, layers=layers)
    made = infinify(tiny(family, layers=layers), Infini(segment=segment, write="delta", **choice))
    opened(made)
    return plain, made


@torch.no_grad()
def logits(model: Any, ids: Tensor, **more: Any) -> Tensor:
    return model(input_ids=ids, use_cache=False, **more).logits


def greedy(model: Any, ids: Tensor, count: int, **more: Any) -> Tensor:
    how = {"max_new_tokens": count, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    with no_word_about_length():
        return model.generate(ids, **{"attention_mask": torch.ones_like(ids), **how, **more})


@pytest.mark.parametrize("family", [*KINDS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE_KINDS)])
def test_a_family_keeps_its_first_segment_and_streams_what_it_reads(family) -> None:
    plain, made = converted(family)
    ids = tokens(2, 23)
    whole = logits(made, ids)
    first = logits(plain, ids[:, :SEGMENT])
    torch.testing.assert_close(whole[:, :SEGMENT], first, atol=1e-6, rtol=1e-6)
    assert bool(whole.isfinite().all())
    # Causal: other tokens at the end change nothing before them.
    assert torch.equal(logits(made, torch.cat([ids[:, :14], tokens(2, 9, 7)], 1))[:, :14], whole[:, :14])
    parts, cache = [], None
    for piece in ids.split([3, 1, 5, 12, 2], 1):
        with torch.no_grad():
            out = made(input_ids=piece, past_key_values=cache, use_cache=True)
        parts.append(out.logits)
        cache = out.past_key_values
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)
    assert cache.get_seq_length() == 23


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_with_a_memory_that_is_shut_every_segment_is_read_as_if_alone(family) -> None:
    plain, made = converted(family)
    for gate in gates_of(made).values():
        gate.data.fill_(float("-inf"))
    ids = tokens(1, 3 * SEGMENT)
    alone = torch.cat([logits(plain, part) for part in ids.split(SEGMENT, 1)], 1)
    torch.testing.assert_close(logits(made, ids), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_a_padded_row_is_read_and_continued_as_if_alone(family) -> None:
    _, made = converted(family)
    ids, other = tokens(1, 13), tokens(1, 17, 3)
    both = torch.cat([torch.cat([tokens(1, 4, 9), ids], 1), other])
    mask = torch.ones_like(both)
    mask[0, :4] = 0
    torch.testing.assert_close(
        logits(made, both, attention_mask=mask)[0, 4:], logits(made, ids)[0], atol=1e-5, rtol=1e-4
    )
    together = greedy(made, both, 6, attention_mask=mask)
    assert torch.equal(together[0, 4:], greedy(made, ids, 6)[0])
    assert torch.equal(together[1], greedy(made, other, 6)[0])


@pytest.mark.slow
def test_prompts_longer_than_the_context_are_read_whole_also_in_beams_and_pieces() -> None:
    _, made = converted("gpt2")
    long = tokens(1, CONTEXT + 30)
    found = greedy(made, long, 4)
    assert torch.equal(greedy(made, long, 4, prefill_chunk_size=16), found)
    ids = long
    for _ in range(4):
        ids = torch.cat([ids, logits(made, ids)[:, -1:].argmax(-1)], 1)
    assert torch.equal(found, ids)
    assert greedy(made, long, 4, num_beams=3).shape == found.shape
    # What the first token was still matters beyond any window.
    other = long.clone()
    other[0, 0] = (other[0, 0] + 1) % VOCABULARY
    assert not torch.equal(logits(made, other)[:, -1], logits(made, long)[:, -1])


def test_texts_packed_into_one_row_do_not_read_each_other() -> None:
    _, made = converted("llama")
    one, two = tokens(1, 12), tokens(1, 9, 4)
    places = torch.cat([torch.arange(12), torch.arange(9)])[None]
    found = logits(made, torch.cat([one, two], 1), position_ids=places)
    torch.testing.assert_close(found, torch.cat([logits(made, one), logits(made, two)], 1), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_folder_restores_the_gates_and_stays_open_to_others(tmp_path, capsys) -> None:
    plain, made = converted("llama")
    made.save_pretrained(tmp_path / "m")
    ids = tokens(2, 19)
    capsys.readouterr()
    subject = load(tmp_path / "m")
    assert "UNEXPECTED" not in capsys.readouterr().err
    assert is_infinified(subject.model)
    assert torch.equal(logits(subject.model, ids), logits(made, ids))
    assert segment_of(subject.model) == SEGMENT
    # transformers alone opens it as the model that it was.
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(logits(theirs, ids), logits(plain, ids))
    again = copy.deepcopy(made)
    assert torch.equal(logits(again, ids), logits(made, ids))
    opened_again = again.to(torch.bfloat16)
    assert float((logits(opened_again, ids).float() - logits(made, ids)).abs().max()) < 1.0


@pytest.mark.slow
def test_a_folder_without_its_gates_is_refused(tmp_path) -> None:
    plain, made = converted("llama")
    made.save_pretrained(tmp_path / "m")
    plain.config.update({"infini": made.config.to_dict()["infini"]})
    plain.save_pretrained(tmp_path / "m")
    with pytest.raises(BrokenFile, match="lack"):
        load(tmp_path / "m")


def test_gates_and_weights_learn_through_all_segments() -> None:
    _, made = converted("llama")
    made.train()
    ids = tokens(2, 4 * SEGMENT)
    embedded = made.get_input_embeddings()(ids).detach().requires_grad_()
    made(inputs_embeds=embedded, use_cache=False).logits[:, -1].sum().backward()
    # The last token's answer depends on the first one's vector through the memory alone.
    assert float(embedded.grad[:, 0].abs().max()) > 0
    assert all(float(gate.grad.abs().max()) > 0 for gate in gates_of(made).values())
    # Recomputing activations gives the same gradients.
    kept = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    made.zero_grad()
    made.activation_checkpointing_enable()
    made(inputs_embeds=embedded.detach().requires_grad_(), use_cache=False).logits[:, -1].sum().backward()
    for name, parameter in made.named_parameters():
        if name in kept:
            torch.testing.assert_close(parameter.grad, kept[name], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "problem", "says"),
    [
        ("gemma2", InvalidInput, "model.layers.0.self_attn cannot become Infini-attention: its scores are capped"),
        ("bloom", InvalidInput, "0 of 3 layers of BloomForCausalLM"),
        ("gptj", InvalidInput, "0 of 3 layers"),
        ("bert", InvalidInput, "reads texts from both sides"),
        ("t5", InvalidInput, "no plain softmax decoder"),
    ],
)
def test_what_cannot_be_converted_is_named_and_left_as_it_was(family, problem, says) -> None:
    model: Any = tiny(family)
    before = {name: p.clone() for name, p in model.named_parameters()}
    implementation = model.config._attn_implementation
    with pytest.raises(problem, match=says):
        infinify(model, Infini(segment=4))
    assert model.config._attn_implementation == implementation
    assert not is_infinified(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_segments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InvalidInput, match="longer than the model's 48 positions"):
        infinify(tiny("llama"), Infini(segment=49))
    with pytest.raises(InvalidInput, match=r"layers.0.self_attn .* looks at the last 5 tokens only") as caught:
        infinify(tiny("mistral"), Infini(segment=6))
    assert "segments of 5 tokens or fewer" in str(caught.value)
    _, made = converted("llama")
    with pytest.raises(InvalidInput, match="no plain softmax decoder"):
        infinify(made, Infini(segment=4))
    cache = DynamicCache()
    tiny("llama")(tokens(1, 3), past_key_values=cache, use_cache=True)
    with pytest.raises(InvalidInput, match="keeps memories"):
        made(tokens(1, 3), past_key_values=cache, use_cache=True)


def test_a_model_that_comes_out_differently_is_put_back(monkeypatch) -> None:
    model = tiny("llama")
    ids = tokens(1, 9)
    before = logits(model, ids)
    monkeypatch.setattr(attention_watch.Turning, "__call__", lambda self, x, places: x)
    with pytest.raises(StrangeModel, match="differ by"):
        infinify(model, Infini(segment=8))
    assert torch.equal(logits(model, ids), before)
    assert "infini" not in model.config.to_dict()


def test_pairs_beside_each_other_are_turned_as_the_model_turns_them() -> None:
    from transformers import CohereConfig, CohereForCausalLM

    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 52,
    }
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = CohereForCausalLM(CohereConfig(vocab_size=VOCABULARY, **sizes)).eval()
    ids = tokens(1, 8)
    before = logits(model, ids)
    infinify(model, Infini(segment=8))
    torch.testing.assert_close(logits(model, ids), before, atol=1e-6, rtol=1e-6)
    seat = next(module for module in model.modules() if isinstance(module, Seat))
    assert seat.turning is not None
    assert seat.turning.order == "pairs"


@pytest.mark.parametrize(
    "positions", ["learned", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("rotary", "sinusoidal", "none"))]
)
def test_our_own_decoder_keeps_its_first_segment_and_reads_beyond_its_table(positions) -> None:
    spec = TransformerSpec(
        vocabulary=VOCABULARY, width=16, depth=3, heads=2, context=24, positions=positions, score_scale="softmax_only",
        mixers=({"kind": "softmax"}, {"kind": "linear"}, {"kind": "softmax"}),
    )  # fmt: skip
    plain = build_model(spec, Seed(0)).eval()
    plain.config.eos_token_id = 7
    made = infinify(plain, Infini(segment=8))
    assert [type(mixer) for mixer in made.config.spec.mixers] == [Infini, Linear, Infini]
    assert made.config.eos_token_id == 7
    opened(made)
    ids = tokens(2, 60)
    whole = logits(made, ids)
    torch.testing.assert_close(whole[:, :8], logits(plain, ids[:, :8]), atol=1e-6, rtol=1e-6)
    parts, cache = [], None
    for piece in ids.split([11, 30, 1, 18], 1):
        with torch.no_grad():
            out = made(input_ids=piece, past_key_values=cache, use_cache=True)
        parts.append(out.logits)
        cache = out.past_key_values
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=1e-4)


def test_our_own_decoder_is_refused_where_nothing_could_be_exchanged() -> None:
    spec = TransformerSpec(vocabulary=9, width=8, depth=1, heads=2, mixers=(Mesa(),))
    with pytest.raises(InvalidInput, match="mesa is no plain softmax decoder"):
        infinify(build_model(spec, Seed(0)), Infini())
    with pytest.raises(InvalidInput, match="longer than the model's 16 positions"):
        infinify(build_model(TransformerSpec(vocabulary=9, width=8, depth=1, heads=2, context=16), Seed(0)), Infini())


@pytest.mark.slow
def test_the_anatomy_shows_the_whole_map_across_segments() -> None:
    _, made = converted("llama")
    subject = Subject.of(made)
    ids = tokens(1, 14)
    found, seen = subject.run_with_cache(ids)
    assert torch.equal(found, logits(made, ids))
    pattern = seen["layers.0.mixer.pattern"]
    assert pattern.shape == (1, 4, 14, 14)
    # A token of the third segment reads the first one.
    assert bool((pattern[0, :, 12, :SEGMENT].abs().sum(-1) > 0).all())
    assert float(pattern.triu(1).abs().max()) == 0
    assert subject.anatomy.layers[0].attention == "linear"


def test_bfloat16_models_keep_their_first_segment_and_float32_sums() -> None:
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=52
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = LlamaForCausalLM(config).eval().to(torch.bfloat16)
    ids = tokens(1, 12)
    before = logits(plain, ids)
    made: Any = infinify(plain, Infini(segment=6))
    # Kernels of 6 and of 12 tokens round differently where the processor knows no bfloat16.
    torch.testing.assert_close(logits(made, ids)[:, :6], before[:, :6], rtol=0.016, atol=0.004)
    cache = infini_cache(made)
    with torch.no_grad():
        made(input_ids=ids, past_key_values=cache, use_cache=True)
    assert cache.layers[0].memory.total.dtype == torch.float32
