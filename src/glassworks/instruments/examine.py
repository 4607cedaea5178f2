"""Examining a model: fidelity first, then every instrument that fits, on one pass over one text; a page of it all."""

import platform
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from glassworks.anatomy.capture import capture
from glassworks.anatomy.fidelity import Fidelity
from glassworks.anatomy.sites import Site
from glassworks.anatomy.subject import Prompt, Subject
from glassworks.anatomy.tokens import TokenBatch
from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.files import write_bytes, write_json
from glassworks.core.runs import describe_environment
from glassworks.core.text import Text, say
from glassworks.evidence.measurements import Measurement, save_table
from glassworks.figures import Figure
from glassworks.instruments.attention_maps import AttentionMaps
from glassworks.instruments.base import Instrument, Reading
from glassworks.instruments.head_scores import SCORES, HeadScores, score_name
from glassworks.instruments.logit_lens import LogitLens
from glassworks.instruments.memory_recall import FIRST, MemoryMatrix, MemoryRecall
from glassworks.report.page import Check, FileLink, Page, Row, Section, SummaryLine, Table
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
        return _page(self)

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
    chosen = {_name_of(one): one for one in instruments or standard_instruments(subject)}
    skipped: dict[str, GlassworksError] = {}
    readings: dict[str, Reading] = {}
    usable = {name: one for name, one in chosen.items() if _has_sites(name, one, subject, skipped)}
    sites: list[Site] = list(dict.fromkeys(site for one in usable.values() for site in one.sites(subject.anatomy)))
    activations = capture(subject, batch, sites)
    for name, one in usable.items():
        try:
            measurement = one.read(subject, batch, activations)
        except InvalidInput as problem:
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


def standard_instruments(subject: Subject) -> tuple[Instrument, ...]:
    """Head scores, attention maps, lens; memory recall and its matrices where the model's world is known."""
    always = (HeadScores(), AttentionMaps(), LogitLens(), MemoryRecall())
    if subject.world is None:
        return always
    shown = min(subject.anatomy.context or FIRST, FIRST)
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
    except InvalidInput as problem:
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


def _page(found: Examination) -> Page:
    sections = tuple(section for section in (_tokens(found), _heads(found), _lens(found), _memory(found)) if section)
    return Page(
        title=say("Inside {name}", name=found.subject.origin.name),
        lead=say("What one text of {count} tokens shows of this model, checked against the untouched model first.", count=found.batch.ids.shape[1]),
        summary=tuple(_summary(found)),
        passport=_passport(found),
        fidelity=tuple(
            Check(row.says, _check_value(row.value, row.remark), row.holds is not False) for row in found.fidelity.rows()
        ),
        sections=sections,
        limits=_limits(found),
        cost=(
            Row(say("time"), f"{found.seconds:.1f} s"),
            Row(say("peak memory of the process"), f"{found.peak_bytes / 1e9:.2f} GB"),
        ),
        files=tuple(
            FileLink(f"tables/{name}{suffix}", reading.measurement.says)
            for name, reading in found.readings.items()
            for suffix in table_suffixes(reading.measurement)
        ),
        command=found.command,
    )  # fmt: skip


def _check_value(value: float, remark: Text | None) -> Text | str:
    number = "–" if np.isnan(value) else "0" if value == 0 else f"{value:.1e}"
    return number if remark is None else say("{value} ({remark})", value=number, remark=remark)


def _summary(found: Examination) -> list[SummaryLine]:
    subject, anatomy = found.subject, found.subject.anatomy
    size = say(
        "{name} has {parameters} parameters in {layers} layers (heads per layer: {heads}); it was given {count} tokens.",
        name=subject.origin.name, layers=anatomy.depth, heads=anatomy.heads,
        parameters=f"{subject.parameter_count:,}", count=found.batch.ids.shape[1],
    )  # fmt: skip
    state = (
        say("What is shown is what the model computes: every check that could be made holds.")
        if found.fidelity.holds
        else say("A fidelity check failed, so nothing below may be read as a fact about the model.")
    )
    lines = [SummaryLine(size, "tokens"), SummaryLine(state, "fidelity")]
    lines += _head_lines(found)
    if "logit_lens" in found.readings:
        lines.append(_lens_line(found.readings["logit_lens"]))
    if "memory_recall" in found.readings:
        recall = found.readings["memory_recall"]
        table = recall.measurement.at(quantity="value")
        best = dict(zip(table.coords["memory"], table.values, strict=True))
        told = say(
            "Of what an induction head must remember, W_O of layer 1 holds {output}, W_K of layer 1 {match}, W_K of layer 0 {position}.",
            output=_share(best["w_o2"]), match=_share(best["w_k2"]), position=_share(best["w_k1_first_64"]),
        )  # fmt: skip
        lines.append(SummaryLine(told, recall.figure.name))
    return lines


