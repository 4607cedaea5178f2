"""Parts of the report of a model, with the numbers, words, figures and template of the report itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from glassworks.anatomy import Subject
from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.runs import describe_environment
from glassworks.core.text import Text, choose_language, say
from glassworks.instruments.ablation import Ablation
from glassworks.instruments.base import Instrument, Reading
from glassworks.instruments.block_influence import BlockInfluence
from glassworks.instruments.direct_attribution import DirectAttribution
from glassworks.instruments.head_scores import HeadScores
from glassworks.instruments.lens_depth import LensDepth
from glassworks.instruments.linear_probe import LinearProbe
from glassworks.instruments.memory_recall import FIRST, MemoryMatrix, MemoryRecall
from glassworks.instruments.pages import check_value, checks_of, passport_of, sections_of, token_section
from glassworks.instruments.repeated_tokens import RepeatedTokens
from glassworks.instruments.similarity import DEFINITIONS, Similarity, definition_name
from glassworks.instruments.sinks import SinkNorms
from glassworks.instruments.summary import lines_of
from glassworks.instruments.tuned_lens import TunedLens
from glassworks.instruments.visit import Visit, drawn, named_apart
from glassworks.report import Page, fragment
from glassworks.studio.examine.given import documents_of, passes_of, tokens_of, told_calls
from glassworks.studio.questions.base import Answer

if TYPE_CHECKING:
    from glassworks.studio.questions.desk import Desk

Part = Literal["scores", "repeated", "depth", "attribution", "tuned", "probes", "layers", "memory"]
# Parts that train on some documents and judge on others.
ON_DOCUMENTS: tuple[Part, ...] = ("tuned", "probes")


def passport(desk: Desk, subject: Subject, batch: TokenBatch) -> Answer:
    """Passport and tokens as the report has them, and what the page needs to know of the model."""
    choose_language(desk.language)
    anatomy = subject.anatomy
    rows = passport_of(subject, describe_environment(), 0)
    title = say("Inside {name}", name=subject.origin.name)
    return {
        "passport": fragment(Page(title, passport=rows), desk.language),
        "tokens": fragment(Page(title, sections=(token_section(batch),)), desk.language),
        "count": int(batch.read_by_encoder.real.sum()),
        "stacks": ["", *([] if anatomy.encoder is None else ["encoder", "cross"])],
        "has_head": bool(anatomy.head or anatomy.tied_head),
        "layers": anatomy.depth,
        "world": None if subject.world is None else subject.world.kind,
        "causal": anatomy.causal,
        "notes": [*anatomy.notes, *subject.origin.notes],
    }


def fidelity(desk: Desk, subject: Subject, batch: TokenBatch) -> Answer:
    """Whether what is shown is what the model does: the report's checks as rows and as HTML."""
    choose_language(desk.language)
    desk.tell(say("comparing with the untouched model").in_language(desk.language), 0.0, 0.0)
    found = Fidelity.check(subject, batch)
    title = say("Inside {name}", name=subject.origin.name)
    rows = [
        {"says": row.says, "value": check_value(row.value, None), "remark": row.remark, "holds": row.holds}
        for row in found.rows()
    ]
    return {
        "holds": found.holds,
        "checks": rows,
        "html": fragment(Page(title, fidelity=checks_of(found)), desk.language),
    }


def part_of(desk: Desk, subject: Subject, part: Part, text: str, seed: int) -> Answer:
    """One part of the report as HTML, its sentences of the summary, and what was left out and why.

    Raises what stands in the way where no instrument of the part fits.
    """
    choose_language(desk.language)
    instruments = named_apart(_instruments(subject, part, seed))
    # The memories are asked of the weights: any token will do.
    batch = documents_of(subject, text) if part in ON_DOCUMENTS else tokens_of(subject, text)
    visit = Visit(subject, batch, instruments)
    visit.read(lambda _: None)  # the page has words of its own for what is being done
    if not visit.measurements:
        raise next(iter(visit.skipped.values()))
    readings = {
        name: Reading(found, drawn(name, instruments[name], found)) for name, found in visit.measurements.items()
    }
    return _shown(desk, readings) | {
        "skipped": [
            say("{instrument} was left out: {reason}", instrument=name, reason=problem.what)
            for name, problem in visit.skipped.items()
        ],
        "texts": len(batch.ids),
        "count": int(batch.read_by_encoder.real.sum()),
    }


