import json

import pytest
import torch

import glassworks as gw
from glassworks.cli import infinify as command
from glassworks.cli.main import main
from glassworks.core.errors import UnknownName
from glassworks.mixers import Infini
from glassworks.models import TransformerSpec, build_model
from glassworks.models.byte_tokenizer import save_byte_tokenizer
from glassworks.models.infinify import is_infinified
from glassworks.tensors.seeds import Seed
from tests.assets import asset
from tests.cli.test_main import run_without

TEXT = "the cat sat on the mat and the dog sat on the cat. " * 40
QUICK = ("--segment", "8", "--steps", "4", "--batch", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def softmax(tmp_path_factory) -> str:
    """A softmax decoder of bytes with a learned table of positions."""
    path = tmp_path_factory.mktemp("models") / "softmax"
    build_model(TransformerSpec(vocabulary=256, width=16, depth=1, heads=2, context=64), Seed(0)).save_pretrained(path)
    save_byte_tokenizer(path)
    return str(path)


@pytest.fixture
def book(tmp_path) -> str:
    (tmp_path / "book.txt").write_text(TEXT)
    return str(tmp_path / "book.txt")


@pytest.mark.slow
def test_our_own_decoder_is_converted_trained_told_of_and_streamed(softmax, book, tmp_path, capsys) -> None:
    out = tmp_path / "with memory"
    words = ["infinify", softmax, "--out", str(out), "--text", book, *QUICK]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(out)
    assert "memory shut" in printed.out
    assert "from step 0 to 4" in printed.err
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == []
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reused"]
    assert {name: len(values) for name, values in found["losses"].items()} == dict.fromkeys(
        ("original", "before", "after", "closed"), 4
    )
    # The first segment cannot know the memory; the whole was trained in it too.
    assert found["losses"]["before"][0] == pytest.approx(found["losses"]["original"][0], abs=2e-3)
    assert found["losses"]["after"][0] == pytest.approx(found["losses"]["closed"][0], abs=2e-3)
    assert found["losses"]["after"][0] < found["losses"]["before"][0]
    subject = gw.load(out, device="cpu")
    assert subject.model.config.spec.mixers == (Infini(segment=8, write="delta"),)
    assert gw.stream(subject, TEXT).tokens == len(TEXT)
    # What lies there is not written over.
    assert main(["infinify", softmax, "--out", str(out), "--device", "cpu"]) == 1
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_that_is_stopped_goes_on_with_the_same_command(softmax, book, tmp_path, capsys, monkeypatch) -> None:
    from glassworks.cli.live import PlainLines

    words = ["infinify", softmax, "--text", book, "--segment", "8", "--steps", "25", "--batch", "1", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "whole"), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    plain = PlainLines.__call__

    def interrupt(self, event):
        plain(self, event)
        if event.kind == "step_done" and event.step == 22:
            raise KeyboardInterrupt

    out = tmp_path / "stopped"
    monkeypatch.setattr(PlainLines, "__call__", interrupt)
    monkeypatch.setattr("sys.argv", ["glassworks", *words, "--out", str(out)])
    assert main([*words, "--out", str(out)]) == 130
    assert "glassworks infinify" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [command.WORK]
    monkeypatch.setattr(PlainLines, "__call__", plain)
    assert main([*words, "--out", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    assert "from step 20 to 25" in printed.err
    assert json.loads(printed.out)["losses"] == whole["losses"]
    one, two = (gw.load(path, device="cpu").model for path in (tmp_path / "whole", out))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.slow
def test_stories_keep_their_first_segment_and_run_past_it(tmp_path, capsys) -> None:
    source = str(asset("lm/stories260K/stories260K.bin"))
    plain = gw.load(source, device="cpu")
    ids = plain.to_tokens("Once upon a time, there was a little girl named Lily. She liked to play with her dog.")
    with torch.no_grad():
        before = plain.model(ids).logits
    out = tmp_path / "stories"
    assert main(["infinify", source, "--out", str(out), "--segment", "16", "--device", "cpu"]) == 0
    assert "glassworks stream" in capsys.readouterr().out
    made = gw.load(out, device="cpu")
    assert is_infinified(made.model)
    with torch.no_grad():
        after = made.model(ids).logits
    assert torch.equal(after[:, :16], before[:, :16])
    assert not torch.allclose(after[:, 16:], before[:, 16:])
    assert made.tokenizer.decode(made.to_tokens("a little girl")[0].tolist()) == plain.tokenizer.decode(
        plain.to_tokens("a little girl")[0].tolist()
    )
    # Its table had 512 positions; a text has any number now.
    assert gw.stream(made, "Once upon a time. " * 200).tokens > 600


def test_bad_input_leaves_nothing_behind(softmax, book, tmp_path, capsys) -> None:
    (tmp_path / "short.txt").write_text("too short")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    out = tmp_path / "out"
    for words, says in (
        (["--segment", "100"], "longer than the model's 64 positions"),
        (["--segment", "0"], "greater than or equal to 1"),
        (["--text", str(tmp_path / "short.txt"), "--segment", "8"], "too short to learn from"),
        (["--text", str(tmp_path / "nowhere"), "--segment", "8"], "is not there"),
        (["--text", book, "--steps", "0", "--segment", "8"], "steps"),
        (["--text", book, "--rate", "-1", "--segment", "8"], "rate"),
    ):
        assert main(["infinify", softmax, "--out", str(out), *words, "--device", "cpu"]) == 1, words
        assert says in capsys.readouterr().err
        assert not out.exists()
    assert main(["infinify", softmax, "--out", str(tmp_path / "full"), "--segment", "8", "--device", "cpu"]) == 1
    assert "mine.txt" in capsys.readouterr().err
    with pytest.raises(UnknownName, match="stepps"):
        gw.infinify(softmax, out, stepps=3, device="cpu")


@pytest.mark.slow
def test_python_converts_a_live_model_in_place(tmp_path) -> None:
    from tests.families import tiny

    model = tiny("llama")
    made = gw.infinify(model, tmp_path / "m", segment=6, write="linear", progress=False)
    assert is_infinified(model)
    assert (made.spec, made.training, made.losses, made.reused) == (Infini(segment=6), None, {}, False)
    assert made.gates == (0.5,) * 12
    assert is_infinified(made.load(device="cpu").model)


def test_help_needs_no_torch() -> None:
    done = run_without("torch,transformers,numpy,pydantic", "infinify", "--help")
    assert done.returncode == 0, done.stderr
    assert "--gate-rate" in done.stdout


@pytest.mark.slow
def test_the_python_of_the_guide_can_be_pasted(tmp_path, capsys, monkeypatch) -> None:
    import re
    import shutil
    from pathlib import Path

    page = (Path(__file__).parents[2] / "docs/guide/11-streaming.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    for name in ("stories260K.bin", "tok512.bin"):
        shutil.copyfile(asset(f"lm/stories260K/{name}"), tmp_path / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tinystories.txt").write_text("Once upon a time there was a dog. " * 30)
    gw.infinify("stories260K.bin", "stories-trained", segment=64, progress=False)
    capsys.readouterr()
    exec(block, {})
    printed = capsys.readouterr().out
    assert "Once upon a time" in printed
    assert (tmp_path / "elsewhere" / "config.json").is_file()
    assert (tmp_path / "memory.safetensors").is_file()
