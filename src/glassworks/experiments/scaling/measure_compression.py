"""A trained model against compressors on held-out text, and a file coded with it and decoded again."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glassworks.anatomy import Subject
from glassworks.core.text import say
from glassworks.evaluation.compression import HEADER_BYTES, bits_of, compress, decompress, parameter_bytes
from glassworks.evidence.measurements import Label, Measurement
from glassworks.experiments.scaling.laws import BITS_PER_BYTE
from glassworks.experiments.scaling.measure_families import bits_per_byte, cell_of, held_out, load_model
from glassworks.models.byte_tokenizer import byte_tokenizer
from glassworks.tasks import TextWindows

if TYPE_CHECKING:
    from glassworks.experiments.base import Bench
    from glassworks.experiments.scaling.spec import Scaling
    from glassworks.training.loop import Trained

METHODS = ("gzip", "bzip2", "xz", "zstd")
READINGS = ("alone", "primed")
CODING_NUMBERS = (
    "bytes",
    "file",
    "header",
    "code_bits",
    "ideal_bits",
    "wrong_bytes",
    "code_seconds",
    "decode_seconds",
    "model_bytes",
)


def measure(study: Scaling, bench: Bench) -> Sequence[Measurement]:
    """Compressors, the best size of each budget on the same text, and the best of all on a file."""
    task = next(iter(bench.trained.values())).spec.task
    assert isinstance(task, TextWindows), "the study's models are trained on text"
    learned, text = (task.replaced_all({"split": split}).data().tobytes() for split in ("train", "held_out"))
    best = _best(study, bench, task)
    return [_compressors(learned, text), _models(study, bench, best, text), _coding(study, bench, best, text)]


def _best(study: Scaling, bench: Bench, task: TextWindows) -> dict[int, str]:
    """The label of each budget's best size, by the mean loss over its seeds; the label without the seed."""
    # A quarter of the windows that losses are measured on tells the best size well enough.
    windows = held_out(task, max(2, study.held_out // 4))
    found: dict[int, dict[str, list[float]]] = {}
    for label, trained in bench.trained.items():
        cell, _ = cell_of(label)
        loss = bits_per_byte(load_model(trained, bench.device), windows)
        found.setdefault(cell.budget, {}).setdefault(cell.label, []).append(loss)
    return {budget: min(sizes, key=lambda size: float(np.mean(sizes[size]))) for budget, sizes in found.items()}


def _compressors(learned: bytes, text: bytes) -> Measurement:
    """Bits per byte of the held-out text by itself, and behind the text of training, which is then not counted."""
    tools = compressors()
    values = np.full((len(METHODS), len(READINGS)), np.nan)
    for row, method in enumerate(METHODS):
        tool = tools[method]
        if tool is None:
            continue
        alone, primed = tool(text), tool(learned + text) - tool(learned)
        values[row] = 8 * alone / len(text), 8 * primed / len(text)
    absent = ", ".join(method for method in METHODS if tools[method] is None)
    missing = (say("not on this machine: {methods}", methods=absent),) if absent else ()
    return Measurement(
        "compressors", say("bits per byte of the held-out text with each compressor"), values, ("method", "reading"),
        {"method": METHODS, "reading": READINGS}, BITS_PER_BYTE,
        (
            say("gzip -9, bzip2 -9, xz -9e, zstd -19; {count} bytes", count=len(text)),
            say("primed: what the held-out text adds behind the text of training; gzip and bzip2 look back less far than that"),
            *missing,
        ),
    )  # fmt: skip


def compressors() -> Mapping[str, Callable[[bytes], int] | None]:
    """The size in bytes that each compressor makes of some data; None for one that is not on this machine."""
    return {
        "gzip": lambda data: len(gzip.compress(data, 9)),
        "bzip2": lambda data: len(bz2.compress(data, 9)),
        "xz": lambda data: len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)),
        "zstd": _zstd(),
    }


def _zstd() -> Callable[[bytes], int] | None:
    """The package where it is installed, else the program; effort 19."""
    try:
        import importlib

        package: Any = importlib.import_module("zstandard")
        return lambda data: len(package.ZstdCompressor(level=19).compress(data))
    except ImportError:
        program = shutil.which("zstd")
    if program is None:
        return None

    def run(data: bytes) -> int:
        # A window as long as the data, which a file of a few megabytes has anyway.
        done = subprocess.run([program, "-19", "--long=27", "-c"], input=data, capture_output=True, check=True)
        return len(done.stdout)

    return run


def _models(study: Scaling, bench: Bench, best: Mapping[int, str], text: bytes) -> Measurement:
    values = np.full((len(study.budgets), len(study.seeds)), np.nan)
    for budget, label in best.items():
        for place, seed in enumerate(study.seeds):
            trained = bench.trained.get(f"{label}/{seed}")
            if trained is not None:
                values[budget, place] = bits_of(_subject(trained, bench), text) / len(text)
    coords: dict[str, tuple[Label, ...]] = {"budget": study.budgets, "seed": study.seeds}
    return Measurement(
        "compression_models", say("bits per byte of the held-out text with the best size of each budget"), values,
        ("budget", "seed"), coords, BITS_PER_BYTE,
        (
            say("every byte is read once, with 64 to 128 bytes before it where the context is 128"),
            say("the weights are not counted: they are many times the text"),
        ),
    )  # fmt: skip


def _coding(study: Scaling, bench: Bench, best: Mapping[int, str], text: bytes) -> Measurement:
    """A piece of the held-out text, coded with the best model of the largest budget."""
    label = best[max(best)]
    trained = next(bench.trained[f"{label}/{seed}"] for seed in study.seeds if f"{label}/{seed}" in bench.trained)
    subject, data = _subject(trained, bench), text[: study.coded]
    begun = time.perf_counter()
    coded = compress(subject, data)
    between = time.perf_counter()
    decoded = decompress(subject, coded.data)
    ended = time.perf_counter()
    wrong = abs(len(decoded) - len(data)) + sum(a != b for a, b in zip(decoded, data, strict=False))
    values = (
        len(data), len(coded.data), HEADER_BYTES, coded.code_bits, coded.ideal_bits, wrong, between - begun, ended - between,
        parameter_bytes(subject),
    )  # fmt: skip
    return Measurement(
        "coding", say("a file coded with a model, and decoded again"), np.array(values), ("number",),
        {"number": CODING_NUMBERS}, "bytes; bits; seconds",
        (say("the beginning of the held-out text, with the best model of the largest budget"),),
    )  # fmt: skip


def _subject(trained: Trained, bench: Bench) -> Subject:
    # The library's types say less of its tokenizers than is asked of them here, which they do.
    spelling: Any = byte_tokenizer()
    return Subject.of(load_model(trained, bench.device), spelling)
