import math
import zlib

import numpy as np
import pytest
import torch

from glassworks.anatomy import Subject
from glassworks.core.errors import BrokenFile, InvalidInput
from glassworks.evaluation.arithmetic import TOTAL, Decoder, Encoder, cumulative_counts
from glassworks.evaluation.compression import (
    HEADER_BYTES,
    bits_of,
    compress,
    decompress,
    fingerprint_of,
    parameter_bytes,
    spells_bytes,
)
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.models.spec import TransformerSpec
from glassworks.models.transformer import build_model
from glassworks.tensors.seeds import Seed

TEXT = "Once upon a time a kettle sang: é, 中, and \x00.\n".encode()


def reader(seed: int = 0, context: int = 16, vocabulary: int = 256) -> Subject:
    """A random decoder of bytes with a short context, so that windows begin again."""
    spec = TransformerSpec(
        vocabulary=vocabulary, width=8, depth=1, heads=2, context=context, positions="rotary", embedding_scale=2.0
    )
    model = build_model(spec, Seed(seed)).eval()
    return Subject.of(model, byte_tokenizer() if vocabulary == 256 else None)


def test_symbols_come_back_from_as_many_bits_as_their_probabilities_say():
    generator = np.random.default_rng(0)
    tables = [generator.dirichlet(np.full(size, 0.2)) for size in (2, 7, 63, 256) for _ in range(50)]
    symbols = [int(generator.choice(len(p), p=p)) for p in tables]
    encoder = Encoder()
    for table, symbol in zip(tables, symbols, strict=True):
        counts = cumulative_counts(table)
        encoder.push(int(counts[symbol]), int(counts[symbol + 1] - counts[symbol]), int(counts[-1]))
    data = encoder.finish()
    ideal = sum(-math.log2(table[symbol]) for table, symbol in zip(tables, symbols, strict=True))
    assert ideal <= 8 * len(data) <= ideal + 2 + 8
    decoder = Decoder(data)
    assert [decoder.pull(cumulative_counts(table)) for table in tables] == symbols


def test_every_symbol_keeps_a_count_however_unlikely():
    counts = cumulative_counts(np.array([1.0, 0.0, 1e-30]))
    assert (np.diff(counts) >= 1).all()
    assert counts[-1] <= TOTAL
    encoder = Encoder()
    encoder.push(int(counts[1]), 1, int(counts[-1]))
    assert Decoder(encoder.finish()).pull(counts) == 1


def test_a_run_of_the_likeliest_symbol_costs_hardly_anything():
    counts = cumulative_counts(np.array([0.9999, 0.0001]))
    encoder = Encoder()
    for _ in range(5000):
        encoder.push(0, int(counts[1]), int(counts[-1]))
    assert len(encoder.finish()) <= 2


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("data", [b"", b"x", b"xy", TEXT, bytes(range(256))[::-9]])
def test_bytes_come_back_exactly_in_as_many_bits_as_the_cross_entropy(data, streams):
    subject = reader()
    coded = compress(subject, data, streams=streams)
    assert decompress(subject, coded.data) == data
    assert coded.tokens == len(data)
    assert coded.code_bits <= 1.01 * coded.ideal_bits + 16
    if data:
        assert coded.code_bits >= coded.ideal_bits - 1e-3


@pytest.mark.slow
def test_whole_windows_give_the_same_cross_entropy_as_one_byte_at_a_time():
    subject = reader()
    for data in (b"", b"x", TEXT[:17], TEXT):
        assert bits_of(subject, data) == pytest.approx(compress(subject, data, streams=1).ideal_bits, abs=1e-3)
        assert bits_of(subject, data, batch=2) == pytest.approx(bits_of(subject, data), abs=1e-3)


def test_the_first_window_is_the_plain_models_cross_entropy():
    subject = reader(context=64)
    data = TEXT[:40]
    ids = torch.tensor([list(data)])
    with torch.no_grad():
        logits = subject.model(input_ids=ids[:, :-1], use_cache=False).logits
    lost = torch.nn.functional.cross_entropy(logits[0].double(), ids[0, 1:], reduction="sum").item() / math.log(2)
    assert bits_of(subject, data) == pytest.approx(8 + lost, rel=1e-5)


def test_another_model_another_file_and_damage_are_named():
    subject = reader()
    coded = compress(subject, TEXT[:24]).data
    with pytest.raises(BrokenFile, match="another model"):
        decompress(reader(seed=1), coded)
    for strange in (b"", b"GW", zlib.compress(TEXT) * 3):
        with pytest.raises(BrokenFile, match="no text coded"):
            decompress(subject, strange)
    endless = bytearray(coded)
    endless[24:28] = b"\xff\xff\xff\x7f"
    with pytest.raises(BrokenFile, match="no text coded"):
        decompress(subject, bytes(endless))
    damaged = bytearray(coded)
    damaged[HEADER_BYTES + 3] ^= 0x55
    with pytest.raises(BrokenFile, match="does not give back"):
        decompress(subject, bytes(damaged))
    with pytest.raises(BrokenFile, match="does not give back"):
        decompress(subject, coded[:-4])


def test_a_fingerprint_is_of_the_weights():
    assert fingerprint_of(reader()) == fingerprint_of(reader())
    assert fingerprint_of(reader()) != fingerprint_of(reader(seed=1))
    assert parameter_bytes(reader()) == 4 * reader().parameter_count


def test_models_without_a_way_from_text_to_tokens_are_refused():
    assert spells_bytes(reader())
    assert not spells_bytes(reader(vocabulary=17))
    with pytest.raises(InvalidInput):
        compress(reader(vocabulary=17), TEXT)
