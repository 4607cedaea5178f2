"""Where a job computes and with how much: processes of one training, what varies, who does the work; the same in every form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

from pydantic import Field, field_validator

from glassworks.core.errors import GlassworksError, InvalidInput
from glassworks.core.spec import ImpossibleValue, Spec
from glassworks.core.text import Text, say
from glassworks.executors import Executor, Local, Ray, Slurm

# Choices below it are of no spec that fixes numbers: no digest knows them.
WHERE = "where"
LABEL = "Where and with how much"
AnyExecutor = Annotated[Local | Slurm | Ray, Field(discriminator="kind")]
ChosenExecutor = Annotated[
    AnyExecutor | None,
    Field(
        description="Who computes, several at a time: local, processes of this machine; slurm or ray, a cluster. None: this job's own process, one after the other.",
        json_schema_extra={"label": "where to run"},
    ),
]
Lines = Annotated[
    tuple[str, ...],
    Field(
        max_length=20,
        description="Settings that vary, one a line: seed=0..4 or rate=0.001,0.003. Of several lines every combination is trained; one table at the end.",
        json_schema_extra={"label": "once with each value"},
    ),
]
# A person waits for the answer while typing.
_MOST_CHECKED = 100
T = TypeVar("T")
S = TypeVar("S")
_LONGEST_PATIENCE = 2_592_000


class Shared(Spec):
    """Where the parts of a job are computed."""

    kind: Literal["shared"] = "shared"
    executor: ChosenExecutor = None


class Varied(Spec):
    """The same once with each of several values, and where each is computed."""

    kind: Literal["varied"] = "varied"
    vary: Lines = ()
    executor: ChosenExecutor = None

    @field_validator("vary")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return _read(value)


class Trained(Spec):
    """With how many processes a training computes, or what of it varies, and where."""

    kind: Literal["trained"] = "trained"
    launch: int = Field(default=1, ge=1, le=1024, json_schema_extra={"label": "processes"})
    """Processes on this machine that train together, each on its part of every batch; the numbers are those of one."""
    shard: bool = Field(default=False, json_schema_extra={"label": "shard among them"})
    """Cuts weights and optimiser among the processes (FSDP2) instead of giving each all of them (DDP)."""
    patience: float = Field(
        default=600.0, gt=0, le=_LONGEST_PATIENCE, json_schema_extra={"label": "longest wait, seconds"}
    )
    """Seconds that a process waits for another in a step before the training ends with an error."""
    vary: Lines = ()
    executor: ChosenExecutor = None

    @field_validator("shard")
    @classmethod
    def _cuts_something(cls, value: bool, found: Any) -> bool:
        if value and found.data.get("launch") == 1:
            raise ImpossibleValue(say("one process has nobody to share with"), say("two processes or more"))
        return value

    @field_validator("vary")
    @classmethod
    def _readable(cls, value: tuple[str, ...], found: Any) -> tuple[str, ...]:
        return _alone(_read(value), found)

    @field_validator("executor")
    @classmethod
    def _one_process(cls, value: AnyExecutor | None, found: Any) -> AnyExecutor | None:
        return _alone(value, found)


Where = Shared | Varied | Trained


def _alone(value: T, found: Any) -> T:
    """The value, where one process computes; `found` is pydantic's ValidationInfo, which the checks of types cannot look at."""
    if value and found.data.get("launch", 1) != 1:
        raise ImpossibleValue(
            say("a training of several processes is computed by this machine, once"),
            say("one process, or nothing here"),
        )
    return value


def _read(words: tuple[str, ...]) -> tuple[str, ...]:
    from glassworks.experiments.variants import combinations, read_varied

    try:
        combinations(read_varied(words))
    except GlassworksError as problem:
        raise ImpossibleValue(problem.what, problem.right) from None
    return words


def where_spec(verb: str) -> type[Where] | None:
    """The spec of a verb's choices; None where all is computed by one process."""
    match verb:
        case "reproduce" | "sweep":
            return Shared
        case "tokenizer":
            return Varied
        case "train":
            return Trained
        case "examine":
            return None
        case _:
            from glassworks.training.stages.shelf import STAGES

            return Trained if verb in STAGES.kinds else None


def where_of(verb: str, choices: Mapping[str, Any]) -> Where | None:
    """What is chosen below `where.`; InvalidInput whose `path` is the whole one."""
    spec = where_spec(verb)
    own = own_choices(choices)
    if spec is None:
        if own:
            raise _at(next(iter(own)), say("this is computed by one process"))
        return None
    try:
        found: Where = spec()
        # What a path leads into is chosen before.
        for _, level in groupby(sorted(own, key=lambda path: path.count(".")), key=lambda path: path.count(".")):
            found = found.replaced_all({path: own[path] for path in level})
    except GlassworksError as problem:
        values = problem.what.values
        reason = values.get("reason", problem.what)
        raise _at(str(values.get("path", "")), reason if isinstance(reason, Text) else problem.what, problem) from None
    return found


