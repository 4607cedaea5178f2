import io
import json

import pytest
import torch

import glassworks as gw
from glassworks.anatomy import Subject
from glassworks.cli.main import main
from glassworks.core.errors import InvalidInput
from glassworks.models import TransformerSpec, build_model
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.models.candidates import Sampling
from glassworks.models.conversation import Conversation
from glassworks.tensors.seeds import Seed

TEMPLATE = "{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }};{% endfor %}{% if add_generation_prompt %}a:{% endif %}"  # fmt: skip


def subject(context: int = 64, template: str | None = TEMPLATE) -> Subject:
    """A small decoder of bytes that takes turns."""
    spec = TransformerSpec(vocabulary=256, width=16, depth=1, heads=2, context=context)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return Subject.of(build_model(spec, Seed(0)), tokenizer)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("chat") / "model"
    made = subject()
    made.model.save_pretrained(path)
    made.tokenizer.save_pretrained(path)
    return path


def asked(monkeypatch, capsys, folder, lines: str, *words: str) -> list[dict]:
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main(["chat", str(folder), *words, "--device", "cpu", "--json", "--max-new-tokens", "4"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_lines_are_turns_and_each_sees_those_before(folder, monkeypatch, capsys) -> None:
    found = asked(monkeypatch, capsys, folder, "hi\n\nyou?\n/reset\n/seed 3\nhi\n/quit\nnot read\n", "--system", "S")
    assert [next(iter(one)) for one in found] == ["turn", "turn", "command", "command", "turn"]
    first, second, again = found[0], found[1], found[4]
    assert first["prompt_tokens"] == len("s:S;u:hi;a:")
    assert second["prompt_tokens"] > first["prompt_tokens"] + len("u:you?;a:")
    assert again["ids"] == first["ids"]


def test_what_is_kept_between_turns_changes_no_token() -> None:
    for engine in ("auto", "library"):
        talk = Conversation(subject(), engine=engine)
        choice = Sampling(max_new_tokens=5)
        talk.answer("hi", choice)
        second = talk.answer("so?", choice)
        model = subject().model
        text = "".join(f"{m['role'][0]}:{m['content']};" for m in talk.messages[:-1]) + "a:"
        ids = torch.tensor([byte_tokenizer().encode(text)])
        with torch.no_grad():
            for _ in range(5):
                ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
        assert list(second.ids) == ids[0, -5:].tolist()


def test_an_interrupt_ends_the_answer_alone() -> None:
    talk, heard = Conversation(subject()), []

    def hear(word) -> None:
        heard.append(word)
        if len(heard) == 2:
            raise KeyboardInterrupt

    stopped = talk.answer("hi", Sampling(max_new_tokens=9), hear)
    assert stopped.is_stopped
    assert len(stopped.ids) == 2
    assert [one["role"] for one in talk.messages] == ["user", "assistant"]
    assert not talk.answer("on", Sampling(max_new_tokens=2)).is_stopped


def test_a_full_context_is_said_and_the_conversation_stands(folder, monkeypatch, capsys) -> None:
    found = asked(monkeypatch, capsys, folder, "hi\n" + "x" * 70 + "\nhi\n/nothing\n/seed x\n")
    assert "answer" in found[0]
    assert "longer than the model's context" in found[1]["error"]
    assert "/reset" in found[1]["right"]
    assert found[2]["prompt_tokens"] < 64
    assert "unknown command" in found[3]["error"]
    assert "whole number" in found[4]["error"]


def test_candidates_can_be_seen(folder, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("/candidates 2\nhi\n/help\n"))
    assert main(["chat", str(folder), "--device", "cpu", "--max-new-tokens", "3"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("▶") == 4
    assert "/reset" in printed.err


def test_without_a_template_a_plain_form_is_offered(monkeypatch, capsys) -> None:
    bare = subject(template=None)
    with pytest.raises(InvalidInput, match="--plain"):
        Conversation(bare)
    talk = Conversation(bare, "Be short.", is_plain=True)
    answer = talk.answer("hi", Sampling(max_new_tokens=3))
    assert answer.prompt_tokens == len("Be short.\nUser: hi\nAssistant:")
    with pytest.raises(InvalidInput, match="nothing was said"):
        talk.answer("  ", Sampling())
    refusing = subject(template="{{ raise_exception('no roles') }}")
    with pytest.raises(InvalidInput, match="no roles"):
        Conversation(refusing).answer("hi", Sampling())
    assert gw.generate(bare, "hi", max_new_tokens=2).ids == gw.generate(bare, "hi", max_new_tokens=2).ids
