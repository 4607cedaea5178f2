"""Tasks of lm-evaluation-harness: its own prompts, choices and metrics, on local files or from the hub."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from glassworks.anatomy import Subject
from glassworks.core.errors import InvalidInput, UnknownName
from glassworks.core.text import say
from glassworks.evaluation.base import Benchmark, GenerativePrepared, MetricScore, Prepared, Scores
from glassworks.evaluation.items import Item, Scored
from glassworks.evaluation.scores import token_scores
from glassworks.evaluation.spelling import Spelling, require_head
from glassworks.evaluation.tasks import TaskSource, find_task, quiet_harness

# The harness's own seed for drawing examples.
FEWSHOT_SEED = 1234
# Preferred first: lengths differ between choices, and the tasks that offer the normalised accuracy are compared by it.
_MAIN_METRICS = ("acc_norm", "acc", "exact_match", "f1", "mcc", "bits_per_byte", "word_perplexity")


class Harness(Benchmark):
    """A task of lm-evaluation-harness by its name there, on a local file where there is one.

    Prompts, choices and metrics are the harness's own; with `limit`, the first so many documents, as it takes them.
    """

    kind: Literal["harness"] = "harness"
    task: str
    """The task's name, e.g. "arc_easy", "lambada_openai", "gsm8k", or any other that the harness knows."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Worked examples in front of each question; None for as many as the task says."""
    first_token: str = "auto"
    """What stands in front of every prompt: "auto", "tokenizer" (as the harness), or the text of a token."""
    metric: str | None = None
    """The metric to compare by; None for `acc_norm` where the task has it, `acc` otherwise (all are in the scores)."""

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task

    def prepare(self, subject: Subject) -> Prepared | GenerativePrepared:
        """The task's requests as items or prompts; raises Unavailable without the harness, NotFound without its data."""
        require_head(subject)
        source = find_task(self.task)
        with quiet_harness():
            requests = _Requests(source.task, self.limit, self.num_fewshot)
        match requests.kind:
            case "generate_until":
                return _generative(self, subject, source, requests)
            case "loglikelihood":
                return _likelihood(self, subject, source, requests)
            case other:
                raise InvalidInput(
                    say("tasks of the type {type} are not scored here", type=other),
                    given=self.task,
                    right=say("a multiple choice, a log-likelihood or a generation task; --eval ppl for whole texts"),
                )


class _Requests:
    """A task's documents and what it asks about each, in the harness's own order."""

    def __init__(self, task: Any, limit: int | None, num_fewshot: int | None) -> None:
        task.set_fewshot_seed(seed=FEWSHOT_SEED)
        shots = (task.config.num_fewshot or 0) if num_fewshot is None else num_fewshot
        self.task = task
        self.docs: list[Any] = []
        self.of_doc: list[list[Any]] = []
        for number, doc in task.doc_iterator(limit=limit):
            context = task.fewshot_context(doc, num_fewshot=shots, gen_prefix=task.doc_to_prefix(doc))
            made = task.construct_requests(doc=doc, ctx=context, metadata=(task.config.task, number, 1))
            self.docs.append(doc)
            self.of_doc.append(made if isinstance(made, list) else [made])

    @property
    def kind(self) -> str:
        """The type of its requests."""
        return str(self.of_doc[0][0].request_type)

    @property
    def all(self) -> list[Any]:
        """Every request, document by document."""
        return [instance for instances in self.of_doc for instance in instances]

    @property
    def chance(self) -> float:
        """What guessing reaches: one over the number of choices, averaged; 0 where there are none."""
        if self.task.OUTPUT_TYPE != "multiple_choice":
            return 0.0
        return float(np.mean([1 / len(self.task.doc_to_choice(doc)) for doc in self.docs]))

    def metric(self, wanted: str | None) -> str:
        """The metric to compare by, under the task's first filter unless the wanted one names another."""
        names = [str(name) for name in self.task.aggregation()]
        known = {self._called(name, one): None for one in self._filters for name in names}
        if wanted is None:
            return self._called(next((name for name in _MAIN_METRICS if name in names), names[0]), self._filters[0])
        if wanted not in known:
            raise UnknownName("metric", wanted, known)
        return wanted

    def score(self, answers: Sequence[Any]) -> dict[str, MetricScore]:
        """The task's metrics from the answer to each request, through the task's own filters."""
        for instance, answer in zip(self.all, answers, strict=True):
            instance.resps = [answer]
        self.task._instances = self.all
        found: dict[str, MetricScore] = {}
        with quiet_harness():
            self.task.apply_filters()
            for one in self._filters:
                found |= self._metrics(one)
        return found

    def _metrics(self, one: str) -> dict[str, MetricScore]:
        per_doc: list[dict[str, Any]] = [
            self.task.process_results(doc, [instance.filtered_resps[one] for instance in instances])
            for doc, instances in zip(self.docs, self.of_doc, strict=True)
        ]
        aggregation, higher = self.task.aggregation(), self.task.higher_is_better()
        return {
            self._called(str(name), one): _metric([doc[name] for doc in per_doc], aggregate, bool(higher[name]))
            for name, aggregate in aggregation.items()
            if all(name in doc for doc in per_doc)
        }

    @property
    def _filters(self) -> list[str]:
        return [str(one.name) for one in self.task._filters]

    def _called(self, metric: str, one: str) -> str:
        return metric if len(self._filters) == 1 else f"{metric},{one}"


