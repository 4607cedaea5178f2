"""plan: how to split a budget of compute, under published laws and our own, and what it costs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassworks.cli.options_plan import Plan as PlanCommand
from glassworks.cli.speak import new_table, print_json, remarks, results
from glassworks.core.errors import InvalidInput, NotFound
from glassworks.core.runs import list_runs
from glassworks.core.text import Text, say
from glassworks.evidence.claims import Evidence, Scale
from glassworks.evidence.measurements import load_measurements
from glassworks.experiments.finding import experiment_of
from glassworks.experiments.scaling.laws import PUBLISHED, Law
from glassworks.experiments.scaling.planning import Plan, Request
from glassworks.experiments.scaling.planning import plan as planned
from glassworks.experiments.scaling.readings import fitted_law, law_name

if TYPE_CHECKING:
    from glassworks.core.runs import RunFolder

OURS = "ours"
AMOUNTS = ("flops", "gpu_hours", "parameters", "tokens", "inference_tokens")
_SUFFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}
_AMOUNT = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*([kmbgt]?)", re.IGNORECASE)


@dataclass(frozen=True)
class Plans:
    """A request under each law at hand, and what goes with the one that was chosen."""

    plans: Mapping[str, Plan]
    chosen: str
    nearest: tuple[str, int] | None
    """The known architecture nearest in size, with its parameters; None for models of bytes."""
    notes: tuple[Text, ...]

    def __getitem__(self, law: str) -> Plan:
        return self.plans[law]

    @property
    def plan(self) -> Plan:
        """The plan under the chosen law."""
        return self.plans[self.chosen]

    def to_json(self) -> dict[str, Any]:
        """Plain data, as `glassworks plan --json` prints it."""
        one = self.plan
        laws = {
            name: {"best": found.best.to_json(), "chosen": found.chosen.to_json()} for name, found in self.plans.items()
        }
        return {
            "operations": one.chosen.flop, "constants": self.chosen, "best": one.best.to_json(), "chosen": one.chosen.to_json(),
            "cost": one.cost.to_json() | {"gpu": one.request.gpu, "gpus": one.request.gpus, "utilisation": one.request.utilisation},
            "laws": laws, "running": None if one.running is None else one.running.to_json(),
            "nearest_preset": None if self.nearest is None else {"name": self.nearest[0], "parameters": self.nearest[1]},
            "notes": [str(note) for note in self.notes],
        }  # fmt: skip


def plan(command: PlanCommand) -> int:
    """Plans and prints."""
    request = request_of(command.__dict__)
    found = plans_of(request, command.constants, Path(command.out))
    if command.json:
        print_json({"plan": found.to_json()})
    else:
        _show(found)
    return 0


def request_of(given: Mapping[str, Any]) -> Request:
    """The request of named numbers, each as a number or as a person writes it; raises InvalidInput for what is none."""
    numbers = {name: amount(given.get(name), name.replace("_", "-")) for name in AMOUNTS}
    return Request(
        flop=numbers["flops"], gpu_hours=numbers["gpu_hours"], parameters=numbers["parameters"], tokens=numbers["tokens"],
        gpu=str(given.get("gpu", "h100")).lower(), utilisation=float(given.get("utilisation", 0.4)),
        gpus=int(given.get("gpus", 1)), inference_tokens=numbers["inference_tokens"] or 0.0,
    )  # fmt: skip


def amount(given: str | int | float | None, name: str) -> int | float | None:
    """A number as a person writes it: 7e9, 7B, 1.4T; raises InvalidInput for anything else."""
    if given is None or isinstance(given, int | float):
        return given
    match = _AMOUNT.fullmatch(given.strip().replace(",", "").replace("_", ""))
    try:
        value = float(match.group(1)) * _SUFFIXES[match.group(2).lower()] if match else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInput(say("{name} is no number", name=name), given=given, right=say("for example 7e9, 7B or 1.4T"))
    return value


def plans_of(request: Request, constants: str, out: Path) -> Plans:
    """The plans under all laws at hand; raises NotFound where our own is asked for and no run has fitted one."""
    laws, notes = dict(PUBLISHED), list[Text]()
    own = own_law(out)
    if own is None and constants == OURS:
        raise NotFound(
            say("no run of the scaling study with a fitted law lies here"), given=str(out / "runs"),
            right=say("one run at laptop scale, or the published constants"), next_command="glassworks reproduce scaling",
        )  # fmt: skip
    if own is not None:
        laws[OURS] = own[0]
        notes.append(
            say("ours is fitted to bytes of simple stories in {run}: tokens are bytes there", run=str(own[1].path))
        )
    found = {name: planned(request, law) for name, law in laws.items()}
    notes.append(
        say("laws are fits to trainings of their own text, size and vocabulary; beyond those they are guesses")
    )
    chosen = found[constants]
    nearest = None if constants == OURS else nearest_preset(chosen.chosen.parameters)
    return Plans(found, constants, nearest, tuple(notes))


def own_law(out: Path) -> tuple[Law, RunFolder] | None:
    """The law of the newest run of the scaling study that reached laptop scale; None where there is none."""
    for run in list_runs(out / "runs"):
        if run.path.parent.name != "scaling" or not run.has("measurements.json"):
            continue
        if experiment_of(run).reached_scale() is Scale.SMOKE:
            continue
        measurements = load_measurements(run.path)
        if "scaling_law" in measurements:
            return fitted_law(Evidence(measurements, Scale.LAPTOP)), run
    return None


def nearest_preset(parameters: int | float) -> tuple[str, int]:
    """The known decoder whose number of parameters is nearest, by their ratio."""
    from glassworks.models.presets import PRESETS

    decoders = [one for one in PRESETS.values() if one.branch == "decoder"]
    best = min(decoders, key=lambda one: abs(math.log(one.parameters / parameters)))
    return best.name, best.parameters


def _show(found: Plans) -> None:
    one = found.plan
    table = new_table(
        say("law"), say("best parameters"), say("best tokens"), say("tokens per parameter"), say("loss there"),
        say("as asked: loss"), title=say("{flop} operations", flop=f"{one.chosen.flop:.3g}"),
    )  # fmt: skip
    for name, made in found.plans.items():
        asked = "–" if made.chosen is made.best else f"{made.chosen.loss:.3f}"
        table.add_row(
            str(law_name(name)) + (" ←" if name == found.chosen else ""), count_words(made.best.parameters),
            count_words(made.best.tokens), f"{made.best.tokens / made.best.parameters:.3g}",
            f"{made.best.loss:.3f} {_unit(made.best.unit)}", asked,
        )  # fmt: skip
    results().print(table)
    for line in (*_cost_lines(found), *_running_lines(one), *found.notes):
        results().print(str(line), soft_wrap=True)
    remarks().print(str(say("every formula: docs/guide/17-scaling.md")))


def _unit(unit: str) -> Text:
    return say("bits per byte") if unit == "bits per byte" else say("nats per token")


def _cost_lines(found: Plans) -> list[Text]:
    one, cost = found.plan, found.plan.cost
    lines = [
        say(
            "planned: {parameters} parameters, {tokens} tokens ({ratio} for each parameter)",
            parameters=count_words(one.chosen.parameters), tokens=count_words(one.chosen.tokens),
            ratio=f"{one.chosen.tokens / one.chosen.parameters:.3g}",
        ),
        say(
            "time: {hours} hours of one {gpu} at {share} of its speed; with {count}: {days} days",
            hours=f"{cost.gpu_hours:,.4g}", gpu=one.request.gpu, share=f"{one.request.utilisation:.0%}", count=one.request.gpus,
            days=f"{cost.days:,.3g}",
        ),
        say(
            "memory: {file} for the parameters in sixteen bits, {training} while AdamW trains them: at least {count} × {gpu}",
            file=bytes_words(cost.file_bytes), training=bytes_words(cost.training_bytes), count=cost.fewest_gpus,
            gpu=one.request.gpu,
        ),
        say(
            "text: about {text}, {times} times the parameters' file", text=bytes_words(cost.text_bytes),
            times=f"{cost.text_bytes / cost.file_bytes:.3g}",
        ),
    ]  # fmt: skip
    if found.nearest is not None:
        name, size = found.nearest
        lines.append(say("nearest known architecture: {name}, {size} parameters", name=name, size=count_words(size)))
    return lines


def _running_lines(one: Plan) -> list[Text]:
    if one.running is None:
        return []
    split = one.running.split
    return [
        say(
            "to be run for {run} tokens: {parameters} parameters trained on {tokens} tokens reach the same loss, and cost {saved} less "
            "with the running",
            run=count_words(one.request.inference_tokens), parameters=count_words(split.parameters),
            tokens=count_words(split.tokens), saved=f"{one.running.saved:.0%}",
        )
    ]  # fmt: skip


def count_words(count: int | float) -> str:
    """A number of parameters or tokens: 70.2B, 1.4T, 330k."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}" if count < 1000 * size else f"{count / size:,.0f}{unit}"
    return f"{count:.3g}"


def bytes_words(count: int | float) -> str:
    """Bytes in decimal units, to the petabyte."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"