def _shown(desk: Desk, readings: Mapping[str, Reading]) -> Answer:
    desk.tell(say("drawing").in_language(desk.language), 0.0, 0.0)
    # The page has the title and the paragraph of its own view.
    sections = tuple(replace(one, paragraphs=()) for one in sections_of(readings))
    caveats: dict[str, Text] = {c.en: c for one in readings.values() for c in one.measurement.caveats}
    return {
        "html": [fragment(Page(one.title, sections=(one,)), desk.language) for one in sections],
        "told": [line.says for line in lines_of(readings)],
        "caveats": list(caveats.values()),
    }


def _instruments(subject: Subject, part: Part, seed: int) -> Sequence[Instrument]:
    encoder = subject.anatomy.encoder is not None
    match part:
        case "scores":
            return [HeadScores(), *([HeadScores(stack="encoder")] if encoder else [])]
        case "repeated":
            return [RepeatedTokens(seed=seed)]
        case "depth":
            return [LensDepth()]
        case "attribution":
            return [DirectAttribution()]
        case "tuned":
            return [TunedLens(seed=seed)]
        case "probes":
            return [LinearProbe(seed=seed)]
        case "layers":
            return [
                BlockInfluence(), SinkNorms(),
                *([BlockInfluence(stack="encoder"), SinkNorms(stack="encoder")] if encoder else []),
            ]  # fmt: skip
        case "memory":
            shown = min(subject.anatomy.context or FIRST, FIRST)
            matrices = [MemoryMatrix(memory=memory, positions=shown) for memory in ("w_o2", "w_k1", "w_k2")]
            return [MemoryRecall(), *(matrices if subject.world is not None else [])]


def likeness_of(subject: Subject, batch: TokenBatch, stack: Literal["", "encoder"]) -> Answer:
    """Six matrices (definition state state) of how alike the stream is after different layers; 1 is the same.

    The angular distance is turned into one minus itself, as in the report's figure.
    """
    look = Similarity(stack=stack)
    found = look.read(subject, batch)
    values = found.values.copy()
    place = DEFINITIONS.index("angular_distance")
    values[place] = 1 - values[place]
    return {
        "values": values.astype(np.float32),
        "definitions": [definition_name(name) for name in DEFINITIONS],
        "keys": list(DEFINITIONS),
        "states": list(found.coords["state"]),
        "says": found.says,
        "caveats": found.caveats,
    }


def ablation_of(desk: Desk, subject: Subject, batch: TokenBatch, look: Ablation) -> Answer:
    """What is lost without each part: arrays (layer head) or (layer 1) of the loss increase with its interval, and the divergence."""
    layers = (
        subject.anatomy.depth
        if not look.stack or subject.anatomy.encoder is None
        else len(subject.anatomy.encoder.layers)
    )
    rows = layers * (subject.anatomy.heads if look.what == "heads" else 1)
    label = say("running the model without each part")
    with told_calls(desk, subject.model, label, passes_of(subject, batch, rows)):
        found = look.read(subject, batch)
    values = found.values if "head" in found.dims else found.values[:, None]
    names = found.coords["quantity"]
    columns = {"worse": "loss increase", "low": "low", "high": "high", "apart": "divergence"}
    return {key: values[..., names.index(name)].astype(np.float32) for key, name in columns.items()} | {
        "layers": list(found.coords["layer"]),
        "heads": list(found.coords["head"]) if "head" in found.dims else [],
        "says": found.says,
        "caveats": found.caveats,
    }
