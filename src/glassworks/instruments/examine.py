"""Examining a model: fidelity first, then every instrument that fits, on one shared pass; a page of it all."""

import math
import platform
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from glassworks.anatomy.calls import not_finite
from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.kept import KeptActivations
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import GlassworksError
from glassworks.core.runs import describe_environment
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement
from glassworks.instruments.ablation import Ablation
from glassworks.instruments.attention_maps import AttentionMaps
from glassworks.instruments.base import PIECE_TOKENS, Instrument, Reading, pieces
from glassworks.instruments.block_influence import BlockInfluence
from glassworks.instruments.direct_attribution import DirectAttribution
from glassworks.instruments.findings import Findings
from glassworks.instruments.head_scores import SCORES, HeadScores
from glassworks.instruments.lens_depth import LensDepth
from glassworks.instruments.linear_probe import LinearProbe
from glassworks.instruments.logit_lens import LogitLens
from glassworks.instruments.memory_recall import FIRST, MemoryMatrix, MemoryRecall
from glassworks.instruments.repeated_tokens import FEWEST_TOKENS, RepeatedTokens
from glassworks.instruments.similarity import Similarity
from glassworks.instruments.sinks import SinkNorms
from glassworks.instruments.tuned_lens import TunedLens
from glassworks.instruments.visit import Visit, drawn, named_apart
from glassworks.report.page import Page

# From so many texts on some can be kept from training and still tell something.
MANY = 8
# Tokens that an encoder-decoder writes for its decoder to read.
WRITTEN = 20
# At most this many heads are shown large, the best of each score.
LARGE_MAPS = 3


@dataclass(frozen=True, eq=False)
class Examination(Findings):
    """What was found in a model on one text; shows itself in a notebook, saves itself as a page, tables or a folder."""

    KIND = "examination"
    subject: Subject
    batch: TokenBatch
    fidelity: Fidelity
    readings: Mapping[str, Reading]
    skipped: Mapping[str, GlassworksError]
    seconds: float
    peak_bytes: int
    seed: int = 0
    command: str = ""
    environment: Mapping[str, Any] = field(default_factory=describe_environment, repr=False)

    def page(self) -> Page:
        """The report as a value."""
        # Deferred: `pages` needs the values of this module.
        from glassworks.instruments.pages import page_of

        return page_of(self)

    def to_json(self) -> dict[str, Any]:
        """Plain data: model, anatomy, fidelity, what was skipped and why."""
        return {
            "model": {
                "name": self.subject.origin.name,
                "source": self.subject.origin.source,
                "revision": self.subject.origin.revision,
                "class": type(self.subject.model).__name__,
                "parameters": self.subject.parameter_count,
                "world": None if self.subject.world is None else self.subject.world.to_json(),
            },
            "tokens": [ids[real].tolist() for ids, real in zip(self.batch.ids, self.batch.real, strict=True)],
            "fidelity": self.fidelity.to_json(),
            "anatomy": anatomy_json(self.subject),
            "readings": list(self.readings),
            "skipped": {name: str(problem.what) for name, problem in self.skipped.items()},
            "seconds": round(self.seconds, 2),
            "peak_bytes": self.peak_bytes,
            "seed": self.seed,
        }

    def __repr__(self) -> str:
        return f"Examination({self.subject.origin.name!r}, {', '.join(self.readings) or '-'})"

    def _repr_html_(self) -> str:
        import html

        state = say("all checks hold") if self.fidelity.holds else say("a fidelity check failed")
        head = f"<p><b>{html.escape(self.subject.origin.name)}</b>: {html.escape(str(state))}</p>"
        return head + "".join(reading._repr_html_() for reading in self.readings.values())  # pyright: ignore[reportPrivateUsage] - the notebook protocol


def examine(
    subject: Subject,
    prompt: Prompt | KeptActivations,
    instruments: Sequence[Instrument] = (),
    *,
    seed: int = 0,
    command: str = "",
    tell: Callable[[Text], None] | None = None,
) -> Examination:
    """Checks fidelity, then reads the instruments (all that fit, if none is named) from one shared pass.

    Of several texts those that show one sequence show the first; the others gather over all. The decoder of an
    encoder-decoder reads what the model itself writes. An instrument named by the caller raises what stands in its
    way; one chosen here is skipped, and its reason kept. `tell` hears what is being done. Of activations on the disk
    (`keep_activations`) the instruments that gather read what is there; ablation, which runs the model over everything
    once for each layer, is then left out unless it is named.
    """
    started = time.perf_counter()
    kept = prompt if isinstance(prompt, KeptActivations) else None
    batch = prompt.batch if isinstance(prompt, KeptActivations) else batch_of(subject, prompt)
    batch = replace(batch, labels=subject.labels(batch.ids[0][batch.real[0]].tolist())) if kept else batch
    say_so = tell or (lambda _: None)
    say_so(say("comparing with the untouched model"))
    fidelity = Fidelity.check(subject, next(pieces(batch, PIECE_TOKENS)))
    if not math.isfinite(fidelity.logit_difference):
        raise not_finite(subject.model)
    chosen = named_apart(instruments or standard_instruments(subject, seed, texts=len(batch.ids)))
    if kept is not None and not instruments:
        chosen = {name: one for name, one in chosen.items() if not isinstance(one, Ablation)}
    visit = Visit(subject, batch, chosen, kept)
    visit.read(say_so)
    if instruments and visit.skipped:
        raise next(iter(visit.skipped.values()))
    readings = {
        name: Reading(measurement, drawn(name, chosen[name], measurement))
        for name, measurement in visit.measurements.items()
    }
    if not instruments and "head_scores" in readings:
        for layer, head in best_heads(readings["head_scores"].measurement):
            look = AttentionMaps(layer=layer, head=head)
            readings[f"attention_L{layer}H{head}"] = visit.first_look(look)
    return Examination(
        subject,
        batch,
        fidelity,
        readings,
        visit.skipped,
        time.perf_counter() - started,
        peak_bytes(subject.device),
        seed,
        command,
    )


