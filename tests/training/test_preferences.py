import gzip
import json
from pathlib import Path

import pytest

from glassworks.core.errors import BrokenFile, InvalidInput, NotFound
from glassworks.training.stages.chat import Turn
from glassworks.training.stages.instructions import prompts_of, read_demonstrations
from glassworks.training.stages.preferences import read_preferences, read_transcript
from tests.assets import asset


def written(path: Path, entries: list[object]) -> Path:
    path.write_text(
        json.dumps(entries) if path.suffix == ".json" else "\n".join(map(json.dumps, entries)), encoding="utf-8"
    )
    return path


def pair(number: int, **changes: object) -> dict[str, object]:
    return {"prompt": f"question {number}", "chosen": "yes", "rejected": "no"} | changes


def test_pairs_are_parted_by_their_prompts_and_always_alike(tmp_path: Path) -> None:
    entries: list[object] = [pair(n // 2, chosen=f"yes {n}") for n in range(200)]
    found = read_preferences([written(tmp_path / "a.jsonl", entries)])
    assert len(found.fit) + len(found.held_out) == 200
    assert 4 <= len(found.held_out) <= 40
    assert not {p.prompt for p in found.fit} & {p.prompt for p in found.held_out}
    turned = read_preferences([written(tmp_path / "b.json", entries[::-1])])
    assert set(turned.held_out) == set(found.held_out)


def test_pairs_that_teach_nothing_are_left_out_and_counted(tmp_path: Path) -> None:
    entries: list[object] = [pair(n) for n in range(60)]
    entries += [pair(1), pair(61, rejected="yes"), pair(62, chosen=" "), pair(63, rejected="")]
    found = read_preferences([written(tmp_path / "a.jsonl", entries)])
    assert (found.duplicates, found.equal, found.empty) == (1, 1, 2)
    assert len(found.fit) + len(found.held_out) == 60
    assert found.left_out["pairs_empty"] == 2


def test_transcripts_become_turns(tmp_path: Path) -> None:
    text = "\n\nHuman: hi\n\nAssistant: hello\n\nAssistant: how are you?\n\nHuman: well"
    turns = read_transcript(text)
    assert turns == (Turn("user", "hi"), Turn("assistant", "hello\n\nhow are you?"), Turn("user", "well"))
    with pytest.raises(InvalidInput, match="begins with a line of Human or Assistant"):
        read_transcript("hello")
    lines = [
        {"chosen": f"{text} {n}\n\nAssistant: good", "rejected": f"{text} {n}\n\nAssistant: bad"} for n in range(60)
    ]
    lines.append({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: b"})
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode()))
    found = read_preferences([path])
    assert found.parted == 1
    assert found.fit[0].chosen == "good"
    assert found.fit[0].prompt[-1].role == "user"


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (b"\xff\xfe{}", BrokenFile, "no UTF-8 text: line 1, byte 0"),
        (b'{"chosen": 1', BrokenFile, "no JSON at line 1"),
        (b"", InvalidInput, "holds no examples"),
        (b'"text"', InvalidInput, "example 1 of .* is no object"),
        (b'{"prompt": "a", "chosen": ["x"], "rejected": "b"}', InvalidInput, "example 1 of .*: an answer is a text"),
        (b'{"question": "a"}', InvalidInput, "example 1 of .*: an example of no known form"),
        (b'{"prompt": "a", "chosen": "x", "rejected": "b"}', InvalidInput, "too few examples"),
        (
            b'{"prompt": [{"role": "judge", "content": "a"}], "chosen": "x", "rejected": "b"}',
            InvalidInput,
            "example 1 of .*: unknown role in turn 1",
        ),
    ],
)
def test_files_that_cannot_be_read_are_named_with_the_line(
    tmp_path: Path, content: bytes, error: type[Exception], words: str
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    with pytest.raises(error, match=words):
        read_preferences([path])


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_preferences([tmp_path / "none.json"])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"{}" * 100)[:-9])
    with pytest.raises(BrokenFile, match="cannot be unpacked"):
        read_preferences([tmp_path / "a.jsonl.gz"])


def test_demonstrations_of_every_form_are_read(tmp_path: Path) -> None:
    forms: list[object] = [
        {"instruction": "add", "input": "1 1", "output": "2"},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}], "label": True},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "go away"}], "label": False},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"prompt": "c", "completion": "d"},
        {"prompt": "c", "completion": "d"},
    ]
    more: list[object] = [{"instruction": f"count {n}", "input": "", "output": str(n)} for n in range(80)]
    found = read_demonstrations([written(tmp_path / "a.json", forms + more)])
    every = {conversation[0].text: conversation[-1].text for conversation in (*found.fit, *found.held_out)}
    assert every["add\n1 1"] == "2"
    assert (every["hi"], every["a"], every["c"]) == ("hello", "b", "d")
    assert (found.duplicates, found.refused) == (1, 1)
    assert not set(prompts_of(found.fit)) & set(prompts_of(found.held_out))


def test_a_demonstration_without_an_answer_is_refused(tmp_path: Path) -> None:
    entry: object = {"messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(InvalidInput, match=r"example 1 of .*: the conversation ends without an answer"):
        read_demonstrations([written(tmp_path / "a.json", [entry])])


def test_published_files_are_read_whole() -> None:
    pairs = read_preferences([asset("pref/hh-harmless-base-test.jsonl.gz")])
    assert len(pairs.fit) + len(pairs.held_out) + pairs.duplicates + pairs.equal + pairs.empty + pairs.parted == 2312
    assert len(pairs.fit) > 1900
    told = read_demonstrations([asset("instruct/alpaca_zh_demo.json")])
    assert len(told.fit) + len(told.held_out) + told.duplicates == 1000
