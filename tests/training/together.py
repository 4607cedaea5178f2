"""What the tests of several processes run in each of them: `python -m tests.training.together WORK:LAYOUT:FOLDER ...`."""

import json
import sys
from pathlib import Path

import torch

from glassworks.core.events import EventLog
from glassworks.mixers import Infini, Linear, Mesa, Softmax
from glassworks.models import TransformerSpec
from glassworks.tasks import Bigram
from glassworks.tensors.processes import from_all, joined, own_part, wait_for_all, world
from glassworks.training import loop
from glassworks.training.loop import TrainingOptions, train
from glassworks.training.schedules import ClipNorm, ClipValue
from glassworks.training.spec import AdamW, ExtraLoss, FrozenUntil, Pace, Sgd, TrainingSpec

TASK = Bigram(length=24)
STOP_AT, STEPS = 4, 10
CPU = torch.device("cpu")


def model(**fields) -> TransformerSpec:
    base = {"width": 16, "depth": 2, "heads": 2, "vocabulary": TASK.vocabulary, "context": 24, "mixers": (Softmax(),)}
    return TransformerSpec(**(base | fields))


def small(**fields) -> TrainingSpec:
    base = {"task": TASK, "model": model(), "steps": STEPS, "batch": 7, "probe_every": 1, "precision": "float32"}
    return TrainingSpec(**({"optimiser": AdamW(rate=1e-3)} | base | fields))


def cases() -> dict[str, TrainingSpec]:
    """Trainings whose numbers must not depend on how many processes share the work."""
    held = (FrozenUntil(pattern="model.layers.1.*", step=5),)
    return {
        "seven sequences over two": small(clip=ClipNorm(limit=0.05)),
        "one sequence over two": small(batch=1, optimiser=Sgd(), clip=ClipValue(limit=1e-3)),
        "uneven masks": small(loss_on="in_context", extra_losses=(ExtraLoss(mask="all", weight=0.1),), batch=3),
        "held back, frozen, with a pace": small(
            frozen=("model.embed_tokens*",), frozen_until=held, paces=(Pace(pattern="*o_proj*", factor=0.5),)
        ),
        "after another training, tied": small(
            model=model(tie_output=True), start_from=small(model=model(tie_output=True), steps=3), snapshot_every=4
        ),
        "linear then mesa": small(model=model(mixers=(Linear(), Mesa()))),
        "in pieces": small(model=model(mixers=(Infini(segment=8),)), piece=8, loss_on="in_context"),
        "in pieces, an unused gate": small(model=model(mixers=(Infini(segment=64),), context=24)),
    }


def resumable() -> TrainingSpec:
    """One that is interrupted after its checkpoint and gone on with by others."""
    return small(frozen_until=(FrozenUntil(pattern="model.layers.1.*", step=6),))


class Interrupted(Exception):
    """Stands for the end of a process."""


def curves(folder: Path, *, shard: bool, device: torch.device = CPU) -> None:
    """Every case on these processes; the histories are left in a file."""
    found = {}
    for name, spec in cases().items():
        done = train(
            spec, TrainingOptions(store=folder / "store", shard=shard, device=device, checkpoint_every=4), EventLog()
        )
        found[name] = done.history.metrics
    leave(folder / "curves.json", found)


def stops(folder: Path, *, shard: bool, device: torch.device = CPU) -> None:
    """Leaves a checkpoint of STOP_AT steps and nothing more."""
    kept = loop.keep

    def keep_and_stop(*arguments):
        kept(*arguments)
        raise Interrupted

    loop.keep = keep_and_stop
    try:
        train(
            resumable(), TrainingOptions(store=folder, shard=shard, device=device, checkpoint_every=STOP_AT), EventLog()
        )
    except Interrupted:
        wait_for_all()
    finally:
        loop.keep = kept


def goes_on(folder: Path, *, shard: bool, device: torch.device = CPU) -> None:
    """Takes up what lies there, however many processes left it."""
    steps, log = [], EventLog()
    log.listen(lambda event: steps.append(event.first_step) if event.kind == "training_started" else None)
    done = train(resumable(), TrainingOptions(store=folder, shard=shard, device=device), log)
    leave(folder / "resumed.json", {"from": steps, "loss": done.history.metrics["loss"]})


def shares(folder: Path, *, shard: bool, device: torch.device = CPU) -> None:
    """How many bytes of weights and optimiser each process holds after a step, and how many there are."""
    found: dict[str, list[int]] = {}
    looked = loop.keep

    def look(_, live, *rest):
        tensors = [t for n, t in live.tensors().items() if not n.startswith("optimiser/step/")]
        found["held"] = from_all(sum(own_part(t).untyped_storage().nbytes() for t in tensors))
        found["whole"] = [sum(t.numel() * t.element_size() for t in tensors)]

    loop.keep = look
    try:
        options = TrainingOptions(store=folder / "shares", shard=shard, device=device, checkpoint_every=2)
        train(small(model=model(width=32), steps=3), options, EventLog())
    finally:
        loop.keep = looked
    leave(folder / "shares.json", found)


def leave(path: Path, found) -> None:
    """Writes what was found, in the first process."""
    if world().is_first:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))


WORK = {"curves": curves, "stops": stops, "goes_on": goes_on, "shares": shares}

if __name__ == "__main__":
    is_on_a_gpu = "--device=cuda" in sys.argv
    torch.use_deterministic_algorithms(not is_on_a_gpu)
    with joined(torch.device("cuda" if is_on_a_gpu else "cpu"), 120) as device:
        for work in [word for word in sys.argv[1:] if not word.startswith("--")]:
            name, layout, folder = work.split(":", 2)
            WORK[name](Path(folder), shard=layout == "sharded", device=device)
