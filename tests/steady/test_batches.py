"""How many documents run together changes no score: every benchmark of the shelf, every task that local files make."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from glassworks.anatomy import Subject
from glassworks.evaluation import (
    BENCHMARKS,
    GenerativePrepared,
    Harness,
    MaskedLanguage,
    Perplexity,
    Retrieval,
    Titles,
    evaluate,
)
from glassworks.evaluation.generate import generate_texts
from glassworks.evaluation.local import LOCAL
from glassworks.models.load import load
from tests.assets import ROOT, asset
from tests.evaluation.small import write_lines
from tests.families import VOCABULARY, shared

pytestmark = pytest.mark.slow

# Float32 sums in another order: seen up to 1e-5 nats a document (tens of tokens); a wrong mask or place is 1e-2 and more.
TOLERANCE = 1e-4
WORDS = [f"w{number}" for number in range(VOCABULARY - 1)]


@pytest.fixture(scope="module")
def stories():
    return load(asset("lm/stories260K/stories260K.bin"))


@pytest.fixture(scope="module")
def spelling():
    words = Tokenizer(models.WordLevel({w: n for n, w in enumerate([*WORDS, "[MASK]"])}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, mask_token="[MASK]", eos_token="[MASK]")


@pytest.fixture
def paragraphs(tmp_path):
    chance = np.random.default_rng(0)
    lines = [" ".join(WORDS[n] for n in chance.integers(0, 60, chance.integers(20, 40))) for _ in range(12)]
    path = tmp_path / "paragraphs.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def equal_whatever_the_batch(subject, prepared):
    """Scores of single documents, of a few together, of all together; document by document."""
    alone, few, all_together = (evaluate(subject, prepared, tokens) for tokens in (1, 150, 100_000))
    assert alone
    for name, score in alone.items():
        for other in (few[name], all_together[name]):
            # A perplexity of a model that knows nothing is thousands: its logarithm is what is summed.
            np.testing.assert_allclose(other.per_document, score.per_document, rtol=TOLERANCE, atol=TOLERANCE)
            assert other.value == pytest.approx(score.value, rel=TOLERANCE, abs=TOLERANCE)


def test_every_benchmark_of_the_shelf_is_tried_here():
    assert set(BENCHMARKS) == {Perplexity, MaskedLanguage, Titles, Retrieval, Harness}


def test_perplexity(stories):
    equal_whatever_the_batch(
        stories, Perplexity(text_file=str(asset("text/wikitext2-test.txt")), limit=8).prepare(stories)
    )


@pytest.mark.parametrize("task", [*LOCAL, "blimp_anaphor_gender_agreement"])
def test_a_task_of_the_harness(stories, task, monkeypatch):
    asset("bench")
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(ROOT))
    prepared = Harness(task=task, limit=6).prepare(stories)
    if isinstance(prepared, GenerativePrepared):
        prompts = [prompt[-120:] for prompt in prepared.prompts[:4]]
        alone = generate_texts(stories, prompts, prepared.until, 24, batch=1)
        assert generate_texts(stories, prompts, prepared.until, 24, batch=4) == alone
        return
    equal_whatever_the_batch(stories, prepared)


@pytest.mark.parametrize("spec", [MaskedLanguage, Retrieval])
def test_what_encoders_are_scored_on(spec, spelling, paragraphs):
    subject = Subject.of(shared("bert"), spelling)
    equal_whatever_the_batch(subject, spec(text_file=str(paragraphs), limit=6).prepare(subject))


def test_what_encoder_decoders_are_scored_on(spelling, tmp_path):
    chance = np.random.default_rng(1)

    def text(length):
        return " ".join(WORDS[n] for n in chance.integers(0, 60, length))

    rows = [{"source": text(3 + 2 * row), "target": text(9 - row)} for row in range(6)]
    subject = Subject.of(shared("t5"), spelling)
    equal_whatever_the_batch(subject, Titles(pairs_file=str(write_lines(tmp_path, "p.jsonl", *rows))).prepare(subject))