def batch_of(subject: Subject, prompt: Prompt) -> TokenBatch:
    """Tokens of a prompt; for an encoder-decoder with what it writes to it, for its decoder to read."""
    if isinstance(prompt, TokenBatch) or not subject.anatomy.has_source:
        return subject.batch(prompt)
    read = subject.batch(prompt)
    room = WRITTEN if subject.anatomy.context is None else min(WRITTEN, subject.anatomy.context - read.ids.shape[1])
    written = subject.generate(read, room).cpu()
    # What stopped early is filled up with zeros; the start token may be one too.
    real = written.flip(1).cumsum(1).flip(1) > 0
    real[:, 0] = True
    return replace(read, ids=written, mask=None if real.all() else real, labels=subject.labels(written[0].tolist()))


def standard_instruments(subject: Subject, seed: int = 0, texts: int = 1) -> tuple[Instrument, ...]:
    """What fits the model and the number of texts.

    Repeated random tokens (drawn with `seed`) for causal models of at least 50 tokens; tuned lens and probes, which
    train on some texts and measure on others, from 8 texts on; the encoder of an encoder-decoder too; memory
    matrices where the world is known.
    """
    found = subject.anatomy
    is_plain = found.causal and not found.has_source
    chosen: list[Instrument] = [HeadScores()]
    if is_plain and found.vocabulary >= FEWEST_TOKENS:
        chosen.append(RepeatedTokens(seed=seed))
    chosen += [AttentionMaps(), LogitLens(), LensDepth(), DirectAttribution()]
    if texts >= MANY:
        chosen += [TunedLens(seed=seed), LinearProbe(seed=seed)]
    chosen += [Similarity(), BlockInfluence(), SinkNorms(), Ablation(what="layers", method="zero")]
    if found.encoder is not None:
        kinds = (HeadScores, AttentionMaps, Similarity, BlockInfluence, SinkNorms)
        chosen += [AttentionMaps(cross=True), *(kind(stack="encoder") for kind in kinds)]
    chosen.append(MemoryRecall())
    if subject.world is not None:
        shown = min(found.context or FIRST, FIRST)
        chosen += [MemoryMatrix(memory=memory, positions=shown) for memory in ("w_o2", "w_k1", "w_k2")]
    return tuple(chosen)


def best_heads(scores: Measurement) -> list[tuple[int, int]]:
    """The heads that stand out most above chance, the best of each score, at most three; (layer, head) from 0."""
    value, chance = scores.at(quantity="value"), scores.at(quantity="chance")
    found: dict[tuple[int, int], float] = {}
    for score in SCORES:
        margin = value.at(score=score).values - chance.at(score=score).values
        if not np.isnan(margin).all():
            layer, head = np.unravel_index(int(np.nanargmax(margin)), margin.shape)
            place = (int(scores.coords["layer"][layer]), int(scores.coords["head"][head]))
            found[place] = max(found.get(place, 0.0), float(margin[layer, head]))
    return sorted(found, key=lambda place: -found[place])[:LARGE_MAPS]


def anatomy_json(subject: Subject) -> dict[str, Any]:
    """Where the model keeps its parts, as module paths."""
    found = asdict(subject.anatomy)
    kept = ("stack", "width", "vocabulary", "context", "embedding", "positions", "norm", "head", "tied_head")
    places = ("path", "mixer", "attention", "feedforward", "heads", "kv_heads", "head_width")
    return {name: found[name] for name in kept} | {
        "stacks": {name: list(paths) for name, paths in subject.anatomy.stacks.items()},
        "depth": subject.anatomy.depth,
        "causal": subject.anatomy.causal,
        "layers": [{name: layer[name] for name in places} for layer in found["layers"]],
        "notes": [str(note) for note in subject.anatomy.notes],
    }


def peak_bytes(device: torch.device) -> int:
    """The most memory that was taken: of a CUDA device what tensors took, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak if platform.system() == "Darwin" else peak * 1024
