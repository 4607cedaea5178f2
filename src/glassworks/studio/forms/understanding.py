"""From a filled-in form to the spec, the command line, and what is known beforehand: steps, tokens, time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.core.errors import GlassworksError, InvalidInput, NotFound, UnknownName
from glassworks.core.spec import Spec
from glassworks.core.text import say
from glassworks.studio.forms.choices import ExamineForm, SweepForm
from glassworks.studio.forms.where import (
    Where,
    checked_variants,
    facts_of,
    is_of_this_machine,
    is_table,
    other_choices,
    where_of,
    words_of,
)
from glassworks.studio.forms.words import settings_of
from glassworks.studio.jobs.cores import threads, usable_cores

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk
    from glassworks.training.spec import TrainingSpec
    from glassworks.training.stages.base import StageSpec

Choices = Mapping[str, Any]
TRAIN, REPRODUCE, EXAMINE, SWEEP = "train", "reproduce", "examine", "sweep"
# Settings of an experiment that are options of their own.
SCALE, STUDIES = "scale", "studies"
# What a step takes beside its products: batches, Python, looks inside; of a two-layer model on one core.
_STEP_SECONDS = 0.02
# Without these a world is none.
_NEEDED = ("task.path",)
# A matrix product is measured this long; the clock of a busy machine is rough anyway.
_RATE_SECONDS = 0.1


@dataclass(frozen=True)
class Understood:
    """A form that its spec accepts."""

    spec: Spec
    standard: Spec
    """The same with nothing filled in: what counts as unchanged."""
    words: tuple[str, ...]
    """The command line, without its program."""
    title: str
    facts: dict[str, Any] = field(default_factory=dict[str, Any])
    where: Where | None = None
    """Where it is computed and with how much, where that can be chosen."""


def understood(verb: str, about: str, choices: Choices, desk: Desk) -> Understood:
    """The spec and the command of a form; every error of the specs, with the field's path, as the command line has them."""
    from glassworks.training.stages.shelf import STAGES

    makers: dict[str, Callable[[str, Choices, Where | None, Desk], Understood]] = {
        TRAIN: _training, REPRODUCE: _reproduction, EXAMINE: _examination, SWEEP: _sweep,
    }  # fmt: skip
    makers |= dict.fromkeys(STAGES.kinds, partial(_stage, verb))
    if verb not in makers:
        raise UnknownName("verb", verb, makers)
    where = where_of(verb, choices)
    return _placed(makers[verb](about, other_choices(choices), where, desk), where, desk)


def _placed(found: Understood, where: Where | None, desk: Desk) -> Understood:
    """The same with where it is computed; InvalidInput where what was typed can be no command."""
    words = (*found.words, *words_of(where), "--out", str(desk.places.out))
    return _sayable(replace(found, words=words, where=where, facts=found.facts | facts_of(where)))


def _sayable(found: Understood) -> Understood:
    """The same; InvalidInput where what was typed cannot be a word of a command line, or would be taken for an option."""
    if any("\0" in word for word in found.words) or found.words[1].startswith("-"):
        raise InvalidInput(
            say("this cannot be said on a command line"),
            given=repr(found.words[1]),
            right=say("a name or a path that begins with no dash"),
        )
    return found


def standard_of(verb: str, about: str, choices: Choices) -> dict[str, Any] | None:
    """What a form shows before anything is understood: its spec with nothing filled in; None where there is none yet."""
    from glassworks.evidence.claims import Scale
    from glassworks.experiments import EXPERIMENTS
    from glassworks.training.recipes import training_of
    from glassworks.training.stages.recipes import stage_of
    from glassworks.training.stages.shelf import STAGES

    try:
        match verb:
            case "train":
                found: Spec = training_of(about, {path: choices[path] for path in _NEEDED if path in choices})
            case "reproduce":
                found = EXPERIMENTS[about].at(Scale(choices.get(SCALE, Scale.SMOKE.value)))
            case "examine":
                found = ExamineForm()
            case "sweep":
                found = SweepForm()
            case _:
                found = stage_of(verb, []) if verb in STAGES.kinds else ExamineForm()
    except (GlassworksError, ValueError):
        return None
    return found.to_json()


