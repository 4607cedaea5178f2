from pathlib import Path

import numpy as np
import pytest
import torch

from glassworks.anatomy import Alphabet, Subject, TokenBatch
from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.instruments import LinearProbe
from glassworks.instruments.linear_probe import Questions, probed
from glassworks.instruments.probe_labels import control_labels, read_labelled, token_labels
from glassworks.instruments.states import StateGatherer
from glassworks.tensors.seeds import Seed
from tests.families import VOCABULARY, shared
from tests.families import subject as examined

DOCUMENTS = TokenBatch(torch.randint(0, VOCABULARY, (24, 16), generator=torch.Generator().manual_seed(1)))
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456 -"


def lettered() -> Subject:
    return Subject.of(shared("llama"), Alphabet(tuple(LETTERS)))


def test_what_the_states_say_is_read_and_what_they_do_not_say_is_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (300,), generator=generator)
    says = torch.nn.functional.one_hot(labels, 3).float() + 0.1 * torch.randn(300, 3, generator=generator)
    noise = torch.randn(300, 3, generator=generator)
    document = torch.arange(300) // 10
    control = control_labels(labels, torch.arange(300), Seed(0))
    found = probed(torch.stack([says, noise]), Questions(labels, control, document, document >= 20))
    accuracy, random, selectivity, chance = found.transpose(1, 0, 2)
    assert accuracy[0, 0] > 0.95
    assert abs(accuracy[1, 0] - chance[1, 0]) < 0.15
    assert random[0, 1] < 0.5 < selectivity[0, 1]
    assert chance[0, 0] == pytest.approx(chance[1, 0])


def test_a_probe_that_only_knows_types_has_no_selectivity() -> None:
    types = torch.randint(0, 8, (400,), generator=torch.Generator().manual_seed(0))
    labels, document = types % 2, torch.arange(400) // 20
    control = control_labels(labels, types, Seed(3))
    assert len({(int(t), int(c)) for t, c in zip(types, control, strict=True)}) == 8
    states = torch.nn.functional.one_hot(types, 8).float()[None]
    found = probed(states, Questions(labels, control, document, document >= 14))
    np.testing.assert_allclose(found[0, :3, 0], [1.0, 1.0, 0.0], atol=1e-9)


def test_positions_are_read_where_they_were_added_and_one_class_is_no_task() -> None:
    found = LinearProbe(tasks=("position", "word_start")).read(examined("gpt2"), DOCUMENTS)
    # Without a tokenizer every token stands alone, so none begins a word more than another.
    assert found.coords["task"] == ("position",)
    position = found.at(task="position", state=-1)
    assert position.at(quantity="accuracy", spread="low").values > position.at(quantity="chance", spread="high").values
    llama = LinearProbe(tasks=("position",)).read(examined("llama"), DOCUMENTS).at(task="position", state=-1)
    # Llama adds no positions to its embedding.
    assert llama.at(quantity="accuracy", spread="value").values < position.at(quantity="accuracy", spread="low").values
    assert "trained on 17 documents and judged on 7 others" in found.caveats[1].en


def test_the_labels_of_tokens_are_what_their_names_say() -> None:
    subject = lettered()
    batch = subject.batch(["ab cab a", "b ab"])
    gathered = StateGatherer((), 100)
    gathered._ids = [ids[real] for ids, real in zip(batch.ids, batch.real, strict=True)]
    gathered._states = [torch.zeros(1, len(ids), 1) for ids in gathered._ids]
    found = gathered.states()
    assert token_labels(subject, "position", found).tolist() == [0, 1, 1, 2, 2, 2, 2, 3, 0, 1, 1, 2]
    assert token_labels(subject, "word_start", found).tolist() == [1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0]
    # a 4 times, b 4, blank 3, c once.
    assert token_labels(subject, "frequency", found).tolist() == [2, 2, 1, 0, 2, 2, 1, 2, 2, 1, 2, 2]
    before = token_labels(subject, "previous_token", found)
    assert before[[0, 8]].tolist() == [-1, -1]
    assert before[1] == before[5] == before[11]
    assert before[1] != before[2]


def written(path: Path, count: int = 40) -> Path:
    texts = [f"{'zzz' if i % 2 else 'qqq'} {LETTERS[i % 20]}{LETTERS[i % 7]}" for i in range(count)]
    path.write_text("text\tlabel\n" + "".join(f"{t}\t{'last' if 'z' in t else 'queer'}\n" for t in texts))
    return path


@pytest.mark.parametrize("represent", ["mean", "last"])
def test_labelled_texts_are_read_off_their_tokens(tmp_path: Path, represent) -> None:
    look = LinearProbe(file=str(written(tmp_path / "texts.tsv")), represent=represent)
    found = look.read(lettered(), DOCUMENTS).at(task="file")
    first = found.at(state=-1, spread="value")
    if represent == "mean":
        assert first.at(quantity="accuracy").values == 1.0
        assert 0.5 < found.at(state=-1, quantity="accuracy", spread="low").values < 1.0
    else:
        # The last letter is the same for both kinds; only a layer that mixes positions can tell them.
        assert first.at(quantity="accuracy").values < found.at(state=2, quantity="accuracy", spread="value").values
    assert "label of the text" in look.draw(look.read(lettered(), DOCUMENTS)).svg()


def test_files_of_three_kinds_are_read_and_a_bad_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one", "label": 1}\n{"sentence": "two", "label": 0}\n')
    found = read_labelled(tmp_path / "a.jsonl", 9, Seed(0))
    assert (found.texts, found.labels, found.names) == (("one", "two"), (1, 0), ("0", "1"))
    (tmp_path / "a.txt").write_text("1 a film\n0 no film\n")
    assert read_labelled(tmp_path / "a.txt", 9, Seed(0)).texts == ("a film", "no film")
    (tmp_path / "b.txt").write_text("1 a film\nno label here\n")
    with pytest.raises(BrokenFile, match="line 2"):
        read_labelled(tmp_path / "b.txt", 9, Seed(0))
    with pytest.raises(NotFound):
        read_labelled(tmp_path / "c.txt", 9, Seed(0))
    (tmp_path / "d.tsv").write_text("a\tx\nb\tx\n")
    with pytest.raises(InvalidInput, match="fewer than two"):
        read_labelled(tmp_path / "d.tsv", 9, Seed(0))
    few = read_labelled(written(tmp_path / "many.tsv"), 10, Seed(0))
    assert len(few.texts) == 10
    assert few.texts != read_labelled(tmp_path / "many.tsv", 10, Seed(1)).texts


def test_nothing_to_ask_and_nothing_to_hold_out_are_said() -> None:
    with pytest.raises(InvalidInput, match="nothing to hold out"):
        LinearProbe().read(examined("llama"), TokenBatch(DOCUMENTS.ids[:1]))
    with pytest.raises(InvalidInput, match="nothing can be asked"):
        LinearProbe(tasks=("word_start",)).read(examined("llama"), DOCUMENTS)
