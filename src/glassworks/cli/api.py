"""The same verbs from Python: gw.reproduce, gw.train, gw.load, gw.examine, gw.compare, gw.surgery, gw.sweep, gw.generate, gw.stream, ..."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.reproduce import scale_of
from glassworks.core.errors import InvalidInput, NotFound, UnknownName
from glassworks.core.text import Text, say
from glassworks.executors import executor_of
from glassworks.experiments import EXPERIMENTS
from glassworks.experiments.finding import experiment_of, find_run
from glassworks.experiments.results import Results, main_model
from glassworks.experiments.run import RunOptions, run_experiment

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import nn

    from glassworks.anatomy import Subject
    from glassworks.anatomy.subject import Prompt
    from glassworks.cli.infinify import Infinified
    from glassworks.cli.options import Compare, Examine, Generate, Surgery
    from glassworks.cli.stream import Streamed
    from glassworks.cli.train import TrainedModel
    from glassworks.core.events import Event
    from glassworks.core.runs import RunFolder
    from glassworks.core.spec import Spec
    from glassworks.executors import Executor
    from glassworks.experiments.base import Experiment
    from glassworks.instruments import Instrument
    from glassworks.instruments.compare import Comparison
    from glassworks.instruments.examine import Examination
    from glassworks.mixers.base import MixerSpec
    from glassworks.models.generating import Generated
    from glassworks.models.memory_files import StreamMemory
    from glassworks.surgery.plans import Plan
    from glassworks.surgery.record import SweepRecord
    from glassworks.surgery.trial import Trial
    from glassworks.tasks.base import Task


# What `load` takes beside a device, in the order of the fields of a Placement.
PLACEMENT = ("device_map", "max_memory", "offload", "bits")


def reproduce(
    experiment: str,
    *,
    scale: str = "laptop",
    only: Sequence[str] = (),
    out: str | Path = ".",
    seeds: Sequence[int] | None = None,
    device: str = "auto",
    progress: bool = True,
    executor: str | Executor | None = None,
    **settings: Any,
) -> Results:
    """Runs an experiment as `glassworks reproduce` does, with any setting by name, and returns what it found.

    An equal run that is finished is not repeated; one that was stopped goes on. Progress goes to stderr. `executor`
    ("local:2", "slurm:partition=gpu") says who trains.
    """
    chosen = EXPERIMENTS[experiment].at(scale_of(scale))
    for name, value in settings.items():
        chosen = chosen.replaced(name.replace("__", "."), _plain(value))
    if seeds is not None:
        chosen = chosen.replaced("seeds", list(seeds))
    with _progress(f"glassworks · {experiment} · {scale}", progress) as listeners:
        options = RunOptions(
            Path(out), tuple(only), device, listeners, f"gw.reproduce({experiment!r}, …)",
            None if executor is None else executor_of(executor),
        )  # fmt: skip
        outcome = run_experiment(chosen, options)
    return Results(chosen, outcome.run.path, outcome.verdicts, outcome.measurements, outcome.seconds)


def train(
    task: str | Path | Task,
    *,
    data: str | Path | None = None,
    mixer: str | MixerSpec | Sequence[str | MixerSpec] | None = None,
    out: str | Path = ".",
    device: str = "auto",
    progress: bool = True,
    **settings: Any,
) -> TrainedModel:
    """Trains a decoder as `glassworks train` does: a kind of the shelf, a task of your own, or text with `data` as its file.

    `settings` are steps, depth, width, heads, batch, rate, length, seed, or any field by its path, with `__` for the dot
    (`model__norm="rms"`). An equal training that is finished is not repeated; one that was stopped goes on.
    """
    from glassworks.cli.train import How, trained
    from glassworks.training.recipes import training_of

    changes = {name.replace("__", "."): _plain(value) for name, value in settings.items()}
    changes |= {} if data is None else {"task.path": str(data)}
    changes |= {} if mixer is None else {"mixer": mixer}
    spec = training_of(task, changes)
    with _progress(f"glassworks · train · {spec.task.kind}", progress) as listeners:
        return trained(spec, Path(out), How(device), listeners)


def results(run: str | Path, *, out: str | Path = ".") -> Results:
    """The results of a run folder, a digest, or an experiment's newest run; needs no torch."""
    folder = find_run(str(run), Path(out))
    return Results.of(experiment_of(folder), folder)