def _training(about: str, choices: Choices, where: Where | None, desk: Desk) -> Understood:
    from glassworks.training.recipes import read_settings, training_of

    words = settings_of(choices)
    spec = training_of(about, read_settings(words))
    given = {path: choices[path] for path in _NEEDED if path in choices}
    standard = training_of(about, given)
    mixers = [mixer.kind for mixer in spec.model.mixers]
    short = mixers[0] if len(set(mixers)) == 1 else ", ".join(mixers)
    named = Path(str(choices["task.path"])).name if "task.path" in choices else about
    folder = desk.places.out / "store" / spec.digest()
    facts: dict[str, Any] = {
        "steps": spec.steps, "tokens_per_step": spec.batch * spec.task.longest, "model": str(folder),
        "digest": spec.digest(), "seconds": _seconds([spec], where), "found": (folder / "done.json").is_file(),
        "unit": "half squared error" if spec.task.reads == "vectors" else "nats per byte" if spec.task.kind == "text" else "nats per token",
        "reads": spec.task.reads,
    }  # fmt: skip
    if is_table(where):
        made = checked_variants(where, lambda more: training_of(about, read_settings([*words, *more])))
        each = {one.digest(): one for one in made.checked}
        more, seconds = made.count / len(made.checked), _seconds(list(each.values()), where)
        facts |= {
            "steps": round(sum(one.steps for one in each.values()) * more), "model": "", "trainings": made.count,
            "seconds": None if seconds is None else seconds * more, "found": False,
        }  # fmt: skip
    return Understood(spec, standard, ("train", about, *words), f"{named} · {short}", facts)


def _stage(verb: str, _about: str, choices: Choices, where: Where | None, desk: Desk) -> Understood:
    from glassworks.training.stages.base import LearningSpec, check_start
    from glassworks.training.stages.pretrain import PretrainSpec
    from glassworks.training.stages.recipes import stage_of
    from glassworks.training.stages.reinforced import ReinforcedSpec

    standard = stage_of(verb, [])
    named = {name: _model_of(str(value), desk) for name, value in choices.items() if name in standard.models}
    words = settings_of({**choices, **named})
    spec = stage_of(verb, words)
    check_start(spec)
    _check_files(spec)
    units = {
        "reward": "nats per pair",
        "dpo": "nats per pair",
        "grpo": "policy loss",
        "rloo": "policy loss",
        "ppo": "policy loss",
    }
    facts: dict[str, Any] = {"unit": units.get(verb, "nats per token"), "reads": "tokens"}
    if is_table(where):
        # As the command takes them: what is also an option of its own may vary too.
        facts["trainings"] = checked_variants(where, lambda more: stage_of(verb, [*words, *more])).count
    if isinstance(spec, LearningSpec):
        facts["steps"] = spec.steps
    if isinstance(spec, PretrainSpec):
        facts["tokens_per_step"] = spec.batch * spec.accumulate * spec.length
    if isinstance(spec, ReinforcedSpec):
        facts["answers_per_step"] = spec.answers
    source = Path(spec.start).name if spec.start else ", ".join(Path(one).name for one in _data_of(spec)[:2])
    return Understood(spec, standard, ("train", verb, *words), f"{verb} · {source}", facts)


def _reproduction(about: str, choices: Choices, where: Where | None, desk: Desk) -> Understood:
    from glassworks.evidence.claims import Scale
    from glassworks.experiments import EXPERIMENTS

    scales = [scale.value for scale in Scale]
    scale = str(choices.get(SCALE, Scale.SMOKE.value))
    if scale not in scales:
        raise UnknownName("scale", scale, scales)
    standard = EXPERIMENTS[about].at(Scale(scale))
    known = [study.name for study in standard.studies]
    chosen = [str(name) for name in choices.get(STUDIES, ())]
    for name in chosen:
        if name not in known:
            raise UnknownName("study", name, known)
    settings = settings_of({path: value for path, value in choices.items() if path not in (SCALE, STUDIES)})
    spec = standard
    for setting in settings:
        spec = spec.replaced_from_text(setting)
    spec.check(tuple(chosen) or tuple(known))
    words = ["reproduce", about, "--scale", scale]
    for name in chosen:
        words += ["--only", name]
    for setting in settings:
        words += ["--set", setting]
    trainings = {t.digest(): t for name in chosen or known for t in spec.trainings(name).values()}
    facts = {
        "seconds": _seconds(list(trainings.values()), where) if trainings else None,
        "trainings": len(trainings), "steps": sum(one.steps for one in trainings.values()) or None,
        "run": f"{about}/{spec.digest()}", "unit": "nats per token", "reads": "tokens",
    }  # fmt: skip
    return Understood(spec, standard, tuple(words), f"{about} · {scale}", facts)


