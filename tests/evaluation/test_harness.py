import json
import zipfile

import numpy as np
import pytest

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound, Unavailable, UnknownName
from glassworks.evaluation import Harness, Scored, evaluate, generate_texts, score_items
from glassworks.evaluation.spelling import Spelling
from tests.assets import ROOT, asset
from tests.evaluation.small import reader, write_lines

ARC = {"query": "Question: Which is hot?", "choices": ["ice", "the sun", "rain", "snow"], "gold": 1}
FILES = {
    "arc_easy.jsonl": [ARC, {"query": "Question: Which is A?", "choices": list("ABCD"), "gold": 0}],
    "piqa.jsonl": [{"query": "Question: open a jar\n", "choices": ["turn it", "eat it"], "gold": 0}],
    "boolq.jsonl": [
        {"query": "Passage: Ice is cold.\nIt melts.\nQuestion: is ice hot?", "choices": ["no", "yes"], "gold": 0}
    ],
    "copa.jsonl": [{"query": "The man fell, because", "choices": ["he ran.", "he slept."], "gold": 0}],
    "openbook_qa.jsonl": [{"query": "Predators eat", "choices": ["rocks", "prey", "air", "sun"], "gold": 1}],
    "lambada_openai.jsonl": [{"context": "He said to her\nthat", "continuation": "it\n"}],
    "winogrande.jsonl": [
        {"context_options": ["Sara met Maria so Sara", "Sara met Maria so Maria"], "continuation": "ran.", "gold": 1}
    ],
    "gsm8k/train.jsonl": [{"question": f"What is {n}?", "answer": f"So {n}.\n#### {n}"} for n in range(8)],
    "gsm8k/test.jsonl": [{"question": "What is 7?", "answer": "It is 7.\n#### 7"}],
}
# What lm-evaluation-harness sends to a model for these documents, by its own task definitions.
PROMPTS = {
    "arc_easy": [("Question: Which is hot?\nAnswer:", f" {c}") for c in ("ice", "the sun", "rain", "snow")]
    + [("Question: Which is A?\nAnswer:", f" {letter}") for letter in "ABCD"],
    "piqa": [("Question: open a jar\nAnswer:", " turn it"), ("Question: open a jar\nAnswer:", " eat it")],
    "boolq": [("Ice is cold.\nIt melts.\nQuestion: is ice hot?\nAnswer:", f" {word}") for word in ("no", "yes")],
    "copa": [("The man fell because", "  he ran."), ("The man fell because", "  he slept.")],
    "openbookqa": [("Predators eat", f" {word}") for word in ("rocks", "prey", "air", "sun")],
    "lambada_openai": [("He said to her\nthat", " it")],
    "winogrande": [("Sara met Maria so Sara", " ran."), ("Sara met Maria so Maria", " ran.")],
}


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for name, rows in FILES.items():
        write_lines(folder, name, *rows)
    with zipfile.ZipFile(folder / "BLiMP.zip", "w") as archive:
        for paradigm in ("adjunct_island", "causative"):
            rows = [{"sentence_good": f"{paradigm} good {n}", "sentence_bad": f"bad {n}"} for n in range(3)]
            archive.writestr(f"data/{paradigm}.jsonl", "\n".join(json.dumps(row) for row in rows))
            archive.writestr(f"__MACOSX/data/._{paradigm}.jsonl", "noise")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLASSWORKS_ASSETS", str(folder))
        yield folder


def sent(task, **knobs):
    """The requests of a task as (context, continuation) texts."""
    from glassworks.evaluation.harness import _Requests
    from glassworks.evaluation.tasks import find_task, quiet_harness

    with quiet_harness():
        return [one.args for one in _Requests(find_task(task).task, knobs.get("limit"), knobs.get("shots")).all]


@pytest.mark.parametrize("task", PROMPTS)
def test_local_files_give_the_prompts_of_the_harness(task):
    assert sent(task) == PROMPTS[task]


def test_blimp_takes_the_paradigms_in_turn_and_each_alone():
    texts = [continuation.strip() for _, continuation in sent("blimp", limit=3)]
    assert texts[::2] == ["adjunct_island good 0", "causative good 0", "adjunct_island good 1"]
    assert len(sent("blimp_causative")) == 6


