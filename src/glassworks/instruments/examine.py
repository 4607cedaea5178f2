"""Examining a model: fidelity first, then every instrument that fits, on one pass over one text; a page of it all."""

import math
import platform
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from glassworks.anatomy.calls import not_finite
from glassworks.anatomy.capture import capture
from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import GlassworksError, InvalidInput, StrangeModel
from glassworks.core.files import write_bytes, write_json
from glassworks.core.runs import describe_environment
from glassworks.core.text import say
from glassworks.evidence.measurements import Measurement, save_table
from glassworks.figures import Figure
from glassworks.instruments.attention_maps import AttentionMaps
from glassworks.instruments.base import Instrument, Reading
from glassworks.instruments.head_scores import SCORES, HeadScores
from glassworks.instruments.logit_lens import LogitLens
from glassworks.instruments.memory_recall import FIRST, MemoryMatrix, MemoryRecall
from glassworks.instruments.repeated_tokens import FEWEST_TOKENS, RepeatedTokens
from glassworks.report.page import Page
from glassworks.report.render import render

if TYPE_CHECKING:
    import pandas as pd

# Above this many rows a table is kept as Parquet only: the text form would be larger than the model.
MOST_CSV_ROWS = 300_000
# At most this many heads are shown large, the best of each score.
LARGE_MAPS = 3


@dataclass(frozen=True, eq=False)
class Examination:
    """What was found in a model on one text; shows itself in a notebook, saves itself as a page, tables or a folder."""

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

    def to_pandas(self) -> "pd.DataFrame":
        """All measurements as one long table."""
        import pandas as pd

        return pd.concat([reading.to_pandas() for reading in self.readings.values()], ignore_index=True)

    def plot(self, name: str) -> Figure:
        """The figure of an instrument, by the names of `readings`."""
        return self.readings[name].figure

    def page(self) -> Page:
        """The report as a value."""
        # Deferred: `pages` needs the values of this module.
        from glassworks.instruments.pages import page_of

        return page_of(self)

    def html(self) -> str:
        """The report as one self-contained page."""
        return render(self.page())

    def save(self, path: str | Path) -> Path:
        """Writes .html (the page), .csv or .parquet (all tables as one), or a folder with everything."""
        path = Path(path)
        match path.suffix.lower():
            case ".html":
                write_bytes(path, self.html().encode())
            case ".csv" | ".parquet":
                save_table([reading.measurement for reading in self.readings.values()], path)
            case "":
                self._fill(path)
            case other:
                raise InvalidInput(
                    say("an examination cannot be written as {suffix}", suffix=other),
                    right=say(".html, .csv, .parquet, or a folder"),
                )
        return path

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
            "tokens": self.batch.ids.tolist(),
            "fidelity": self.fidelity.to_json(),
            "anatomy": anatomy_json(self.subject),
            "readings": list(self.readings),
            "skipped": {name: str(problem.what) for name, problem in self.skipped.items()},
            "seconds": round(self.seconds, 2),
            "peak_bytes": self.peak_bytes,
            "seed": self.seed,
        }

    def _fill(self, folder: Path) -> None:
        for name, reading in self.readings.items():
            for suffix in table_suffixes(reading.measurement):
                save_table([reading.measurement], folder / "tables" / f"{name}{suffix}")
            for suffix in (".svg", ".png"):
                reading.figure.save(folder / "figures" / f"{name}{suffix}")
        write_json(folder / "examination.json", self.to_json() | {"environment": dict(self.environment)})
        write_bytes(folder / "report.html", self.html().encode())

    def __repr__(self) -> str:
        return f"Examination({self.subject.origin.name!r}, {', '.join(self.readings) or '-'})"

    def _repr_html_(self) -> str:
        import html

        state = say("all checks hold") if self.fidelity.holds else say("a fidelity check failed")
        head = f"<p><b>{html.escape(self.subject.origin.name)}</b>: {html.escape(str(state))}</p>"
        return head + "".join(reading._repr_html_() for reading in self.readings.values())  # pyright: ignore[reportPrivateUsage] - the notebook protocol


