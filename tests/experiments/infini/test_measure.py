"""Every study measures what was agreed; losses, gates and facts are what they are called."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glassworks.core.errors import InvalidInput
from glassworks.core.events import EventLog
from glassworks.core.text import say
from glassworks.evidence.claims import Scale
from glassworks.evidence.measurements import Measurement
from glassworks.experiments.base import Bench
from glassworks.experiments.infini import measure_books as books
from glassworks.experiments.infini import measure_language as language
from glassworks.experiments.infini import measure_sizes as sizes
from glassworks.experiments.infini.measure import measure
from glassworks.experiments.infini.spec import InfiniAttention
from glassworks.experiments.infini.trainings import COMPARATORS, LANGUAGE_MODELS, model_of
from glassworks.experiments.infini.workbench import Workbench, with_mixer
from glassworks.mixers import Infini
from glassworks.models import TransformerSpec, build_model
from glassworks.tasks import Facts
from glassworks.tensors.seeds import Seed
from glassworks.training.loop import Trained, TrainingOptions, train
from glassworks.training.spec import TrainingSpec
from glassworks.training.store import History

STUDY = InfiniAttention.at(Scale.SMOKE)
WINDOWS = torch.randint(256, (3, 150), generator=Seed(3).generator())


def test_a_model_that_knows_nothing_needs_eight_bits_per_byte() -> None:
    model = build_model(model_of(STUDY, "infini", 16, 64), Seed(0)).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    torch.testing.assert_close(language.read(model, WINDOWS), torch.full((3, 149), 8.0))


@pytest.mark.parametrize("label", ["infini delta", "rmt", "full", "memorizing", "gated linear"])
def test_bits_are_those_of_the_byte_that_follows_however_the_text_is_cut(
    label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_model(model_of(STUDY, label, 16, 64), Seed(0)).eval()
    monkeypatch.setattr("glassworks.experiments.infini.workbench.CALL", 3 * 21)
    found = language.read(model, WINDOWS)
    with torch.no_grad():
        law = model(input_ids=WINDOWS[:, :-1]).logits.log_softmax(-1)
    expected = -law.gather(2, WINDOWS[:, 1:, None])[..., 0] / np.log(2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_nothing_is_said_from_where_a_mesa_layer_refuses_to_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_module: object, _args: object, given: dict[str, Any]) -> None:
        if given["past_key_values"] is not None and given["past_key_values"].get_seq_length() >= 42:
            raise InvalidInput(say("a layer refuses"))

    solving, other = (build_model(model_of(STUDY, label, 16, 64), Seed(0)).eval() for label in ("mesa", "infini"))
    monkeypatch.setattr("glassworks.experiments.infini.workbench.CALL", 3 * 21)
    whole = language.read(solving, WINDOWS)
    for model in (solving, other):
        model.model.register_forward_pre_hook(refuse, with_kwargs=True)
    found = language.read(solving, WINDOWS)
    torch.testing.assert_close(found[:, :42], whole[:, :42])
    assert found[:, 42:].isnan().all()
    with pytest.raises(InvalidInput, match="a layer refuses"):
        language.read(other, WINDOWS)


def test_bins_are_segments_up_to_the_training_length_and_training_lengths_beyond() -> None:
    ends = language.bins(128, 2048)
    assert ends[:3] == (128, 256, 384)
    assert ends[15:] == (2048, 4096, 6144, 8192, 10240, 12288, 14336, 16384)
    assert language.bins(48, 100) == (48, 96, 100, 200, 300, 400, 500, 600, 700, 800)
    bits = torch.arange(800.0).expand(2, 800)
    found = language.in_bins(bits, language.bins(48, 100))
    assert found[:3].tolist() == [23.5, 71.5, 97.5]
    assert found[-1] == 749.5


def test_the_same_weights_in_another_mixer_keep_all_that_it_knows() -> None:
    model = build_model(model_of(STUDY, "infini", 16, 64), Seed(0)).eval()
    changed = with_mixer(model, Infini(segment=16, write="delta"))
    assert changed.config.token_spec.mixers == (Infini(segment=16, write="delta"),)
    known = changed.state_dict()
    assert all(torch.equal(known[name], tensor) for name, tensor in model.state_dict().items())


def test_sizes_of_the_paper_are_the_printed_integers() -> None:
    found = sizes.memory_sizes()
    kept = {str(model): float(found.at(model=model, part="kept").values) for model in found.coords["model"]}
    assert kept["Infini-Transformer"] == 1_585_152
    assert kept["Memorizing Transformers"] == 183_451_648
    assert kept["full cache, 1M tokens"] == 24_576_000_000
    assert found.at(model="Infini-Transformer", part="segment in progress").values == 50_331_648


@pytest.mark.slow
def test_live_models_keep_as_many_numbers_as_their_formula_says_and_bounded_ones_stop_growing() -> None:
    live = sizes.memory_live(STUDY)
    assert (live.at(count="formula").values == live.at(count="measured").values).all()
    assert (live.values > 0).all()
    growth = sizes.memory_growth(STUDY)
    tokens = growth.along("tokens")
    assert tokens[-1] == 8 * STUDY.text_length
    each = growth.at(model="full").values / (tokens + STUDY.segment // 2)
    assert each == pytest.approx(each[0])
    # RMT holds its two vectors and half a segment, local attention half a segment: keys and values in two layers.
    assert growth.at(model="rmt").values.tolist() == [(2 + 8) * 2 * 16 * 2] * len(tokens)
    assert growth.at(model="local").values.tolist() == [8 * 2 * 16 * 2] * len(tokens)
    for model in ("infini", "transformer-xl", "mesa", "window"):
        assert growth.at(model=model).values[-1] == growth.at(model=model).values[-2]
    assert growth.at(model="memorizing").values[-1] > growth.at(model="memorizing").values[-2]


def test_answers_are_written_digit_by_digit_after_the_bytes_that_are_read() -> None:
    model = build_model(model_of(STUDY, "infini", 16, 64), Seed(0)).eval()
    # Only digits are ever chosen, so that answers are not all alike.
    with torch.no_grad():
        model.lm_head.weight.mul_(torch.tensor([50.0 if chr(code).isdigit() else 0.0 for code in range(256)])[:, None])
    texts = Facts(length=160, facts=2, digits=2, segment=16).texts(3, Seed(5))
    for read in (80, 160):
        text = [list(row) for row in texts.between(160 - read, texts.asked).tolist()]
        written: list[list[int]] = [[] for _ in text]
        for place, is_answer in enumerate(texts.answered.tolist()):
            if is_answer:
                with torch.no_grad():
                    chosen = model(input_ids=torch.tensor(text)).logits[:, -1].argmax(1).tolist()
                for own, byte in zip(written, chosen, strict=True):
                    own.append(byte)
            for row, own, right in zip(text, written, texts.ending.tolist(), strict=True):
                row.append(own[-1] if is_answer else right[place])
        assert books.answers(model, texts, read).tolist() == written
        assert len({byte for row in written for byte in row}) > 1


def test_facts_are_scored_as_numbers_in_the_order_of_the_questions() -> None:
    spelled = books.spelled(torch.tensor([[ord(c) for c in "123456"], [ord(c) for c in "12 45\xff"]]), 3)
    assert spelled == ["123 456", "12  45?"]
    assert books.score("123 456", "123 456") == dict.fromkeys(books.SCORES[:-1], 1.0)
    swapped = books.score("456 123", "123 456")
    assert swapped["f1"] == 1.0
    assert swapped["rougeL"] == 0.5
    assert swapped["rouge2"] == 0.0
    assert books.score("123 999", "123 456")["f1"] == 0.5


CURVES = ("model", "seed", "step", "metric")
KEYS = ("rule", "depth", "length", "seed")
AGREED: dict[str, dict[str, tuple[str, ...]]] = {
    "memory-table": {
        "memory_sizes": ("model", "part"),
        "memory_live": ("model", "count"),
        "memory_growth": ("model", "tokens"),
    },
    "language": {
        "training_language": CURVES,
        "language_by_position": ("model", "seed", "position"),
        "language_cost": ("model", "number"),
    },
    "gates": {"gates_path": ("setting", "layer", "head", "seed", "step"), "gates_loss": ("setting", "seed")},
    "passkey": {
        "training_passkey": CURVES,
        "passkey": KEYS,
        "passkey_exact": KEYS,
        "passkey_samples": ("length",),
        "passkey_comparators": ("model", "depth", "length", "seed"),
        "needle_share": ("rule", "layer", "head", "length", "seed"),
        "passkey_minutes": ("stage", "seed"),
    },
    "books": {"facts": ("score", "read", "seed"), "training_books": CURVES},
    "capacity": {
        "capacity": ("rule", "width", "pairs", "seed"),
        "repeats": ("rule", "times"),
        "update": ("rule", "towards"),
        "running_sum": ("format", "length", "segments"),
        "kernel_ratio": ("width", "seed"),
    },
}


def found(name: str, store: Path) -> dict[str, Measurement]:
    """The measurements of a study whose models are hardly trained."""
    text = store / "text.txt"
    text.write_text("the cat sat on the mat; " * 400, encoding="utf-8")
    study = STUDY.replaced("text", str(text))
    trained = {
        label: train(spec, TrainingOptions(store=store, label=label, probe=study.probe(spec)), EventLog())
        for label, spec in study.trainings(name).items()
    }
    return {m.name: m for m in measure(study, name, Bench(trained, store, torch.device("cpu"), EventLog(), name))}


@pytest.mark.slow
@pytest.mark.parametrize("name", AGREED)
def test_a_study_measures_what_was_agreed(name: str, tmp_path: Path) -> None:
    measured = found(name, tmp_path)
    assert {m.name: m.dims for m in measured.values()} == AGREED[name]
    match name:
        case "language":
            assert measured["language_by_position"].coords["model"] == LANGUAGE_MODELS
            assert np.isfinite(measured["language_by_position"].values).all()
            assert (measured["language_cost"].at(number="parameters").values > 0).all()
            kept = measured["language_cost"].at(number="kept")
            assert float(kept.at(model="local").values) == 0
            assert float(kept.at(model="rmt").values) == 2 * 2 * 16 * 2
        case "gates":
            path = measured["gates_path"]
            assert path.coords["setting"] == ("shared", "own rate", "own rate, decay")
            assert path.coords["layer"] == path.coords["head"] == (1, 2)
            assert (path.at(step=0).values == 0.5).all()
            # The last column is the finished model: no training stands still.
            assert (path.at(step=STUDY.text_steps).values != path.at(step=STUDY.text_steps - 1).values).all()
            assert np.isfinite(measured["gates_loss"].values).all()
        case "passkey":
            keys = measured["passkey"]
            assert np.isfinite(keys.at(length=1024).values).all()
            assert np.isnan(keys.at(length=131_072).values).all()
            others = measured["passkey_comparators"]
            assert others.coords["model"] == ("linear", *COMPARATORS)
            assert "texts of 192 bytes" in others.caveats[0].en
            minutes = measured["passkey_minutes"]
            stages = ("first", "virtual", "delta")
            together = sum(float(minutes.at(stage=stage, seed=0).values) for stage in stages)
            assert float(minutes.at(stage="delta, all stages", seed=0).values) == pytest.approx(together)
            assert np.isfinite(measured["needle_share"].at(length=1024).values).all()
        case "books":
            facts = measured["facts"]
            assert facts.coords["score"] == ("f1", "rouge2", "rougeL", "exact")
            assert facts.coords["read"] == (256, 512, 1024)
        case _:
            # Running sums end where the study is too short for them.
            assert all(np.isfinite(m.values).all() for m in measured.values() if m.name != "running_sum")


def kept_untrained(spec: TrainingSpec, folder: Path, history: History) -> Trained:
    assert isinstance(spec.model, TransformerSpec)
    build_model(spec.model, Seed(spec.seed)).save_pretrained(folder)
    return Trained(spec, folder, history, 1.0, reused=True)


def test_gates_are_found_by_layer_and_head_and_end_with_those_of_the_model(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(bytes(range(256)) * 40)
    study = STUDY.replaced("text", str(text))
    logged = History([0, 2], {f"gate/{i}/{j}": [i + j / 10, 7.0] for i in (1, 2) for j in (1, 2)})
    trained = {
        label: kept_untrained(spec, tmp_path / f"model {place}", logged)
        for place, (label, spec) in enumerate(study.trainings("gates").items())
    }
    path, loss = measure(study, "gates", Bench(trained, tmp_path, torch.device("cpu"), EventLog(), "gates"))
    assert path.coords["step"] == (0, 2, 3)
    for layer in (1, 2):
        for head in (1, 2):
            found = path.at(setting="own rate", layer=layer, head=head, seed=0).values
            assert found.tolist() == [layer + head / 10, 7.0, 0.5]
    assert loss.values.shape == (3, 1)
    # Weights that are alike have one loss.
    assert len(set(loss.values.ravel())) == 1


def test_held_out_windows_are_the_same_for_all_models_and_from_the_last_tenth(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(b"a" * 9000 + b"b" * 1000)
    study = STUDY.replaced("text", str(text))
    specs = study.trainings("language")
    trained = {
        label: Trained(specs[label], tmp_path, History(), 0.0, reused=True)
        for label in ("infini/0", "infini, longer/0")
    }
    work = Workbench(study, Bench(trained, tmp_path, torch.device("cpu"), EventLog(), "language"))
    windows = language.held_out(work, 0, 512, 3)
    assert windows.shape == (3, 513)
    assert (windows == ord("b")).all()
    assert work.labels() == ("infini", "infini, longer")
