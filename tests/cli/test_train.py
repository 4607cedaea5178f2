import io
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

import glassworks as gw
from glassworks.cli.live import dashboard
from glassworks.cli.main import main
from glassworks.cli.options_train import Train
from glassworks.cli.train import TrainedModel, WorstSolve, worst_of
from glassworks.cli.watch import Watch
from glassworks.core.errors import Diverged, InvalidInput, InvalidSpec, NotFound, UnknownName
from glassworks.core.events import StepDone, TrainingStarted
from glassworks.core.text import say
from glassworks.mixers import Linear, Mesa, Softmax
from glassworks.models import TransformerSpec, VectorSpec, VectorTransformer
from glassworks.models.byte_tokenizer import byte_tokenizer, save_byte_tokenizer
from glassworks.tasks import Bigram, Dynamics, TextWindows
from glassworks.tasks.solvers import half_squared_error
from glassworks.tensors.seeds import Seed
from glassworks.training.objectives import SquaredError
from glassworks.training.recipes import read_settings, training_of
from glassworks.training.schedules import Constant, WarmupCosine
from glassworks.training.spec import AdamW, Sgd, TrainingSpec
from tests.cli.test_main import run_without

WORDS = "the cat sat on a mat né café 界 "
SMALL = ("steps=4", "length=16", "width=16", "batch=4")


@pytest.fixture
def text(tmp_path) -> str:
    path = tmp_path / "some text.txt"
    path.write_text(WORDS * 60, encoding="utf-8")
    return str(path)


def spec_of(task: str, *words: str) -> TrainingSpec:
    return training_of(task, read_settings(words))


def test_a_world_of_vectors_gets_the_hybrid_of_the_study() -> None:
    spec = spec_of("dynamics", "task.hidden=6", "length=12")
    assert isinstance(spec.model, VectorSpec)
    assert spec.model.mixers == (Softmax(), Mesa())
    assert (spec.model.inputs, spec.model.outputs, spec.model.width, spec.model.context) == (6, 6, 24, 12)
    assert (spec.model.positions, spec.model.stream_limit) == ("concatenated", 1.0)
    assert spec_of("dynamics", "mixer=softmax").model.stream_limit is None


def test_a_world_of_tokens_gets_a_decoder_and_unit_keys_where_nothing_divides() -> None:
    spec = spec_of("bigram", "mixer=softmax,linear,mesa")
    assert isinstance(spec.model, TransformerSpec)
    assert (spec.model.depth, spec.model.vocabulary) == (3, Bigram().vocabulary)
    assert (spec.model.query_key_norm, spec.model.query_key_norm_layers) == ("l2", (1, 2))
    assert spec_of("bigram", "depth=3").model.mixers == (Softmax(),) * 3
    assert spec_of("bigram").model.query_key_norm == "none"


def test_short_names_and_paths_reach_every_part_in_any_order() -> None:
    words = ("rate=0.3", "optimiser=sgd", "model.mixers.1.keep=with_regulariser", "mixer=softmax,mesa", "width=10",
             "heads=5", "steps=40", "task.triggers=2", "model.norm=rms", "seed=7", "clip=null", "optimiser.momentum=0.5")  # fmt: skip
    spec = spec_of("bigram", *words)
    assert spec == spec_of("bigram", *reversed(words))
    assert spec.optimiser == Sgd(rate=0.3, momentum=0.5)
    assert spec.model.mixers == (Softmax(), Mesa(keep="with_regulariser"))
    assert (spec.model.width, spec.model.heads, spec.model.norm) == (10, 5, "rms")
    assert (spec.task.triggers, spec.seed, spec.clip) == (2, 7, None)
    assert spec.schedule == WarmupCosine(warmup=4, until=40, final=0.03)
    assert spec_of("bigram", "schedule=constant").schedule == Constant()
    assert spec_of("bigram", "schedule.warmup=3").schedule == WarmupCosine(warmup=3, until=1000, final=2e-4)