def load(
    source: str | Path | nn.Module,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    out: str | Path = ".",
    **placement: Any,
) -> Subject:
    """A Subject from a run (its main model), a model folder or file, a hub name, or a live model.

    `placement` may be device_map, max_memory, offload and bits, as the options of the same names: a model spread over
    devices, host memory and disk, or rounded to eight bits. A model trained here brings its alphabet and its world along.
    Raises NotFound, BrokenFile, InvalidInput or Unavailable.
    """
    from glassworks.models.load import load as load_model
    from glassworks.models.placement import Placement

    refuse_unknown({n: v for n, v in placement.items() if n not in PLACEMENT}, PLACEMENT)

    run = run_of(source, Path(out)) if isinstance(source, str | Path) else None
    experiment = None if run is None else experiment_of(run)
    found: Any = source if run is None or experiment is None else main_model(experiment, run)
    placed = Placement(device, *(placement.get(name) for name in PLACEMENT))
    subject = load_model(
        found, device=placed, dtype=dtype, trust_remote_code=trust_remote_code, world_reader=_read_world
    )
    if run is None or experiment is None:
        return subject
    # The store names a model by its digest; a person knows it by the run that trained it.
    name = f"{run.experiment}-{run.path.name[:8]}"
    return replace(subject, origin=replace(subject.origin, name=name, taken=_taken(experiment, found)))