def test_choices_that_read_the_same_are_run_together_and_scored_apart():
    assert len(Harness(task="boolq").prepare(reader("llama")).items) == 2
    prepared = Harness(task="arc_easy").prepare(reader("llama"))
    assert (prepared.chance, prepared.metric, prepared.documents) == (0.25, "acc_norm", 2)
    assert len(prepared.items) == 5, "four texts, and four letters behind one prompt"
    letters = prepared.items[-1]
    # A letter is a blank and a sign to this model: two targets each, at the same two places.
    assert letters.positions == (len(letters.ids) - 2, len(letters.ids) - 1) * 4
    low = [Scored(np.full(len(item.targets), -9.0), np.zeros(len(item.targets), bool)) for item in prepared.items]
    the_sun = Scored(np.full(8, -0.1), np.ones(8, bool))

    def score(*letter):
        pairs = [nats for one in letter for nats in (-1.0, one)]
        return prepared.score([low[0], the_sun, *low[2:4], Scored(np.array(pairs), np.zeros(8, bool))])

    assert score(-0.1, -3.0, -3.0, -3.0)["acc"].per_document.tolist() == [1.0, 1.0]
    assert score(-3.0, -3.0, -0.1, -3.0)["acc"].per_document.tolist() == [1.0, 0.0]
    assert score(-3.0, -3.0, -0.1, -3.0)["acc_norm"].value == 0.5


def test_lambada_counts_a_word_only_if_every_token_is_the_likeliest():
    prepared = Harness(task="lambada_openai").prepare(reader("llama"))
    [item] = prepared.items
    count = len(item.targets)
    almost = np.array([True] * (count - 1) + [False])
    scores = prepared.score([Scored(np.full(count, -2.0), almost)])
    assert scores["acc"].value == 0.0
    assert scores["nll"].value == pytest.approx(2.0)
    assert scores["perplexity"].value == pytest.approx(np.exp(2.0 * count))
    assert prepared.score([Scored(np.full(count, -1.0), np.ones(count, bool))])["acc"].value == 1.0
    assert prepared.score([Scored(np.full(count, -1e4), ~almost)])["perplexity"].value == np.inf


def test_gsm8k_has_five_examples_and_two_ways_to_read_an_answer():
    prepared = Harness(task="gsm8k").prepare(reader("llama"))
    [prompt] = prepared.prompts
    assert prompt.count("Question: ") == 6
    assert prompt.endswith("\n\nQuestion: What is 7?\nAnswer:")
    assert prepared.metric == "exact_match,strict-match"

    def found(text):
        scores = prepared.score([text])
        return scores["exact_match,strict-match"].value, scores["exact_match,flexible-extract"].value

    assert found("it is 7.\n#### 7") == (1.0, 1.0)
    assert found("2 and then 7") == (0.0, 1.0)
    assert found("who knows") == (0.0, 0.0)


def test_the_metric_to_compare_by_can_be_chosen():
    assert Harness(task="piqa", metric="acc").prepare(reader("llama")).metric == "acc"
    with pytest.raises(UnknownName, match="f1"):
        Harness(task="piqa", metric="f1").prepare(reader("llama"))


def test_a_real_run_gives_the_same_whatever_the_batch():
    subject = reader("llama")
    prepared = Harness(task="piqa").prepare(subject)
    alone = prepared.score(score_items(subject, prepared.items, 1))
    assert alone["acc"].value == evaluate(subject, prepared)["acc"].value


@pytest.mark.slow
@pytest.mark.nightly
def test_any_other_name_is_looked_up_among_the_tasks_of_the_harness():
    with pytest.raises(UnknownName):
        Harness(task="no_such_task_anywhere").prepare(reader("llama"))
    with pytest.raises(NotFound, match="mmlu_anatomy"):
        Harness(task="mmlu_anatomy").prepare(reader("llama"))


