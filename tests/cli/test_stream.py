import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import glassworks as gw
from glassworks.cli.main import main
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.mixers import Infini
from glassworks.models import TransformerSpec, build_model
from glassworks.models.byte_tokenizer import save_byte_tokenizer
from glassworks.models.streaming import Stream
from glassworks.tensors.seeds import Seed
from tests.cli.test_main import run_without

TEXT = "Call me Ishmael. Some years ago, never mind how long precisely, né 界. " * 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A decoder of bytes whose memory has one size."""
    path = tmp_path_factory.mktemp("models") / "infini"
    spec = TransformerSpec(
        vocabulary=256, width=16, depth=1, heads=2, positions="rotary", mixers=(Infini(segment=16),), context=32
    )
    build_model(spec, Seed(0)).save_pretrained(path)
    save_byte_tokenizer(path)
    return str(path)


@pytest.fixture
def book(tmp_path) -> str:
    path = tmp_path / "a book.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def streamed(capsys, *words: object) -> dict:
    assert main(["stream", *map(str, words), "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_book_is_read_kept_and_asked_and_the_command_says_so(folder, book, tmp_path, capsys) -> None:
    memory = tmp_path / "m.safetensors"
    words = [
        "stream",
        folder,
        "--file",
        book,
        "--ask",
        "And then",
        "--save-memory",
        str(memory),
        "--max-new-tokens",
        "5",
    ]
    assert main([*words, "--piece", "64", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    for part in ("tokens a second", "bits per byte", "cache of all keys and values", str(memory.name), "And then"):
        assert part in shown
    found = streamed(capsys, folder, "--file", book, "--ask", "And then", "--max-new-tokens", 5)
    size = len(TEXT.encode())
    assert (found["tokens"], found["bytes"], found["started_at_byte"]) == (size, size, 0)
    assert shown.rstrip("\n").endswith(f"And then{found['answer']}".rstrip("\n"))
    assert found["memory"]["values"] < 500
    assert found["full_cache"]["values"] == size * 2 * 16
    assert sum(point["bytes"] for point in found["curve"]) == size
    # From the file of the memory alone, and from Python.
    again = streamed(capsys, folder, "--load-memory", memory, "--ask", "And then", "--max-new-tokens", 5)
    assert (again["answer"], again["tokens"], again["all_tokens"]) == (found["answer"], 0, size)
    made = gw.stream(folder, book, ask="And then", max_new_tokens=5, device="cpu")
    assert made.answer == found["answer"]
    assert made.bits_per_byte == pytest.approx(found["bits_per_byte"], rel=1e-4)
    assert made.tokens_per_second > 0
    subject = gw.load(folder, device="cpu")
    kept = gw.models.load_memory(memory, subject)
    torch.testing.assert_close(kept.upcoming, made.memory.upcoming)
    assert gw.stream(subject, TEXT).bits_per_byte == pytest.approx(made.bits_per_byte)


@pytest.mark.slow
def test_one_token_segments_and_segments_longer_than_the_text_are_fine(tmp_path, capsys) -> None:
    for segment in (1, 1000):
        spec = TransformerSpec(
            vocabulary=256, width=8, depth=1, heads=1, positions="none", mixers=(Infini(segment=segment),)
        )
        build_model(spec, Seed(0)).save_pretrained(tmp_path / str(segment))
        save_byte_tokenizer(tmp_path / str(segment))
        capsys.readouterr()
        made = gw.stream(tmp_path / str(segment), "a short text", ask="?", max_new_tokens=2, device="cpu")
        assert (made.tokens, made.memory.tokens) == (12, 12)


def interrupted_after(monkeypatch, pieces: int) -> None:
    take = Stream._take

    def stopping(self, chunk):
        if self.memory.tokens >= pieces * self.piece:
            raise KeyboardInterrupt
        return take(self, chunk)

    monkeypatch.setattr(Stream, "_take", stopping)


@pytest.mark.slow
def test_a_stream_that_is_stopped_goes_on_with_the_command_that_it_names(
    folder, book, tmp_path, capsys, monkeypatch
) -> None:
    import shlex

    whole = streamed(capsys, folder, "--file", book)
    memory = tmp_path / "kept memory.safetensors"
    take = Stream._take
    interrupted_after(monkeypatch, 3)
    words = ["stream", folder, "--file", book, "--save-memory", str(memory), "--piece", "48", "--device", "cpu"]
    assert main(words) == 130
    told = capsys.readouterr()
    assert told.out == ""
    assert "Stopped after 144 tokens" in told.err
    line = told.err.strip().splitlines()[-1]
    monkeypatch.setattr(Stream, "_take", take)
    command = shlex.split(line)
    assert command[:2] == ["glassworks", "stream"]
    assert main([*command[1:], "--json"]) == 0
    printed = capsys.readouterr()
    assert "144 tokens were read before" in printed.err
    rest = json.loads(printed.out)
    assert (rest["tokens"], rest["all_tokens"]) == (whole["tokens"] - 144, whole["all_tokens"])
    ends = [gw.stream(folder, memory=memory, device="cpu"), gw.stream(folder, book, device="cpu")]
    torch.testing.assert_close(ends[0].memory.upcoming, ends[1].memory.upcoming, atol=1e-5, rtol=1e-4)
    assert ends[0].memory.bits_per_byte == pytest.approx(whole["bits_per_byte"], rel=1e-5)
    # Another book with the same memory is read after the first one, from its beginning.
    other = tmp_path / "other.txt"
    other.write_text("Another book.")
    more = streamed(capsys, folder, "--file", other, "--load-memory", memory)
    assert (more["tokens"], more["started_at_byte"], more["all_tokens"]) == (13, 0, whole["tokens"] + 13)


@pytest.mark.slow
def test_a_stream_that_keeps_nothing_says_so_when_stopped(folder, book, tmp_path, capsys, monkeypatch) -> None:
    interrupted_after(monkeypatch, 1)
    assert main(["stream", folder, "--file", book, "--piece", "16", "--device", "cpu"]) == 130
    assert "--save-memory FILE keeps" in capsys.readouterr().err
    interrupted_after(monkeypatch, 0)
    memory = tmp_path / "m"
    assert main(["stream", folder, "--file", book, "--save-memory", str(memory), "--device", "cpu"]) == 130
    assert "before the first piece" in capsys.readouterr().err
    assert not memory.exists()


@pytest.mark.slow
def test_what_was_read_before_a_byte_that_is_no_text_is_kept(folder, tmp_path, capsys) -> None:
    path, memory = tmp_path / "broken.txt", tmp_path / "m.safetensors"
    path.write_bytes(b"good words " * 4000 + b"\xff" + b"more" * 10)
    words = ["stream", folder, "--file", str(path), "--save-memory", str(memory), "--piece", "4096", "--device", "cpu"]
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "byte 0xff at offset 44000" in told
    assert "What was read before is kept" in told
    kept = gw.models.load_memory(memory, gw.load(folder, device="cpu"))
    assert kept.tokens > 40_960


@pytest.mark.slow
def test_bad_input_is_named_before_anything_is_read(folder, book, tmp_path, capsys) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "text.safetensors").write_bytes(b"no safetensors")
    softmax = tmp_path / "softmax"
    build_model(TransformerSpec(vocabulary=256, width=8, depth=1, heads=1), Seed(0)).save_pretrained(softmax)
    save_byte_tokenizer(softmax)
    capsys.readouterr()
    for words, says in (
        ([folder], "which text?"),
        ([folder, "--ask", "a"], "which text?"),
        ([folder, "--file", ""], "--file is empty"),
        ([folder, "--file", str(tmp_path / "empty.txt")], "the text is empty"),
        ([folder, "--file", str(tmp_path / "latin.txt")], "not UTF-8 text"),
        ([folder, "--file", str(tmp_path / "nowhere")], "is not there"),
        ([folder, "--file", str(tmp_path)], "is a folder"),
        ([folder, "--file", book, "--ask", ""], "the question is empty"),
        ([folder, "--file", book, "--piece", "0"], "at least one token"),
        ([folder, "--file", book, "--max-new-tokens", "0"], "no token would be written"),
        ([folder, "--file", book, "--load-memory", str(tmp_path / "text.safetensors")], "truncated or no safetensors"),
        ([folder, "--file", book, "--load-memory", str(tmp_path / "nowhere")], "is not there"),
        ([str(softmax), "--file", book], "grows with every token"),
    ):
        assert main(["stream", *words, "--device", "cpu"]) == 1, words
        told = capsys.readouterr()
        assert says in told.err, words
        assert told.out == ""
    with pytest.raises(UnknownName, match="pieces"):
        gw.stream(folder, "text", pieces=3)
    with pytest.raises(InvalidInput, match="the text is empty"):
        gw.stream(folder, "", device="cpu")


def test_standard_input_is_read(folder, capsys, monkeypatch) -> None:
    import io

    class Piped:
        buffer = io.BytesIO(TEXT.encode())

        @staticmethod
        def isatty() -> bool:
            return False

    monkeypatch.setattr("sys.stdin", Piped)
    assert streamed(capsys, folder, "--file", "-")["tokens"] == len(TEXT.encode())


def test_help_needs_no_torch() -> None:
    done = run_without("torch,transformers,numpy,pydantic", "stream", "--help")
    assert done.returncode == 0, done.stderr
    assert "--load-memory" in done.stdout


@pytest.mark.slow
@pytest.mark.nightly
def test_a_killed_process_leaves_a_memory_that_goes_on(folder, tmp_path) -> None:
    book, memory = tmp_path / "long.txt", tmp_path / "m.safetensors"
    book.write_text(TEXT * 8000, encoding="utf-8")
    words = [
        sys.executable,
        "-m",
        "glassworks.cli.main",
        "stream",
        folder,
        "--file",
        str(book),
        "--save-memory",
        str(memory),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*words, "--piece", "256", "--device", "cpu"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    # A line is told every five seconds: then the reading has begun.
    line = process.stderr.readline()
    assert "bits per byte" in line
    process.send_signal(signal.SIGTERM)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "What is remembered is kept" in told
    kept = gw.models.load_memory(memory, gw.load(folder, device="cpu"))
    assert 0 < kept.tokens < len(TEXT.encode()) * 8000
    assert kept.place.until <= book.stat().st_size


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(folder, tmp_path) -> None:
    """Resident memory of a process after ten times the text: within a few megabytes."""
    code = (
        "import sys, psutil, glassworks as gw\n"
        "s = gw.load(sys.argv[1], device='cpu')\n"
        "gw.stream(s, sys.argv[2])\n"
        "before = psutil.Process().memory_info().rss\n"
        "made = gw.stream(s, sys.argv[3])\n"
        "print(before, psutil.Process().memory_info().rss, made.tokens)"
    )
    sizes = []
    for name, count in (("short", 250), ("long", 2500)):
        (tmp_path / name).write_text(TEXT * count, encoding="utf-8")
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, folder, str(tmp_path / "short"), str(tmp_path / "long")],
        capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    before, after, tokens = map(int, done.stdout.split())
    sizes += [before, after]
    assert tokens == len(TEXT.encode()) * 2500
    assert after <= before * 1.05, (before, after, time.monotonic() - begun)
