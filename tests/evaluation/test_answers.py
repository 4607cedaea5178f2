import random

import pytest
from rouge_score import rouge_scorer

from glassworks.evaluation.answers import Overlap, mean_rouge, order_overlap, rouge, word_overlap, words


def test_words_are_letters_and_digits_in_lower_case():
    assert words("Ada's number: 4821, (NOT 12-3)!") == ["ada", "s", "number", "4821", "not", "12", "3"]


def test_a_word_counts_as_often_as_both_have_it():
    # Two of three given words are wanted; "a" twice given, once wanted.
    assert word_overlap("a a b", "b a c d") == Overlap(2 / 3, 2 / 4)
    assert word_overlap("a a b", "b a c d").f1 == pytest.approx(4 / 7)
    assert word_overlap("x b a", "b a c b a", run=2) == Overlap(1 / 2, 1 / 4)


def test_order_counts_the_longest_common_sequence():
    assert order_overlap("a c b d", "a b c d") == Overlap(3 / 4, 3 / 4)
    assert order_overlap("d c b a", "a b c d") == Overlap(1 / 4, 1 / 4)


@pytest.mark.parametrize(("answer", "right"), [("", "a b"), ("a b", ""), ("", ""), ("x", "y"), ("...", "a")])
def test_nothing_shared_is_zero(answer, right):
    assert rouge(answer, right) == {"rouge1": 0, "rouge2": 0, "rougeL": 0, "overall": 0}


def test_the_right_answer_has_one_everywhere():
    assert rouge("Ada 482, Ben 113.", "ada 482 ben 113") == dict.fromkeys(("rouge1", "rouge2", "rougeL", "overall"), 1)


def test_the_overall_score_reproduces_a_row_of_the_paper():
    # infini.md 2: 40.0, 8.8, 17.9 give 18.5. The table's overall is the geometric mean of the means.
    scores = mean_rouge(["a b c", "x y"], ["a b d", "x y"])
    assert scores["rouge1"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["rouge2"] == pytest.approx((1 / 2 + 1) / 2)
    assert scores["overall"] == pytest.approx((scores["rouge1"] * scores["rouge2"] * scores["rougeL"]) ** (1 / 3))
    assert pytest.approx(18.5, abs=0.05) == (40.0 * 8.8 * 17.9) ** (1 / 3)


def test_it_agrees_with_the_usual_package_on_random_texts():
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    chance = random.Random(0)
    vocabulary = ["the", "number", "of", "Ada", "is", "48", "and", "7", "Ben's", "other"]
    for _ in range(200):
        right, answer = (" ".join(chance.choices(vocabulary, k=chance.randint(0, 12))) for _ in range(2))
        expected = scorer.score(right, answer)
        found = (word_overlap(answer, right), word_overlap(answer, right, run=2), order_overlap(answer, right))
        for ours, theirs in zip(found, expected.values(), strict=True):
            assert (ours.precision, ours.recall) == pytest.approx((theirs.precision, theirs.recall))
            assert ours.f1 == pytest.approx(theirs.fmeasure)
