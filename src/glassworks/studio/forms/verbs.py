"""The verbs that can be started, in the order of a person's way: what each is about, and which choices come first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from glassworks.core.errors import UnknownName
from glassworks.core.text import Text, say
from glassworks.studio.forms.understanding import EXAMINE, REPRODUCE, SWEEP, TRAIN
from glassworks.studio.forms.where import schema_with

if TYPE_CHECKING:
    from glassworks.core.spec import Spec

# Worlds whose training follows from a few words; others are written as a file.
_WORLDS: Mapping[str, Text] = {
    "bigram": say("bigrams with triggers: an induction head solves it"),
    "text": say("a text, byte by byte"),
    "dynamics": say("linear dynamics: least squares in context"),
    "few_shot": say("regression from examples in the prompt"),
    "facts": say("facts to be looked up far back"),
    "passkey": say("a key hidden in a long text"),
}
_STAGES: Mapping[str, tuple[Text, Text]] = {
    "tokenizer": (say("Tokenizer"), say("Learns which pieces a text is spelled with.")),
    "pretrain": (say("Pretraining"), say("A new model, or one that goes on, learns from text.")),
    "sft": (say("Fine-tuning"), say("Learns to answer from demonstrations.")),
    "reward": (say("Reward model"), say("Learns which of two answers is preferred.")),
    "dpo": (say("DPO"), say("Learns preferences directly, without a reward model.")),
    "grpo": (say("GRPO"), say("Learns from rewards, each answer beside others of its group.")),
    "rloo": (say("RLOO"), say("Learns from rewards, with the other answers as the baseline.")),
    "ppo": (say("PPO"), say("Learns from rewards with a critic, near to where it started.")),
}
# As `glassworks train` takes them; a test compares.
_LOOKS = ("none", "recall", "inside")
_LEARNING = ("start", "data", "steps", "batch", "length", "rate", "seed")
_FIRST: Mapping[str, tuple[str, ...]] = {
    TRAIN: ("task.path", "model.mixers", "model.depth", "model.width", "model.heads", "task.length", "steps", "batch", "optimiser.rate", "probe", "seed"),
    "tokenizer": ("data", "algorithm", "vocabulary", "seed"),
    "pretrain": ("data", "start", "model.depth", "model.width", "model.heads", "length", "steps", "batch", "rate", "seed"),
    "sft": _LEARNING,
    "reward": _LEARNING,
    "dpo": (*_LEARNING, "beta"),
    "grpo": ("start", "data", "reward", "steps", "answers", "group", "answer_length", "beta", "rate", "seed"),
    "rloo": ("start", "data", "reward", "steps", "answers", "group", "answer_length", "beta", "rate", "seed"),
    "ppo": ("start", "data", "reward", "gold", "steps", "answers", "answer_length", "beta", "rate", "seed"),
    REPRODUCE: ("seeds",),
    EXAMINE: ("model", "text", "instruments"),
    SWEEP: ("model", "plans", "evals", "limit", "seeds"),
}  # fmt: skip


def verbs() -> list[dict[str, Any]]:
    """Every verb with its title, its sentence and what it can be about."""
    from glassworks.experiments import EXPERIMENTS

    about = [{"id": name, "title": title} for name, title in _WORLDS.items()]
    papers = [
        {"id": one.kind, "title": say("{title}", title=one.paper.title), "studies": _studies(one)}
        for one in map(_plain, EXPERIMENTS)
    ]
    found = [_verb(TRAIN, "learn", say("A world or a text"), say("A decoder of your own, with any mixers."), about)]
    found += [_verb(name, "stages", title, says, []) for name, (title, says) in _STAGES.items()]
    found += [
        _verb(REPRODUCE, "papers", say("Reproduce a paper"), say("Trains, looks inside, judges its claims, writes a report."), papers),
        _verb(EXAMINE, "models", say("Examine a model"), say("Every instrument that fits, in one report."), []),
        _verb(SWEEP, "models", say("Sweep plans of layers"), say("Skipped, repeated, swapped, side by side: what it costs."), []),
    ]  # fmt: skip
    return found


def schema_of(verb: str, about: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The JSON schema of the spec behind a verb, with where it is computed, and the paths that come first; UnknownName for no verb."""
    if verb not in _FIRST:
        raise UnknownName("verb", verb, _FIRST)
    schema = _spec_of(verb, about).model_json_schema()
    if verb == TRAIN:
        # Which looks there are is known to the command that trains, not to the spec.
        schema["$defs"]["TrainingSpec"]["properties"]["probe"]["enum"] = list(_LOOKS)
    return schema_with(schema, verb), _FIRST[verb]


def _spec_of(verb: str, about: str) -> type[Spec]:
    from glassworks.experiments import EXPERIMENTS
    from glassworks.studio.forms.choices import ExamineForm, SweepForm
    from glassworks.training.spec import TrainingSpec
    from glassworks.training.stages.shelf import STAGES

    match verb:
        case "train":
            return TrainingSpec
        case "reproduce":
            return EXPERIMENTS[about]
        case "examine":
            return ExamineForm
        case "sweep":
            return SweepForm
        case _:
            return STAGES[verb]


def _verb(name: str, group: str, title: Text, says: Text, about: list[dict[str, Any]]) -> dict[str, Any]:
    return {"verb": name, "group": group, "title": title, "says": says, "about": about}


def _plain(experiment: Any) -> Any:
    """The experiment at its smallest, for its studies; the shelf holds classes."""
    from glassworks.evidence.claims import Scale

    return experiment.at(Scale.SMOKE)


def _studies(experiment: Any) -> list[dict[str, Any]]:
    return [{"id": study.name, "title": study.says} for study in experiment.studies]