def examine(
    subject: Subject, prompt: Prompt, instruments: Sequence[Instrument] = (), *, seed: int = 0, command: str = ""
) -> Examination:
    """Checks fidelity, then reads the instruments (all that fit, if none is named) from one shared pass.

    An instrument named by the caller raises what stands in its way; one chosen here is skipped, and its reason kept.
    """
    started = time.perf_counter()
    batch = subject.batch(prompt)
    fidelity = Fidelity.check(subject, batch)
    if not math.isfinite(fidelity.logit_difference):
        raise not_finite(subject.model)
    chosen = {_name_of(one): one for one in instruments or standard_instruments(subject, seed)}
    skipped: dict[str, GlassworksError] = {}
    readings: dict[str, Reading] = {}
    usable = {name: one for name, one in chosen.items() if _has_sites(name, one, subject, skipped)}
    sites: list[Site] = list(dict.fromkeys(site for one in usable.values() for site in one.sites(subject.anatomy)))
    activations = capture(subject, batch, sites)
    for name, one in usable.items():
        try:
            measurement = one.read(subject, batch, activations)
        except (InvalidInput, StrangeModel) as problem:
            skipped[name] = problem
        else:
            readings[name] = Reading(measurement, one.draw(measurement))
    if instruments and skipped:
        raise next(iter(skipped.values()))
    if not instruments and "head_scores" in readings:
        for layer, head in best_heads(readings["head_scores"].measurement):
            look = AttentionMaps(layer=layer, head=head)
            measurement = look.read(subject, batch, activations)
            readings[f"attention_L{layer}H{head}"] = Reading(measurement, look.draw(measurement))
    return Examination(
        subject, batch, fidelity, readings, skipped, time.perf_counter() - started, _peak_bytes(subject), seed, command
    )


def standard_instruments(subject: Subject, seed: int = 0) -> tuple[Instrument, ...]:
    """Head scores, attention maps, lens; what the model's kind allows besides.

    Repeated random tokens (drawn with `seed`) for causal models of at least 50 tokens, memory matrices where
    the world is known.
    """
    found = subject.anatomy
    random = (RepeatedTokens(seed=seed),) if found.causal and found.vocabulary >= FEWEST_TOKENS else ()
    always = (HeadScores(), *random, AttentionMaps(), LogitLens(), MemoryRecall())
    if subject.world is None:
        return always
    shown = min(found.context or FIRST, FIRST)
    return (*always, *(MemoryMatrix(memory=memory, positions=shown) for memory in ("w_o2", "w_k1", "w_k2")))


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


def table_suffixes(measurement: Measurement) -> tuple[str, ...]:
    """The kinds of file a table is written as; a very long one is kept as Parquet only."""
    return (".csv", ".parquet") if measurement.values.size <= MOST_CSV_ROWS else (".parquet",)


def anatomy_json(subject: Subject) -> dict[str, Any]:
    """Where the model keeps its parts, as module paths."""
    found = asdict(subject.anatomy)
    names = ("stack", "width", "vocabulary", "context", "embedding", "positions", "norm", "head", "tied_head")
    places = ("path", "mixer", "attention", "feedforward", "heads", "kv_heads", "head_width")
    return {name: found[name] for name in names} | {
        "depth": subject.anatomy.depth,
        "causal": subject.anatomy.causal,
        "layers": [{name: layer[name] for name in places} for layer in found["layers"]],
        "notes": [str(note) for note in subject.anatomy.notes],
    }


def _name_of(instrument: Instrument) -> str:
    match instrument:
        case MemoryMatrix(memory=memory):
            return f"{instrument.kind}_{memory}"
        case AttentionMaps(layer=int(layer), head=int(head)):
            return f"attention_L{layer}H{head}"
        case _:
            return instrument.kind


def _has_sites(name: str, one: Instrument, subject: Subject, skipped: dict[str, GlassworksError]) -> bool:
    try:
        needed = one.sites(subject.anatomy)
    except (InvalidInput, StrangeModel) as problem:
        skipped[name] = problem
        return False
    is_blind = not needed and isinstance(one, AttentionMaps | HeadScores)
    if is_blind:
        skipped[name] = InvalidInput(say("the model has no attention that can be read"))
    return not is_blind


def _peak_bytes(subject: Subject) -> int:
    if subject.device.type == "cuda":
        return torch.cuda.max_memory_allocated(subject.device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts kilobytes, macOS bytes.
    return peak if platform.system() == "Darwin" else peak * 1024
