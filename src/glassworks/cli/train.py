"""train: a decoder of one's own on a world or a text, shown while it learns; the same command goes on where it stopped."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.live import shown
from glassworks.cli.options_train import Train
from glassworks.cli.processes import started, tell_how_to_go_on
from glassworks.cli.speak import duration_words, new_table, print_json, results
from glassworks.core.errors import Diverged, InvalidInput
from glassworks.core.events import EventLog, Listener, Planned
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.models import VectorTransformer
    from glassworks.training.spec import TrainingSpec
    from glassworks.training.store import History

# Fresh sequences on which a finished model is judged, and how many go through it at a time at most. Of vectors there are more:
# a sequence's loss follows the length of its states, which differs much between sequences.
_HELD_OUT, _PIECE = {"tokens": 64, "vectors": 512}, 16


@dataclass(frozen=True)
class WorstSolve:
    """How conjugate gradient went in the layer where it went worst, over all sequences of the judgement."""

    layer: int
    """Counted from 0."""
    iterations: int
    residual: float
    """|q - A x| / |q| of the worst token."""
    converged: bool
    """Whether every token's residual fell to the mixer's tolerance."""


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model that was trained here: where it lies, what was logged, what it loses on sequences it never saw.

    Losses are nats per byte for texts, nats per token for other worlds of tokens, half squared errors for worlds of vectors;
    all are means over the positions that it was trained on (`spec.loss_on`). `floor` is the loss of the best known predictor
    on the same sequences, NaN where none is known. `solve` is None where no layer solves by conjugate gradient.
    """

    spec: TrainingSpec
    path: Path
    history: History = field(repr=False)
    seconds: float
    reused: bool
    parameters: int
    held_out: float
    floor: float
    solve: WorstSolve | None

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
        if self.spec.task.reads == "vectors":
            return say("half squared error")
        return say("nats per byte") if self.spec.task.kind == "text" else say("nats per token")


def train(command: Train) -> int:
    """Trains, shows, says where the model lies; returns 0, or 130 after Ctrl-C with the command that goes on."""
    from glassworks.tensors.processes import world
    from glassworks.training.recipes import read_settings, training_of
    from glassworks.training.stages.recipes import is_stage

    if command.vary or command.executor is not None:
        from glassworks.cli.train_variants import train_variants

        return train_variants(command)
    if is_stage(command.task):
        from glassworks.cli.train_stages import train_stage

        return train_stage(command)
    refuse_stage_options(command)
    spec = training_of(command.task, read_settings(command.settings))
    folder = Path(command.out) / "store" / spec.digest()
    if not (folder / "done.json").is_file() and (code := started(command)) is not None:
        return code
    is_first = world().is_first
    try:
        with shown(f"glassworks train {spec.task.kind} · {folder}") if is_first else nullcontext() as listener:
            how = How(command.device, command.shard, command.patience)
            made = trained(spec, Path(command.out), how, () if listener is None else (listener,))
    except KeyboardInterrupt:
        tell_how_to_go_on(command)
        return 130
    except Diverged as problem:
        # A layer that refused its numbers names its own cure, which is no smaller rate.
        raise (problem if isinstance(problem.__cause__, InvalidInput) else _with_cure(problem, command, spec)) from None
    if is_first:
        _show(made, as_json=command.json)
    return 0


@dataclass(frozen=True)
class How:
    """On what a training runs; none of it changes what is learned beyond rounding."""

    device: str = "auto"
    shard: bool = False
    """Whether several processes cut weights and optimiser among them."""
    patience: float = Train.patience
    """Seconds that a process waits for another."""


def refuse_stage_options(command: Train) -> None:
    """Raises InvalidInput for options that only stages have: they would be passed over in silence."""
    given = {"--start": command.start, "--preset": command.preset, "--track": command.track}
    named = [name for name, value in given.items() if value is not None]
    if named or command.any_start:
        raise InvalidInput(
            say(
                "{option} belongs to a stage, and {task} is none", option=(*named, "--any-start")[0], task=command.task
            ),
            right=say("a stage: {stages}", stages="tokenizer, pretrain, sft, reward, dpo, grpo, rloo, ppo"),
        )


