import re

import numpy as np
import pytest
import torch

from glassworks.core.errors import InvalidSpec
from glassworks.tasks import TASKS, Facts, TextWindows
from glassworks.tasks.facts import NAMES
from glassworks.tasks.haystacks import FILLER
from glassworks.tensors.seeds import Seed

FACT = re.compile(rb"([A-Z][a-z]{2}) has (\d+)\. ")


def told_and_listed(text: bytes, questions: int):
    """The facts of the text, and those listed at its end."""
    found = list(FACT.finditer(text))
    assert found[-1].end() == len(text)
    return found[:-questions], found[-questions:]


def texts_of(batch) -> list[bytes]:
    whole = torch.cat((batch.inputs, batch.targets[:, -1:]), 1)
    return [bytes(row) for row in whole.tolist()]


@pytest.mark.parametrize(("facts", "digits", "asked"), [(4, 3, None), (1, 5, None), (24, 2, 3)])
def test_every_person_of_the_list_has_the_number_of_the_text(facts, digits, asked):
    task = Facts(length=1500, facts=facts, digits=digits, asked=asked)
    for text in texts_of(task.sample(20, Seed(0))):
        told, listed = told_and_listed(text, asked or facts)
        numbers = dict(match.groups() for match in told)
        assert sorted(numbers) == [name.encode() for name in NAMES[:facts]]
        assert [match[1] for match in listed] == sorted({match[1] for match in listed})
        assert all(numbers[match[1]] == match[2] and len(match[2]) == digits for match in listed)
        assert FACT.sub(b"", text) in FILLER * 20
        assert len(text) == 1501


def test_key_marks_the_digits_of_the_list():
    batch = Facts(length=600).sample(5, Seed(1))
    for row, text in enumerate(texts_of(batch)):
        marked = bytes(batch.targets[row][batch.scored["key"][row]].tolist())
        assert marked == b"".join(match[2] for match in told_and_listed(text, 4)[1])


def test_order_and_places_are_free_and_facts_never_overlap():
    orders, firsts = set(), []
    for text in texts_of(Facts(length=400, facts=3).sample(600, Seed(2))):
        told, _ = told_and_listed(text, 3)
        orders.add(tuple(match[1] for match in told))
        firsts.append(told[0].start())
        assert len(told) == 3
    assert len(orders) == 6
    # 401 - 6 x 13 bytes of filler; three ordered uniform shares have a first of a quarter on average.
    assert np.mean(firsts) == pytest.approx(323 / 4, abs=10)


def test_a_reader_of_the_last_bytes_finds_the_facts_that_stand_there():
    task = Facts(length=512, facts=8)
    texts = task.texts(40, Seed(3), length=20_000)
    told = []
    for share in (0.25, 0.5, 1.0):
        start = texts.length - int(share * texts.length)
        # The list itself is cut off.
        read = torch.cat([*texts.blocks(block=1000, start=start)], 1)[:, : texts.asked - start]
        told.append(np.mean([len(FACT.findall(bytes(row))) for row in read.tolist()]) / 8)
    assert told[2] == 1
    assert told[:2] == pytest.approx([0.25, 0.5], abs=0.08)
    listed = FACT.findall(bytes(texts.between(texts.asked, 20_001)[0].tolist()))
    assert bytes(texts.answers[0].tolist()) == b"".join(number for _, number in listed)


def test_a_text_on_demand_is_the_sample():
    task = Facts(length=700, facts=5)
    batch = task.sample(3, Seed(4))
    assert torch.equal(torch.cat(list(task.texts(3, Seed(4)).blocks(99)), 1).long(), batch.inputs)


def test_segments_with_a_fact_or_the_questions_count_once():
    batch = Facts(length=1024, facts=3, segment=64, virtual=3.0).sample(50, Seed(5))
    assert batch.written is not None
    for row, text in enumerate(texts_of(batch)):
        times = batch.written[row].unflatten(0, (-1, 64))[:, 0]
        told, listed = told_and_listed(text, 3)
        plain = {s for m in told for s in range(m.start() // 64, (m.end() - 1) // 64 + 1)}
        plain |= set(range(listed[0].start() // 64, 16))
        assert [bool(t == 1) for t in times] == [s in plain for s in range(16)]


def test_a_book_can_be_the_filler(tmp_path):
    content = bytes(np.random.default_rng(0).integers(97, 123, 2000, dtype=np.uint8))
    path = tmp_path / "book.txt"
    path.write_bytes(content)
    for text in texts_of(Facts(length=500, book=TextWindows.of(path, length=1)).sample(10, Seed(6))):
        assert FACT.sub(b"", text) in content[:1800] * 2


def test_what_does_not_fit_is_refused():
    least = Facts(length=500).least
    assert Facts(length=least).sample(2, Seed(0)).inputs.shape == (2, least)
    with pytest.raises(InvalidSpec, match=f"do not fit into {least - 1} bytes"):
        Facts(length=least - 1)
    with pytest.raises(InvalidSpec, match="do not fit into 9 bytes"):
        Facts().texts(1, Seed(0), length=9)
    with pytest.raises(InvalidSpec, match="5 questions about 4 facts"):
        Facts(asked=5)


def test_it_stands_on_the_shelf():
    assert isinstance(TASKS.parse({"kind": "facts"}), Facts)
