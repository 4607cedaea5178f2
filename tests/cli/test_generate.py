import json

import pytest
import torch

import glassworks as gw
from glassworks.cli.main import main
from glassworks.core.errors import InvalidInput, InvalidSpec
from glassworks.mixers import Infini
from glassworks.models import TransformerSpec, build_model
from glassworks.models.byte_tokenizer import save_byte_tokenizer
from glassworks.tensors.seeds import Seed
from tests.assets import asset
from tests.cli.test_main import run_without
from tests.families import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A decoder of bytes whose memory has one size."""
    path = tmp_path_factory.mktemp("models") / "infini"
    spec = TransformerSpec(
        vocabulary=256, width=16, depth=1, heads=2, positions="rotary", mixers=(Infini(segment=8),), context=16
    )
    build_model(spec, Seed(0)).save_pretrained(path)
    save_byte_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def softmax(tmp_path_factory):
    """The same with softmax, whose table of positions ends."""
    path = tmp_path_factory.mktemp("models") / "softmax"
    build_model(TransformerSpec(vocabulary=256, width=16, depth=1, heads=2, context=16), Seed(0)).save_pretrained(path)
    save_byte_tokenizer(path)
    return path


def asked(capsys, *words: object) -> dict:
    assert main(["generate", *map(str, words), "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_words_stand_behind_the_prompt_and_a_long_prompt_is_read_whole(folder, tmp_path, capsys) -> None:
    prompt = "a prompt longer than segment and context"
    words = ["generate", str(folder), "--prompt", prompt, "--max-new-tokens", "6", "--device", "cpu"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(prompt)
    assert "6 tokens in" in printed.err
    assert "friendly reminder" not in printed.err
    found = asked(capsys, folder, "--prompt", prompt, "--max-new-tokens", 6)
    assert (found["prompt_tokens"], len(found["ids"]), found["ended"]) == (40, 6, False)
    assert printed.out == f"{prompt}{found['text']}\n"
    model = gw.load(folder, device="cpu").model
    ids = torch.tensor([list(prompt.encode())])
    with torch.no_grad():
        for _ in range(6):
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], 1)
    assert found["ids"] == ids[0, 40:].tolist()
    # The same from a file, and from Python.
    (tmp_path / "prompt.txt").write_text(prompt)
    assert asked(capsys, folder, "--file", tmp_path / "prompt.txt", "--max-new-tokens", 6)["ids"] == found["ids"]
    made = gw.generate(folder, prompt, max_new_tokens=6, device="cpu")
    assert list(made.ids) == found["ids"]
    assert str(made) == prompt + made.text


@pytest.mark.slow
def test_what_is_drawn_depends_on_the_seed_alone(folder) -> None:
    subject = gw.load(folder, device="cpu")

    def drawn(**choice) -> tuple[int, ...]:
        return gw.generate(subject, "abc", max_new_tokens=8, temperature=1.0, **choice).ids

    state = torch.random.get_rng_state()
    one = drawn(seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert drawn(seed=1) == one != drawn(seed=2)
    greedy = gw.generate(subject, "abc", max_new_tokens=8).ids
    assert drawn(top_k=1) == drawn(top_p=1e-6, seed=5) == greedy


@pytest.mark.slow
def test_a_context_that_ends_is_respected(softmax, capsys) -> None:
    assert len(asked(capsys, softmax, "--prompt", "abc", "--max-new-tokens", 13)["ids"]) == 13
    assert main(["generate", str(softmax), "--prompt", "abc", "--max-new-tokens", "14", "--device", "cpu"]) == 1
    told = capsys.readouterr().err
    assert "longer than the model's context" in told
    assert "at most 13 new tokens" in told
    assert main(["generate", str(softmax), "--prompt", "a" * 16, "--max-new-tokens", "1", "--device", "cpu"]) == 1
    assert "glassworks infinify" in capsys.readouterr().err


@pytest.mark.slow
def test_what_cannot_be_done_is_said(folder, tmp_path, capsys) -> None:
    for words, says in (
        (["--prompt", ""], "the prompt is empty"),
        ([], "the prompt is empty"),
        (["--prompt", "a", "--file", "b"], "one prompt at a time"),
        (["--file", str(tmp_path / "nowhere")], "is not there"),
        (["--prompt", "a", "--max-new-tokens", "0"], "max_new_tokens"),
        (["--prompt", "a", "--temperature", "-1"], "temperature"),
        (["--prompt", "a", "--top-p", "2"], "top_p"),
    ):
        assert main(["generate", str(folder), *words, "--device", "cpu"]) == 1, words
        assert says in capsys.readouterr().err
    with pytest.raises(InvalidInput, match="no tokenizer"):
        gw.generate(tiny("llama"), "a")
    with pytest.raises(InvalidInput, match="writes no text"):
        gw.generate(tiny("bert"), "a")
    with pytest.raises(InvalidSpec, match="top_kk"):
        gw.generate(folder, "a", device="cpu", top_kk=3)


def test_a_model_that_knows_how_a_text_begins_needs_no_prompt(capsys) -> None:
    path = asset("lm/stories260K/stories260K.bin")
    found = asked(capsys, path, "--max-new-tokens", 12, "--temperature", 0.5)
    assert found["prompt_tokens"] == 1
    assert len(found["text"]) > 12
    # Words that are shown one by one are those of the whole.
    assert main(["generate", str(path), "--prompt", "Once upon", "--max-new-tokens", "9", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("Once upon a time, there was")


def test_help_needs_no_torch() -> None:
    done = run_without("torch,transformers,numpy,pydantic", "generate", "--help")
    assert done.returncode == 0, done.stderr
    assert "--max-new-tokens" in done.stdout
