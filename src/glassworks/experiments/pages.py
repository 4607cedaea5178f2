"""The report of an experiment, composed from its run folder; needs no torch."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from glassworks.core.events import read_events
from glassworks.core.runs import RunFolder
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Verdict
from glassworks.evidence.measurements import load_measurements
from glassworks.experiments.base import Experiment
from glassworks.figures import Figure
from glassworks.report.page import Check, FileLink, Page, Row
from glassworks.report.render import render


def write_report(
    experiment: Experiment, run: RunFolder, verdicts: Sequence[Verdict], figures: Sequence[Figure]
) -> None:
    """Writes report.html into the run folder."""
    evidence = Evidence(load_measurements(run.path), experiment.reached_scale())
    run.write_bytes("report.html", render(_page(experiment, run, verdicts, evidence, figures)).encode())


def _page(
    experiment: Experiment,
    run: RunFolder,
    verdicts: Sequence[Verdict],
    evidence: Evidence,
    figures: Sequence[Figure],
) -> Page:
    by_name = {figure.name: figure for figure in figures}
    environment: dict[str, Any] = run.read_json("environment.json")
    paper = experiment.paper
    return Page(
        title=say("Reproduction: {title}", title=paper.title),
        lead=say(
            "{authors} ({year}), {reference}. Every claim below and its threshold were fixed before this run was made; each is judged from the measurements in this folder.",
            authors=paper.authors, year=paper.year, reference=paper.reference,
        ),
        summary=tuple(experiment.summary(evidence)),
        passport=_passport(experiment, environment),
        fidelity=_fidelity(evidence),
        verdicts=tuple(verdicts),
        sections=tuple(experiment.sections(evidence, by_name)),
        limits=tuple(experiment.limits()),
        cost=_cost(run),
        files=(
            FileLink("tables/measurements.csv", say("all measurements as one tidy table")),
            FileLink("tables/measurements.parquet", say("the same as Parquet")),
            FileLink("measurements.json", say("measurements with units, seeds and caveats")),
            FileLink("verdicts.json", say("verdicts")),
            FileLink("spec.json", say("every setting of this run")),
            FileLink("events.jsonl", say("the log of the run")),
        ),
        command=rebuild_command(experiment, run.read_json("studies.json")),
    )  # fmt: skip


def rebuild_command(experiment: Experiment, studies: Collection[str]) -> str:
    """The command line that makes this run again: its scale, whatever differs from it, and its studies if not all."""
    standard = type(experiment).at(experiment.scale).to_json()
    changed = {k: v for k, v in experiment.to_json().items() if standard.get(k) != v}
    words = ["glassworks", "reproduce", experiment.kind, "--scale", experiment.scale.value]
    for name, value in changed.items():
        words += ["--set", f"{name}={_compact(value)}"]
    if len(studies) < len(experiment.studies):
        for study in studies:
            words += ["--only", study]
    return shlex.join(words)


def _compact(value: Any) -> str:
    import json

    return json.dumps(value, separators=(",", ":"))


def _passport(experiment: Experiment, environment: Mapping[str, Any]) -> tuple[Row, ...]:
    packages: dict[str, Any] = environment.get("packages", {})
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    rows = [
        Row(say("scale"), experiment.scale.value),
        Row(say("seeds"), ", ".join(str(seed) for seed in experiment.seeds)),
        Row(say("settings digest"), experiment.digest()),
        Row(say("device"), str(environment.get("device", "-"))),
        Row(say("processors"), str(environment.get("processors", "-"))),
        Row(say("platform"), str(environment.get("platform", "-"))),
        Row(say("Python"), str(environment.get("python", "-"))),
        Row(say("versions"), versions),
    ]
    skipped = {"kind", "scale", "seeds"}
    settings = "; ".join(f"{k} = {_compact(v)}" for k, v in experiment.to_json().items() if k not in skipped)
    return (*rows, Row(say("settings"), settings))


def _fidelity(evidence: Evidence) -> tuple[Check, ...]:
    if "fidelity" not in evidence:
        return ()
    values = evidence["fidelity"]
    names: dict[str, tuple[Text, float]] = {
        "hooked": (say("largest difference of hooked and plain logits"), 0.0),
        "attention": (say("largest difference of recomputed and the model's own attention"), 1e-5),
        "generation": (say("tokens that differ between cached and uncached generation"), 0.0),
        "identity plan": (say("largest difference of the identity plan's logits and the plain model's"), 0.0),
        "after plans": (say("largest difference of the model's logits before and after plans"), 0.0),
        # Sums in another order, in float32: docs/papers/painters.md 4.
        "decoding": (say("largest difference in nats between decoding with the exact cache and without one"), 2e-4),
    }
    found = [(names[str(check)], float(values.at(check=check).values.max())) for check in values.coords["check"]]
    return tuple(Check(name, f"{value:.1e}" if value else "0", value <= limit) for (name, limit), value in found)


def _cost(run: RunFolder) -> tuple[Row, ...]:
    studies: dict[str, float] = run.read_json("studies.json")
    rows = [Row(say("study {name}", name=name), _duration(seconds)) for name, seconds in studies.items()]
    trained = {e.digest: e.seconds for e in read_events(run.path / "events.jsonl") if e.kind == "training_done"}
    total = Row(say("training, {count} models", count=len(trained)), _duration(float(sum(trained.values()))))
    return (*rows, total)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
