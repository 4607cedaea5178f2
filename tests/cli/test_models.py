import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from glassworks.cli import models as command
from glassworks.cli.main import main
from glassworks.core.text import say
from glassworks.models.gallery import GALLERY, home, sources
from glassworks.models.gallery.indexes import Places
from tests.models.shop import Shop, opened, saved_bert, tiny_bert, toy, wheel_of

FILE = "toy_weights-1.0-py3-none-any.whl"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    wheel = wheel_of(saved_bert(tmp_path / "bert"))
    monkeypatch.setenv("GLASSWORKS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GLASSWORKS_ASSETS", raising=False)
    monkeypatch.setitem(GALLERY, "toy", toy(wheel))
    with opened(Shop({FILE: wheel})) as shop:
        monkeypatch.setattr(sources, "places", lambda: Places(indexes=(shop.index,)))
        yield shop


def test_get_says_the_licence_before_the_first_byte_and_ends_with_the_folder(shop: Shop, capsys) -> None:
    assert main(["models", "get", "toy"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == str(home() / "models" / "toy")
    assert 0 < told.err.index("licence: Apache-2.0") < told.err.index("downloading")
    assert "1.0 MB of 1.0 MB" in told.err
    assert "done at" in told.err

    assert main(["models", "get", "toy"]) == 0
    assert "toy is here already" in capsys.readouterr().err
    assert main(["models", "get", "toy", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["name"], found["already"], found["licence"]) == ("toy", True, "Apache-2.0")
    assert len(found["sha256"]) == 64


def test_list_says_what_each_is_and_what_is_here(shop: Shop, capsys) -> None:
    assert main(["models", "get", "toy", "--json"]) == 0
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["models"]}
    assert list(found) == list(GALLERY)
    assert found["toy"]["path"] == str(home() / "models" / "toy")
    assert found["smollm2-135m"]["path"] is None
    assert (found["t5-title"]["layers"], found["llama-2-70b"]["asks_for_consent"]) == ([8, 8], True)
    assert main(["models", "list", "--lang", "zh"]) == 0
    table = capsys.readouterr().out
    assert "许可证" in table
    assert "134.5 M" in table


def test_a_model_by_name_is_examined_or_the_way_to_it_is_named(shop: Shop, tmp_path: Path, capsys) -> None:
    assert main(["examine", "TOY", "--text", "glass works", "--out", str(tmp_path)]) == 1
    assert "next: glassworks models get toy" in capsys.readouterr().err
    assert main(["models", "get", "smolm2"]) == 1
    told = capsys.readouterr().err
    assert "smollm2-135m (nearest)" in told
    assert "next: glassworks models list" in told


@pytest.mark.parametrize(
    ("words", "answer"),
    [(["get"], "which model?"), (["get", " "], "NAME is empty"), (["list", "toy"], "list takes no name")],
)
def test_what_makes_no_sense_is_answered_in_one_sentence(shop: Shop, capsys, words: list[str], answer: str) -> None:
    assert main(["models", *words]) == 1
    assert answer in capsys.readouterr().err
    assert shop.asked == []


def test_offline_is_kept_to(shop: Shop, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    assert main(["models", "get", "toy", "--offline"]) == 1
    assert "--offline" in capsys.readouterr().err
    assert shop.asked == []


def test_a_long_download_gets_a_line_every_few_seconds(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 4.0, 6.0, 7.0])
    monkeypatch.setattr(command.time, "monotonic", lambda: next(now))
    with command.shown_progress("toy") as tell:
        for done in (0, 10, 40, 60, 70):
            tell(say("downloading"), done * 10**6, 10**8)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "downloading …"
    assert len(lines) == 2
    assert lines[1].startswith("60.0 MB of 100.0 MB, 10.0 MB a second, done at ")


def test_parameters_are_counted_in_words() -> None:
    assert [command.count_words(n) for n in (12, 85_728, 134_515_008, 6_738_415_616)] == [
        "12", "85.7 K", "134.5 M", "6.74 B",
    ]  # fmt: skip


def test_models_that_were_trained_here_are_listed_with_the_stages_behind_them(
    shop: Shop, tmp_path: Path, capsys
) -> None:
    folder = saved_bert(tmp_path / "store" / "0123456789abcdef")
    before = [{"kind": "tokenizer", "digest": "a"}, {"kind": "pretrain", "digest": "b"}]
    (folder / "stage.json").write_text(json.dumps({"kind": "sft", "before": before}))
    assert main(["models", "--json", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["trained"] == []
    (folder / "done.json").write_text("{}")
    (tmp_path / "store" / "damaged").mkdir()
    (tmp_path / "store" / "damaged" / "done.json").write_text("{}")
    assert main(["models", "--json", "--out", str(tmp_path)]) == 0
    (found,) = json.loads(capsys.readouterr().out)["trained"]
    assert (found["stage"], found["before"]) == ("sft", ["tokenizer", "pretrain"])
    assert found["parameters"] == sum(number.numel() for number in tiny_bert().parameters())
    assert main(["models", "--out", str(tmp_path)]) == 0
    assert "tokenizer → pretrain" in capsys.readouterr().out
