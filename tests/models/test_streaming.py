import math

import pytest
import torch
from torch.nn import functional as F

from glassworks.core.errors import InvalidInput
from glassworks.mixers import Infini, Linear, Mesa, Softmax
from glassworks.models import TransformerSpec, build_model
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.models.memory_files import bounded_cache, keys_per_token
from glassworks.models.streaming import Spoken, Stream, piece_of, segment_of
from glassworks.models.text_pieces import Source, Speller
from glassworks.tensors.seeds import Seed

TEXT = "It was the best of times, it was the worst of times, né 界 🎉.\n" * 2
SMALL = {"vocabulary": 256, "width": 16, "depth": 2, "heads": 2, "positions": "rotary", "score_scale": "softmax_only"}
SPECS = {
    "infini": TransformerSpec(mixers=(Infini(segment=16, write="delta"),), **SMALL),
    "one-token segments": TransformerSpec(mixers=(Infini(segment=1),), **SMALL),
    "mixed": TransformerSpec(mixers=(Infini(segment=8), Linear()), query_key_norm="l2", **SMALL),
    "mesa": TransformerSpec(mixers=(Mesa(),), query_key_norm="l2", **SMALL),
    "a table that begins again": TransformerSpec(
        mixers=(Infini(segment=16),), context=64, position_period=16, **SMALL | {"positions": "learned"}
    ),
}


def model_of(name: str):
    model = build_model(SPECS[name], Seed(0)).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1 and parameter.shape == (2,):
            # Gates of several strengths, so that memories matter and heads differ.
            parameter.data.copy_(torch.tensor([1.0, -0.5]))
    return model


def read_all(stream: Stream, text: str = TEXT) -> list:
    return list(stream.read(Source.of_text(text)))


@pytest.mark.parametrize(
    ("name", "piece"),
    [
        pytest.param("infini", 1, marks=pytest.mark.slow),
        ("infini", 13),
        ("one-token segments", 64),
        ("mixed", 33),
        ("mesa", 64),
        ("a table that begins again", 40),
    ],
)
def test_a_stream_knows_what_one_pass_over_the_text_knows(name, piece) -> None:
    model = model_of(name)
    text = TEXT[:40] if piece == 1 else TEXT
    ids = torch.tensor([list(text.encode())])
    with torch.no_grad():
        whole = model(ids).logits[0]
    losses = F.cross_entropy(whole[:-1], ids[0, 1:], reduction="none")
    stream = Stream(model, byte_tokenizer(), piece=piece)
    curve = read_all(stream, text)
    memory = stream.memory
    assert memory.tokens == ids.shape[1] == sum(read.tokens for read in curve)
    torch.testing.assert_close(memory.upcoming, whole[-1], atol=2e-5, rtol=1e-4)
    assert memory.nats == pytest.approx(float(losses.sum()), rel=1e-4)
    assert memory.bits_per_byte == pytest.approx(float(losses.sum()) / math.log(2) / ids.shape[1], rel=1e-4)
    first, second = curve[0].tokens, curve[0].tokens + curve[1].tokens
    assert curve[1].nats == pytest.approx(float(losses[first - 1 : second - 1].sum()), rel=1e-3)


def test_the_memory_has_one_size_however_long_the_text() -> None:
    model = model_of("infini")
    sizes = []
    for repeats in (1, 10):
        stream = Stream(model, byte_tokenizer(), piece=512)
        read_all(stream, TEXT * repeats + "x" * (-len((TEXT * repeats).encode()) % 16))
        sizes.append((stream.memory.values, stream.memory.size))
    assert sizes[0] == sizes[1]
    assert keys_per_token(model) == 2 * 2 * 2 * 8
    # M, z and exponent of two heads in two layers; no segment is open.
    assert sizes[0][0] == 2 * 2 * (8 * 8 + 8 + 1)


@pytest.mark.slow
def test_a_second_text_follows_the_first_and_equal_states_read_alike() -> None:
    model = model_of("infini")
    together = Stream(model, byte_tokenizer(), piece=32)
    read_all(together, TEXT + "another text altogether")
    first = Stream(model, byte_tokenizer(), piece=50)
    read_all(first)
    kept = first.memory
    second = Stream(model, byte_tokenizer(), kept, piece=11)
    read_all(second, "another text altogether")
    assert second.memory.tokens == together.memory.tokens
    torch.testing.assert_close(second.memory.upcoming, together.memory.upcoming, atol=2e-5, rtol=1e-4)
    # A memory is a value: reading on has left the former one as it was.
    assert first.memory is kept
    again = Stream(model, byte_tokenizer(), kept, piece=23)
    read_all(again, "another text altogether")
    torch.testing.assert_close(again.memory.upcoming, second.memory.upcoming, atol=2e-5, rtol=1e-4)


