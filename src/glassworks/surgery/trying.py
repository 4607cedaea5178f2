"""Trying one plan on one model: both run, the plain one first, on the same prompt and the same questions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from glassworks.anatomy import Subject, TokenBatch
from glassworks.core.errors import InvalidInput
from glassworks.core.text import Text, say
from glassworks.evaluation import AnyPrepared, evaluate, parse_benchmarks
from glassworks.evaluation.generate import text_of
from glassworks.surgery.operate import operated
from glassworks.surgery.plans import Plan
from glassworks.surgery.slots import choose_stack
from glassworks.surgery.trial import Continuation, Scored, Trial, TrialChoice, writes
from glassworks.surgery.vectors import beside

Tell = Callable[[Text], None]


def try_plan(subject: Subject, plan: Plan, choice: TrialChoice, tell: Tell | None = None) -> Trial:
    """Runs the model plainly and under the plan; what can be wrong with the choice is found before any long step.

    `tell` hears what is being done. Raises InvalidInput for a plan or prompt that does not fit.
    """
    tell = tell or _silent
    stack = choose_stack(subject.anatomy, choice.stack)
    plan.check(len(subject.anatomy.stacks[stack]), stack if len(subject.anatomy.stacks) > 1 else "")
    _check(choice, subject)
    batch = None if choice.prompt is None else _batch(subject, choice.prompt)
    prepared = [one.prepare(subject) for one in parse_benchmarks(choice.evals, choice.limit)] if choice.evals else []
    trial = Trial(subject, plan, stack, choice)
    if batch is not None:
        trial = _spoken(trial, batch, tell) if writes(subject) else replace(trial, vectors=beside(subject, batch, plan))
    return replace(trial, scores=tuple(_scored(trial, one, tell) for one in prepared), notes=tuple(_notes(trial)))


def _check(choice: TrialChoice, subject: Subject) -> None:
    if choice.check_cache and (choice.prompt is None or not writes(subject)):
        raise InvalidInput(
            say("only written text has a cache to check"), right=say("--prompt, for a model that writes")
        )
    if choice.temperature > 0 and (choice.check_cache or choice.cache != "exact"):
        raise InvalidInput(
            say("drawn tokens are written without a cache"), given=choice.temperature, right=say("--temperature 0")
        )


def _batch(subject: Subject, prompt: str | tuple[int, ...]) -> TokenBatch:
    if isinstance(prompt, str) and subject.tokenizer is None:
        raise InvalidInput(
            say("this model has no tokenizer, so text means nothing to it"),
            given=prompt,
            right=say("token ids, e.g. --tokens 1,2,3"),
        )
    return subject.batch(prompt if isinstance(prompt, str) else list(prompt))


def _spoken(trial: Trial, batch: TokenBatch, tell: Tell) -> Trial:
    choice = trial.choice
    tell(say("writing {count} tokens, plain and under the plan …", count=choice.new_tokens))
    plain = _continued(trial.subject, batch, choice)
    with operated(trial.subject, trial.plan, stack=trial.stack, cache=choice.cache):
        says = _continued(trial.subject, batch, choice)
    same = _equals_uncached(trial, batch, says) if choice.check_cache else None
    return replace(trial, says=says, plain_says=plain, cached_equals_uncached=same)


def _continued(subject: Subject, batch: TokenBatch, choice: TrialChoice) -> Continuation:
    ids = subject.generate(batch, choice.new_tokens, temperature=choice.temperature, seed=choice.seed)
    tokens = tuple(int(token) for token in ids[0].tolist())
    given = batch.ids.shape[1]
    return Continuation(tokens, given, text_of(subject, tokens), text_of(subject, tokens[given:]))


def _equals_uncached(trial: Trial, batch: TokenBatch, says: Continuation) -> bool:
    """Whether every written token is the likeliest of one pass over the whole text, which needs no cache."""
    ids = torch.tensor([says.tokens], device=batch.ids.device)
    with operated(trial.subject, trial.plan, stack=trial.stack), torch.no_grad():
        logits = trial.subject.forward(TokenBatch(ids, source=batch.source))
    likeliest = logits[0, says.given - 1 : -1].argmax(-1).tolist()
    return likeliest == list(says.tokens[says.given :])


def _scored(trial: Trial, prepared: AnyPrepared, tell: Tell) -> Scored:
    tell(say("{benchmark}: the plain model …", benchmark=prepared.name))
    started = time.perf_counter()
    plain = evaluate(trial.subject, prepared)
    expected = (time.perf_counter() - started) * trial.plan.layer_runs / trial.depth
    tell(say("{benchmark}: under the plan, about {seconds} s …", benchmark=prepared.name, seconds=math.ceil(expected)))
    with operated(trial.subject, trial.plan, stack=trial.stack, cache=trial.choice.cache):
        return Scored(prepared, evaluate(trial.subject, prepared), plain)


def _notes(trial: Trial) -> list[Text]:
    notes: list[Text] = []
    if trial.choice.cache == "mean":
        notes.append(
            say(
                "The averaged cache of the published code: what is written with it differs from an uncached pass wherever the plan has parallel layers."
            )
        )
    if trial.says is not None and not trial.uses_cache:
        notes.append(say("Drawn tokens are written without a cache."))
    return notes


def _silent(_: Text) -> None:
    return
