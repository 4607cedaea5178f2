"""The recurrent memory model: segments handed on, cut anywhere, learned through, saved, refused where it must be."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForCausalLM, DynamicCache

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput, InvalidSpec, Unavailable
from glassworks.core.events import EventLog
from glassworks.mixers import Linear
from glassworks.models import (
    GlassworksForCausalLM,
    RecurrentMemoryModel,
    RecurrentMemorySpec,
    TransformerSpec,
    build_model,
)
from glassworks.models.load import load
from glassworks.models.pieces import Reading, pieces_loss
from glassworks.models.weights import to_transformers
from glassworks.tasks import Bigram
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.spec import AdamW, TrainingSpec

SIZES: dict[str, Any] = {"vocabulary": 13, "width": 8, "depth": 2, "heads": 2, "norm": "rms", "positions": "rotary"}
SPEC = RecurrentMemorySpec(segment=4, memory_tokens=3, **SIZES)
IDS = torch.randint(1, 13, (2, 15), generator=torch.Generator().manual_seed(0))
GREEDY: dict[str, Any] = {"max_new_tokens": 7, "do_sample": False, "pad_token_id": 0}


def built(spec: RecurrentMemorySpec = SPEC) -> GlassworksForCausalLM:
    return build_model(spec, Seed(2), torch.float64).eval()


def by_hand(model: GlassworksForCausalLM, spec: RecurrentMemorySpec) -> Tensor:
    """Logits from a plain decoder of the same weights, which is given memory, segment, memory as one sequence each time."""
    plain = build_model(TransformerSpec(**SIZES), Seed(2), torch.float64).eval()
    missing = plain.load_state_dict(model.state_dict(), strict=False)
    assert missing.unexpected_keys == ["model.first_memory.weight"]
    body, count = model.model, spec.memory_tokens
    assert isinstance(body, RecurrentMemoryModel)
    memory = body.first_memory.weight.expand(len(IDS), -1, -1)
    outs: list[Tensor] = []
    for start in range(0, IDS.shape[1], spec.segment):
        tokens = body.embed_tokens(IDS[:, start : start + spec.segment])
        stream = plain.model(inputs_embeds=torch.cat([memory, tokens, memory], 1), use_cache=False).last_hidden_state
        outs.append(plain.lm_head(stream[:, count:-count]))
        memory = stream[:, -count:]
    return torch.cat(outs, 1)


def test_each_segment_reads_what_the_last_one_wrote() -> None:
    model = built()
    assert_close(model(IDS, use_cache=False).logits, by_hand(model, SPEC), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cuts", [[1], [4], [3, 4, 5], [9], list(range(1, 15))], ids=str)
def test_a_text_may_come_in_any_pieces(cuts: list[int]) -> None:
    model = built()
    cache = DynamicCache(config=model.config)
    logits = [
        model(IDS[:, begin:end], past_key_values=cache, use_cache=True).logits
        for begin, end in zip([0, *cuts], [*cuts, 15], strict=True)
    ]
    assert_close(torch.cat(logits, 1), model(IDS, use_cache=False).logits, rtol=1e-12, atol=1e-12)
    assert cache.get_seq_length() == 15


@pytest.mark.parametrize("choices", [{}, {"num_beams": 3}, {"cache_implementation": "static"}], ids=str)
def test_generation_with_a_cache_equals_generation_without(choices: dict[str, Any]) -> None:
    model = built()
    beams = {"num_beams": choices.get("num_beams", 1)}
    plain = model.generate(IDS, use_cache=False, **beams, **GREEDY)
    assert torch.equal(model.generate(IDS, **choices, **GREEDY), plain)
    assert plain.shape == (2, 22)


def test_the_memory_between_two_segments_is_a_few_vectors() -> None:
    cache = built()(IDS[:, :12], use_cache=True).past_key_values
    held = [layer.memory for layer in cache.layers]
    assert [tuple(memory.keys.shape) for memory in held] == [(2, 2, 0, 4)] * 2
    assert tuple(held[0].vectors.shape) == (2, 3, 8)


# The last of four segments stands behind a cut after the third (1, 3), after the second (2), or none.
@pytest.mark.parametrize(("unroll", "first"), [(None, 0), (4, 0), (3, 3), (2, 2), (1, 3)])
def test_gradients_flow_through_as_many_segments_as_asked(unroll: int | None, first: int) -> None:
    model = built(SPEC.replaced("unroll", unroll))
    embedded = model.get_input_embeddings()(IDS).detach().requires_grad_()
    model(inputs_embeds=embedded, use_cache=False).logits[:, 12:].sum().backward()
    assert embedded.grad is not None
    by_segment = [bool(part.any()) for part in embedded.grad.split(4, 1)]
    assert by_segment == [segment >= first for segment in range(4)]
    learned = dict(model.named_parameters())["model.first_memory.weight"].grad
    assert (learned is not None and bool(learned.any())) == (first == 0)


def test_reading_in_pieces_gives_the_same_gradients() -> None:
    whole, pieces = built().train(), built().train()
    whole(IDS, use_cache=False).logits.square().sum().backward()
    pieces_loss(pieces, IDS, Reading(6), lambda logits, _: logits.square().sum())
    for (name, one), other in zip(whole.named_parameters(), pieces.parameters(), strict=True):
        assert one.grad is not None, name
        assert_close(other.grad, one.grad, rtol=1e-9, atol=1e-11)


def test_streams_are_those_of_the_text_alone() -> None:
    model = built()
    shown = model(IDS, use_cache=False, output_hidden_states=True)
    assert [tuple(stream.shape) for stream in shown.hidden_states] == [(2, 15, 8)] * 3
    assert_close(shown.hidden_states[0], model.get_input_embeddings()(IDS))


@pytest.mark.parametrize(
    ("asked", "problem", "says"),
    [
        ({"attention_mask": torch.tensor([[0] + [1] * 14, [1] * 15])}, InvalidInput, "padding"),
        ({"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])}, InvalidInput, "places"),
        ({"written": torch.ones(2, 15)}, InvalidInput, "several times"),
        ({"output_attentions": True}, Unavailable, "map of each segment"),
    ],
)
def test_what_segments_cannot_do_is_refused(asked: dict[str, Any], problem: type[Exception], says: str) -> None:
    with pytest.raises(problem, match=says):
        built()(IDS, use_cache=False, **asked)
    alone = {"attention_mask": torch.ones(2, 15), "position_ids": torch.arange(15)[None]}
    assert_close(built()(IDS, use_cache=False, **alone).logits, built()(IDS, use_cache=False).logits)


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"mixers": (Linear(),)}, "softmax attention"),
        ({"positions": "learned", "context": 9}, "take 10 places, the table has 9"),
        ({"positions": "learned", "context": 12, "position_period": 5}, "no period"),
    ],
)
def test_impossible_choices_are_refused(choices: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        RecurrentMemorySpec(segment=4, memory_tokens=3, **(SIZES | choices))


def test_a_table_of_positions_serves_every_segment() -> None:
    model = built(RecurrentMemorySpec(segment=4, memory_tokens=3, **(SIZES | {"positions": "learned", "context": 10})))
    assert model(IDS, use_cache=False).logits.isfinite().all()


def test_a_saved_folder_is_read_back_by_every_door(tmp_path: Path) -> None:
    model = build_model(SPEC.replaced("segment", 16), Seed(0)).eval()
    model.save_pretrained(tmp_path)
    ids = IDS[:, :9].repeat(1, 3)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(again.model, RecurrentMemoryModel)
    assert again.config.spec == SPEC.replaced("segment", 16)
    assert torch.equal(again(ids).logits, model(ids).logits)
    subject = load(tmp_path)
    assert isinstance(subject, Subject)
    assert torch.equal(subject.forward(subject.batch(ids)), model(ids, use_cache=False).logits)
    assert "memory" in str(subject.origin.notes[0])
    assert isinstance(AutoModel.from_pretrained(tmp_path), RecurrentMemoryModel)
    with pytest.raises(InvalidInput, match="from segment to segment"):
        to_transformers(again)


def trainable(steps: int) -> TrainingSpec:
    task = Bigram(length=24)
    sizes = SIZES | {"vocabulary": task.vocabulary, "width": 16}
    return TrainingSpec(
        task=task, model=RecurrentMemorySpec(segment=8, memory_tokens=2, context=32, **sizes),
        optimiser=AdamW(rate=0.01), steps=steps, batch=8, probe_every=1, precision="float32",
    )  # fmt: skip


def test_it_is_trained_by_the_loop_and_found_again(tmp_path: Path) -> None:
    spec = trainable(2)
    made = train(spec, TrainingOptions(store=tmp_path), EventLog())
    assert train(spec, TrainingOptions(store=tmp_path), EventLog()).reused
    start = build_model(spec.model, Seed(spec.seed).child("model"))
    learned = GlassworksForCausalLM.from_pretrained(made.path)
    assert not torch.equal(learned.model.first_memory.weight, start.model.first_memory.weight)
    assert load(made.path).tokenizer is not None


@pytest.mark.slow
def test_it_learns_whole_and_in_pieces(tmp_path: Path) -> None:
    spec = trainable(30)
    losses = train(spec, TrainingOptions(store=tmp_path), EventLog()).history.curve("loss")
    assert losses[-3:].mean() < losses[:3].mean() - 0.2
    pieces = train(spec.replaced("piece", 5), TrainingOptions(store=tmp_path), EventLog())
    assert_close(pieces.history.curve("loss"), losses, rtol=1e-3, atol=1e-3)