def _head_lines(found: Examination) -> list[SummaryLine]:
    """The head that stands out most for induction and for the previous token."""
    if "head_scores" not in found.readings:
        return []
    reading = found.readings["head_scores"]
    table = reading.measurement
    lines: list[SummaryLine] = []
    for score in ("induction", "previous_token"):
        values = table.at(score=score, quantity="value").values
        if np.isnan(values).all():
            continue
        layer, head = np.unravel_index(int(np.nanargmax(values)), values.shape)
        chance = float(table.at(score=score, quantity="chance").values[layer, head])
        told = say(
            "Head L{layer}H{head} scores highest for {score}: {value}, where chance gives {chance}.",
            layer=table.coords["layer"][layer], head=int(head), score=score_name(score),
            value=f"{values[layer, head]:.2f}", chance=f"{chance:.2f}",
        )  # fmt: skip
        lines.append(SummaryLine(told, reading.figure.name))
    return lines


def _lens_line(reading: Reading) -> SummaryLine:
    table = reading.measurement
    last = table.at(stage=table.coords["stage"][-1], position=table.coords["position"][-1])
    found = dict(zip(last.coords["quantity"], last.values, strict=True))
    token = int(found["token 1"])
    told = say(
        "After the last token the model says “{token}” with probability {probability}.",
        token=table.columns.get(f"token {token}", str(token)),
        probability=_share(found["probability 1"]),
    )
    return SummaryLine(told, reading.figure.name)


def _share(value: Any) -> str:
    return "–" if np.isnan(value) else f"{float(value):.0%}"


def _passport(found: Examination) -> tuple[Row, ...]:
    subject = found.subject
    packages: Mapping[str, Any] = found.environment["packages"]
    dtype = str(next(subject.model.parameters()).dtype).removeprefix("torch.")
    rows = [
        Row(say("model"), f"{subject.origin.name} ({type(subject.model).__name__})"),
        Row(say("source"), subject.origin.source or "–"),
        Row(say("revision"), subject.origin.revision or "–"),
        Row(say("parameters"), f"{subject.parameter_count:,}"),
        Row(say("tokenizer"), "–" if subject.tokenizer is None else type(subject.tokenizer).__name__),
        Row(say("trained on"), "–" if subject.world is None else subject.world.kind),
        Row(say("device and number format"), f"{subject.device}, {dtype}"),
        Row(say("seed"), str(found.seed)),
        Row(say("versions"), ", ".join(f"{name} {version}" for name, version in packages.items() if version)),
    ]
    return (*rows, *(Row(name, value) for name, value in subject.anatomy.rows()))


def _tokens(found: Examination) -> Section:
    ids = found.batch.ids[0].tolist()
    rows = tuple(
        (place, label, token) for place, (label, token) in enumerate(zip(found.batch.labels, ids, strict=True))
    )
    table = Table(
        "token-list", say("The tokens as the model sees them"), (say("position"), say("token"), say("id")), rows
    )
    return Section("tokens", say("Tokens"), (), (), (table,))


def _heads(found: Examination) -> Section | None:
    names = [n for n in found.readings if n == "head_scores" or n.startswith("attention_L")]
    figures = [found.readings[name].figure for name in (*names, "attention_maps") if name in found.readings]
    note = say("Scores first, then the heads that stand out most above chance, then every head.")
    return Section("attention", say("Attention"), (note,), tuple(figures)) if figures else None


def _lens(found: Examination) -> Section | None:
    if "logit_lens" not in found.readings:
        return None
    note = say(
        "Each row reads the stream at one depth, the embedding first, through the model's own final norm and head."
    )
    return Section("lens", say("What each layer would say"), (note,), (found.readings["logit_lens"].figure,))


def _memory(found: Examination) -> Section | None:
    figures = tuple(reading.figure for name, reading in found.readings.items() if name.startswith("memory_"))
    return Section("memory", say("What the weights remember"), (), figures) if figures else None


def _limits(found: Examination) -> tuple[Text, ...]:
    skipped = [
        say("{instrument} was left out: {reason}", instrument=name, reason=problem.what)
        for name, problem in found.skipped.items()
    ]
    caveats = {c.en: c for reading in found.readings.values() for c in reading.measurement.caveats}
    one_text = say("One text is one text: another may show other heads at work.")
    return (*caveats.values(), one_text, *skipped)
