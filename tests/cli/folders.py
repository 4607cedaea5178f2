"""A run folder as a finished run leaves it, made without training."""

from pathlib import Path

import numpy as np

from glassworks.core.files import write_json
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.evidence.claims import Scale
from glassworks.evidence.measurements import Measurement, save_measurements
from glassworks.experiments import Birth
from glassworks.experiments.birth.trainings import simplified_model
from glassworks.experiments.run import rejudge
from glassworks.models import GlassworksForCausalLM, build_model
from glassworks.models.planted import planted_induction_head
from glassworks.tasks import Bigram
from glassworks.tensors.seeds import Seed
from glassworks.training.store import History, StoreEntry

BIRTH = Birth.at(Scale.SMOKE)


def finished_run(out: Path, birth: Birth = BIRTH) -> RunFolder:
    """A run with one measurement, its verdicts, a report and a figure, sealed."""
    run = RunFolder.create(out / "runs", "birth", birth)
    save_measurements(
        run.path,
        [Measurement("wide", say("missing"), np.array([0.5, 0.7]), ("seed",), {"seed": (0, 1)}, "fraction")],
    )
    rejudge(birth, run)
    run.write_environment({"command": "glassworks reproduce birth"})
    run.write_json("studies.json", {"width": 1.0})
    run.write_bytes("report.html", b"<!doctype html>")
    run.write_bytes("figures/wide.light.svg", b"<svg/>")
    run.write_bytes("figures/wide.png", b"\x89PNG")
    run.seal()
    return run


def planted_model(world: Bigram) -> GlassworksForCausalLM:
    """An induction head set by hand."""
    return planted_induction_head(simplified_model(world, 128), world, Seed(0))


def planted_folder(folder: Path, world: Bigram) -> Path:
    """The hand-set model as the store keeps a trained one: a Hugging Face folder with its world."""
    planted_model(world).save_pretrained(folder)
    write_json(folder / "world.json", {"alphabet": list(world.alphabet), "task": world.to_json()})
    return folder


def stored_main_model(out: Path, birth: Birth = BIRTH) -> Path:
    """The main model of a run as the store keeps it, its weights as they were drawn."""
    label, spec = next(iter(birth.trainings("main").items()))
    entry = StoreEntry(out / "store", spec)
    entry.open()
    build_model(spec.model, Seed(0)).save_pretrained(entry.path)
    history = History()
    history.append(0, {"loss": 4.0, "accuracy/in_context": 0.25})
    entry.finish(history, 1.0, {"label": label})
    return entry.path
