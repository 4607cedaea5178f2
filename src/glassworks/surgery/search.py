"""Searching for the plan that does least harm with so many layer runs, and judging it on text it was not chosen on.

Greedy and beam search remove layers round by round; evolution mutates plans at the budget itself (EvoPress, 2410.14649,
which showed that harm neither adds up nor grows evenly). The plans of a round are one prefix tree. What wins on the text
it was chosen on wins by luck too, so the score to believe is that on the held-out text, beside skip-middle and beside
the order of block influence (ShortGPT, 2403.03853).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cosine_similarity

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.events import EventLog, Listener, RunDone, RunStarted
from glassworks.core.runs import RunFolder
from glassworks.core.text import say
from glassworks.evaluation import Item, MetricScore, batches
from glassworks.evaluation.items import TOKENS_PER_BATCH, is_causal
from glassworks.evidence.measurements import Measurement, save_measurements
from glassworks.evidence.statistics import Interval, bootstrap_interval
from glassworks.figures import Figure
from glassworks.surgery.candidates import Room, mutated, random_plan, removals, removed_in_order
from glassworks.surgery.families import SkipMiddle
from glassworks.surgery.ledger import METRICS, Ledger
from glassworks.surgery.plans import Plan
from glassworks.surgery.prefix_tree import execute, record
from glassworks.surgery.search_figures import search_figure
from glassworks.surgery.slots import choose_stack
from glassworks.surgery.specs import FOUND, INFLUENCE, SKIP, WHOLE, Beam, Evolution, Greedy, SearchRun, SearchSpec
from glassworks.surgery.sweep import fingerprint
from glassworks.surgery.texts import Split, split_of
from glassworks.tensors.seeds import Seed

QUANTITIES = ("value", "low", "high", "fit")
MEASURED = ("cost", *METRICS)
# New plans are drawn so often for each one that is wanted, before a small room counts as exhausted.
TRIES = 20


@dataclass(frozen=True, eq=False)
class SearchOrder:
    """A search that is ready to run: the model, what was chosen, what plans may be, the texts."""

    subject: Subject
    run: SearchRun
    stack: str
    room: Room
    split: Split

    @classmethod
    def of(cls, subject: Subject, choice: SearchSpec, split: Split | None = None) -> SearchOrder:
        """Everything that can be wrong with a choice is found here; `split` takes the place of the choice's texts."""
        stack = choose_stack(subject.anatomy, choice.stack)
        depth = len(subject.anatomy.stacks[stack])
        room = Room(depth, choice.budget, frozenset(choice.protect))
        if not isinstance(choice.method, Evolution) and choice.budget >= depth:
            raise InvalidInput(
                say("a search by removal ends below the model's own number of layers"),
                given=choice.budget,
                right=say("a budget of 1 to {most} layer runs", most=depth - 1),
            )
        split = split_of(subject, choice.texts) if split is None else split
        dtype = str(next(subject.model.parameters()).dtype).removeprefix("torch.")
        run = SearchRun(
            model=subject.origin.name, weights=fingerprint(subject), dtype=dtype, items=split.digest(), choice=choice
        )
        return cls(subject, run, stack, room, split)


