"""doctor: what this machine can do, measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.options import Doctor
from glassworks.cli.speak import duration_words, new_table, print_json, results, size_words
from glassworks.core.errors import NotFound
from glassworks.core.runs import describe_environment
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Scale
from glassworks.experiments import EXPERIMENTS, Experiment

if TYPE_CHECKING:
    import torch

    from glassworks.tensors.machine import Memory, Processor, Rate
    from glassworks.training.spec import TrainingSpec

# Below this a preset is called fast: a person stays at the screen.
FAST_SECONDS = 240.0


@dataclass(frozen=True)
class Estimate:
    """How long the trainings of a preset would take, from counted operations and the measured rate."""

    experiment: str
    scale: Scale
    study: str
    seconds: float


@dataclass(frozen=True)
class Findings:
    """Everything doctor says."""

    device: torch.device
    dtype: str
    fast_bfloat16: bool
    memory: Memory
    processor: Processor
    free_disk: int
    rates: tuple[Rate, ...]
    estimates: tuple[Estimate, ...]


def doctor(command: Doctor) -> int:
    """Measures and prints."""
    found = examine_machine(command)
    if command.json:
        print_json(_as_json(found))
    else:
        _show(found, Path(command.out))
    return 0


def examine_machine(command: Doctor) -> Findings:
    """Measures this machine; about two seconds."""
    from glassworks.tensors.devices import choose_device, choose_dtype, has_fast_bfloat16
    from glassworks.tensors.machine import free_disk, gemm_rates, memory, processor
    from glassworks.training.cost import SHARE_OF_RATE

    device = choose_device(command.device)
    dtype = str(choose_dtype(command.dtype, device)).removeprefix("torch.")
    is_fast = has_fast_bfloat16(device)
    rates = gemm_rates(device)
    used = next(rate for rate in rates if rate.name == _format_used(is_fast))
    disk = free_disk(Path(command.out))
    estimates = estimate_presets(used.operations_per_second * SHARE_OF_RATE[used.name])
    return Findings(device, dtype, is_fast, memory(device), processor(), disk, rates, estimates)


def _format_used(fast_bfloat16: bool) -> str:
    """The number format in which trainings multiply here, unless told otherwise."""
    return "bfloat16" if fast_bfloat16 else "float32"


def estimate_presets(operations_per_second: float) -> tuple[Estimate, ...]:
    """The first study and all studies of each experiment that trains, at every scale; of a sweep the cost is not known."""
    from glassworks.training.cost import operations_of

    found: list[Estimate] = []
    for experiment in EXPERIMENTS:
        for scale in Scale:
            settings = experiment.at(scale)
            plans = {s.name: _trainings(settings, s.name) for s in settings.studies}
            main = {t.digest(): t for t in plans[settings.studies[0].name].values()}
            everything = {t.digest(): t for plan in plans.values() for t in plan.values()}
            if not everything:
                continue
            for study, specs in ((settings.studies[0].name, main), ("all", everything)):
                work = sum(operations_of(spec) for spec in specs.values())
                found.append(Estimate(settings.kind, scale, study, work / operations_per_second))
    return tuple(found)


def _trainings(settings: Experiment, study: str) -> Mapping[str, TrainingSpec]:
    """What a study trains; nothing where the text that it would train on is not on this machine."""
    try:
        return settings.trainings(study)
    except NotFound:
        return {}


def _show(found: Findings, out: Path) -> None:
    from glassworks.tensors.machine import STILL_FLOAT32
    from glassworks.training.cost import SHARE_OF_RATE

    console = results()
    facts = new_table(say("this machine"), "")
    for name, value in _facts(found, out):
        facts.add_row(str(name), str(value))
    console.print(facts)
    rates = new_table(say("matrix product"), say("measured rate"), say("relative error"), "")
    for rate in found.rates:
        note = say("rounds to bfloat16 here") if rate.name == "float32_fast" and rate.error > STILL_FLOAT32 else ""
        rates.add_row(
            str(rate.says), f"{rate.operations_per_second / 1e9:,.0f} GFLOP/s", f"{rate.error:.0e}", str(note)
        )
    console.print(rates)
    presets = new_table(say("preset"), say("study"), say("trainings, estimated"), "")
    for one in found.estimates:
        word = (
            say("fast")
            if one.seconds <= FAST_SECONDS
            else say("make a pause")
            if one.seconds <= 3600
            else say("leave it running")
        )
        name = f"reproduce {one.experiment} --scale {one.scale.value}"
        presets.add_row(name, one.study, f"≈ {duration_words(max(one.seconds, 1.0))}", str(word))
    console.print(presets)
    console.print(
        str(
            say(
                "The times are estimates: counted operations at {share} of the measured rate. Equal trainings run once and are kept.",
                share=f"{SHARE_OF_RATE[_format_used(found.fast_bfloat16)]:.0%}",
            )
        ),
        style="dim",
    )


def _facts(found: Findings, out: Path) -> list[tuple[Text, str | Text]]:
    environment = describe_environment()
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    memory, cpu = found.memory, found.processor
    facts: list[tuple[Text, str | Text]] = [
        (say("device"), str(found.device)),
        (say("number format"), found.dtype),
        (say("bfloat16 in hardware"), say("yes") if found.fast_bfloat16 else say("no")),
        (say("cores"), say("{usable} of {cores}, torch works with {threads} threads", usable=cpu.usable, cores=cpu.cores, threads=cpu.threads)),
        (say("memory"), _free_of(memory.host_free, memory.host_total)),
    ]  # fmt: skip
    if memory.device_total is not None and memory.device_free is not None:
        facts.append((say("device memory"), _free_of(memory.device_free, memory.device_total)))
    return [
        *facts,
        (say("free disk at {folder}", folder=str(out)), size_words(found.free_disk)),
        (say("system"), f"{environment['platform']}, Python {environment['python']}"),
        (say("versions"), versions),
    ]


def _free_of(free: int, total: int) -> Text:
    return say("{free} free of {total}", free=size_words(free), total=size_words(total))


def _as_json(found: Findings) -> dict[str, Any]:
    memory, cpu = found.memory, found.processor
    return {
        "device": str(found.device),
        "dtype": found.dtype,
        "bfloat16_in_hardware": found.fast_bfloat16,
        "memory": {"total": memory.host_total, "free": memory.host_free},
        "device_memory": None
        if memory.device_total is None
        else {"total": memory.device_total, "free": memory.device_free},
        "disk": {"free": found.free_disk},
        "cores": cpu.cores,
        "usable_cores": cpu.usable,
        "threads": cpu.threads,
        "gemm": {r.name: {"flops_per_second": r.operations_per_second, "relative_error": r.error} for r in found.rates},
        "presets": [
            {"experiment": e.experiment, "scale": e.scale.value, "study": e.study, "estimated_seconds": e.seconds}
            for e in found.estimates
        ],
        "environment": describe_environment(),
    }