def test_without_the_harness_its_tasks_say_how_to_get_it(monkeypatch):
    monkeypatch.setattr("glassworks.evaluation.tasks.find_spec", lambda name: None)
    with pytest.raises(Unavailable) as problem:
        Harness(task="piqa").prepare(reader("llama"))
    assert problem.value.next_command == "pip install 'glassworks[eval]'"


def test_data_that_is_nowhere_is_asked_of_the_hub_and_then_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(tmp_path))
    monkeypatch.setenv("GLASSWORKS_HOME", str(tmp_path))
    with pytest.raises(NotFound, match="arc_easy") as problem:
        Harness(task="arc_easy").prepare(reader("llama"))
    assert "GLASSWORKS_ASSETS" in str(problem.value)
    with pytest.raises(NotFound, match="siqa"):
        Harness(task="siqa_two_way").prepare(reader("llama"))


def test_a_broken_file_names_the_row(tmp_path, monkeypatch):
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(tmp_path))
    write_lines(tmp_path, "arc_easy.jsonl", ARC, {"query": "Question: x", "choices": ["a"], "gold": 3})
    with pytest.raises(BrokenFile, match="row 2"):
        Harness(task="arc_easy").prepare(reader("llama"))
    (tmp_path / "piqa.jsonl").write_text('{"query": \n')
    with pytest.raises(BrokenFile, match="line 1"):
        Harness(task="piqa").prepare(reader("llama"))
    (tmp_path / "hellaswag-800").mkdir()
    (tmp_path / "hellaswag-800" / "correct.txt").write_text("a b\nc d\n")
    (tmp_path / "hellaswag-800" / "wrong.txt").write_text("a c\n")
    with pytest.raises(BrokenFile, match="line by line"):
        Harness(task="hellaswag_two_way").prepare(reader("llama"))
    (tmp_path / "BLiMP.zip").write_bytes(b"no archive")
    with pytest.raises(BrokenFile, match="BLiMP"):
        Harness(task="blimp").prepare(reader("llama"))


def test_generation_stops_where_it_is_told_whatever_the_batch():
    subject = reader("llama")
    prompts = ["the cat", "a", "What is it?"]
    whole = generate_texts(subject, prompts, (), 6, batch=1)
    for prompt, text in zip(prompts, whole, strict=True):
        assert prompt + text == subject.to_string(subject.generate(prompt, 6))
    assert generate_texts(subject, prompts, (), 6, batch=3) == whole
    stop = whole[0][2:4]
    assert generate_texts(subject, prompts, (stop,), 6, batch=3)[0] == whole[0][: whole[0].index(stop)]
    with pytest.raises(InvalidInput, match="no room"):
        generate_texts(subject, prompts, (), 10_000)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["arc_easy", pytest.param("lambada_openai", marks=pytest.mark.nightly)])
def test_numbers_equal_those_of_the_harness_itself(task, monkeypatch):
    from glassworks.evaluation.tasks import find_task, quiet_harness
    from glassworks.models.load import load

    subject = load(asset("lm/stories260K/stories260K.bin"))
    monkeypatch.setenv("GLASSWORKS_ASSETS", str(ROOT))
    with quiet_harness():
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        model = HFLM(pretrained=subject.model, tokenizer=subject.tokenizer, batch_size=4, device="cpu")
        theirs = simple_evaluate(model=model, tasks=[find_task(task).task], limit=40, bootstrap_iters=0)
    prepared = Harness(task=task, limit=40, first_token="tokenizer").prepare(subject)
    ours = evaluate(subject, prepared, 700)
    for name, score in ours.items():
        if f"{name},none" in theirs["results"][task]:
            assert score.value == pytest.approx(theirs["results"][task][f"{name},none"], rel=1e-4)
    likelihoods = [pair[0] for one in theirs["samples"][task] for pair in one["filtered_resps"]]
    assert len(likelihoods) >= 40
    spelling = Spelling.of(subject, "tokenizer")
    items = [spelling.item(*spelling.pair(*texts), subject.anatomy.context) for texts in sent(task, limit=40)]
    np.testing.assert_allclose([one.logprob for one in score_items(subject, items)], likelihoods, atol=1e-4)
