"""surgery: runs a model's layers by a plan: what it says, what it scores and costs, beside the plain model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from glassworks.cli.api import load, placement_of
from glassworks.cli.estimate import estimated, operating
from glassworks.cli.options import Surgery
from glassworks.cli.prompts import typed_prompt
from glassworks.cli.reproduce import go_offline
from glassworks.cli.sinks import named_layers, refuse_moved, sample_of, sinks_of, told, warning
from glassworks.cli.speak import new_table, print_json, remarks, results
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say

if TYPE_CHECKING:
    from collections.abc import Callable

    from glassworks.anatomy import Subject, TokenBatch
    from glassworks.surgery.plans import Plan
    from glassworks.surgery.trial import ScoreRow, Trial, TrialChoice
    from glassworks.surgery.vectors import Beside


def surgery(command: Surgery) -> int:
    """Tries the plan and prints; a saved plan's path is the last line of stdout."""
    go_offline(command.offline)
    prompt = _prompt(command)
    protected = named_layers(command.protect)
    from glassworks.surgery.trial import TrialChoice

    choice = TrialChoice(
        prompt=prompt, new_tokens=command.new_tokens, temperature=command.temperature, seed=command.seed,
        evals=command.eval, limit=command.limit, stack=command.stack, cache=command.cache,
        check_cache=command.check_cache,
    )  # fmt: skip
    if command.estimate:
        return estimated(command, operating(command, choice, protected))
    subject = load(
        command.source, device=command.device, dtype=command.dtype,
        trust_remote_code=command.trust_remote_code, out=command.out, **placement_of(command),
    )  # fmt: skip
    trial = tried(subject, command.plan, choice, protected, lambda text: remarks().print(str(text), style="dim"))
    if command.save is not None:
        trial.saved.save(Path(command.save))
    if command.json:
        print_json(trial.to_json() | ({} if command.save is None else {"saved": command.save}))
        return 0
    _show(trial)
    if command.save is not None:
        print(command.save)
    return 0


def tried(
    subject: Subject,
    given: str | Plan,
    choice: TrialChoice,
    protected: tuple[int, ...] | None = (),
    tell: Callable[[Text], None] | None = None,
) -> Trial:
    """The trial of a plan (its text, a file, or a value), with what must be said of attention sinks.

    `protected` None stands for the layers that write or erase the sink. Raises InvalidInput for a plan that moves them.
    """
    from dataclasses import replace

    from glassworks.surgery.trying import try_plan

    plan, stack, notes = chosen_plan(subject, given, choice.stack)
    choice = choice if choice.stack == stack else choice.replaced("stack", stack)
    sinks = sinks_of(subject, _text(subject, choice), stack)
    if protected is None and sinks is None:
        raise InvalidInput(
            say("the attention sink is looked for on some text, in the layers of a decoder or of a lone stack"),
            right=say("--prompt or --eval, or layers by number, e.g. --protect 2,11"),
        )
    kept = sinks.protected if protected is None and sinks is not None else protected or ()
    refuse_moved(plan, kept, len(subject.anatomy.stacks[stack]))
    trial = try_plan(subject, plan, choice, tell)
    if sinks is not None:
        notes += [told(sinks), *filter(None, [warning(plan, sinks)])] if sinks.protected else []
    return replace(trial, notes=(*notes, *trial.notes))


def chosen_plan(subject: Subject, given: str | Plan, stack: str | None) -> tuple[Plan, str, list[Text]]:
    """The plan that was given, the stack it is for, and what a reader must know of where it comes from."""
    from glassworks.surgery.plan_files import SavedPlan, read_plan
    from glassworks.surgery.slots import choose_stack
    from glassworks.surgery.sweep import fingerprint

    stacks = subject.anatomy.stacks
    # The text of a plan is read for the stack it is meant for, so that a mistake is shown at its place.
    meant = choose_stack(subject.anatomy, stack)
    saved = read_plan(given, len(stacks[meant])) if isinstance(given, str) else SavedPlan(given)
    if stack is None and saved.stack is not None:
        meant = choose_stack(subject.anatomy, saved.stack)
    notes: list[Text] = []
    if saved.weights is not None and saved.weights != fingerprint(subject):
        notes.append(say("this plan was saved for {model}, whose weights are others", model=saved.model or "-"))
    return saved.fitting(len(stacks[meant]), meant), meant, notes


def _prompt(command: Surgery) -> str | tuple[int, ...] | None:
    if command.prompt is not None and command.tokens is not None:
        raise InvalidInput(say("one prompt at a time"), right=say("one of --prompt, --tokens"))
    found = typed_prompt(command.prompt, None, command.tokens)
    # What is typed is a text or one row of ids.
    return found if isinstance(found, str) or found is None else tuple(cast(list[int], found))


def _text(subject: Subject, choice: TrialChoice) -> TokenBatch | None:
    """Some text of the trial, to look for the attention sink in."""
    if choice.prompt is not None:
        if isinstance(choice.prompt, str) and subject.tokenizer is None:
            return None
        return subject.batch(choice.prompt if isinstance(choice.prompt, str) else list(choice.prompt))
    return None if choice.evals is None or subject.tokenizer is None else sample_of(subject, choice.evals)


def _show(trial: Trial) -> None:
    console = results()
    table = new_table(say("what runs"), trial.subject.origin.name)
    for name, value in trial.facts():
        table.add_row(str(name), str(value))
    console.print(table)
    if trial.says is not None and trial.plain_says is not None:
        for head, text in ((say("under the plan"), trial.says.text), (say("plain model"), trial.plain_says.text)):
            console.print(str(head), style="bold")
            console.print(f"{text}\n")
    if trial.vectors is not None:
        _show_vectors(trial.vectors)
    if trial.cached_equals_uncached is not None:
        same = say("The written tokens are those of an uncached pass.")
        other = say("The written tokens differ from those of an uncached pass.")
        console.print(str(same if trial.cached_equals_uncached else other))
    if trial.scores:
        console.print(_score_table(trial.score_rows()))
    for note in trial.notes:
        remarks().print(f"• {note}")


def _score_table(rows: list[ScoreRow]) -> object:
    table = new_table(
        say("benchmark"), say("metric"), say("under the plan"), say("plain model"),
        say("normalised (1: plain, 0: chance)"), say("documents"),
    )  # fmt: skip
    for row in rows:
        share = "" if row.share is None else str(row.share)
        table.add_row(row.benchmark, row.metric, str(row.plan), str(row.plain), share, str(row.documents))
    return table


def _show_vectors(found: Beside) -> None:
    console = results()
    table = new_table(say("token"), say("cosine to the plain model's vector"))
    for label, cosine in zip(found.labels, found.per_token, strict=True):
        table.add_row(label, f"{cosine:.3f}")
    table.add_row(str(say("mean of all tokens")), f"{found.of_mean:.3f}")
    console.print(table)
    for one in found.filled:
        answers = new_table(say("at position {place}", place=one.place), say("under the plan"), say("plain model"))
        for rank, (ours, plain) in enumerate(zip(one.plan, one.plain, strict=True), start=1):
            answers.add_row(str(rank), f"{ours[0]}  {ours[1]:.1%}", f"{plain[0]}  {plain[1]:.1%}")
        console.print(answers)
