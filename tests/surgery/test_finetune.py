"""Classification under a plan: data as GLUE has it, grades as GLUE gives them, the plan in place while training."""

import numpy as np
import pytest
import torch

from glassworks.anatomy import Alphabet, Subject, TokenBatch
from glassworks.core.errors import BrokenFile, UnknownName
from glassworks.evaluation.glue import Example, Graded, LabelledTexts, labelled_texts, matthews, pair_items
from glassworks.surgery import Plan, operated
from glassworks.surgery.finetune import FinetuneSpec, FrozenSpec, TuneOptions, finetune, frozen_classifier, last_stream
from tests import families

LETTERS = tuple("abcdefghij")
SKIP = Plan.parse("0 2", 3)


def reader(family: str = "bert") -> Subject:
    return Subject.of(families.tiny(family), Alphabet(LETTERS))


def made(count: int, seed: int) -> tuple[Example, ...]:
    """Texts whose label says of which half of the alphabet most of their letters are."""
    chance = np.random.default_rng(seed)
    found: list[Example] = []
    for number in range(count):
        halves = chance.random(int(chance.integers(5, 12))) < 0.9
        letters = [
            "abcde"[chance.integers(5)] if own == (number % 2) else "fghij"[chance.integers(5)] for own in halves
        ]
        found.append(Example("".join(letters), None, number % 2))
    return tuple(found)


DATA = LabelledTexts("halves", "acc", ("no", "yes"), made(120, 0), made(60, 1), "made here")
TUNING = FinetuneSpec(learning_rate=3e-3, epochs=2, batch=16, examples=None, seeds=(0, 1), precision="as_loaded")


def test_matthews_correlation_has_its_closed_forms() -> None:
    assert matthews(np.diag([3.0, 5.0])) == pytest.approx(1)
    assert matthews(np.array([[0.0, 3.0], [5.0, 0.0]])) == pytest.approx(-1)
    assert matthews(np.array([[0.0, 3.0], [0.0, 5.0]])) == 0, "one label for all"
    # (tp tn - fp fn) / sqrt(...) for tn 6, fp 1, fn 2, tp 3
    assert matthews(np.array([[6.0, 1.0], [2.0, 3.0]])) == pytest.approx((18 - 2) / np.sqrt(4 * 5 * 7 * 8))
    labels, predicted = np.array([0, 0, 1, 1, 1, 0] * 10), np.array([0, 1, 1, 1, 0, 0] * 10)
    graded = Graded("mcc", predicted, labels)
    assert graded.accuracy.mean == pytest.approx(4 / 6)
    assert graded.score.mean == pytest.approx(np.corrcoef(labels, predicted)[0, 1])
    assert graded.score.low < graded.score.mean < graded.score.high
    assert graded.correct.value == pytest.approx(4 / 6)


def test_data_sets_are_read_from_their_files(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(tmp_path))
    header = "index\tsentence1\tsentence2\tlabel\n"
    (tmp_path / "RTE-train.tsv").write_text(header + "0\tA cat.\tAn animal.\tentailment\n", encoding="utf-8")
    (tmp_path / "RTE-val.tsv").write_text('4\tA "dog.\tA cat.\tnot_entailment\n', encoding="utf-8")
    (tmp_path / "RTE-dev.tsv").write_text(header + "0\tOne.\tTwo.\tnot_entailment\n", encoding="utf-8")
    found = labelled_texts("rte")
    assert found.train == (Example("A cat.", "An animal.", 0), Example('A "dog.', "A cat.", 1))
    assert found.dev == (Example("One.", "Two.", 1),)
    (tmp_path / "stsa.binary.train").write_text("1 so good .\n", encoding="utf-8")
    (tmp_path / "stsa.binary.dev").write_text("0 dull .\n1 fine .\n", encoding="utf-8")
    found = labelled_texts("sst2")
    assert found.dev == (Example("dull .", None, 0), Example("fine .", None, 1))
    assert found.chance == 0.5
    (tmp_path / "stsa.binary.dev").write_text("0 dull .\nfine\n", encoding="utf-8")
    with pytest.raises(BrokenFile, match="line 2"):
        labelled_texts("sst2")
    with pytest.raises(UnknownName, match="qqp"):
        labelled_texts("qqp")


def test_the_longer_sentence_of_a_pair_is_cut_first() -> None:
    [item] = pair_items(reader(), (Example("abcdefgh", "jih", 0),), 9)
    assert item.ids == (*range(6), 9, 8, 7)


@pytest.mark.slow
def test_frozen_vectors_of_shared_plans_classify_as_each_plan_alone() -> None:
    subject = reader()
    before = {name: weight.clone() for name, weight in subject.model.state_dict().items()}
    plans = [Plan.identity(3), SKIP, Plan.parse("0 (1 | 2)x3", 3)]
    together = frozen_classifier(subject, plans, DATA, FrozenSpec())
    assert list(together) == plans
    for plan in plans[1:]:
        [alone] = frozen_classifier(subject, [plan], DATA, FrozenSpec()).values()
        assert np.array_equal(alone.predicted, together[plan].predicted)
    assert together[plans[0]].accuracy.low > 0.75
    assert all(torch.equal(weight, before[name]) for name, weight in subject.model.state_dict().items())


@pytest.mark.slow
def test_finetuning_learns_under_the_plan_and_leaves_the_subject_alone(tmp_path) -> None:
    subject = reader()
    before = {name: weight.clone() for name, weight in subject.model.state_dict().items()}
    chance = torch.random.get_rng_state()
    with torch.no_grad():
        for weight in subject.model.get_submodule(subject.anatomy.layers[1].path).parameters():
            weight.fill_(torch.nan)
    options = TuneOptions(folder=tmp_path)
    tuned = finetune(subject, SKIP, DATA, TUNING, options)
    assert set(tuned.graded) == {0, 1}
    assert tuned.score.mean > 0.75, "the layer of NaN that the plan leaves out did no harm"
    assert tuned.score.low <= tuned.score.mean
    own = subject.anatomy.layers[1].path
    assert all(torch.equal(w, before[n]) for n, w in subject.model.state_dict().items() if not n.startswith(own))
    assert torch.equal(torch.random.get_rng_state(), chance)
    # Equal settings, equal answers; and what lies in the folder is not done again.
    again = finetune(subject, SKIP, DATA, TUNING.replaced("seeds", [1]))
    assert np.array_equal(again.graded[1].predicted, tuned.graded[1].predicted)
    heard: list[object] = []
    options.events.listen(heard.append)
    kept = finetune(subject, SKIP, DATA, TUNING, options)
    assert not heard
    assert np.array_equal(kept.graded[0].predicted, tuned.graded[0].predicted)


def test_the_last_stream_carries_gradients_through_every_run_of_a_layer() -> None:
    subject = reader()
    batch = TokenBatch(torch.arange(1, 7)[None])
    weight = next(subject.model.get_submodule(subject.anatomy.layers[1].path).parameters())
    grads = []
    for text in ("0 1 2", "0 1x2 2", "0 2"):
        weight.grad = None
        with operated(subject, text):
            last_stream(subject, batch, "layers").square().sum().backward()
        grads.append(weight.grad)
    assert grads[2] is None
    assert not torch.allclose(grads[0], grads[1])
