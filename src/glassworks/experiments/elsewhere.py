"""The trainings of an experiment as jobs, so that any number of processes or machines can do them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.core.events import EventLog
from glassworks.executors import Job
from glassworks.experiments.base import Experiment

if TYPE_CHECKING:
    from glassworks.training.spec import TrainingSpec

Plans = Mapping[str, Mapping[str, "TrainingSpec"]]


def training_jobs(experiment: Experiment, plans: Plans, store: Path, device: str) -> list[Job]:
    """Each different training of some studies once, behind the training that it starts from.

    `plans` are the trainings by study and label. The result of a job is a whole entry of the store, which everyone finds there.
    """
    labels = {spec.digest(): f"{study}: {label}" for study, plan in plans.items() for label, spec in plan.items()}
    found: dict[str, Job] = {}

    def add(spec: TrainingSpec, label: str) -> None:
        digest, before = spec.digest(), spec.start_from
        if digest in found:
            return
        if before is not None:
            add(before, labels.get(before.digest(), label))
        found[digest] = Job(
            name=digest,
            label=label,
            function=f"{__name__}:train_one",
            arguments={
                "experiment": experiment.to_json(), "training": spec.to_json(), "store": str(store.absolute()),
                "device": device, "label": label,
            },
            proof=store.absolute() / digest / "done.json",
            needs=() if before is None else (before.digest(),),
            weight=float(spec.steps),
        )  # fmt: skip

    for plan in plans.values():
        for spec in plan.values():
            add(spec, labels[spec.digest()])
    return list(found.values())


def train_one(
    experiment: dict[str, Any], training: dict[str, Any], store: str, device: str, label: str, events: EventLog
) -> None:
    """Trains one model of an experiment into the store, as the experiment itself would; goes on where it stopped."""
    from glassworks.experiments import EXPERIMENTS
    from glassworks.experiments.run import training_options
    from glassworks.tensors.devices import choose_device
    from glassworks.tensors.memory import keep_freed_memory
    from glassworks.training.loop import train
    from glassworks.training.spec import TrainingSpec

    here = choose_device(device)
    if here.type == "cpu":
        keep_freed_memory()
    spec = TrainingSpec.parse(training)
    train(spec, training_options(EXPERIMENTS.parse(experiment), spec, label, Path(store), here), events)
