"""Masked tokens, retrieval and titles."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput
from glassworks.evaluation import MaskedLanguage, Retrieval, Scored, Titles, evaluate
from tests.evaluation.small import reader, write_lines
from tests.families import VOCABULARY, shared

WORDS = [f"w{number}" for number in range(VOCABULARY - 1)]
MASK = VOCABULARY - 1


@pytest.fixture(scope="module")
def encoder():
    words = Tokenizer(models.WordLevel({w: n for n, w in enumerate([*WORDS, "[MASK]"])}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Subject.of(shared("bert"), PreTrainedTokenizerFast(tokenizer_object=words, mask_token="[MASK]"))


@pytest.fixture
def paragraphs(tmp_path):
    chance = np.random.default_rng(0)
    lines = [" ".join(WORDS[n] for n in chance.integers(0, 60, 24)) for _ in range(12)]
    path = tmp_path / "paragraphs.txt"
    path.write_text("\n".join(["= Heading =", "too short", *lines]), encoding="utf-8")
    return path


def test_hidden_tokens_are_the_targets_and_are_not_shown(encoder, paragraphs):
    prepared = MaskedLanguage(text_file=str(paragraphs), share=0.25).prepare(encoder)
    assert prepared.documents == len(prepared.items) == 12
    for item in prepared.items:
        assert len(item.targets) == 6
        assert [item.ids[place] for place in item.positions] == [MASK] * 6
        assert MASK not in item.targets
        assert sum(token == MASK for token in item.ids) == 6


def test_the_seed_alone_says_what_is_hidden(encoder, paragraphs):
    def items(**knobs):
        return MaskedLanguage(text_file=str(paragraphs), **knobs).prepare(encoder).items

    assert items() == items()
    assert items() != items(seed=1)


def test_as_bert_was_trained_most_are_masked_and_some_stay(encoder, paragraphs):
    prepared = MaskedLanguage(text_file=str(paragraphs), share=1.0, corruption="bert").prepare(encoder)
    shown = [(i.ids[p], t) for i in prepared.items for p, t in zip(i.positions, i.targets, strict=True)]
    assert 0.7 < np.mean([token == MASK for token, _ in shown]) < 0.9
    assert 0.04 < np.mean([token == target for token, target in shown]) < 0.2


def test_masked_scores_weigh_by_tokens(encoder, paragraphs):
    prepared = MaskedLanguage(text_file=str(paragraphs), limit=2).prepare(encoder)
    scores = prepared.score(
        [Scored(np.array([-1.0]), np.array([True])), Scored(np.array([-2.0] * 3), np.array([False] * 3))]
    )
    assert scores["nll"].value == pytest.approx(7 / 4)
    assert scores["acc"].value == pytest.approx(1 / 4)
    found = evaluate(encoder, prepared)
    assert 0 < found["nll"].value < 20


def test_models_that_cannot_fill_in_are_refused(paragraphs):
    with pytest.raises(InvalidInput, match="fill in"):
        MaskedLanguage(text_file=str(paragraphs)).prepare(reader("llama"))
    with pytest.raises(InvalidInput, match="sees the whole text"):
        Retrieval(text_file=str(paragraphs)).prepare(reader("llama"))
    with pytest.raises(InvalidInput, match="reads no source"):
        Titles(pairs_file=str(paragraphs)).prepare(reader("llama"))


def test_retrieval_finds_what_is_alike_and_counts_ties_against_the_model(encoder, paragraphs):
    prepared = Retrieval(text_file=str(paragraphs), limit=4).prepare(encoder)
    assert len(prepared.items) == 8
    assert prepared.chance == 0.25
    found = prepared.score(np.concatenate([np.eye(4), np.eye(4)[[0, 1, 3, 2]]]).astype(np.float32))
    assert found["hit_at_1"].value == 0.5
    assert prepared.score(np.ones((8, 4), np.float32))["hit_at_1"].value == 0.0
    assert prepared.score(np.ones((8, 4), np.float32))["mrr"].value == 0.25
    assert prepared.score(np.full((8, 4), np.nan, np.float32))["hit_at_1"].value == 0.0


def test_retrieval_reads_the_mean_of_the_last_stream(encoder, paragraphs):
    prepared = Retrieval(text_file=str(paragraphs), limit=3).prepare(encoder)
    from glassworks.evaluation import item_vectors

    vectors = item_vectors(encoder, prepared.items, 30)
    hidden = encoder.model.bert(encoder.batch(list(prepared.items[0].ids)).ids).last_hidden_state
    np.testing.assert_allclose(vectors[0], hidden[0].mean(0).detach().numpy(), atol=1e-5)


def test_titles_are_scored_behind_the_start_token_given_their_source(tmp_path):
    import transformers

    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=5
    )
    words = Tokenizer(models.WordLevel({w: n for n, w in enumerate([*WORDS, "</s>"])}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    subject = Subject.of(
        transformers.T5ForConditionalGeneration(config).eval(), PreTrainedTokenizerFast(tokenizer_object=words)
    )
    rows = [{"source": "w1 w2 w3", "target": "w7 w8"}, {"source": "w9", "target": "w7"}]
    prepared = Titles(pairs_file=str(write_lines(tmp_path, "pairs.jsonl", *rows))).prepare(subject)
    assert prepared.items[0].ids == (5, 7)
    assert prepared.items[0].source == (1, 2, 3)
    assert prepared.items[0].targets == (7, 8)
    apart = evaluate(subject, prepared, 1)["nll"].per_document
    np.testing.assert_allclose(evaluate(subject, prepared, 100)["nll"].per_document, apart, atol=1e-5)