def own_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Those below `where.`, by their paths there."""
    head = f"{WHERE}."
    return {path.removeprefix(head): value for path, value in choices.items() if path.startswith(head)}


def other_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """All others: they belong to the spec of the verb."""
    return {path: value for path, value in choices.items() if not path.startswith(f"{WHERE}.")}


def is_table(where: Where | None) -> bool:
    """Whether a training ends as a row of a table: something varies, or an executor does it."""
    return isinstance(where, Trained | Varied) and bool(where.vary or where.executor)


@dataclass(frozen=True)
class Variants(Generic[S]):
    """What combinations mean: of `count` the first ones, checked; the command checks all before the first is trained."""

    checked: list[S]
    count: int


def checked_variants(where: Where | None, make: Callable[[list[str]], S]) -> Variants[S]:
    """What the combinations of what varies mean; InvalidInput at `where.vary` that names the first impossible one."""
    from glassworks.experiments.variants import combinations, read_varied

    varied = {} if where is None or isinstance(where, Shared) else read_varied(where.vary)
    combined = combinations(varied)
    checked: list[S] = []
    for values in combined[:_MOST_CHECKED]:
        words = [f"{name}={value}" for name, value in zip(varied, values, strict=True)]
        try:
            checked.append(make(words))
        except GlassworksError as problem:
            if not words:
                raise
            reason = say("{values}: {reason}", values=" ".join(words), reason=problem.what)
            raise _at("vary", reason, problem) from None
    return Variants(checked, len(combined))


def words_of(where: Where | None) -> tuple[str, ...]:
    """The options of the command line that mean the same."""
    words: list[str] = []
    if isinstance(where, Trained):
        words += ["--launch", str(where.launch)] if where.launch != 1 else []
        words += ["--shard"] if where.shard else []
        usual = Trained.model_fields["patience"].default
        words += ["--patience", f"{where.patience:g}"] if where.launch != 1 and where.patience != usual else []
    if isinstance(where, Trained | Varied):
        for one in where.vary:
            words += ["--vary", one]
    if where is not None and where.executor is not None:
        words += ["--executor", text_of(where.executor)]
    return tuple(words)


def text_of(executor: Local | Slurm | Ray) -> str:
    """An executor as it is typed: `local:4`, `slurm:partition=gpu,hours=2`; JSON where a value has no place there."""
    usual = type(executor)()
    changed = {
        name: value
        for name, value in executor.to_json().items()
        if name != "kind" and (name == executor.first or value != usual.to_json()[name]) and value is not None
    }
    if set(changed) == {executor.first}:
        word = str(changed[executor.first])
        if not set(",={ ") & set(word) and word:
            return f"{executor.kind}:{word}"
    if all(
        isinstance(value, int | float) or (isinstance(value, str) and _is_plain(value)) for value in changed.values()
    ):
        return f"{executor.kind}:{','.join(f'{name}={value}' for name, value in changed.items())}".rstrip(":")
    return json.dumps({"kind": executor.kind} | changed, ensure_ascii=False)


def _is_plain(value: str) -> bool:
    return bool(value) and "," not in value and value == value.strip()


def facts_of(where: Where | None) -> dict[str, Any]:
    """Where the work is done (`here`, `local`, `slurm`, `ray`), by how many `workers`, `launch` processes of one training, and the `threads_at_once` that all take of this machine."""
    executor = None if where is None else where.executor
    launch = where.launch if isinstance(where, Trained) else 1
    if executor is None:
        return {"place": "here", "workers": 1, "launch": launch, "threads_at_once": 1}
    at_once = executor.workers * executor.threads if is_of_this_machine(executor) else 1
    return {"place": executor.kind, "workers": executor.workers, "launch": 1, "threads_at_once": at_once}


def is_of_this_machine(executor: Executor) -> bool:
    """Whether its workers are processes of this machine."""
    match executor:
        case Ray():
            return executor.address is None
        case Slurm():
            return executor.cluster == "local"
        case _:
            return True


def schema_with(schema: dict[str, Any], verb: str) -> dict[str, Any]:
    """The schema of a verb's spec with `where` among its fields, so that one form shows both."""
    spec = where_spec(verb)
    if spec is None:
        return schema
    own = spec.model_json_schema()
    schema["$defs"] = schema.get("$defs", {}) | own.pop("$defs", {}) | {"Where": own}
    root = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    field = {"$ref": "#/$defs/Where", "label": LABEL}
    root["properties"] = cast(dict[str, Any], root["properties"]) | {WHERE: field}
    return schema


def _at(path: str, reason: Text, problem: GlassworksError | None = None) -> InvalidInput:
    where = f"{WHERE}.{path}" if path else WHERE
    return InvalidInput(
        say("{path}: {reason}", path=where, reason=reason),
        given=None if problem is None else problem.given,
        right=None if problem is None else problem.right,
    )