def trained(spec: TrainingSpec, out: Path, how: How, listeners: tuple[Listener, ...] = ()) -> TrainedModel:
    """Trains the model of a spec below `out`/store, or finds the equal one that lies there.

    Under torchrun all its processes train it together; the first one judges it, and all return the same.
    """
    from glassworks.cli.looks import look_of
    from glassworks.tensors.devices import choose_device
    from glassworks.tensors.memory import keep_freed_memory
    from glassworks.tensors.processes import from_first, joined, world
    from glassworks.training.loop import TrainingOptions
    from glassworks.training.loop import train as learn

    with joined(choose_device(how.device), how.patience) as here:
        if here.type == "cpu":
            keep_freed_memory()
        events = EventLog()
        for listener in listeners:
            events.listen(listener)
        events.emit(Planned(trainings={spec.digest(): spec.steps}))
        # A twentieth of the way is the most that Ctrl-C or a crash can cost.
        options = TrainingOptions(
            store=out / "store", device=here, checkpoint_every=max(1, min(100, spec.steps // 20)),
            compile=here.type == "cuda", label=spec.task.kind, probe=look_of(spec, events), shard=how.shard,
            patience=how.patience,
        )  # fmt: skip
        done = learn(spec, options, events)
        found = from_first(_judged(done.spec, done.path, str(here)) if world().is_first else None)
    assert found is not None, "the first process judges"
    return TrainedModel(
        spec, done.path, done.history, done.seconds, done.reused,
        found.parameters, found.held_out, found.floor, found.solve,
    )  # fmt: skip


@dataclass(frozen=True)
class _Judgement:
    """What was found about a finished model."""

    parameters: int
    held_out: float
    floor: float
    solve: WorstSolve | None


def _judged(spec: TrainingSpec, folder: Path, device: str) -> _Judgement:
    """Mean loss on fresh sequences (of a text: on its held-out part) where the model was to learn, and the floor there."""
    import torch

    from glassworks.models.folders import check_folder
    from glassworks.models.quiet import quiet_bars
    from glassworks.models.spec import TransformerSpec, VectorSpec
    from glassworks.tensors.seeds import Seed
    from glassworks.training.building import model_class
    from glassworks.training.gradients import CPU_TOKENS
    from glassworks.training.objectives import objective_of

    # Found in the store it may have been damaged since, which the library tells in its own words.
    check_folder(folder)
    with quiet_bars():
        model: Any = model_class(spec).from_pretrained(folder)
    model.eval()
    model.to(device)
    task = spec.task.replaced("split", "held_out") if "split" in type(spec.task).model_fields else spec.task
    count = _HELD_OUT[task.reads]
    batch = task.sample(count, Seed(spec.seed).child("held out"), device)
    asked = batch.scored[spec.loss_on]
    objective, total = objective_of(spec.model, task), 0.0
    solves: list[WorstSolve] = []
    with torch.no_grad():
        # No more tokens at a time than training takes, so that what could be trained can be judged.
        piece = min(_PIECE, max(1, CPU_TOKENS // task.longest))
        for start in range(0, count, piece):
            part = slice(start, start + piece)
            output, mask = objective.read(model, batch, part), asked[part]
            if isinstance(spec.model, TransformerSpec | VectorSpec):
                solves += _solves(model, spec.model.depth)
            if bool(mask.any()):
                total += float(objective.mean_loss(output, batch.targets[part], mask) * mask.sum())
    ideal, count = task.ideal(batch), int(asked.sum())
    return _Judgement(
        parameters=sum(p.numel() for p in model.parameters()),
        held_out=total / count if count else math.nan,
        floor=math.nan if ideal is None else float(ideal[asked].mean()),
        solve=worst_of(solves),
    )


def worst_of(solves: Sequence[WorstSolve]) -> WorstSolve | None:
    """The solve to be told of: one that did not converge before all others, then NaN, then the largest residual."""
    return max(solves, key=lambda s: (not s.converged, math.isnan(s.residual), s.residual), default=None)


def _solves(model: Any, depth: int) -> list[WorstSolve]:
    """How the solves of the last pass went, of the layers that solve by conjugate gradient."""
    from glassworks.mixers.mesa import MesaMixer

    mixers = [(layer, model.model.block(layer).self_attn.mixer) for layer in range(depth)]
    return [
        WorstSolve(layer, solve.iterations, solve.residual, solve.converged)
        for layer, mixer in mixers
        if isinstance(mixer, MesaMixer) and (solve := mixer.last_solve) is not None
    ]


def _with_cure(problem: Diverged, command: Train, spec: TrainingSpec) -> Diverged:
    """The same error with a command that would likely not meet it."""
    kept = [word for word in command.settings if not word.startswith(("rate=", "optimiser.rate="))]
    out = [] if command.out == "." else ["--out", command.out]
    out += [] if command.launch == 1 else ["--launch", str(command.launch)]
    out += ["--shard"] if command.shard else []
    cure = ["glassworks", "train", command.task, *kept, f"rate={spec.optimiser.rate / 10:g}", *out]
    return Diverged(problem.what, given=problem.given, right=problem.right, next_command=shlex.join(cure))


def _show(made: TrainedModel, *, as_json: bool) -> None:
    """What was trained and how well; the model's folder is the last line of stdout."""
    following = _following(made)
    if as_json:
        print_json(_as_json(made) | {"next": following, "spec": made.spec.to_json()})
        return
    table = new_table(say("trained"), made.spec.task.kind)
    for name, value in _rows(made):
        table.add_row(str(name), value)
    console = results()
    console.print(table)
    if made.solve is not None and not made.solve.converged:
        # On stdout, beside the loss that it casts doubt on.
        setting = f"model.mixers.{made.solve.layer}.iterations"
        console.print(
            str(say("The losses are of approximate solutions; a larger {setting} comes closer.", setting=setting))
        )
    console.print(str(say("Next:")))
    console.print(f"  {following}")
    console.print(str(say("The model, a Hugging Face folder:")))
    print(made.path)


def _as_json(made: TrainedModel) -> dict[str, Any]:
    """The result as plain data; what is no finite number is null."""
    solve = None if made.solve is None else asdict(made.solve) | {"residual": _finite(made.solve.residual)}
    return {
        "model": str(made.path),
        "parameters": made.parameters,
        "steps": made.spec.steps,
        "held_out": {"loss": _finite(made.held_out), "unit": made.unit.en, "mask": made.spec.loss_on},
        "floor": _finite(made.floor),
        "solve": solve,
        "seconds": round(made.seconds, 2),
        "reused": made.reused,
    }


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _rows(made: TrainedModel) -> list[tuple[Text, str]]:
    """The table of the result: names and values."""
    loss = say("loss on sequences it never saw")
    if made.spec.loss_on != "all":
        loss = say("loss on sequences it never saw, at {mask}", mask=made.spec.loss_on)
    rows: list[tuple[Text, str]] = [
        (say("mixers"), ", ".join(mixer.kind for mixer in made.spec.model.mixers)),
        (say("parameters"), f"{made.parameters:,}"),
        (say("steps"), f"{made.spec.steps:,}"),
        (loss, f"{made.held_out:.4g} {made.unit}"),
    ]
    if not math.isnan(made.floor):
        rows.append((say("loss of the best known predictor there"), f"{made.floor:.4g} {made.unit}"))
    if made.solve is not None:
        rows.append((say("worst solve by conjugate gradient"), str(_words_of(made.solve))))
    found = say("found in the store") if made.reused else say("done in {time}", time=duration_words(made.seconds))
    return [*rows, (say("time"), str(found))]


def _words_of(solve: WorstSolve) -> Text:
    numbers = {"layer": solve.layer, "iterations": solve.iterations, "residual": f"{solve.residual:.2g}"}
    if solve.converged:
        return say("layer {layer}: {iterations} iterations, residual {residual}, converged", **numbers)
    return say("layer {layer}: {iterations} iterations, residual {residual}, NOT CONVERGED", **numbers)


def _following(made: TrainedModel) -> str:
    """What to type next: a look inside, or for a model of vectors, which has no text to read, its Python."""
    if made.spec.task.reads == "tokens":
        return f"glassworks examine {shlex.quote(str(made.path))}"
    return f"import glassworks as gw; gw.models.VectorTransformer.from_pretrained({str(made.path)!r})"
