"""Texts that people and scripts rely on, compared and reviewed like code.

`GLASSWORKS_UPDATE_GOLDEN=1 pytest tests/golden` renews the files beside this one, on purpose.
"""

import os
import re
from pathlib import Path

import pytest

from glassworks.cli.main import main

HERE = Path(__file__).parent
COMMANDS = (
    "doctor", "reproduce", "train", "infinify", "stream", "generate", "claims", "examine", "compare", "surgery", "sweep",
    "models", "runs", "export",
)  # fmt: skip


def compare(name: str, found: str) -> None:
    path = HERE / name
    if os.environ.get("GLASSWORKS_UPDATE_GOLDEN") == "1":
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), (
        f"{name} changed; renew it with GLASSWORKS_UPDATE_GOLDEN=1 if meant"
    )


@pytest.fixture
def help_of(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")

    def ask(*words: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--help"])
        assert stopped.value.code == 0
        # Frames and colours follow the terminal; the words are what is compared.
        plain = re.sub(r"\x1b\[[0-9;]*m|[╭╮╰╯│]", "", capsys.readouterr().out)
        lines = (re.sub(r"^ *([^ ─]+) ─+$", r" \1", line).rstrip() for line in plain.splitlines())
        return "\n".join(line for line in lines if line.strip(" -─")) + "\n"

    return ask


def test_help(help_of):
    pages = [("glassworks", help_of()), *((f"glassworks {name}", help_of(name)) for name in COMMANDS)]
    compare("help.txt", "\n".join(f"=== {name}\n{text}" for name, text in pages))


def test_options(help_of):
    """Adding an option means editing this list on purpose."""
    lines: list[str] = []
    for name in COMMANDS:
        listed = re.findall(r"^ +(?:-[a-gi-z], )?(--[a-z][a-z-]*)", help_of(name), flags=re.MULTILINE)
        lines.append(" ".join([name, *sorted(set(listed))]))
    compare("options.txt", "\n".join(lines) + "\n")


# Typed where there are only a text that is not UTF-8 and an empty folder.
MISTAKES = (
    "reproduce",
    "reproduce brith",
    "reproduce birth --scale labtop",
    "reproduce birth --only mian --scale smoke",
    "reproduce birth --set widht=3",
    "reproduce birth --set width",
    "reproduce birth --set length=1",
    "reproduce birth --resume abcd1234",
    "reproduce birth --resume empty/",
    "reproduce birth --device gpu",
    "train bigrm",
    "train absent.txt",
    "train empty",
    "train text",
    "train bigram mixer=softmx",
    "train bigram widht=3",
    "train bigram mixer",
    "train bigram width=10",
    "train dynamics mixer=softmax,linear depth=3",
    "stream m",
    "stream m --ask a",
    "stream m --file absent.txt --piece 0",
    "stream absent.bin --file latin.txt",
    "generate absent.bin --prompt a --file b",
    "generate m --file absent.txt",
    "infinify absent.bin --out out",
    "infinify absent.bin --out out --segment 0",
    "claims brith",
    "claims check",
    "claims check birth",
    "runs show",
    "runs show abcd1234",
    "export abcd1234 --to html",
    "examine empty --text a",
    "examine empty --text-file latin.txt",
    "examine empty --text a --tokens 1",
    "examine empty --tokens one",
    "examine absent.bin --text a",
    "surgery absent.bin --plan 0",
    "surgery absent.bin --plan 0 --prompt a --tokens 1",
    "surgery absent.bin --plan 0 --protect first",
    "sweep absent.bin",
    "sweep absent.bin --seeds 0",
    "sweep absent.bin --tokens-per-piece 0",
    "export --plan absent.json --to hf",
    "export --plan 0..3 --to mergekit",
    "export --plan (0 --to mergekit --model m",
    "export --to html",
)


def test_errors(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty").mkdir()
    told: list[str] = []
    for case in MISTAKES:
        code = main(case.split())
        printed = capsys.readouterr()
        assert printed.out == "", case
        told.append(f"$ glassworks {case}\n{printed.err}[{code}]\n")
    compare("errors.txt", "\n".join(told))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "latin.txt"]
