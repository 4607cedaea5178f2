"""The encoder of an encoder-decoder, and its decoder's attention to the source."""

from functools import cache

import numpy as np
import pytest
import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.instruments import INSTRUMENTS, AttentionMaps, HeadScores, LogitLens, SinkNorms
from tests.families import CONTEXT, VOCABULARY
from tests.families import subject as examined

STACKED = ("attention_maps", "head_scores", "similarity", "block_influence", "sinks")
SOURCE = TokenBatch(
    torch.tensor([[5, 9, 5, 9, 17, 30, 5], [3, 8, 3, 8, 1, 0, 0]]), torch.tensor([[1] * 7, [1] * 5 + [0] * 2]).bool()
)
BATCH = TokenBatch(torch.tensor([[0, 4, 6, 4], [0, 7, 7, 2]]), source=SOURCE)


@cache
def t5() -> Subject:
    import transformers as t

    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = t.T5Config(
            vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=52, num_layers=3, num_decoder_layers=2, num_heads=4,
            decoder_start_token_id=0, initializer_factor=1.5, n_positions=CONTEXT,
        )  # fmt: skip
        return Subject.of(t.T5ForConditionalGeneration(config).eval())


@pytest.mark.parametrize("kind", STACKED)
def test_either_stack_is_read_with_its_own_text_and_drawn_under_its_own_name(kind: str) -> None:
    look = INSTRUMENTS[kind]
    decoder, encoder = look().read(t5(), BATCH), look(stack="encoder").read(t5(), BATCH)
    assert (decoder.name, encoder.name) == (kind, f"encoder_{kind}")
    depth = "state" if "state" in encoder.dims else "layer"
    assert len(encoder.coords[depth]) == len(decoder.coords[depth]) + 1
    figures = look().draw(decoder), look(stack="encoder").draw(encoder)
    assert figures[1].name == f"encoder-{figures[0].name}"
    assert figures[1].title.en.endswith(", encoder")
    with pytest.raises(InvalidInput, match="no encoder"):
        look(stack="encoder").read(examined("llama"), TokenBatch(SOURCE.ids))


def test_an_encoder_looks_ahead_and_a_decoder_at_its_source() -> None:
    own = AttentionMaps(stack="encoder").read(t5(), BATCH)
    assert own.columns["looks_ahead"] == "yes"
    assert own.values.shape == (3, 4, 7, 7)
    np.testing.assert_allclose(own.values.sum(-1), 1.0, atol=1e-5)
    assert (own.values[..., 0, 1:] > 0).any()
    cross = AttentionMaps(cross=True, sequence=1).read(t5(), BATCH)
    assert cross.values.shape == (2, 4, 4, 5)
    np.testing.assert_allclose(cross.values.sum(-1), 1.0, atol=1e-5)
    assert cross.coords["key"] == ("0 3", "1 8", "2 3", "3 8", "4 1")
    assert "source" in AttentionMaps(cross=True, layer=0, head=1).look(t5(), BATCH).figure.title.en
    with pytest.raises(InvalidInput, match="no attention"):
        AttentionMaps(cross=True).read(examined("gpt2"), BATCH)


def test_chance_in_an_encoder_is_attention_to_everything() -> None:
    found = HeadScores(stack="encoder").read(t5(), BATCH).at(score="previous_token", quantity="chance")
    np.testing.assert_allclose(found.values, (1 / 7 + 1 / 5) / 2)


def test_the_lens_reads_a_decoder_through_its_scaled_head() -> None:
    with torch.no_grad():
        logits = t5().forward(BATCH)[0]
    found = LogitLens().read(t5(), BATCH).at(stage="L1")
    np.testing.assert_array_equal(found.at(quantity="token 1").values, logits.argmax(-1).numpy())
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    np.testing.assert_allclose(found.at(quantity="entropy").values, entropy.numpy(), atol=1e-4)


def test_pieces_take_the_source_along(monkeypatch) -> None:
    whole = SinkNorms(stack="encoder").read(t5(), BATCH)
    monkeypatch.setattr("glassworks.instruments.base.PIECE_TOKENS", 7)
    np.testing.assert_allclose(SinkNorms(stack="encoder").read(t5(), BATCH).values, whole.values, rtol=1e-5)
