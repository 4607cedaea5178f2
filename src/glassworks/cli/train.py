"""train: a decoder of one's own on a world or a text, shown while it learns; the same command goes on where it stopped."""

from __future__ import annotations

import math
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.live import shown
from glassworks.cli.options_train import Train
from glassworks.cli.reproduce import typed_command
from glassworks.cli.speak import duration_words, new_table, print_json, remarks, results
from glassworks.core.errors import Diverged
from glassworks.core.events import EventLog, Listener, Planned
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.models import VectorTransformer
    from glassworks.training.spec import TrainingSpec
    from glassworks.training.store import History

# Fresh sequences on which a finished model is judged, and how many go through it at a time. Of vectors there are more:
# a sequence's loss follows the length of its states, which differs much between sequences.
_HELD_OUT, _PIECE = {"tokens": 64, "vectors": 512}, 16


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model that was trained here: where it lies, what was logged, what it loses on sequences it never saw.

    Losses are nats per token for worlds of tokens, half squared errors for worlds of vectors. `floor` is the loss of the
    best known predictor on the same sequences, NaN where none is known.
    """

    spec: TrainingSpec
    path: Path
    history: History = field(repr=False)
    seconds: float
    reused: bool
    parameters: int
    held_out: float
    floor: float

    def load(self, device: str = "auto") -> Subject | VectorTransformer:
        """The model: a Subject, ready for every instrument, or a VectorTransformer where it reads vectors."""
        if self.spec.task.reads == "tokens":
            from glassworks.cli.api import load

            return load(self.path, device=device)
        from torch.nn import Module

        from glassworks.models import VectorTransformer
        from glassworks.models.quiet import quiet_bars
        from glassworks.tensors.devices import choose_device

        with quiet_bars():
            model = VectorTransformer.from_pretrained(self.path)
        model.eval()
        Module.to(model, choose_device(device))
        return model

    @property
    def unit(self) -> Text:
        """What the losses are counted in."""
        return say("nats per token") if self.spec.task.reads == "tokens" else say("half squared error")


def train(command: Train) -> int:
    """Trains, shows, says where the model lies; returns 0, or 130 after Ctrl-C with the command that goes on."""
    from glassworks.cli.recipes import read_settings, training_of

    spec = training_of(command.task, read_settings(command.settings))
    folder = Path(command.out) / "store" / spec.digest()
    try:
        with shown(f"glassworks train {spec.task.kind} · {folder}") as listener:
            made = trained(spec, Path(command.out), command.device, (listener,))
    except KeyboardInterrupt:
        remarks().print(str(say("Stopped. What is finished is kept. Go on with:")))
        print(f"  {typed_command(sys.argv[1:])}", file=sys.stderr)
        return 130
    except Diverged as problem:
        raise _with_cure(problem, command, spec) from None
    _show(made, as_json=command.json)
    return 0


def trained(spec: TrainingSpec, out: Path, device: str, listeners: tuple[Listener, ...] = ()) -> TrainedModel:
    """Trains the model of a spec below `out`/store, or finds the equal one that lies there."""
    from glassworks.tensors.devices import choose_device
    from glassworks.tensors.memory import keep_freed_memory
    from glassworks.training.loop import TrainingOptions
    from glassworks.training.loop import train as learn

    here = choose_device(device)
    if here.type == "cpu":
        keep_freed_memory()
    events = EventLog()
    for listener in listeners:
        events.listen(listener)
    events.emit(Planned(trainings={spec.digest(): spec.steps}))
    # A twentieth of the way is the most that Ctrl-C or a crash can cost.
    options = TrainingOptions(
        store=out / "store", device=here, checkpoint_every=max(1, min(100, spec.steps // 20)),
        compile=here.type == "cuda", label=spec.task.kind,
    )  # fmt: skip
    done = learn(spec, options, events)
    parameters, held_out, floor = _judged(done.spec, done.path, str(here))
    return TrainedModel(spec, done.path, done.history, done.seconds, done.reused, parameters, held_out, floor)


def _judged(spec: TrainingSpec, folder: Path, device: str) -> tuple[int, float, float]:
    """Number of parameters, mean loss on fresh sequences (of a text: on its held-out part), and the floor there."""
    import torch

    from glassworks.models import GlassworksForCausalLM, VectorTransformer
    from glassworks.models.quiet import quiet_bars
    from glassworks.tensors.seeds import Seed
    from glassworks.training.objectives import objective_of

    kind = GlassworksForCausalLM if spec.task.reads == "tokens" else VectorTransformer
    with quiet_bars():
        model: Any = kind.from_pretrained(folder)
    model.eval()
    model.to(device)
    task = spec.task.replaced("split", "held_out") if "split" in type(spec.task).model_fields else spec.task
    count = _HELD_OUT[task.reads]
    batch = task.sample(count, Seed(spec.seed).child("held out"), device)
    objective, total = objective_of(task.reads), 0.0
    with torch.no_grad():
        for start in range(0, count, _PIECE):
            part = slice(start, start + _PIECE)
            mask = batch.scored["all"][part]
            total += float(objective.mean_loss(objective.read(model, batch, part), batch, part, mask) * mask.sum())
    ideal = task.ideal(batch)
    everywhere = batch.scored["all"]
    floor = math.nan if ideal is None else float(ideal[everywhere].mean())
    return sum(p.numel() for p in model.parameters()), total / int(everywhere.sum()), floor


def _with_cure(problem: Diverged, command: Train, spec: TrainingSpec) -> Diverged:
    """The same error with a command that would likely not meet it."""
    kept = [word for word in command.settings if not word.startswith(("rate=", "optimiser.rate="))]
    out = [] if command.out == "." else ["--out", command.out]
    cure = ["glassworks", "train", command.task, *kept, f"rate={spec.optimiser.rate / 10:g}", *out]
    return Diverged(problem.what, given=problem.given, right=problem.right, next_command=shlex.join(cure))


def _show(made: TrainedModel, *, as_json: bool) -> None:
    """What was trained and how well; the model's folder is the last line of stdout."""
    following = _following(made)
    if as_json:
        print_json(
            {
                "model": str(made.path),
                "parameters": made.parameters,
                "steps": made.spec.steps,
                "held_out": {"loss": made.held_out, "unit": made.unit.en},
                "floor": None if math.isnan(made.floor) else made.floor,
                "seconds": round(made.seconds, 2),
                "reused": made.reused,
                "next": following,
                "spec": made.spec.to_json(),
            }
        )
        return
    mixers = ", ".join(mixer.kind for mixer in made.spec.model.mixers)
    table = new_table(say("trained"), made.spec.task.kind)
    rows: list[tuple[Text, str]] = [
        (say("mixers"), mixers),
        (say("parameters"), f"{made.parameters:,}"),
        (say("steps"), f"{made.spec.steps:,}"),
        (say("loss on sequences it never saw"), f"{made.held_out:.4g} {made.unit}"),
    ]
    if not math.isnan(made.floor):
        rows.append((say("loss of the best known predictor there"), f"{made.floor:.4g} {made.unit}"))
    found = say("found in the store") if made.reused else say("done in {time}", time=duration_words(made.seconds))
    for name, value in (*rows, (say("time"), str(found))):
        table.add_row(str(name), value)
    console = results()
    console.print(table)
    console.print(str(say("Next:")))
    console.print(f"  {following}")
    console.print(str(say("The model, a Hugging Face folder:")))
    print(made.path)


def _following(made: TrainedModel) -> str:
    """What to type next: a look inside, or for a model of vectors, which has no text to read, its Python."""
    if made.spec.task.reads == "tokens":
        return f"glassworks examine {shlex.quote(str(made.path))}"
    return f"import glassworks as gw; gw.models.VectorTransformer.from_pretrained({str(made.path)!r})"