@pytest.mark.slow
def test_the_same_text_goes_on_where_it_was_left() -> None:
    model = model_of("infini")
    whole = Stream(model, byte_tokenizer(), piece=20)
    read_all(whole)
    part = Stream(model, byte_tokenizer(), piece=20)
    reading = part.read(Source.of_text(TEXT))
    for _ in range(4):
        next(reading)
    reading.close()
    assert part.memory.tokens == 80
    rest = Stream(model, byte_tokenizer(), part.memory, piece=33)
    assert sum(read.tokens for read in read_all(rest)) == whole.memory.tokens - 80
    assert rest.memory.place == whole.memory.place
    assert rest.memory.nats == pytest.approx(whole.memory.nats, rel=1e-5)
    assert rest.memory.bytes == pytest.approx(len(TEXT.encode()))
    assert read_all(Stream(model, byte_tokenizer(), rest.memory)) == []


def test_a_memory_of_another_model_is_refused_and_that_of_a_copy_is_taken() -> None:
    model = model_of("infini")
    stream = Stream(model, byte_tokenizer())
    read_all(stream)
    copied = Stream(model_of("infini"), byte_tokenizer(), stream.memory)
    assert copied.memory.model is copied.model is not model
    other = model_of("infini")
    other.lm_head.weight.data[0, 0] += 1
    for stranger in (other, model_of("mixed")):
        with pytest.raises(InvalidInput, match="another model"):
            Stream(stranger, byte_tokenizer(), stream.memory)


def test_pieces_end_with_a_character_and_the_text_before_an_error_is_read(tmp_path) -> None:
    text = "né界🎉" * 9
    stream = Stream(model_of("infini"), byte_tokenizer(), piece=5)
    ends = []
    for read in stream.read(Source.of_text(text)):
        assert text.encode()[: stream.memory.place.bytes].decode() in text
        ends.append(stream.memory.place.bytes)
        assert read.bytes == read.tokens
    assert ends[:3] == [6, 10, 16]
    assert ends[-1] == len(text.encode())
    (tmp_path / "broken").write_bytes(b"words " * 20 + b"\xff")
    broken = Stream(model_of("infini"), byte_tokenizer(), piece=32)
    with pytest.raises(InvalidInput, match="offset 120"):
        list(broken.read(Source.of(tmp_path / "broken")))
    assert broken.memory.tokens == broken.memory.place.bytes > 40


@pytest.mark.slow
def test_an_answer_is_the_greedy_continuation_and_leaves_the_memory_alone() -> None:
    model = model_of("infini")
    stream = Stream(model, byte_tokenizer(), piece=40)
    read_all(stream)
    kept = stream.memory
    answer = "".join(stream.answer("And", 4))
    assert stream.memory is kept
    ids = list((TEXT + "And").encode())
    with torch.no_grad():
        for _ in range(4):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    assert answer == bytes(ids[-4:]).decode(errors="replace")
    with pytest.raises(InvalidInput, match="question is empty"):
        next(stream.answer(""))


def test_an_answer_ends_where_the_model_ends_its_text() -> None:
    model = model_of("infini")
    stream = Stream(model, byte_tokenizer())
    read_all(stream)
    with torch.no_grad():
        first = int(model(torch.tensor([list((TEXT + "And").encode())])).logits[0, -1].argmax())
    for ends, said in ((first, False), ([first, 7], False), ((first + 1) % 256, True)):
        model.config.eos_token_id = ends
        assert bool("".join(stream.answer("And", 1))) is said


def test_what_cannot_be_streamed_is_refused_with_the_way_out() -> None:
    softmax = build_model(TransformerSpec(mixers=(Infini(), Softmax()), **SMALL), Seed(0))
    with pytest.raises(InvalidInput, match="grows with every token") as caught:
        Stream(softmax, byte_tokenizer())
    assert "layers 1" in str(caught.value)
    assert "glassworks infinify" in str(caught.value)
    table = build_model(TransformerSpec(mixers=(Infini(),), context=32, **SMALL | {"positions": "learned"}), Seed(0))
    with pytest.raises(InvalidInput, match="knows 32 positions"):
        Stream(table, byte_tokenizer())
    with pytest.raises(InvalidInput, match="no tokenizer"):
        Stream(model_of("infini"), None)
    with pytest.raises(InvalidInput, match="at least one token"):
        Stream(model_of("infini"), byte_tokenizer(), piece=0)
    small = build_model(TransformerSpec(mixers=(Infini(),), **SMALL | {"vocabulary": 100}), Seed(0))
    with pytest.raises(InvalidInput, match="outside the vocabulary"):
        read_all(Stream(small, byte_tokenizer()))


def test_pieces_are_whole_segments_that_leave_room_for_their_logits() -> None:
    assert segment_of(model_of("mixed")) == 8
    assert segment_of(model_of("mesa")) == 1
    assert piece_of(model_of("infini")) == 8192
    large = build_model(TransformerSpec(mixers=(Infini(segment=100),), **SMALL | {"vocabulary": 40_000}), Seed(0))
    assert piece_of(large) == 400
    assert len(bounded_cache(large).layers) == 2


def test_words_come_when_they_are_certain_and_add_up_to_the_text() -> None:
    speller = Speller(byte_tokenizer())
    text = "né 界 🎉 ok"
    spoken = Spoken(speller, list(b"before "))
    told = [spoken.add(token) for token in text.encode()]
    assert "".join(told) + spoken.rest() == text
    assert told[1:3] == ["", "é"]
    cut = Spoken(speller)
    assert [cut.add(token) for token in "a界".encode()[:2]] == ["a", ""]
    assert cut.rest() == "\ufffd"