def _examination(about: str, choices: Choices, where: Where | None, desk: Desk) -> Understood:
    from glassworks.instruments import INSTRUMENTS

    standard = ExamineForm()
    spec = standard.replaced_all(choices) if choices else standard
    for name in spec.instruments:
        # Also names one that is on no shelf, with the nearest.
        _ = INSTRUMENTS[name.partition(":")[0]]
    words = ["examine", _needed_model(spec.model, desk)]
    words += [f"--text={spec.text}"] if spec.text else []
    words += [f"--with={name}" for name in spec.instruments]
    words += [f"--seed={spec.seed}"] if spec.seed else []
    return Understood(spec, standard, tuple(words), f"examine · {spec.model.rpartition('/')[2]}", {})


def _sweep(about: str, choices: Choices, where: Where | None, desk: Desk) -> Understood:
    from glassworks.evaluation.benchmarks import parse_benchmarks
    from glassworks.surgery.families import parse_families

    standard = SweepForm()
    spec = standard.replaced_all(choices) if choices else standard
    parse_families(spec.plans, spec.seeds)
    parse_benchmarks(spec.evals, spec.limit)
    words = [
        "sweep",
        _needed_model(spec.model, desk),
        f"--plans={spec.plans}",
        f"--eval={spec.evals}",
        f"--seeds={spec.seeds}",
    ]
    words += [] if spec.limit is None else [f"--limit={spec.limit}"]
    words += [f"--protect={','.join(map(str, spec.protect))}"] if spec.protect else []
    words += [f"--stack={spec.stack}"] if spec.stack else []
    return Understood(spec, standard, tuple(words), f"sweep · {spec.model.rpartition('/')[2]}", {})


def _needed_model(identifier: str, desk: Desk) -> str:
    if not identifier:
        raise InvalidInput(say("no model is chosen"), right=say("one of the models that lie here"))
    return _model_of(identifier, desk)


def _model_of(identifier: str, desk: Desk) -> str:
    """The folder of a model of the listing; anything else is a path, a rule or a name, and stays as it was typed."""
    found = desk.models().get(identifier)
    return identifier if found is None else str(found.folder)


def _data_of(spec: StageSpec) -> list[str]:
    return [path for name in spec.files for path in spec.data_files(name)]


def _check_files(spec: StageSpec) -> None:
    """Refuses a stage whose data are not there, before a process is started for it."""
    named = _data_of(spec)
    if not named:
        raise InvalidInput(say("no data are named to learn from"), right=say("data: one or more files"))
    for path in named:
        if not Path(path).expanduser().exists() and not set("*?[") & set(path) and not spec.__dict__.get("stream"):
            raise NotFound(say("{path} is not there", path=path), right=say("a file on this machine"))


def _seconds(specs: Sequence[TrainingSpec], where: Where | None) -> float | None:
    """Seconds of some trainings as a job of the studio; None where another machine computes them."""
    executor = None if where is None else where.executor
    if executor is not None and not is_of_this_machine(executor):
        return None
    if executor is not None:
        at_once = max(1, min(executor.workers, usable_cores() // executor.threads, len(specs)))
        return sum(_estimate(one, executor.threads) for one in specs) / at_once
    facts = facts_of(where)
    cores = min(usable_cores(), threads(facts) * facts["launch"])
    return sum(_estimate(one, cores) for one in specs)


def _estimate(spec: TrainingSpec, cores: int) -> float:
    """Seconds of a training on so many cores, by counted operations at a share of the measured rate."""
    from glassworks.training.cost import SHARE_OF_RATE, operations_of

    products = operations_of(spec) / (_rate() * cores * SHARE_OF_RATE["float32"])
    return products + spec.steps * _STEP_SECONDS


@cache
def _rate() -> float:
    """Floating-point operations a second of one thread, in float32."""
    import torch

    a = torch.randn(512, 512)
    best, until = float("inf"), time.perf_counter() + _RATE_SECONDS
    while time.perf_counter() < until:
        begun = time.perf_counter()
        _ = a @ a
        best = min(best, time.perf_counter() - begun)
    return 2.0 * 512**3 / best / torch.get_num_threads()
