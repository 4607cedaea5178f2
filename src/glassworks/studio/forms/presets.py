"""Forms that are filled in already: each runs in about a minute on two cores, or says otherwise."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.core.files import write_bytes
from glassworks.core.text import Text, say
from glassworks.studio.jobs.data import data_folder, listed

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk

# Texts of the assets folder that suit a small model, the best first.
_TEXTS = ("tinyshakespeare.txt", "tinystories-4mb.txt")
_HELP = "python-help.txt"
_FROZEN = (
    "model.embed_tokens.*", "lm_head.*", "model.layers.0.self_attn.v_proj.*", "model.layers.0.self_attn.o_proj.*",
    "model.layers.1.self_attn.v_proj.*",
)  # fmt: skip
_SMALL_MODEL = "gallery/stories260k"


@dataclass(frozen=True)
class Preset:
    """A filled-in form with what it shows."""

    identifier: str
    verb: str
    about: str
    title: Text
    says: Text
    choices: dict[str, Any] = field(default_factory=dict[str, Any])

    def to_json(self) -> dict[str, Any]:
        """For the page."""
        return {
            "id": self.identifier, "verb": self.verb, "about": self.about, "title": self.title, "says": self.says,
            "choices": self.choices,
        }  # fmt: skip


def presets(desk: Desk) -> list[Preset]:
    """The presets that this machine has the data for."""
    out = desk.places.out
    text = str(a_text(out))
    found = [*_worlds(text), *_stages(text, out, desk)]
    return [*found, *_others(desk)]


def a_text(out: Path) -> Path:
    """A text that is surely here: one of the assets, else Python's own help, half a megabyte of plain English."""
    here = {one["name"]: Path(one["path"]) for one in listed(out)}
    known = next((here[name] for name in _TEXTS if name in here), None)
    if known is not None:
        return known
    path = data_folder(out) / _HELP
    if not path.is_file():
        from pydoc_data.topics import topics

        write_bytes(path, "\n\n".join(topics[name] for name in sorted(topics)).encode())
    return path


def _worlds(text: str) -> list[Preset]:
    return [
        Preset(
            "induction", "train", "bigram", say("An induction head is born"),
            say("Two layers learn to repeat what followed a trigger. Watch the induction score and the three memories rise, one after another."),
            {
                "model.depth": 2, "model.width": 64, "model.heads": 1, "task.length": 128, "batch": 64, "steps": 800,
                "optimiser": "sgd", "optimiser.rate": 0.2, "schedule": "constant", "clip": None, "model.query": "identity",
                "model.norm": "none", "model.feedforward": ["none"], "model.positions": "random", "model.embedding_scale": 1.0,
                "model.weight_scale": None, "loss_on": "in_context", "probe": "inside", "probe_every": 5, "frozen": list(_FROZEN),
            },
        ),
        Preset(
            "letters", "train", "text", say("A text, letter by letter"),
            say("A small decoder learns a text byte by byte, and writes a little of its own as it goes."),
            {
                "task.path": text, "model.depth": 2, "model.width": 96, "task.length": 96, "batch": 16, "steps": 600,
                "optimiser.rate": 3e-3, "probe": "inside",
            },
        ),
        Preset(
            "mesa", "train", "dynamics", say("A layer that solves least squares"),
            say("A softmax layer binds neighbours, a mesa layer solves for the dynamics: the loss falls towards that of the best linear predictor."),
            {"model.mixers": ["softmax", "mesa"], "steps": 500, "batch": 32, "task.length": 32},
        ),
    ]  # fmt: skip


def _stages(text: str, out: Path, desk: Desk) -> list[Preset]:
    here = listed(out)
    found = [
        Preset(
            "tokenizer", "tokenizer", "", say("A tokenizer"),
            say("Which pieces a text is spelled with: learned from the text by merging what stands together most."),
            {"data": [text], "vocabulary": 1000, "most_bytes": 1_000_000},
        ),
        Preset(
            "pretrain", "pretrain", "", say("A small language model"),
            say("Today's choices (rotary positions, RMSNorm, SwiGLU) at a size that learns in a minute."),
            {
                "data": [text], "model.depth": 2, "model.width": 96, "model.heads": 4, "model.feedforward_width": 256,
                "length": 96, "model.context": 256, "batch": 8, "steps": 200, "log_every": 5, "rate": 3e-3,
            },
        ),
    ]  # fmt: skip
    demonstrations = [one["path"] for one in here if one["sort"] == "demonstrations" and "_en" in one["name"]]
    models = desk.models()
    if demonstrations and _SMALL_MODEL in models:
        found.append(
            Preset(
                "sft", "sft", "", say("Fine-tuning on instructions"),
                say("A model of 260 thousand parameters that tells stories is taught the form of an answer."),
                {"start": _SMALL_MODEL, "data": demonstrations[:1], "steps": 60, "batch": 4, "length": 128, "log_every": 2},
            )
        )  # fmt: skip
    tuned = next(
        (one for one in models.values() if one.group == "trained" and one.title.values.get("stage") == "sft"), None
    )
    if tuned is not None and demonstrations:
        found.append(
            Preset(
                "ppo", "ppo", "", say("Reward against divergence"),
                say("The model that you tuned learns to use a word; its reward and its divergence from the start are drawn against each other."),
                {
                    "start": tuned.identifier, "data": demonstrations[:1], "reward": "contains:the", "steps": 20, "answers": 16,
                    "batch": 8, "answer_length": 24,
                },
            )
        )  # fmt: skip
    return found


def _others(desk: Desk) -> list[Preset]:
    found = [
        Preset(
            "birth", "reproduce", "birth", say("A paper, tried out"),
            say("Every study of “Birth of a Transformer” at its smallest: seconds, decides no claim, writes a whole report."),
            {"scale": "smoke"},
        )
    ]  # fmt: skip
    models = desk.models()
    chosen = next((name for name in ("bundled/duet", _SMALL_MODEL) if name in models), None)
    if chosen is not None:
        found.append(
            Preset(
                "examine", "examine", "", say("A report on a model"),
                say("Fidelity first, then attention, heads, lens and more; one page that opens anywhere."),
                {"model": chosen, "text": "Once upon a time there was a little girl. The little girl had a dog."},
            )
        )  # fmt: skip
    if _SMALL_MODEL in models and os.environ.get("GLASSWORKS_ASSETS"):
        found.append(
            Preset(
                "sweep", "sweep", "", say("Every layer left out once"),
                say("What each layer of a small model is worth: its perplexity without that layer."),
                {"model": _SMALL_MODEL, "plans": "skip", "limit": 8},
            )
        )  # fmt: skip
    return found
