"""sweep: scores many plans on several benchmarks; the same command goes on where it was stopped."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from glassworks.cli.api import load
from glassworks.cli.live import shown
from glassworks.cli.options import Sweep
from glassworks.cli.reproduce import go_offline, typed_command
from glassworks.cli.sinks import named_layers, sample_of, sinks_of, told
from glassworks.cli.speak import duration_words, new_table, print_json, remarks, results, size_words
from glassworks.core.errors import InvalidInput
from glassworks.core.text import say
from glassworks.executors import executor_of

if TYPE_CHECKING:
    from glassworks.anatomy import Subject
    from glassworks.surgery.record import SweepRecord
    from glassworks.surgery.sweep import SweepOptions, SweepOrder


def sweep(command: Sweep) -> int:
    """Scores, shows, reports; returns 0, or 130 after Ctrl-C with the command that goes on."""
    go_offline(command.offline)
    typed = named_layers(command.protect)
    if command.tokens_per_piece is not None and command.tokens_per_piece < 1:
        raise InvalidInput(say("a piece needs at least one token"), given=command.tokens_per_piece)
    from glassworks.surgery.choice import SweepChoice
    from glassworks.surgery.elsewhere import model_elsewhere
    from glassworks.surgery.sweep import TOKENS_PER_PIECE, SweepOptions, SweepOrder

    choice = SweepChoice(
        plans=command.plans, evals=command.eval, limit=command.limit, seeds=command.seeds, stack=command.stack,
        protect=typed or (),
    )  # fmt: skip
    subject = load(
        command.source, device=command.device, dtype=command.dtype,
        trust_remote_code=command.trust_remote_code, out=command.out,
    )  # fmt: skip
    if typed is None:
        choice = choice.replaced("protect", list(protected_automatically(subject, choice.evals, choice.stack)))
    order = SweepOrder.of(subject, choice)
    executor = None if command.executor is None else executor_of(command.executor)
    options = SweepOptions(
        Path(command.out), command.tokens_per_piece or TOKENS_PER_PIECE, command.schedule,
        command=typed_command(sys.argv[1:]), executor=executor,
        model=None if executor is None else model_elsewhere(
            subject, command.source, device=command.device, dtype=command.dtype,
            trust_remote_code=command.trust_remote_code,
        ),
    )  # fmt: skip
    if command.dry_run:
        return _estimate(order, options, as_json=command.json)
    try:
        record = swept(order, options)
    except KeyboardInterrupt:
        remarks().print(str(say("Stopped. What is finished is kept. Go on with:")))
        print(f"  {options.command}", file=sys.stderr)
        return 130
    _show(record, as_json=command.json)
    return 0


def swept(order: SweepOrder, options: SweepOptions, *, progress: bool = True) -> SweepRecord:
    """Runs a sweep with its progress on stderr, and writes its report."""
    from contextlib import nullcontext
    from dataclasses import replace

    from glassworks.surgery.record import SweepRecord
    from glassworks.surgery.sweep import run_sweep
    from glassworks.tensors.memory import keep_freed_memory

    if order.subject.device.type == "cpu":
        keep_freed_memory()
    title = f"glassworks sweep · {order.spec.model} · {options.out / 'runs' / order.spec.kind / order.spec.digest()}"
    with shown(title) if progress else nullcontext() as listener:
        done = run_sweep(order, replace(options, listeners=() if listener is None else (listener,)))
        record = SweepRecord(done.run)
        record.write_report()
    return record


def protected_automatically(subject: Subject, evals: str, stack: str | None) -> tuple[int, ...]:
    """The layers that write or erase the attention sink on texts of the first benchmark; told on stderr."""
    sinks = sinks_of(subject, sample_of(subject, evals), stack or "")
    if sinks is None:
        raise InvalidInput(
            say("the attention sink is looked for on some text, in the layers of a decoder or of a lone stack"),
            right=say("layers by number, e.g. --protect 2,11, or --protect none"),
        )
    remarks().print(str(told(sinks)))
    return sinks.protected


def _estimate(order: SweepOrder, options: SweepOptions, *, as_json: bool) -> int:
    from glassworks.surgery.estimate import estimate

    found = estimate(order, options)
    if as_json:
        print_json({**found.to_json(), "protected": list(order.spec.choice.protect), "list": [variant.facts() for variant in order.variants]})  # fmt: skip
        return 0
    from glassworks.surgery.points import name_of

    console = results()
    listed = new_table(say("strategy"), say("layers affected"), say("seed"), say("layer runs"), say("plan"))
    for variant in order.variants:
        seed = "" if variant.seed is None else str(variant.seed)
        listed.add_row(
            str(name_of(variant.strategy, variant.loops, variant.gain)), str(variant.affected), seed,
            str(variant.plan.layer_runs), str(variant.plan),
        )  # fmt: skip
    console.print(listed)
    table = new_table(say("estimate"), order.spec.model)
    rows = (
        (say("plans"), str(found.plans)),
        (say("layer runs asked for, over each batch"), f"{found.asked:,}"),
        (say("layer runs done, over each batch"), f"{found.done:,}"),
        (say("tokens"), f"{found.tokens:,}"),
        (say("batches"), str(found.batches)),
        (say("memory at the most"), size_words(found.peak_bytes)),
        (say("time, measured on one batch"), str(say("about {time}", time=duration_words(found.seconds)))),
    )
    for name, value in rows:
        table.add_row(str(name), value)
    console.print(table)
    return 0


def _show(record: SweepRecord, *, as_json: bool) -> None:
    from glassworks.surgery.record import ROWS

    cost = record.cost
    if as_json:
        print_json(
            {
                "asked": cost["asked"],
                "done": cost["done"],
                "rows": str(record.run.path / ROWS),
                "report": str(record.report),
                "run": str(record.run.path),
                "plans": cost["plans"],
                "seconds": round(record.seconds, 2),
            }
        )
        return
    console = results()
    ranked = record.standings()
    if ranked:
        table = new_table(
            say("strategy"), say("mean score over all starts"), say("keeps 90 % up to"), say("best plan"), say("its score"),
        )  # fmt: skip
        for one in ranked:
            mean = f"{one.mean:.3f}" if math.isfinite(one.mean) else "–"
            keeps = "–" if one.keeps is None else str(say("{count} layers", count=one.keeps))
            table.add_row(str(one.name), mean, keeps, one.best.plan, f"{one.best.value:.3f}")
        console.print(table)
    asked = say("asked {asked} layer runs over each batch, did {done}", asked=f"{cost['asked']:,}", done=f"{cost['done']:,}")  # fmt: skip
    console.print(f"{asked}  ·  {duration_words(record.seconds)}", style="bold")
    console.print(str(say("All scores, and the report:")))
    print(record.run.path / ROWS)
    print(record.report)
