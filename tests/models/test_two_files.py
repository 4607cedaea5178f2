import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from glassworks.anatomy import Alphabet, Subject
from glassworks.core.errors import InvalidInput
from glassworks.mixers import Linear
from glassworks.models import TransformerSpec, build_model
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.models.generating import Manner, Sampling, generate
from glassworks.models.load import load
from glassworks.models.two_files import write_two_files
from glassworks.models.two_files.tokens import python_pattern, tokenizer_data
from glassworks.models.two_files.writing import PROGRAM
from glassworks.tensors.seeds import Seed
from tests.assets import asset, gallery_model
from tests.models.decoders import PLAIN, plain

SIGNS = Alphabet(tuple("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456é"))


def run(folder: Path, *words: object) -> str:
    """What the program prints, in a Python that sees numpy and no library of ours or torch."""
    hidden = "import sys; sys.modules['torch'] = sys.modules['glassworks'] = sys.modules['transformers'] = None; "
    command = hidden + f"import runpy; sys.argv = {[str(folder / 'run.py'), *map(str, words)]!r}; "
    command += f"runpy.run_path({str(folder / 'run.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-c", command], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def namespace() -> dict:
    """The program's functions, without running it."""
    found: dict = {"__name__": "program"}
    exec(compile(PROGRAM.read_text(encoding="utf-8"), "run.py", "exec"), found)
    return found


def test_the_program_is_short_and_needs_numpy_alone() -> None:
    text = PROGRAM.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 300
    assert max(map(len, text.splitlines())) <= 120
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    assert imported - {"numpy"} <= set(sys.stdlib_module_names)


@pytest.mark.slow
def test_the_story_is_the_same_to_the_byte(tmp_path) -> None:
    subject = load(asset("lm/stories260K/stories260K.bin"), device="cpu")
    write_two_files(subject, tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["parameters.safetensors", "run.py"]
    ours = generate(subject, "", Sampling(max_new_tokens=200), manner=Manner("library"))
    assert len(ours.text) == 464
    assert run(tmp_path / "model", "--tokens", 200) == ours.text + "\n"


@pytest.mark.parametrize("name", PLAIN)
def test_every_option_of_a_plain_decoder_is_run(name, tmp_path) -> None:
    subject = Subject.of(plain(name), SIGNS)
    write_two_files(subject, tmp_path)
    program = namespace()
    parameters, notes = program["read_parameters"](tmp_path / "parameters.safetensors")
    model = program["Model"](parameters, json.loads(notes["settings"]))
    tokenizer = program["Tokenizer"](json.loads(notes["tokenizer"]))
    ids = tokenizer.encode("Hallo Wé")
    assert ids == SIGNS.encode("Hallo Wé")
    logits = [model.step(token) for token in ids]
    exact = subject.forward(subject.batch([ids]))[0].detach().numpy()
    for found, expected in zip(logits, exact, strict=True):
        assert found == pytest.approx(expected, abs=5e-5, rel=1e-4)


def test_bytes_and_drawn_tokens(tmp_path) -> None:
    spec = TransformerSpec(vocabulary=256, width=16, depth=1, heads=2, positions="rotary")
    subject = Subject.of(build_model(spec, Seed(0)), byte_tokenizer())
    write_two_files(subject, tmp_path)
    write_two_files(subject, tmp_path)
    program = namespace()
    _, notes = program["read_parameters"](tmp_path / "parameters.safetensors")
    tokenizer = program["Tokenizer"](json.loads(notes["tokenizer"]))
    assert tokenizer.encode("a 你\n") == list("a 你\n".encode())
    logits = program["np"].array([0.0, 1.0, 2.0])
    generator = program["np"].random.default_rng(1)
    drawn = [program["choose"](logits, 1.0, generator) for _ in range(2000)]
    assert drawn.count(2) / 2000 == pytest.approx(0.665, abs=0.045)
    assert program["choose"](logits, 0, generator) == 2


def test_words_are_cut_as_the_tokenizers_library_cuts_them() -> None:
    backend = Tokenizer(models.BPE())
    words = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
    from tokenizers import Regex

    backend.pre_tokenizer = pre_tokenizers.Split(Regex(words), "isolated")
    cut, own = namespace()["cut"], re.compile(python_pattern(words))
    for text in ("It's 12345 Äpfel, naïve\u00a0 x", "你好 世界！\n\n  ½ Ⅷ ٣٤", "a'S b\t\tc  ", "éa\u0301b -- 🙂!"):
        theirs = [piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        assert cut(own, text) == theirs
    with pytest.raises(InvalidInput, match=r"\\p{Lu}"):
        python_pattern(r"\p{Lu}+")


def test_what_it_cannot_run_is_refused_by_its_part(tmp_path) -> None:
    spec = TransformerSpec(vocabulary=61, width=8, depth=1, heads=2, mixers=(Linear(),))
    with pytest.raises(InvalidInput, match="not softmax"):
        write_two_files(Subject.of(build_model(spec, Seed(0)), SIGNS), tmp_path / "a")
    with pytest.raises(InvalidInput, match="no tokenizer"):
        write_two_files(Subject.of(plain("llama")), tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").write_text("x")
    with pytest.raises(InvalidInput, match="other files"):
        write_two_files(Subject.of(plain("llama"), SIGNS), tmp_path / "c")
    unigram = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.Unigram([("a", -1.0)], None)))
    with pytest.raises(InvalidInput, match="Unigram"):
        tokenizer_data(unigram, 1)


@pytest.mark.slow
@pytest.mark.nightly
def test_smollm2_writes_the_same_text(tmp_path) -> None:
    gallery_model("smollm2-135m")
    subject = load("smollm2-135m", device="cpu")
    write_two_files(subject, tmp_path)
    prompt = "The capital of France is 12 é 你好"
    ours = generate(subject, prompt, Sampling(max_new_tokens=8), manner=Manner("library"))
    assert run(tmp_path, prompt, "--tokens", 8) == f"{ours}\n"
