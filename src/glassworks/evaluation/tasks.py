"""Finding a harness task: its own definition on a local file, otherwise with its data from the hub."""

import logging
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from glassworks.core.errors import InvalidInput, NotFound, Unavailable, UnknownName
from glassworks.core.text import Text, say
from glassworks.evaluation.data import absent, find_file, fingerprint
from glassworks.evaluation.local import LOCAL, Local, local_task

# Where a definition names the parts of its data; local files need not have them all.
_SPLIT_KEYS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass(frozen=True)
class TaskSource:
    """A task object of the harness, what its data is called, and what must be known of it."""

    task: Any
    data: str
    notes: tuple[Text, ...] = ()


def find_task(name: str) -> TaskSource:
    """The task of this name; raises Unavailable without the harness, UnknownName, or NotFound where its data is nowhere."""
    require_harness()
    local = local_task(name)
    if local is None or not is_defined(local):
        return _from_hub(name)
    paths = [find_file(file) for file in local.files]
    missing = next((file for file, path in zip(local.files, paths, strict=True) if path is None), None)
    if missing is not None:
        if isinstance(local.definition, Mapping):
            raise absent(missing)
        return _from_hub(name, local, missing)
    found = [path for path in paths if path is not None]
    with quiet_harness():
        task = _built(name, local, found)
    return TaskSource(task, ", ".join(fingerprint(path) for path in found), local.notes)


def harness_is_here() -> bool:
    """Whether lm-evaluation-harness is installed."""
    return find_spec("lm_eval") is not None


def require_harness() -> None:
    """Raises Unavailable, with the command that helps, where lm-evaluation-harness is not installed."""
    if not harness_is_here():
        raise Unavailable(
            say("lm-evaluation-harness is not installed; --eval ppl, mlm, titles and retrieval work without it"),
            next_command="pip install 'glassworks[eval]'",
        )


def is_defined(local: Local) -> bool:
    """Whether the installed harness has the definition that local files are read for."""
    return isinstance(local.definition, Mapping) or (_definitions() / local.definition).is_file()


def harness_names() -> list[str]:
    """All tasks that the installed harness knows; reading them takes some seconds."""
    require_harness()
    with quiet_harness():
        return list(_manager().all_subtasks)


@contextmanager
def quiet_harness() -> Generator[None]:
    """Keeps the harness's warnings, log lines and progress bars off the terminal, where ours are."""
    logger = logging.getLogger("lm_eval")
    before = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import datasets

        bars = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)
            if bars:
                datasets.enable_progress_bars()


def _built(name: str, local: Local, paths: list[Path]) -> Any:
    """The task on local files."""
    from datasets import Dataset, DatasetDict

    splits = local.splits(*paths)
    if not all(splits.values()):
        raise InvalidInput(say("{path} is empty", path=", ".join(str(path) for path in paths)))
    data = DatasetDict({split: Dataset.from_list(rows) for split, rows in splits.items()})
    config = _config(local)
    kept = {key: config.get(key) if config.get(key) in splits else None for key in _SPLIT_KEYS}
    return _task(name, config | kept | {"custom_dataset": lambda **_: data, "dataset_kwargs": None})


def _task(name: str, config: Mapping[str, Any]) -> Any:
    from lm_eval.api.task import ConfigurableTask

    return ConfigurableTask(config={**config, "task": name})


def _config(local: Local) -> dict[str, Any]:
    """What defines a task, without the names of the groups it belongs to."""
    from lm_eval.tasks._yaml_loader import load_yaml

    found = local.definition if isinstance(local.definition, Mapping) else load_yaml(_definitions() / local.definition)
    return {key: value for key, value in found.items() if key not in ("tag", "group")}


def _definitions() -> Path:
    """The folder of the harness's own task definitions, found without importing it."""
    found = find_spec("lm_eval")
    assert found is not None, "asked for only where the harness is installed"
    assert found.origin is not None, "the harness is a package with an __init__"
    return Path(found.origin).parent / "tasks"


@cache
def _manager() -> Any:
    """The harness's list of all its tasks, which takes seconds to read."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _from_hub(name: str, local: Local | None = None, missing: str | None = None) -> TaskSource:
    """A task with its data from the hub; `missing` is the local file that would have served."""
    with quiet_harness():
        if local is None and name not in _manager().all_subtasks:
            raise UnknownName("benchmark", name, LOCAL)
        try:
            task = _manager().load(name)["tasks"][name] if local is None else _task(name, _config(local))
        except Exception as problem:  # the hub's libraries raise errors of many kinds
            raise _no_data(name, missing, problem) from None
    return TaskSource(task, f"{task.config.dataset_path or name} {task.config.dataset_name or ''}".strip())


def _no_data(name: str, missing: str | None, problem: Exception) -> NotFound:
    reason = (str(problem).strip() or type(problem).__name__).splitlines()[0]
    right = say("a hub that can be reached") if missing is None else absent(missing).right
    return NotFound(
        say("the data of the task {name} is not here, and the hub gave none", name=name), given=reason, right=right
    )
