"""The benchmarks on offer, and how the command line names them: `ppl,arc_easy:limit=50,lambada`."""

from glassworks.core.errors import InvalidSpec, UnknownName, nearest
from glassworks.core.shelf import Shelf
from glassworks.core.text import say
from glassworks.evaluation.base import Benchmark
from glassworks.evaluation.harness import Harness
from glassworks.evaluation.local import ALIASES, LOCAL, local_task
from glassworks.evaluation.masked import MaskedLanguage
from glassworks.evaluation.perplexity import Perplexity
from glassworks.evaluation.retrieval import Retrieval
from glassworks.evaluation.tasks import harness_is_here, harness_names, is_defined
from glassworks.evaluation.titles import Titles

HARNESS = "harness"
BENCHMARKS: Shelf[Benchmark] = Shelf("benchmark", Perplexity, MaskedLanguage, Titles, Retrieval, Harness)


def parse_benchmarks(text: str, limit: int | None = None) -> tuple[Benchmark, ...]:
    """The benchmarks named in a text: `name` or `name:field=value:field=value`, separated by commas.

    A name is a kind of the shelf, a task with local files, or any task of the harness; `limit` holds where none is
    written. Raises UnknownName with the nearest, or InvalidSpec naming the field.
    """
    parts = [part.strip() for part in text.split(",")]
    found = tuple(_one(part, limit) for part in parts)
    names = [benchmark.name for benchmark in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidSpec(say("the benchmark {name} is named twice", name=twice), given=text)
    return found


def _one(text: str, limit: int | None) -> Benchmark:
    name, *settings = (part.strip() for part in text.split(":"))
    benchmark = _named(name)
    if limit is not None:
        benchmark = benchmark.replaced("limit", limit)
    for setting in settings:
        benchmark = benchmark.replaced_from_text(setting)
    return benchmark


def _named(name: str) -> Benchmark:
    whole = [kind for kind in BENCHMARKS.kinds if kind != HARNESS]
    if name in whole:
        return BENCHMARKS.parse({"kind": name})
    task = ALIASES.get(name, name)
    local = local_task(task)
    if local is not None and (not harness_is_here() or is_defined(local)):
        return Harness(task=task)
    others = harness_names() if harness_is_here() else []
    if task in others:
        return Harness(task=task)
    # The harness knows thousands of names: of these only the nearest is shown.
    own = [*whole, *ALIASES, *LOCAL]
    close = None if nearest(name, own) else nearest(name, others)
    raise UnknownName("benchmark", name, [*own, *([close] if close else [])])