def test_a_text_is_known_by_its_content(text) -> None:
    spec = spec_of(text, "length=32")
    assert spec.task == TextWindows.of(text, length=32)
    assert spec.model.vocabulary == 256
    assert spec_of("text", f"task.path={text}", "length=32") == spec


def test_values_of_python_are_as_good_as_words() -> None:
    mixers = [Linear(), "softmax"]
    spec = training_of(Dynamics(hidden=3, length=8), {"mixer": mixers, "optimiser": AdamW(rate=0.1), "steps": 5})
    assert spec.model.mixers == (Linear(), Softmax())
    assert (spec.task.hidden, spec.optimiser.rate, spec.schedule.final) == (3, 0.1, pytest.approx(0.01))


@pytest.mark.parametrize(
    ("words", "problem", "says"),
    [
        (("bigrm",), UnknownName, "bigram (nearest)"),
        (("nowhere.txt",), NotFound, "nowhere.txt is not there"),
        (("some/where",), NotFound, "some/where is not there"),
        (("text",), InvalidInput, "glassworks train FILE.txt"),
        (("text", "task.path=nowhere"), NotFound, "nowhere is not there"),
        (("bigram", "mixer=softmx"), UnknownName, "softmax (nearest)"),
        (("bigram", "mixer=3"), InvalidSpec, "a mixer needs a kind"),
        (("bigram", "mixer=softmax,linear", "depth=3"), InvalidSpec, "2 mixers for 3 layers"),
        (("bigram", "widht=3"), InvalidSpec, "width (nearest)"),
        (("bigram", "model.nrm=rms"), InvalidSpec, "norm (nearest)"),
        (("bigram", "model.mixers.5.kernel=sdpa"), InvalidSpec, "one of 0, 1"),
        (("bigram", "task.hidden=3"), InvalidSpec, "no field at hidden"),
        (("bigram", "task=dynamics"), InvalidSpec, "cannot be said as a whole"),
        (("bigram", "optimiser=adam"), InvalidSpec, "adamw (nearest)"),
        (("bigram", "steps=0"), InvalidSpec, "greater than or equal to 1"),
        (("bigram", "steps=many"), InvalidSpec, "valid integer"),
        (("bigram", "rate=-1"), InvalidSpec, "greater than 0"),
        (("bigram", "width=10"), InvalidSpec, "4 heads do not divide width 10"),
        (("bigram", "model.context=4"), InvalidSpec, "at least 256"),
        (("bigram", "loss_on=everything"), UnknownName, "all, global"),
        (("bigram", "depth=2", "depth=3"), InvalidInput, "said twice"),
        (("bigram", "rate=1", "optimiser.rate=2"), InvalidInput, "said twice"),
        (("bigram", "mixer"), InvalidInput, "name=value"),
        (("dynamics", "width=7", "model.positions=rotary"), InvalidSpec, "rotated"),
        (("dynamics", "model.kind=decoder"), InvalidSpec, ""),
        (("bigram", "length=1000000000"), InvalidInput, "length=1048576 or less"),
        (("few_shot", "length=1000000000"), InvalidInput, "length=838860 or less"),
        (("dynamics", "length=20", "batch=9999999999"), InvalidInput, "a smaller length, batch or width"),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(words, problem, says) -> None:
    with pytest.raises(problem) as caught:
        spec_of(*words)
    assert says in str(caught.value)


def test_a_text_too_short_to_be_judged_on_is_refused_before_training(tmp_path, capsys) -> None:
    path = tmp_path / "short.txt"
    path.write_bytes(b"ab" * 1000)
    assert main(["train", str(path), "steps=2", "--out", str(tmp_path), "--device", "cpu"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: length=256 is too long for {path}")
    assert "2000 bytes, of which the last 200 are held out" in told
    assert "length=199 or less, or a text of 2570 bytes" in told
    assert list(tmp_path.iterdir()) == [path]
    # The bound is sharp: the longest length that is named can be judged, and a text of the size that is named.
    assert spec_of(str(path), "length=199").task.replaced("split", "held_out").data().size == 200
    path.write_bytes(b"ab" * 1285)
    assert spec_of(str(path)).task.replaced("split", "held_out").data().size == 257
    path.write_bytes(b"ab" * 9)
    with pytest.raises(InvalidInput, match="too long") as caught:
        spec_of(str(path), "length=1")
    assert caught.value.right.en == "a text of 20 bytes"


def test_what_would_spoil_a_judgement_or_cannot_be_read_is_refused(text, tmp_path) -> None:
    with pytest.raises(InvalidInput, match="judged on what it learned"):
        spec_of(text, "length=16", "task.split=held_out")
    with pytest.raises(InvalidInput, match="judged on what it learned"):
        training_of(TextWindows.of(text, length=16, split="held_out"), {})
    for words in ((str(tmp_path),), ("text", f"task.path={tmp_path}")):
        with pytest.raises(InvalidInput, match="is a folder"):
            spec_of(*words)
    with pytest.raises(NotFound, match="nowhere is not there"):
        training_of(TextWindows(path="nowhere"), {})


@pytest.mark.slow
def test_few_shot_learns_and_is_judged_at_the_labels(tmp_path, capsys) -> None:
    assert spec_of("few_shot").loss_on == "labels"
    assert spec_of("few_shot", "loss_on=all").loss_on == "all"
    words = ("few_shot", "task.dimension=2", "length=12", "steps=2", "batch=2")
    out = ("--out", str(tmp_path))
    found = trained_json(capsys, *words, *out)
    assert found["held_out"]["mask"] == "labels"
    everywhere = trained_json(capsys, *words, "loss_on=all", *out)
    # Inputs are drawn at random: even the best predictor loses on them, and hardly on labels.
    assert found["floor"] < 0.8 * everywhere["floor"]

    spec = spec_of(*words)
    batch = spec.task.sample(512, Seed(0).child("held out"))
    assert found["floor"] == pytest.approx(float(spec.task.ideal(batch)[batch.scored["labels"]].mean()))
    model = VectorTransformer.from_pretrained(found["model"]).eval()
    with torch.no_grad():
        errors = half_squared_error(model(inputs_embeds=batch.inputs).logits, batch.targets)
    assert found["held_out"]["loss"] == pytest.approx(float(errors[batch.scored["labels"]].mean()), rel=1e-4)

    assert main(["train", *words, *out, "--device", "cpu"]) == 0
    assert "never saw, at labels" in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_a_solve_that_did_not_converge_is_said(tmp_path, capsys) -> None:
    words = ("dynamics", "mixer=softmax,mesa", "model.mixers.1.keep=data_only", "model.mixers.1.regulariser=diagonal",
             "task.hidden=3", "length=12", "steps=2", "batch=2")  # fmt: skip
    out = ("--out", str(tmp_path))
    fine = trained_json(capsys, *words, "model.mixers.1.iterations=60", *out)["solve"]
    assert (fine["layer"], fine["converged"]) == (1, True)
    assert fine["residual"] < 1e-3
    hard = ("model.mixers.1.iterations=1", "model.mixers.1.strength=1e-6", "model.mixers.1.tolerance=1e-7")
    poor = trained_json(capsys, *words, *hard, *out)["solve"]
    assert (poor["iterations"], poor["converged"]) == (1, False)
    assert poor["residual"] > fine["residual"]
    assert main(["train", *words, *hard, *out, "--device", "cpu"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "layer 1: 1 iterations, residual" in shown
    assert "NOT CONVERGED" in shown
    assert "a larger model.mixers.1.iterations comes closer" in shown


def test_the_worst_solve_is_the_one_told_of() -> None:
    good, worse = WorstSolve(0, 9, 1e-5, True), WorstSolve(1, 9, 1e-4, True)
    stopped, lost = WorstSolve(2, 30, 1e-6, False), WorstSolve(3, 30, float("nan"), False)
    assert worst_of([]) is None
    assert worst_of([good, worse, good]) == worse
    assert worst_of([worse, stopped, good]) == stopped
    assert worst_of([stopped, lost, stopped]) is lost


def test_the_advice_for_a_full_memory_is_one_that_train_takes(capsys, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("glassworks.cli.train.trained", full)
    assert main(["train", "bigram"]) == 1
    told = capsys.readouterr().err
    assert "e.g. batch=4 length=64" in told
    assert "--set" not in told


def trained_json(capsys, *words: str) -> dict:
    assert main(["train", *words, "--device", "cpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_text_model_is_trained_found_again_loaded_and_examined(text, tmp_path, capsys) -> None:
    words = (text, "mixer=softmax,mesa", *SMALL, "--out", str(tmp_path))
    first = trained_json(capsys, *words)
    assert (first["reused"], first["steps"], first["held_out"]["unit"]) == (False, 4, "nats per byte")
    assert first["held_out"]["mask"] == "all"
    assert first["solve"] is None
    assert first["parameters"] == gw.load(first["model"]).parameter_count
    again = trained_json(capsys, *words)
    assert again["reused"]
    assert again["held_out"] == first["held_out"]

    subject = gw.load(first["model"])
    odd = "né 界\t🎉\n"
    ids = subject.to_tokens(odd)
    assert ids[0].tolist() == list(odd.encode())
    assert subject.to_string(ids[0]) == odd
    assert subject.generate("né", new_tokens=3).shape == (1, 6)
    assert isinstance(subject.world, TextWindows)
    capsys.readouterr()
    assert main(["examine", first["model"], "--text", "café 界", "--with", "logit_lens", "--device", "cpu", "--out", str(tmp_path)]) == 0  # fmt: skip
    assert capsys.readouterr().out.strip().endswith("report.html")


def test_a_vector_model_comes_back_as_one_and_examine_refuses_it_in_one_sentence(tmp_path, capsys) -> None:
    made = gw.train("dynamics", mixer="softmax,linear", steps=3, batch=2, length=6, task__hidden=3, out=tmp_path, device="cpu", progress=False)  # fmt: skip
    assert isinstance(made, TrainedModel)
    assert made.history.steps == [0, 1, 2]
    assert made.floor < made.held_out
    model = made.load()
    assert isinstance(model, VectorTransformer)
    assert model(inputs_embeds=torch.zeros(1, 6, 3)).logits.shape == (1, 6, 3)
    assert main(["examine", str(made.path), "--text", "a"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: this model reads vectors of numbers, not tokens")


def test_python_trains_on_a_file_with_mixers_as_values(text, tmp_path, capsys) -> None:
    made = gw.train(
        "text", data=text, mixer=[Softmax(), Linear()], steps=2, length=16, width=16, out=tmp_path, device="cpu"
    )
    assert "text: from step 0 to 2" in capsys.readouterr().err
    assert made.spec.model.mixers == (Softmax(), Linear())
    assert made.load().world == made.spec.task
    assert gw.train(text, mixer="softmax,linear", steps=2, length=16, width=16, out=tmp_path, progress=False).reused


def test_the_folder_is_the_last_line_and_the_next_command_is_said(tmp_path, capsys) -> None:
    assert main(["train", "bigram", *SMALL, "--out", str(tmp_path), "--device", "cpu"]) == 0
    printed = capsys.readouterr()
    folder = printed.out.strip().splitlines()[-1]
    assert (tmp_path / "store").resolve().samefile(f"{folder}/..")
    assert f"glassworks examine {folder}" in printed.out
    assert "loss of the best known predictor there" in printed.out
    assert "bigram: from step 0 to 4" in printed.err


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path, capsys, monkeypatch) -> None:
    from glassworks.cli.live import PlainLines

    words = ["train", "bigram", "steps=40", "length=16", "width=16", "--out", str(tmp_path), "--device", "cpu"]
    plain = PlainLines.__call__

    def interrupt(self, event):
        plain(self, event)
        if event.kind == "checkpoint_saved" and event.step == 20:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["glassworks", *words])
    monkeypatch.setattr(PlainLines, "__call__", interrupt)
    assert main(words) == 130
    assert "glassworks train bigram steps=40" in capsys.readouterr().err
    monkeypatch.setattr(PlainLines, "__call__", plain)
    assert main(words) == 0
    assert "from step 20 to 40" in capsys.readouterr().err


def test_divergence_names_a_command_with_a_smaller_rate(tmp_path, capsys) -> None:
    words = ["train", "bigram", *SMALL, "rate=1e9", "clip=null", "steps=30", "--out", str(tmp_path), "--device", "cpu"]
    words.remove("steps=4")
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "NaN or infinity" in told
    assert "rate=1e+08" in told


def test_help_needs_no_torch() -> None:
    done = run_without("torch,transformers,numpy,pydantic", "train", "--help")
    assert done.returncode == 0, done.stderr
    assert "NAME=VALUE" in done.stdout


def test_an_empty_task_is_refused(capsys) -> None:
    assert main(["train", ""]) == 1
    assert "TASK is empty" in capsys.readouterr().err
    assert Train("bigram").settings == ()


def test_the_dashboard_shows_the_loss_of_a_world_of_vectors() -> None:
    from rich.console import Console

    watch = Watch()
    watch(TrainingStarted(label="dynamics", digest="a", seed=0, first_step=0, steps=10))
    for step in range(10):
        watch(StepDone(digest="a", step=step, loss=2.0 / (step + 1), scores={"loss": 2.0 / (step + 1)}, seconds=0.1))
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(dashboard(watch, "train"))
    shown = console.export_text()
    assert "loss 0.200" in shown
    assert "nats" not in shown
    assert "in context" not in shown
    assert "0.2 loss" in shown


def test_bytes_are_spelled_exactly_by_the_tokenizer_that_is_saved(tmp_path) -> None:
    save_byte_tokenizer(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    for text in ("", " a  b ", "né 界 🎉\r\n\t\0", "<s>[CLS] 's n't , .", "\u200b\ufeff"):
        for tokenizer in (saved, byte_tokenizer()):
            assert tokenizer.encode(text) == list(text.encode())
            assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(saved) == 256


def test_the_python_of_the_guide_can_be_pasted(tmp_path, capsys, monkeypatch) -> None:
    page = (Path(__file__).parents[2] / "docs/guide/09-train-a-model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    assert "steps=500" in blocks[0]
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(block.replace("steps=500", "steps=2"), {})
    assert capsys.readouterr().out.strip().splitlines()[1:] == ["torch.Size([1, 50, 6])", "torch.Size([2, 3, 256])"]


def test_a_layer_that_refuses_its_numbers_keeps_its_own_cure(tmp_path, capsys, monkeypatch) -> None:
    def refused(*_: object) -> None:
        raise Diverged(say("singular"), right=say("a larger strength")) from InvalidInput(say("singular"))

    monkeypatch.setattr("glassworks.cli.train.trained", refused)
    assert main(["train", "bigram", "--out", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "a larger strength" in told
    assert "rate=" not in told


@pytest.mark.slow
def test_judging_takes_no_more_tokens_at_a_time_than_training(tmp_path, monkeypatch) -> None:
    words = {"mixer": "softmax,linear", "steps": 1, "batch": 2, "length": 6, "task__hidden": 3}
    made = gw.train("dynamics", **words, out=tmp_path, device="cpu", progress=False)
    sizes: list[int] = []
    read = SquaredError.read

    def counting(self, forward, batch, part):
        output = read(self, forward, batch, part)
        sizes.append(len(output))
        return output

    monkeypatch.setattr(SquaredError, "read", counting)
    monkeypatch.setattr("glassworks.training.gradients.CPU_TOKENS", 24)
    again = gw.train("dynamics", **words, out=tmp_path, device="cpu", progress=False)
    assert again.reused
    assert set(sizes) == {4}
    assert again.held_out == pytest.approx(made.held_out, rel=1e-5)