@dataclass(frozen=True)
class SearchOptions:
    """How a search is run; none of it changes a plan. Without a folder nothing is kept and nothing can be taken up."""

    out: Path | None = None
    listeners: tuple[Listener, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Round:
    """What a round ended with: its best plan, that plan's objective on the text it was chosen by, plans tried so far."""

    number: int
    best: Plan
    fit: float
    tried: int


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The best plan for each number of layer runs, with all scores on held-out text.

    `scores[metric][name][layer_runs]` is in nats per token, window by window, for the plans found and for those they
    are compared with; `whole` is the untouched model. `influence` lists the layers, the least influential first.
    """

    run: SearchRun
    folder: RunFolder | None
    history: tuple[Round, ...]
    plans: Mapping[str, Mapping[int, Plan]]
    scores: Mapping[str, Mapping[str, Mapping[int, MetricScore]]]
    fits: Mapping[int, float]
    influence: tuple[int, ...]
    seconds: float

    @property
    def best(self) -> Mapping[int, Plan]:
        """The plan found for each number of layer runs."""
        return self.plans[FOUND]

    def advantage(self, other: str, layer_runs: int, metric: str = "nll") -> Interval:
        """Nats per token by which the plan found is better than another on held-out text, paired by window."""
        known = self.plans[FOUND].keys() & self.plans.get(other, {}).keys()
        if layer_runs not in known:
            raise UnknownName("number of layer runs", str(layer_runs), map(str, known))
        mine, theirs = (self.scores[metric][name][layer_runs] for name in (FOUND, other))
        return bootstrap_interval(_first_less, (theirs.per_document, mine.per_document), mine.weights)

    def measurement(self) -> Measurement:
        """Nats per token on held-out text by metric, kind of plan and number of layer runs."""
        runs = sorted({number for plans in self.plans.values() for number in plans})
        values = np.full((len(MEASURED), len(self.plans), len(runs), len(QUANTITIES)), math.nan)
        for place, metric in enumerate(MEASURED):
            for row, (name, plans) in enumerate(self.plans.items()):
                for number in plans:
                    found = self._interval(metric, name, number)
                    fit = self.fits[number] if name == FOUND and metric == self.run.choice.objective else math.nan
                    values[place, row, runs.index(number)] = [found.mean, found.low, found.high, fit]
        return Measurement(
            name="search",
            says=say("nats per token on held-out text of the best plan found for each number of layer runs"),
            values=values,
            dims=("metric", "plans", "layer_runs", "quantity"),
            coords={"metric": MEASURED, "plans": tuple(self.plans), "layer_runs": tuple(runs), "quantity": QUANTITIES},
            unit="nats per token",
            columns={
                "metric": "nll: of the right token; cost: nll above the whole model's; kl: divergence from the whole model",
                "quantity": "value and its 95 % interval over windows; fit: on the text that the plan was chosen by",
            },
        )

    def _interval(self, metric: str, name: str, layer_runs: int) -> Interval:
        """A plan's score on held-out text; its cost is paired with the whole model window by window."""
        score = self.scores["kl" if metric == "kl" else "nll"][name][layer_runs]
        if metric != "cost":
            return bootstrap_interval(_first, (score.per_document,), score.weights)
        [whole] = self.scores["nll"][WHOLE].values()
        return bootstrap_interval(_first_less, (score.per_document, whole.per_document), score.weights)

    def figure(self, metric: str = "cost") -> Figure:
        """Nats per token against layer runs, beside the plans that need no search."""
        return search_figure(self.measurement(), metric)


def search(order: SearchOrder, options: SearchOptions | None = None) -> SearchResult:
    """Runs a search, or goes on where an equal one stopped; raises RunBusy when another process works on the same one.

    A search depends on its seed and on scores alone, and every score is kept: to go on is to begin anew with nothing to
    compute.
    """
    options = options or SearchOptions()
    if options.out is None:
        return _search(order, None, _heard(EventLog(), options))
    folder = RunFolder.create(options.out / "runs", order.run.kind, order.run)
    with folder.lock():
        events = _heard(folder.events, options)
        events.emit(RunStarted(command=options.command, resumed=folder.has("environment.json")))
        (folder.path / "manifest.json").unlink(missing_ok=True)
        folder.write_environment({"device": str(order.subject.device), "command": options.command})
        found = _search(order, folder, events)
        save_measurements(folder.path, [found.measurement()])
        folder.write_json("plans.json", _table(found))
        folder.seal()
        events.emit(RunDone(seconds=found.seconds))
    return found


def influence_order(subject: Subject, items: Sequence[Item], stack: str | None = None) -> tuple[int, ...]:
    """The layers by block influence, the least influential first: 1 - mean cosine of a token before and after a layer."""
    stack = choose_stack(subject.anatomy, stack)
    depth = len(subject.anatomy.stacks[stack])
    turns = torch.zeros(depth, dtype=torch.float64)
    # Every beginning of the whole model: each layer is run once.
    beginnings = [Plan.identity(length) for length in range(1, depth + 1)]
    for piece in batches(items, TOKENS_PER_BATCH, causal=is_causal(subject)):
        _, before = record(subject, piece.batch, stack)
        read = piece.batch.read_by_encoder if stack == "encoder" else piece.batch
        for layer, (_, after) in enumerate(execute(subject, piece.batch, beginnings, stack=stack)):
            turned = 1 - cosine_similarity(before.double(), after.double(), dim=-1)
            turns[layer] += float(turned[read.real.to(turned.device)].sum())
            before = after
    return tuple(int(layer) for layer in turns.argsort(stable=True))


def _search(order: SearchOrder, folder: RunFolder | None, events: EventLog) -> SearchResult:
    started = time.perf_counter()
    fit = Ledger(order.subject, order.stack, order.split.fit, "fit", events, folder)
    held_out = Ledger(order.subject, order.stack, order.split.held_out, "held_out", events, folder)
    chosen: dict[int, Plan] = {}
    history: list[Round] = []
    method = order.run.choice.method
    rounds = _evolved(order, fit, method) if isinstance(method, Evolution) else _removed(order, fit, method)
    for plan in rounds:
        value = fit.value(plan, order.run.choice.objective, len(fit.pieces))
        chosen[plan.layer_runs] = plan
        history.append(Round(len(history) + 1, plan, value, fit.plans))
        fit.keep()
    influence = influence_order(order.subject, order.split.fit, order.stack)
    plans = {FOUND: chosen, **_compared(order, influence)}
    for place in range(len(held_out.pieces)):
        held_out.ask([plan for named in plans.values() for plan in named.values()], place + 1)
        held_out.keep()
    scores = {
        metric: {
            name: {number: held_out.score(plan, metric) for number, plan in named.items()}
            for name, named in plans.items()
        }
        for metric in METRICS
    }
    fits = {number: fit.value(plan, order.run.choice.objective, len(fit.pieces)) for number, plan in chosen.items()}
    seconds = time.perf_counter() - started
    return SearchResult(order.run, folder, tuple(history), plans, scores, fits, influence, seconds)


def _removed(order: SearchOrder, ledger: Ledger, method: Greedy | Beam) -> Iterator[Plan]:
    """The best plan of each round of removals."""
    width = method.width if isinstance(method, Beam) else 1
    front = [Plan.identity(order.room.depth)]
    for _ in range(order.room.depth - order.room.budget):
        front = _raced(order, ledger, [one for plan in front for one in removals(plan, order.room)], width)
        yield front[0]


def _evolved(order: SearchOrder, ledger: Ledger, method: Evolution) -> Iterator[Plan]:
    """The best plan so far, after each generation."""
    room, seed = order.room, Seed(order.run.choice.seed).child("evolution")
    drawn = (random_plan(room, seed.child("first", number).numpy()) for number in range(method.offspring))
    best = _raced(order, ledger, _first_plans(order, method) or list(drawn), method.survivors)
    since = 0
    for generation in range(method.generations):
        yield best[0]
        if since >= method.patience:
            return
        new: list[Plan] = []
        chance = seed.child("generation", generation).numpy()
        for _ in range(TRIES * method.offspring):
            plan = mutated(best[chance.integers(len(best))], room, method.mutations, chance)
            if plan.layer_runs == room.budget and plan not in best and plan not in new:
                new.append(plan)
            if len(new) == method.offspring:
                break
        # The parents are known on the whole text: a race could lose them by bad luck on its first piece.
        survivors = _raced(
            order, ledger, [*best, *_raced(order, ledger, new, method.survivors)], method.survivors, whole=True
        )
        since = 0 if survivors[0] != best[0] else since + 1
        best = survivors
    yield best[0]


def _first_plans(order: SearchOrder, method: Evolution) -> list[Plan]:
    plans = [Plan.parse(text, order.room.depth) for text in method.start]
    wrong = next((plan for plan in plans if plan.layer_runs != order.room.budget), None)
    if wrong is not None:
        raise InvalidInput(
            say("{plan} has {count} layer runs", plan=str(wrong), count=wrong.layer_runs),
            right=say("plans of {count} layer runs", count=order.room.budget),
        )
    return plans


def _raced(order: SearchOrder, ledger: Ledger, plans: Sequence[Plan], keep: int, *, whole: bool = False) -> list[Plan]:
    """The best few of some plans, best first: all on one piece, the better half on two, and so on to the whole text."""
    objective, total = order.run.choice.objective, len(ledger.pieces)
    left = list(dict.fromkeys(plans))
    pieces = 1 if order.run.choice.racing and not whole else total
    while left:
        ledger.ask(left, pieces)
        # Equal values are decided by the plan itself, so that a search can be repeated.
        left.sort(key=lambda plan: (ledger.value(plan, objective, pieces), str(plan)))
        if pieces == total:
            break
        left = left[: max(keep, math.ceil(len(left) / 2))]
        pieces = min(total, 2 * pieces)
    return left[:keep]


def _compared(order: SearchOrder, influence: Sequence[int]) -> dict[str, dict[int, Plan]]:
    """The plans that need no search, with as many layer runs as plans were searched for, and the whole model."""
    room = order.room
    free = [layer for layer in influence if layer not in room.protected]
    skipped = [variant.plan for variant in SkipMiddle().variants(room.depth, room.protected)]
    named = {SKIP: skipped, INFLUENCE: removed_in_order(room.depth, free, room.budget), WHOLE: []}
    found = {
        name: {plan.layer_runs: plan for plan in plans if room.budget <= plan.layer_runs < room.depth}
        for name, plans in named.items()
    }
    return {name: plans for name, plans in found.items() if plans} | {WHOLE: {room.depth: Plan.identity(room.depth)}}


def _table(found: SearchResult) -> dict[str, object]:
    """Plans, scores and rounds as plain data."""
    rows = [
        {
            "plans": name,
            "layer_runs": number,
            "plan": str(plan),
            "fit": _finite(found.fits[number]) if name == FOUND else None,
            **{metric: _finite(found.scores[metric][name][number].value) for metric in METRICS},
        }
        for name, plans in found.plans.items()
        for number, plan in sorted(plans.items())
    ]
    rounds = [
        {"round": one.number, "plan": str(one.best), "fit": _finite(one.fit), "tried": one.tried}
        for one in found.history
    ]
    return {"plans": rows, "rounds": rounds, "influence": list(found.influence), "seconds": found.seconds}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _heard(events: EventLog, options: SearchOptions) -> EventLog:
    for listener in options.listeners:
        events.listen(listener)
    return events


def _first(means: NDArray[np.float64]) -> float:
    return float(means[0])


def _first_less(means: NDArray[np.float64]) -> float:
    """By how much the second is below the first."""
    return float(means[0] - means[1])
