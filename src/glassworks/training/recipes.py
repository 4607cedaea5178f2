"""From a task and a few words (`mixer=softmax,mesa depth=2 rate=0.001`) to everything that fixes a training.

What is not said follows from the task: worlds of vectors get the model and rates of the mesa study (mesa.md 3, 8), worlds
of tokens a small decoder with norms and feed-forward. Any field of the spec can be said by its dotted path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from glassworks.core.errors import InvalidInput, InvalidSpec, NotFound, UnknownName, known_names
from glassworks.core.files import read_json
from glassworks.core.spec import Spec, typed_value
from glassworks.core.text import say
from glassworks.mixers import MIXERS
from glassworks.models.mixing import mixer_of
from glassworks.models.spec import TransformerSpec, VectorSpec
from glassworks.tasks import TASKS, AnyTask, FewShot, TextWindows
from glassworks.tasks.base import Task, TokenTask, VectorTask
from glassworks.tensors.seeds import Seed
from glassworks.training.schedules import ClipNorm, ClipValue, Constant, WarmupCosine
from glassworks.training.spec import AdamW, Sgd, TrainingSpec

# What a person says instead of a path.
SHORT_NAMES: Mapping[str, str] = {
    "mixer": "model.mixers",
    "depth": "model.depth",
    "width": "model.width",
    "heads": "model.heads",
    "rate": "optimiser.rate",
    "length": "task.length",
}
# Fields that hold one of several kinds: a bare word chooses the kind.
_KINDS = ("optimiser", "schedule", "clip")
_TEXT = "text"
_DEPTH = 2
# Numbers in the stream of a vector model for each number that it predicts (mesa.md 3).
_WIDENING = 4
# The study's limit for layers that sum without a softmax: values beyond it end in NaN early in training (mesa.md 3).
_STREAM_LIMIT = 1.0
# Numbers in the largest tensor of one batch: 8 GiB in float32, and a training holds dozens of such tensors.
_MOST_NUMBERS = 2**31
# A text's last tenth is held out, rounded down; a window reads one byte more than its length.
_PARTS_OF_TEXT = 10

Mixers = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class _Recipe:
    """A training that is possible, and what follows from the settings that were said, to be changed together with them."""

    standard: TrainingSpec
    follows: dict[str, object]


def read_settings(words: Sequence[str]) -> dict[str, object]:
    """The `name=value` words of a command line; values are JSON where they parse, text otherwise."""
    found: dict[str, object] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name.strip():
            raise InvalidInput(
                say("a setting is name=value"),
                given=word,
                right=say("for example {example}", example="mixer=softmax,mesa steps=1000"),
            )
        if name.strip() in found:
            raise InvalidInput(say("{name} is said twice", name=name.strip()), given=word)
        found[name.strip()] = typed_value(value)
    return found


def training_of(task: str | Path | Task, settings: Mapping[str, object]) -> TrainingSpec:
    """The training of a task with settings by short name or dotted path.

    A task is its kind, a text file, a spec, or a JSON file of a whole training (`training.json` of a model's folder).
    Raises UnknownName or InvalidSpec with the nearest name, NotFound for a text that is not there, InvalidInput for one
    that is too short to learn from and be judged on, and for sequences too long for any machine.
    """
    changes = _by_path(settings)
    whole = None if isinstance(task, Task) else spec_in(Path(task))
    if whole is not None:
        return whole.replaced_all(changes) if changes else whole
    world = world_of(task, {p.removeprefix("task."): changes.pop(p) for p in list(changes) if p.startswith("task.")})
    mixers = mixers_of(changes.pop("model.mixers", None))
    made = _vectors(world, changes, mixers) if isinstance(world, VectorTask) else _tokens(world, changes, mixers)
    # What was said comes last, but kinds of schedule and optimiser first of all: paths lead into them.
    kinds = {head: changes.pop(head) for head in _KINDS if head in changes}
    paced = _paced(made.standard, changes | kinds)
    spec = made.standard.replaced_all(kinds | made.follows | paced | changes)
    if isinstance(spec.task, TextWindows):
        _check_text(spec.task)
    _check_size(spec)
    if "loss_on" in changes:
        _check_mask(spec)
    return spec


def spec_in(path: Path) -> TrainingSpec | None:
    """The training that a JSON file holds, as `training.json` of a model's folder does; None for any other file.

    Raises BrokenFile for one that cannot be read as JSON, InvalidSpec for a training that is impossible.
    """
    if path.suffix != ".json" or not path.is_file():
        return None
    with path.open("rb") as file:
        # Any JSON may be a text to learn byte by byte; only an object can be a training.
        if not file.read(1024).lstrip().startswith(b"{"):
            return None
    found = read_json(path)
    return TrainingSpec.parse(found) if isinstance(found, dict) and found.get("kind") == "training" else None


def world_of(task: str | Path | Task, choices: Mapping[str, object]) -> AnyTask:
    """The task that is meant: a spec, a kind of the shelf, or the bytes of a file."""
    if isinstance(task, Task):
        found: Task = task
    elif str(task) in TASKS.kinds and str(task) != _TEXT:
        found = TASKS.parse({"kind": str(task)})
    else:
        return _text_of(str(task), dict(choices))
    return cast(AnyTask, found.replaced_all(choices))


def mixers_of(named: object) -> Mixers | None:
    """The mixers of `mixer=`: names with commas between, a spec, or several; None where nothing was said."""
    if named is None:
        return None
    if isinstance(named, str):
        named = [name.strip() for name in named.split(",")]
    listed = cast(Sequence[object], named) if isinstance(named, list | tuple) else [named]
    return tuple(_mixer(one) for one in listed)


def _mixer(named: object) -> dict[str, Any]:
    return mixer_of(named).to_json()


def _by_path(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings by their full paths, in an order in which each can be applied; kinds come first."""
    heads = [*SHORT_NAMES, *TrainingSpec.model_fields]
    changes: dict[str, object] = {}
    for name, value in settings.items():
        path = SHORT_NAMES.get(name, name)
        if path.partition(".")[0] not in TrainingSpec.model_fields:
            raise InvalidSpec(
                say("unknown setting {name}", name=name),
                given=name,
                right=known_names(name, [h for h in heads if h not in ("kind", "task", "model")]),
            )
        if path in ("task", "model", "kind"):
            raise InvalidSpec(
                say("{name} cannot be said as a whole", name=name),
                given=value,
                right=say("single fields of it, for example {example}", example="model.norm=rms, task.length=64"),
            )
        if path in changes:
            raise InvalidInput(say("{name} is said twice", name=path), given=name)
        changes[path] = value.to_json() if isinstance(value, Spec) else value
    kinds: dict[str, object] = {}
    for path in list(changes):
        head = path.removesuffix(".kind")
        if head in _KINDS and isinstance(changes[path], str):
            kinds[head] = {"kind": changes.pop(path)}
    return _filled(kinds) | changes


def _filled(kinds: Mapping[str, object]) -> dict[str, object]:
    """Each chosen kind with all its fields, so that paths lead into it; an unknown kind is left for the spec to name."""
    known = {
        str(kind.model_fields["kind"].default): kind
        for kind in (AdamW, Sgd, Constant, WarmupCosine, ClipNorm, ClipValue)
    }
    return {
        path: known[str(found["kind"])]().to_json() if str(found["kind"]) in known else found
        for path, found in cast(Mapping[str, dict[str, Any]], kinds).items()
    }


def _text_of(name: str, choices: dict[str, object]) -> TextWindows:
    """The bytes of a file, named as the task itself or by task.path."""
    given = choices.pop("path", None)
    path = str(given) if name == _TEXT and given is not None else name
    if name == _TEXT and given is None:
        raise InvalidInput(
            say("which text? A training on text needs a file"),
            right=say("the file itself, or {example}", example="text task.path=FILE"),
            next_command="glassworks train FILE.txt",
        )
    file = Path(path).expanduser()
    if not file.is_file():
        if file.is_dir():
            raise InvalidInput(say("{path} is a folder", path=path), right=say("a text file"))
        if os.sep in path or file.suffix or name == _TEXT:
            raise NotFound(say("{path} is not there", path=path), right=say("a text file"))
        raise UnknownName("task", name, TASKS.kinds, next_command="glassworks train --help")
    return TextWindows.of(file).replaced_all(choices)


def _vectors(world: VectorTask, changes: Mapping[str, object], mixers: Mixers | None) -> _Recipe:
    """The hybrid of the mesa study: a softmax layer that binds neighbours by their position code, then mesa layers."""
    depth = _depth(changes, mixers)
    each = _for_each_layer(mixers or (_mixer("softmax"), *(_mixer("mesa") for _ in range(depth - 1))), depth)
    width = _whole(changes, "model.width", _WIDENING * world.outputs)
    model = VectorSpec(
        inputs=world.inputs, outputs=world.outputs, width=width, depth=1, heads=4, head_width=max(1, width // 2),
        norm="none", feedforward=("none",), positions="concatenated", score_scale="softmax_only", weight_scale=0.05,
        stream_limit=_STREAM_LIMIT if _summing(each) else None, context=world.longest,
    )  # fmt: skip
    standard = TrainingSpec(
        task=cast(AnyTask, world), model=model, optimiser=AdamW(rate=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
        clip=ClipValue(limit=1.0), steps=2000, batch=64, precision="float32", schedule=WarmupCosine(),
        # Of a prompt's inputs, drawn at random, nothing can be learned.
        loss_on="labels" if isinstance(world, FewShot) else "all",
    )  # fmt: skip
    return _Recipe(standard, {"model.mixers": each, "model.depth": depth})


def _tokens(world: TokenTask, changes: Mapping[str, object], mixers: Mixers | None) -> _Recipe:
    """A small decoder; what sums without a softmax gets queries and keys of length 1, which keeps it stable (mesa.md 7).

    Mixers whose memory knows keys without their places count places by rotation, so that texts of any length have some.
    """
    depth = _depth(changes, mixers)
    each = _for_each_layer(mixers or (_mixer("softmax"),), depth)
    summing = _summing(each)
    rotates = any(MIXERS.parse(mixer).rotates_inside for mixer in each)
    model = TransformerSpec(
        vocabulary=world.vocabulary, width=128, depth=1, heads=4, embedding_scale=0.02, weight_scale=0.02,
        score_scale="softmax_only", query_key_norm="l2" if summing else "none", context=world.longest,
        positions="rotary" if rotates else "learned",
    )  # fmt: skip
    standard = TrainingSpec(
        task=cast(AnyTask, world), model=model, optimiser=AdamW(rate=2e-3, betas=(0.9, 0.95), weight_decay=0.1),
        clip=ClipNorm(limit=1.0), steps=1000, batch=16, schedule=WarmupCosine(),
    )  # fmt: skip
    return _Recipe(
        standard,
        {"model.mixers": each, "model.depth": depth, "model.query_key_norm_layers": summing or None},
    )


def _paced(standard: TrainingSpec, changes: Mapping[str, object]) -> dict[str, object]:
    """What follows from the number of steps and the rate: the schedule, and how often something is logged."""
    steps = _whole(changes, "steps", standard.steps)
    chosen = changes.get("optimiser", standard.optimiser.to_json())
    rate = changes.get(
        "optimiser.rate", cast(dict[str, object], chosen).get("rate") if isinstance(chosen, dict) else None
    )
    paced: dict[str, object] = {"probe_every": max(1, steps // 200)}
    if "schedule" not in changes:
        final = rate / 10 if isinstance(rate, int | float) and rate > 0 else 0.0
        paced |= {"schedule.warmup": steps // 10, "schedule.until": steps, "schedule.final": final}
    return paced


def _check_text(text: TextWindows) -> None:
    """Refuses a text that could be learned from but not judged on, before anything is trained."""
    if text.split != "train":
        raise InvalidInput(
            say("a model that learns from the held-out part of a text would be judged on what it learned"),
            given=f"task.split={text.split}",
            right=say("task.split=train; the held-out part is for the judgement"),
        )
    size = Path(text.path).stat().st_size if Path(text.path).is_file() else 0
    held_out = size // _PARTS_OF_TEXT
    if held_out > text.length or not size:
        # Also refuses what is no file, and another text than the one whose digest the task has.
        text.data()
        return
    needed = _PARTS_OF_TEXT * (text.length + 1)
    raise InvalidInput(
        say("length={length} is too long for {path}", length=text.length, path=text.path),
        given=say("{count} bytes, of which the last {held_out} are held out", count=size, held_out=held_out),
        right=say("length={longest} or less, or a text of {needed} bytes", longest=held_out - 1, needed=needed)
        if held_out > 1
        else say("a text of {needed} bytes", needed=needed),
    )


def _check_size(spec: TrainingSpec) -> None:
    """Refuses what no machine holds, before the model and its table of positions are built."""
    predicted = spec.task.vocabulary if isinstance(spec.task, TokenTask) else spec.task.outputs
    each = max(spec.model.width, predicted)
    if spec.batch * spec.task.longest * each <= _MOST_NUMBERS:
        return
    right = say("a smaller length, batch or width")
    if longest := _MOST_NUMBERS // (spec.batch * each):
        right = say("length={longest} or less, or a smaller batch or width", longest=longest)
    raise InvalidInput(
        say("a batch of length={length} fits into the memory of no machine", length=spec.task.length),
        given=say("batch={batch}, {count} numbers per position", batch=spec.batch, count=each),
        right=right,
    )


def _check_mask(spec: TrainingSpec) -> None:
    """Raises UnknownName for a mask that no batch of the task has."""
    known = spec.task.sample(1, Seed(0)).scored
    if spec.loss_on not in known:
        raise UnknownName("mask", spec.loss_on, known)


def _depth(changes: Mapping[str, object], mixers: Mixers | None) -> int:
    return _whole(changes, "model.depth", len(mixers) if mixers is not None and len(mixers) > 1 else _DEPTH)


def _for_each_layer(mixers: Mixers, depth: int) -> list[dict[str, Any]]:
    """One mixer per layer, so that `model.mixers.1.` leads to the second layer's; another number is left to be refused."""
    # Copies, for what is said of one layer must not be said of all.
    return [dict(mixer) for mixer in (mixers * depth if len(mixers) == 1 else mixers)]


def _summing(mixers: Sequence[dict[str, Any]]) -> list[int]:
    """The layers whose mixer does not divide by a sum of weights."""
    return [layer for layer, mixer in enumerate(mixers) if not MIXERS.parse(mixer).uses_softmax]


def _whole(changes: Mapping[str, object], path: str, standard: int) -> int:
    """A positive whole number that was said, else the standard; what is none stays said, and the spec names it."""
    said = changes.get(path)
    return said if isinstance(said, int) and not isinstance(said, bool) and said > 0 else standard
