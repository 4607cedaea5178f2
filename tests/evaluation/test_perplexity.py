import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.evaluation import Perplexity, evaluate
from glassworks.evaluation.perplexity import _spans
from tests.evaluation.small import CHARACTERS, reader


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("the cat é saw the dog. " * 9, encoding="utf-8")
    return path


@given(
    count=st.integers(2, 80),
    window=st.integers(2, 12),
    front=st.integers(0, 1),
    stride=st.one_of(st.none(), st.integers(1, 14)),
)
def test_every_token_is_scored_once_and_no_window_is_longer_than_it_may(count, window, front, stride):
    spans = _spans(count, window, front, stride)
    assert [token for span in spans for token in range(span.first, span.end)] == list(range(1 - front, count))
    for span in spans:
        # The last token of a window is a target only: the model does not read it.
        assert front + (span.end - span.start) - 1 <= window
        assert front + (span.first - span.start) >= 1


def test_the_number_is_the_mean_over_all_tokens_but_the_first(text_file):
    subject = reader("llama")
    benchmark = Perplexity(text_file=str(text_file), window=40, stride=1)
    scores = evaluate(subject, benchmark.prepare(subject))
    ids = subject.tokenizer.encode(text_file.read_text(encoding="utf-8"))
    losses = []
    for end in range(2, len(ids) + 1):
        shown = torch.tensor([ids[max(0, end - 41) : end]])
        with torch.no_grad():
            logs = subject.model(shown).logits[0, -2].log_softmax(-1)
        losses.append(-float(logs[shown[0, -1]]))
    assert scores["nll"].value == pytest.approx(np.mean(losses), abs=1e-5)
    assert scores["ppl"].value == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)
    # é is two bytes: one token more in the text than in its bytes would be wrong here.
    size = len(text_file.read_bytes()) - 1
    assert scores["bits_per_byte"].value == pytest.approx(sum(losses) / math.log(2) / size, rel=1e-5)


def test_a_limit_takes_windows_from_the_whole_text(text_file):
    prepared = Perplexity(text_file=str(text_file), window=10, limit=4).prepare(reader("llama"))
    whole = Perplexity(text_file=str(text_file), window=10).prepare(reader("llama"))
    places = [whole.items.index(item) for item in prepared.items]
    assert prepared.documents == 4
    assert places == sorted(places)
    assert places[0] < len(whole.items) / 4 < 3 * len(whole.items) / 4 < places[-1]


def test_chance_is_the_uniform_guess(text_file):
    prepared = Perplexity(text_file=str(text_file)).prepare(reader("llama"))
    assert prepared.chance == pytest.approx(math.log(reader("llama").anatomy.vocabulary))
    assert prepared.name == "ppl_words"


def test_what_cannot_be_scored_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(tmp_path / "nothing"))
    monkeypatch.setenv("GLASSWORKS_HOME", str(tmp_path))
    with pytest.raises(NotFound, match=r"wikitext2-test\.txt") as problem:
        Perplexity().prepare(reader("llama"))
    assert "GLASSWORKS_ASSETS" in str(problem.value)
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BrokenFile):
        Perplexity(text_file=str(tmp_path / "bad.txt")).prepare(reader("llama"))
    (tmp_path / "empty.txt").write_text(" \n")
    with pytest.raises(InvalidInput, match="empty"):
        Perplexity(text_file=str(tmp_path / "empty.txt")).prepare(reader("llama"))
    (tmp_path / "good.txt").write_text("".join(CHARACTERS))
    with pytest.raises(InvalidInput, match="looks ahead"):
        Perplexity(text_file=str(tmp_path / "good.txt")).prepare(reader("bert"))