def examine(
    source: str | Path | nn.Module | Subject,
    text: Prompt | None = None,
    *,
    instruments: Sequence[Instrument] = (),
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> Examination:
    """Looks inside a model on a text (or token ids): fidelity first, then every instrument that fits.

    Without a text, a model whose world is known gets one held-out sequence of it, drawn with `seed`.
    """
    from glassworks.anatomy import Subject
    from glassworks.cli.prompts import drawn_prompt
    from glassworks.instruments.examine import examine as look

    subject = source if isinstance(source, Subject) else load(source, device=device, dtype=dtype)
    prompt = drawn_prompt(subject, seed) if text is None else text
    return look(subject, prompt, instruments, seed=seed)


def compare(
    first: str | Path | nn.Module | Subject,
    second: str | Path | nn.Module | Subject,
    text: Prompt | None = None,
    *,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> Comparison:
    """Puts two models beside each other on a text (or several, or token ids): predictions, layers, heads, weights.

    Fidelity of both comes first. Without a text, one held-out sequence of the first model's known world is drawn.
    """
    from glassworks.anatomy import Subject
    from glassworks.cli.prompts import drawn_prompt
    from glassworks.instruments.compare import compare as look

    one, other = (
        source if isinstance(source, Subject) else load(source, device=device, dtype=dtype)
        for source in (first, second)
    )
    return look(one, other, drawn_prompt(one, seed) if text is None else text, seed=seed)


def surgery(
    source: str | Path | nn.Module | Subject,
    plan: str | Plan,
    *,
    prompt: Prompt | None = None,
    evals: str | None = None,
    device: str = "auto",
    **choice: Any,
) -> Trial:
    """Runs a model's layers by a plan (its text, a value, a saved file) as `glassworks surgery` does.

    `prompt` is a text or token ids to go on from, `evals` names benchmarks; `choice` are the fields of `TrialChoice` by
    name, and `dtype`. The result holds text and scores beside the plain model's, and shows itself in a notebook.
    """
    from glassworks.anatomy import Subject
    from glassworks.cli.surgery import tried
    from glassworks.surgery.trial import TrialChoice

    dtype = str(choice.pop("dtype", "auto"))
    subject = source if isinstance(source, Subject) else load(source, device=device, dtype=dtype)
    return tried(subject, plan, TrialChoice(prompt=_row(subject, prompt), evals=evals, **choice))


def sweep(
    source: str | Path | nn.Module | Subject,
    plans: str = "painters",
    *,
    evals: str = "ppl",
    out: str | Path = ".",
    progress: bool = True,
    **choice: Any,
) -> SweepRecord:
    """Scores many plans as `glassworks sweep` does; an equal sweep that is finished is not repeated, one that was stopped goes on.

    `choice` are the fields of `SweepChoice` by name (limit, seeds, protect, stack; protect="auto" keeps the attention
    sink's layers in place), `device` and `dtype`, and `executor` ("local:2"), which says who scores. The result has
    `.rows`, `.figures`, `.report`.
    """
    from glassworks.anatomy import Subject
    from glassworks.cli.sweep import protected_automatically, swept
    from glassworks.surgery.choice import SweepChoice
    from glassworks.surgery.elsewhere import model_elsewhere
    from glassworks.surgery.sweep import SweepOptions, SweepOrder

    executor = None if (said := choice.pop("executor", None)) is None else executor_of(said)
    device, dtype = (str(choice.pop(name, "auto")) for name in ("device", "dtype"))
    subject = source if isinstance(source, Subject) else load(source, device=device, dtype=dtype)
    if choice.get("protect") == "auto":
        choice["protect"] = protected_automatically(subject, evals, choice.get("stack"))
    order = SweepOrder.of(subject, SweepChoice(plans=plans, evals=evals, **choice))
    command = f"gw.sweep({subject.origin.name!r}, {plans!r}, evals={evals!r}, …)"
    typed = str(source) if isinstance(source, str | Path) else None
    model = None if executor is None else model_elsewhere(subject, typed, device=device, dtype=dtype)
    return swept(order, SweepOptions(Path(out), command=command, executor=executor, model=model), progress=progress)


def generate(
    source: str | Path | nn.Module | Subject,
    prompt: str = "",
    *,
    device: str = "auto",
    dtype: str = "auto",
    **choice: Any,
) -> Generated:
    """What a decoder writes after a prompt, as `glassworks generate` does.

    `choice` are the fields of `Sampling` by name: max_new_tokens, temperature (0: the likeliest token), top_k, top_p, seed;
    and `candidates` (how many likeliest tokens the result's `.steps` tell of) and `engine` (auto, library or fast).
    """
    from glassworks.anatomy import Subject
    from glassworks.models.generating import Manner, Sampling
    from glassworks.models.generating import generate as write

    subject = source if isinstance(source, Subject) else load(source, device=device, dtype=dtype)
    manner = Manner(choice.pop("engine", "auto"), choice.pop("candidates", 0))
    return write(subject, prompt, Sampling(**choice), manner=manner)


def stream(
    source: str | Path | nn.Module | Subject,
    text: str | Path | None = None,
    *,
    ask: str | None = None,
    memory: StreamMemory | str | Path | None = None,
    save_memory: str | Path | None = None,
    **choice: Any,
) -> Streamed:
    """Reads a text of any length in constant memory, as `glassworks stream` does; `ask` is answered from what was kept.

    `text` is a file where one of that name is there, else the text itself; `memory` is one to go on from, or its file.
    `choice` may hold max_new_tokens (100), piece (tokens read at a time), device, dtype. Nothing is printed.
    """
    from glassworks.anatomy import Subject
    from glassworks.cli.stream import Reader, decoder_of, source_of
    from glassworks.models.memory_files import StreamMemory, load_memory

    device, dtype = (str(choice.pop(name, "auto")) for name in ("device", "dtype"))
    new_tokens, piece = int(choice.pop("max_new_tokens", 100)), choice.pop("piece", None)
    refuse_unknown(choice, ("max_new_tokens", "piece", "device", "dtype"))
    subject = source if isinstance(source, Subject) else load(source, device=device, dtype=dtype)
    if memory is not None and not isinstance(memory, StreamMemory):
        memory = load_memory(memory, decoder_of(subject))
    reader = Reader(subject, memory, piece, None if save_memory is None else Path(save_memory))
    read = reader.read(None if text is None else source_of(text))
    return read if ask is None else replace(read, answer="".join(reader.answer(ask, new_tokens)))


def infinify(
    source: str | Path | nn.Module | Subject,
    out: str | Path,
    *,
    text: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    **choice: Any,
) -> Infinified:
    """Gives a pretrained softmax decoder a memory of fixed size, as `glassworks infinify` does, and writes it into `out`.

    With `text`, a file, it is trained to use it. `choice` are the fields of `Infini` (segment, write, first, gate_start) and
    of `Continual` (steps, length, batch, rate, gate_rate, weight_decay, seed) by name. A live model is changed in place.
    """
    from glassworks.anatomy import Subject
    from glassworks.cli.infinify import infinified
    from glassworks.mixers import Infini
    from glassworks.training.continual import Continual

    subject = source if isinstance(source, Subject) else load(source, device=device)
    own: dict[str, Any] = {
        name: choice.pop(name) for name in list(choice) if name in Infini.model_fields and name != "kind"
    }
    known = [name for name in Continual.model_fields if name not in ("kind", "sha256")]
    refuse_unknown({n: v for n, v in choice.items() if n not in known}, [*Infini.model_fields, *known])
    with _progress("glassworks · infinify", progress and text is not None) as listeners:
        return infinified(
            subject, Infini.parse({"kind": "infini", "write": "delta"} | own), Path(out), text, choice, listeners
        )


def placement_of(command: Examine | Compare | Surgery | Generate) -> dict[str, Any]:
    """Where a command wants its model, as `load` takes it."""
    return {
        "device_map": command.device_map, "max_memory": command.max_memory,
        "offload": command.offload, "bits": command.bits,
    }  # fmt: skip


def refuse_unknown(choice: dict[str, Any], known: Sequence[str]) -> None:
    """Raises UnknownName for a setting that is left over."""
    if choice:
        raise UnknownName("setting", next(iter(choice)), known)


def _row(subject: Subject, prompt: Prompt | None) -> str | tuple[int, ...] | None:
    """A prompt as a spec holds it: a text, or one row of token ids."""
    if prompt is None or isinstance(prompt, str):
        return prompt
    batch = subject.batch(prompt)
    ids = batch.read_by_encoder.ids
    if len(ids) != 1:
        raise InvalidInput(say("a plan is tried on one prompt at a time"), given=len(ids), right=say("one prompt"))
    return tuple(int(token) for token in ids[0].tolist())


def run_of(source: str | Path, out: Path) -> RunFolder | None:
    """The run that a source names; None for anything else."""
    if Path(source).is_file() or ((Path(source)).is_dir() and not (Path(source) / "spec.json").is_file()):
        return None
    try:
        return find_run(str(source), out)
    except (NotFound, UnknownName):
        # No run of ours: a model folder that is not there, or a name on the hub.
        return None


def _taken(experiment: Experiment, folder: Path) -> Text | None:
    """Which of a run's trainings a store folder holds, in words."""
    for study in experiment.studies:
        for label, spec in experiment.trainings(study.name).items():
            if spec.digest() == folder.name:
                label = label if label.startswith(f"{study.name}/") else f"{study.name}/{label}"
                if len(experiment.seeds) == 1:
                    return say("{label}, seed {seed}", label=label, seed=spec.seed)
                seeds = ", ".join(map(str, experiment.seeds))
                return say(
                    "{label}, seed {seed} (this run has seeds {seeds})", label=label, seed=spec.seed, seeds=seeds
                )
    return None


def _read_world(task: dict[str, Any]) -> Spec | None:
    from glassworks.tasks import TASKS

    return TASKS.parse(task)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _progress(title: str, wanted: bool) -> AbstractContextManager[tuple[Callable[[Event], None], ...]]:
    if not wanted:
        return nullcontext(())
    from glassworks.cli.live import shown_as_tuple

    return shown_as_tuple(title)