def _metric(values: list[Any], aggregate: Callable[[list[Any]], float], higher_is_better: bool) -> MetricScore:
    """A metric over documents; that of a single document is the aggregate of it alone."""

    def of(some: list[Any]) -> float:
        try:
            return float(aggregate(some))
        except OverflowError:  # the perplexity of a model that is badly hurt
            return math.inf

    return MetricScore(of(values), np.array([of([value]) for value in values]), higher_is_better)


def _likelihood(benchmark: Harness, subject: Subject, source: TaskSource, requests: _Requests) -> Prepared:
    spelling = Spelling.of(subject, benchmark.first_token)
    shared = _SharedItems()
    limit = subject.anatomy.context
    cut = 0
    for instance in requests.all:
        prompt, answer = (str(part) for part in instance.args)
        if subject.anatomy.has_source:
            shared.add(spelling.translation(prompt, answer, subject.start_token))
        else:
            context, targets = spelling.pair(prompt, answer)
            cut += limit is not None and len(context) + len(targets) - 1 > limit
            shared.add(spelling.item(context, targets, limit))
    notes = [spelling.note(subject), *source.notes]
    if cut:
        notes.append(say("{count} prompts were longer than the model's context and cut from the left", count=cut))
    return Prepared(
        name=benchmark.name,
        metric=requests.metric(benchmark.metric),
        chance=requests.chance,
        documents=len(requests.docs),
        data=source.data,
        notes=tuple(notes),
        items=shared.items,
        score=_likelihood_scorer(requests, shared),
    )


class _SharedItems:
    """Items of requests; those that read the same tokens (choices of one token) are run once."""

    def __init__(self) -> None:
        self._together: dict[tuple[Any, ...], list[Item]] = {}
        self._places: dict[tuple[Any, ...], int] = {}
        self._requests: list[tuple[int, slice]] = []

    def add(self, item: Item) -> None:
        """Keeps where the item's targets will be found."""
        read = (item.ids, item.source)
        place = self._places.setdefault(read, len(self._places))
        alike = self._together.setdefault(read, [])
        before = sum(len(other.targets) for other in alike)
        alike.append(item)
        self._requests.append((place, slice(before, before + len(item.targets))))

    @property
    def items(self) -> tuple[Item, ...]:
        """The items to run."""
        return tuple(
            Item(
                alike[0].ids,
                tuple(place for item in alike for place in item.positions),
                tuple(target for item in alike for target in item.targets),
                alike[0].source,
            )
            for alike in self._together.values()
        )

    def answers(self, scored: Sequence[Scored]) -> list[Scored]:
        """What was read for each request, in the order they were added."""
        return [Scored(scored[place].logprobs[part], scored[place].top[part]) for place, part in self._requests]


def _likelihood_scorer(requests: _Requests, shared: _SharedItems) -> Callable[[Sequence[Scored]], Scores]:
    one_answer = requests.task.OUTPUT_TYPE == "loglikelihood"

    def score(scored: Sequence[Scored]) -> Scores:
        found = shared.answers(scored)
        scores = requests.score([(one.logprob, one.is_greedy) for one in found])
        # The finer measure where a model is rarely right: nats per token of the one right continuation.
        return {**scores, "nll": token_scores(found)["nll"]} if one_answer else scores

    return score


def _generative(benchmark: Harness, subject: Subject, source: TaskSource, requests: _Requests) -> GenerativePrepared:
    options: Mapping[str, Any] = requests.all[0].args[1]
    until = options.get("until", ())
    return GenerativePrepared(
        name=benchmark.name,
        metric=requests.metric(benchmark.metric),
        chance=0.0,
        documents=len(requests.docs),
        data=source.data,
        notes=(Spelling.of(subject, benchmark.first_token).note(subject), *source.notes),
        prompts=tuple(str(instance.args[0]) for instance in requests.all),
        until=(until,) if isinstance(until, str) else tuple(until),
        max_new_tokens=int(options.get("max_gen_toks", 256)),
        first_token=benchmark.first_token,
        score=requests.score,
    )
